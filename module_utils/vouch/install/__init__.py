"""What the installer does to a machine, over the ports: look, write a slot, prove what was written."""
