"""The pipe between a server and an engine's process: messages as pickles, each after its length in 4 bytes.

Both ends are this program, so pickle is no boundary.
"""

from __future__ import annotations

import pickle
import struct
from typing import Any, BinaryIO

LENGTH = struct.Struct("<I")


def packed(message: object) -> bytes:
    """A message as it goes through."""
    data = pickle.dumps(message, protocol=5)
    return LENGTH.pack(len(data)) + data


def receive(pipe: BinaryIO) -> Any:
    """The next message. Raises EOFError when the other end is gone."""
    head = pipe.read(LENGTH.size)
    if len(head) < LENGTH.size:
        raise EOFError
    (size,) = LENGTH.unpack(head)
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return pickle.loads(data)
