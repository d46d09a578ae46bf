"""One launch and its meters: time, memory, energy, noise, ceilings.

Knows no plan. Start at launch.py.
"""
