"""The embedded lab: QEMU, OVMF and swtpm as hardware."""
