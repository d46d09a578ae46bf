"""What a model is worth: likelihood, divergence from a reference, tasks with one right answer.

Start at quality.py.
"""
