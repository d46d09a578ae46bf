"""Other machines: a Ray cluster's nodes (nodes.py), and models that are brought to a machine and kept (shelf.py)."""
