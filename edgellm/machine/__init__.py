"""What this computer offers: processors, memory, devices, vendors' libraries, and who else uses it.

Knows no model. Start at hardware.py.
"""
