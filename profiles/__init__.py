"""Measuring models on this machine: speed, memory, energy, and the report of it.

`run.profile` runs launches in fresh processes; `result.Report` is what comes out; `report/` renders it.
"""
