"""The engine's state of a conversation on disk, so that going on with it evaluates nothing again.

    "edgellm-state/2\\n", seal of all that follows, length of the header, header (JSON), token ids, engine state

Engines trust such bytes and abort on wrong ones, so a file is used only when it was written here - the seal is
an HMAC-SHA256 under a key that lies in the same folder - by this model, engine build and options. It is a
convenience beside the conversation's own file: without it the text is read again. Knows sessions and files; knows
no messages.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import hmac
import json
import operator
import secrets
import struct
from array import array
from pathlib import Path
from typing import Any

from edgellm import files
from edgellm.chat.spans import Span, SpanCache
from edgellm.errors import EdgellmError, EngineError
from edgellm.session import Session

SUFFIX = ".state"
_MAGIC = b"edgellm-state/2\n"
_KEY, _KEY_BYTES = "state.key", 32
_HEAD = struct.Struct("<32sQ")
#: Options that change neither what is in the cache nor how it is laid out.
_FREE = ("n_ctx", "n_checkpoints", "mtp", "n_threads", "n_threads_batch", "n_batch", "n_ubatch", "use_mmap")


class StateError(EdgellmError):
    """A saved state cannot be used; the conversation's text must be read again."""


def write(path: Path, session: Session, spans: SpanCache) -> int:
    """Put the session's state on disk; returns the bytes written. Raises StorageError."""
    tokens, state = array("i", session.tokens), session.save_state()
    header = {"made_by": _identity(session), "n_tokens": len(tokens)}
    header["spans"] = [[span.text, list(span.tokens)] for span in spans.known]
    text = json.dumps(header).encode()
    seal = hmac.new(_key(path.parent, make=True), struct.pack("<Q", len(text)), hashlib.sha256)
    for part in (text, tokens.tobytes(), state):
        seal.update(part)
    with files.atomic_path(path, force=True) as temporary, temporary.open("wb") as file:
        temporary.chmod(0o600)  # it holds what was said
        for part in (_MAGIC, _HEAD.pack(seal.digest(), len(text)), text, tokens.tobytes(), state):
            file.write(part)
    return path.stat().st_size


def restore(path: Path, session: Session, spans: SpanCache) -> int:
    """Put a state back; returns how many tokens the cache holds. Raises StateError and leaves the session as it was."""
    try:
        data = memoryview(path.read_bytes())
    except OSError as error:
        raise StateError(f"{path.name} cannot be read: {error.strerror}") from None
    header, body = _checked(path.name, data, _key(path.parent))
    _check_maker(path.name, header.made_by, _identity(session))
    tokens = array("i", bytes(body[: header.n_tokens * 4]))
    if len(tokens) >= session.info.n_ctx:
        raise StateError(f"{path.name} holds {len(tokens):,} tokens, the window {session.info.n_ctx:,}")
    if tokens and not 0 <= min(tokens) <= max(tokens) < session.info.n_vocab:
        raise StateError(f"{path.name} holds tokens that the model does not have")
    try:
        session.restore_state(bytes(body[header.n_tokens * 4 :]), list(tokens))
    except EngineError as error:
        session.rewind(0)
        raise StateError(f"{path.name} is refused by the engine: {error}") from None
    spans.known = list(header.spans)
    return len(tokens)


@dataclasses.dataclass(frozen=True)
class _Header:
    """What stands before the tokens."""

    made_by: dict[str, Any]
    n_tokens: int
    spans: tuple[Span, ...]


def _checked(name: str, data: memoryview, key: bytes) -> tuple[_Header, memoryview]:
    """Header and body of a file whose seal holds."""
    start = len(_MAGIC) + _HEAD.size
    if len(data) < start or data[: len(_MAGIC)] != _MAGIC:
        raise StateError(f"{name} is no saved state of this version")
    digest, size = _HEAD.unpack(data[len(_MAGIC) : start])
    if not hmac.compare_digest(hmac.digest(key, data[start - 8 :], "sha256"), digest):
        raise StateError(f"{name} is damaged or was not written here: its seal does not hold")
    body = data[start + size :]
    try:
        header = _header(json.loads(bytes(data[start : start + size])))
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise StateError(f"{name} holds no state: {error!r}") from None
    if header.n_tokens * 4 > len(body):
        raise StateError(f"{name} holds fewer tokens than it says ({header.n_tokens:,})")
    return header, body


def _key(folder: Path, *, make: bool = False) -> bytes:
    """The folder's secret, made where there is none if `make`; a fresh one for nobody otherwise."""
    path = folder / _KEY
    with contextlib.suppress(OSError):
        if len(key := path.read_bytes()) == _KEY_BYTES:
            return key
    key = secrets.token_bytes(_KEY_BYTES)
    if make:
        files.write_bytes(path, key, mode=0o600)
    return key


def _header(data: Any) -> _Header:
    """Raises LookupError, TypeError or ValueError for anything that `write` does not write."""
    spans = tuple(Span(text, tuple(map(operator.index, ids))) for text, ids in data["spans"])
    if not all(isinstance(span.text, str) for span in spans) or not isinstance(data["made_by"], dict):
        raise TypeError("spans and made_by are not what they should be")
    n_tokens = operator.index(data["n_tokens"])
    if n_tokens < 0:
        raise ValueError(f"{n_tokens} tokens")
    return _Header(data["made_by"], n_tokens, spans)


def _check_maker(name: str, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    for key, value in ours.items():
        if theirs.get(key) != value:
            raise StateError(f"{name} was made with another {key} ({theirs.get(key)}, here {value})")


def _identity(session: Session) -> dict[str, Any]:
    """What must be the same for a state to mean the same."""
    info = session.info
    options = dataclasses.asdict(info.options)
    made = {"model": session.artifact.fingerprint, "engine": info.backend, "build": info.version}
    made |= {"CPU and build flags": info.system}
    made |= {name: value for name, value in options.items() if name not in _FREE}
    plain: dict[str, Any] = json.loads(json.dumps(made, default=str))
    return plain
