"""Vouch: measured Xen hosts that vouch for their guests. See docs/architecture.md."""
