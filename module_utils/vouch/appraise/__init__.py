"""Which checks, in which order, under which policy."""
