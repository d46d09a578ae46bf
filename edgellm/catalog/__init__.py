"""What MODEL means - a file, a folder, a bundled name, a hub id - and a checkpoint's first use.

Start at models.py.
"""
