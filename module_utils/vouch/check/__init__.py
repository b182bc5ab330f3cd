"""Pure checks: records and references in, proven types or findings out."""
