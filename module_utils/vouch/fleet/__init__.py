"""Many hosts at once: results written and read, groups for plays, the watch."""
