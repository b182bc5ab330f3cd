"""The measurer: a guest's memory, read from outside, held against its profile. See docs/introspection.md."""
