"""One page about a fleet: what was asked of each host, what it proved, and since when nobody knows."""
