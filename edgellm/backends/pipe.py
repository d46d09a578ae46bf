"""What a process and its child say to each other: messages as pickles, each after its length in 4 bytes.

Both ends are this program, so pickle is no boundary.
"""

from __future__ import annotations

import pickle
import signal
import struct
from typing import IO, Any

LENGTH = struct.Struct("<I")


def packed(message: object) -> bytes:
    """A message as it goes through."""
    data = pickle.dumps(message, protocol=5)
    return LENGTH.pack(len(data)) + data


def send(pipe: IO[bytes], message: object) -> None:
    """Say something. Raises OSError, ValueError when the other end, or this one, is closed."""
    pipe.write(packed(message))
    pipe.flush()


def receive(pipe: IO[bytes]) -> Any:
    """The next message. Raises EOFError when the other end is gone."""
    head = pipe.read(LENGTH.size)
    if len(head) < LENGTH.size:
        raise EOFError
    (size,) = LENGTH.unpack(head)
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return pickle.loads(data)


def ending(code: int) -> str:
    """How a child ended, by its exit code: the end of a sentence about it."""
    return f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
