"""The watch: every host asked again and again, what it tells by itself taken at once."""
