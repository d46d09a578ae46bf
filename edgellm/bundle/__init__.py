"""What a board needs to run one model, in one folder or archive: model, wheels, settings, a start script.

Start at contents.py. board.py is that script, which the board's own Python runs: it imports nothing of edgellm.
"""
