"""One file a family, found by scanning: the file's name is the registration (models/registry.py)."""
