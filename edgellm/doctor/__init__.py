"""Findings about this machine and about a model on it, each with its remedy. Start at machine.py."""
