"""Headers that were read and checked before: where their strings lie, so that 300,000 need not be walked again.

A header is known by its bytes. What is kept in the cache is a digest of them and the place of each string, under a
digest of its own; the header's bytes are read and hashed every time, and any other bytes, or a record that is not
whole, are read and checked as if for the first time. What does not take long (numbers, tensors, the file's size) is
checked every time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import sys
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgellm import files
from edgellm.errors import EdgellmError
from edgellm.formats.gguf.header import StringArray

if TYPE_CHECKING:
    from edgellm.formats.gguf.header import GgufFile

#: Another number for every change of what parser.py and vocabulary.py ask of strings.
_MAGIC = b"EGH1" + sys.byteorder.encode()
_HEAD = struct.Struct("<32sQ")  # the header's SHA-256, its length
_ARRAY = struct.Struct("<QQ")  # how many strings, where the last one ends
_MIN_STRINGS = 1000  # fewer are read faster than remembered


@dataclass(frozen=True)
class Known:
    """A header whose bytes are those that were checked before."""

    header: bytes
    strings: dict[int, StringArray]  # by where the first one's length stands


def find(path: Path, descriptor: int) -> Known | None:
    """What is known of the open file at `path`; None where its header is not the one that was checked."""
    with contextlib.suppress(OSError, struct.error, ValueError, IndexError):
        record = _record(path).read_bytes()
        about = len(_MAGIC) + 32
        if record[: len(_MAGIC)] != _MAGIC or _sha256(record[about:]) != record[len(_MAGIC) : about]:
            return None
        digest, length = _HEAD.unpack_from(record, about)
        with open(descriptor, "rb", buffering=0, closefd=False) as file:
            file.seek(0)
            header = file.read(length)
        if _sha256(header) == digest:
            return Known(header, _strings(header, record, about + _HEAD.size))
    return None


def remember(file: GgufFile) -> None:
    """Keep where the strings of a checked header lie, if that is worth it and possible."""
    arrays = file.string_arrays
    if file.checked or sum(map(len, arrays)) < _MIN_STRINGS:
        return
    parts = [_HEAD.pack(bytes.fromhex(file.digest), file.header_bytes)]
    for strings in arrays:
        parts += [_ARRAY.pack(len(strings), strings.end), strings.starts.tobytes()]
    body = b"".join(parts)
    with contextlib.suppress(OSError, EdgellmError):  # without a cache it is checked again
        files.write_bytes(_record(file.path), _MAGIC + _sha256(body) + body)


def _strings(header: bytes, record: bytes, at: int) -> dict[int, StringArray]:
    found = {}
    while at < len(record):
        count, end = _ARRAY.unpack_from(record, at)
        at += _ARRAY.size
        starts = array("I")
        starts.frombytes(record[at : at + starts.itemsize * count])
        at += starts.itemsize * count
        if count:
            found[starts[0] - 8] = StringArray(header, starts, end)
    return found


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _record(path: Path) -> Path:
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:24]
    return files.cache_dir("headers") / name
