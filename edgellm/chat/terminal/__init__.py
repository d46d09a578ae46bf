"""The chat's screen and keyboard: reading lines, what answers look like.

Knows no engine and no conversation. Start at render.py.
"""
