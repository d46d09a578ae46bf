"""Conversion: a checkpoint, or an unquantized file, becomes a model that runs here. Start at convert.py."""
