"""Compile jobs between guests, each with a signed statement about who did it, of what, and with what."""
