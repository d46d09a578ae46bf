"""What coding agents send, made into what every model takes: turns in order, lines that change left out, gaps named.

Knows no protocol of its own and no engine; protocols/ reads requests with it.
"""
