"""The chat on a terminal: reading lines, commands, what answers look like.

Knows no engine. Start at repl.py.
"""
