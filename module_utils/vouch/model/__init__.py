"""Frozen types and their algebra; no I/O, no policy."""
