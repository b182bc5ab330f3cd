"""Building a host image on a builder: the I/O around ``make``."""
