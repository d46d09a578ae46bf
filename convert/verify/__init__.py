"""The proof that an output is faithful, against references that the writers do not share.

Start at gguf.py.
"""
