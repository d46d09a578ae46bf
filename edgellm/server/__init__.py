"""The HTTP server of `edgellm serve`: who may ask, what an error looks like, how an answer streams, what it cost.

Knows HTTP and models by name; knows no engine and no file. Start at app.py, then protocols/: a file there is a
protocol of clients, found by scanning.
"""
