"""Command lines: arguments in, text and exit codes out."""
