"""Charts as SVG text. svg.py has bars, stacks, lines and strips; plot.py what has two axes. Knows no result."""
