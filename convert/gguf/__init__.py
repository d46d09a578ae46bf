"""A checkpoint or an unquantized GGUF to any GGUF type, in one pass. Start at convert.py."""
