"""Plots as SVG text. Knows no result."""
