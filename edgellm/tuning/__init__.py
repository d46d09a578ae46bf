"""Settings found by measuring: which are worth trying (space), how fast they are here (probe), which to take (search),
and what was found on this machine before (store). `session.tune` does it all; backends read the store alone.
"""
