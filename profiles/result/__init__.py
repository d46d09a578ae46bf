"""Results as data: what was measured, how it is written and read, and what follows from it.

Measures nothing. Start at result.py.
"""
