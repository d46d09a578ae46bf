"""Asks a server what memory it has, with llama.cpp's own client, which ends this process where they do not understand
each other. Run as `python -m edgellm.backends.llama.remote_child HOST:PORT`; prints `[free, total]`, in bytes.
"""

from __future__ import annotations

import json
import sys

from edgellm import lifeline
from edgellm.backends.llama import devices, lib, remote


def main() -> None:
    """Connect and ask. The library's log goes to standard error, for why it refuses stands there alone."""
    lifeline.follow()
    remote.quiet_abort()
    library = lib.load()
    library.llama_log_set(library.llama_log_callback(0), None)
    there = devices.of_server(sys.argv[1])
    print(
        json.dumps(
            [sum(getattr(one, name) or 0 for one, _ in there) for name in ("free_bytes", "total_bytes")]
        )
    )


if __name__ == "__main__":
    main()
