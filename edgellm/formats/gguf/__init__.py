"""GGUF headers: the format's tables, a bounded parser, and what llama.cpp must not be given.

Start at reader.py.
"""
