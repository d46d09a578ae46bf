"""A text as one or two models read it: every token's probability, its rivals, and where the two disagree.

Start at reading.py; alignment.py puts two readings side by side, document.py makes a page and JSON of them.
"""
