"""The engine's state of a conversation on disk, so that going on with it evaluates nothing again.

    "edgellm-state/1\\n", SHA-256 of all that follows, length of the header, header (JSON), token ids, engine state

Engines trust such bytes and abort on wrong ones, so a file is used only when its checksum holds and it was
written by this model, engine build and options. It is a convenience beside the conversation's own file: without
it the text is read again. Knows sessions and files; knows no messages.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import struct
from array import array
from pathlib import Path
from typing import Any

from edgellm import files
from edgellm.chat.spans import Span, SpanCache
from edgellm.errors import EdgellmError, EngineError
from edgellm.session import Session

SUFFIX = ".state"
_MAGIC = b"edgellm-state/1\n"
_HEAD = struct.Struct("<32sQ")
_BLOCKS, _BLOCK_BYTES = 64, 1 << 16  # of a file, read for its fingerprint
#: Options that change neither what is in the cache nor how it is laid out.
_FREE = ("n_ctx", "n_threads", "n_threads_batch", "n_batch", "n_ubatch", "use_mmap")


class StateError(EdgellmError):
    """A saved state cannot be used; the conversation's text must be read again."""


def write(path: Path, session: Session, spans: SpanCache) -> int:
    """Put the session's state on disk; returns the bytes written. Raises StorageError."""
    tokens, state = array("i", session.tokens), session.save_state()
    header = {"made_by": _identity(session), "n_tokens": len(tokens)}
    header["spans"] = [[span.text, list(span.tokens)] for span in spans.known]
    text = json.dumps(header).encode()
    digest = hashlib.sha256(struct.pack("<Q", len(text)))
    for part in (text, tokens.tobytes(), state):
        digest.update(part)
    with files.atomic_path(path, force=True) as temporary, temporary.open("wb") as file:
        for part in (_MAGIC, _HEAD.pack(digest.digest(), len(text)), text, tokens.tobytes(), state):
            file.write(part)
    return path.stat().st_size


def restore(path: Path, session: Session, spans: SpanCache) -> int:
    """Put a state back; returns how many tokens the cache holds. Raises StateError and leaves the session as it was."""
    try:
        data = memoryview(path.read_bytes())
    except OSError as error:
        raise StateError(f"{path.name} cannot be read: {error.strerror}") from None
    header, body = _checked(path.name, data)
    _check_maker(path.name, header["made_by"], _identity(session))
    tokens = array("i", bytes(body[: header["n_tokens"] * 4]))
    if len(tokens) >= session.info.n_ctx:
        raise StateError(f"{path.name} holds {len(tokens):,} tokens, the window {session.info.n_ctx:,}")
    try:
        session.restore_state(bytes(body[header["n_tokens"] * 4 :]), list(tokens))
    except EngineError as error:
        session.rewind(0)
        raise StateError(f"{path.name} is refused by the engine: {error}") from None
    spans.known = [Span(text, tuple(ids)) for text, ids in header["spans"]]
    return len(tokens)


def _checked(name: str, data: memoryview) -> tuple[dict[str, Any], memoryview]:
    """Header and body of a file whose checksum holds."""
    start = len(_MAGIC) + _HEAD.size
    if len(data) < start or data[: len(_MAGIC)] != _MAGIC:
        raise StateError(f"{name} is no saved state of this version")
    digest, size = _HEAD.unpack(data[len(_MAGIC) : start])
    if hashlib.sha256(data[start - 8 :]).digest() != digest:
        raise StateError(f"{name} is damaged: its checksum does not hold")
    return json.loads(bytes(data[start : start + size])), data[start + size :]


def _check_maker(name: str, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    for key, value in ours.items():
        if theirs.get(key) != value:
            raise StateError(f"{name} was made with another {key} ({theirs.get(key)}, here {value})")


def _identity(session: Session) -> dict[str, Any]:
    """What must be the same for a state to mean the same."""
    info = session.info
    options = dataclasses.asdict(info.options)
    made = {"model": _fingerprint(session.artifact.path), "engine": info.backend, "build": info.version}
    made |= {"CPU and build flags": info.system}
    made |= {name: value for name, value in options.items() if name not in _FREE}
    plain: dict[str, Any] = json.loads(json.dumps(made, default=str))
    return plain


def _fingerprint(path: Path) -> str:
    """A hash of a model's size and of blocks spread over it: all of a large file would take seconds to read."""
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
        size = file.stat().st_size
        digest.update(os.fsencode(f"{file.name} {size}\n"))
        with file.open("rb") as stream:
            for i in range(_BLOCKS):
                stream.seek(i * max(size - _BLOCK_BYTES, 0) // max(_BLOCKS - 1, 1))
                digest.update(stream.read(_BLOCK_BYTES))
    return digest.hexdigest()
