"""Bytes to records: strict, bounded, whole input consumed. Imports nothing of ours but its cursor."""
