"""All input and output: each port a Protocol with a real form."""
