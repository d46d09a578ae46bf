"""A file of requests answered: rows in, rows out, none lost and none twice, whatever is killed meanwhile.

A row is one request to the server's application, asked in this process: protocols, batching and the engine's restart
are the server's. Knows files of rows and how they are asked; knows no protocol. Start at rows.py (what comes in), then
journal.py (what goes out) and run.py.
"""
