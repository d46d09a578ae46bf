"""A talk between a person and a model: the loop, its commands, files and tools, what is kept.

Knows no engine. Start at repl.py.
"""
