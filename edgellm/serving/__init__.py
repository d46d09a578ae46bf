"""Many requests on one model: jobs in, events out, the engine in a process of its own, started anew when it dies.

Knows messages, tools and answers as they are written; knows no HTTP and no protocol of a client. Start at job.py (what
goes in and comes out), then answering.py (in the engine's process) and remote.py (the server's end of it).
"""
