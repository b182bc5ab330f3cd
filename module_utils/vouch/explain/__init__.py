"""Verdicts for people: paths, groups, cures, drawings, reports."""
