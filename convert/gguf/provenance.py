"""What a converted file says of its own making: version, engine, recipe, hashes of its sources, verdict.

The hashes and the verdict are known only when the weights are written, and the header comes before them: they
are reserved with their full length and filled in place. Knows GGUF strings, not files.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgellm.convert.checkpoint.folder import check_download
from edgellm.convert.gguf.writer import encode
from edgellm.errors import CheckpointError
from edgellm.formats.gguf.header import RECIPE_KEY
from edgellm.version import __version__

VERSION_KEY = "edgellm.version"
ENGINE_KEY = "edgellm.engine"
SOURCE_KEY = "edgellm.source"
VERIFICATION_KEY = "edgellm.verification"

#: Bytes kept for the verdict of the checks; a longer one is cut.
VERDICT_BYTES = 1024
NOT_VERIFIED = "not verified"

_CHUNK = 1 << 20


def key_values(recipe: Mapping[str, Any], files: Sequence[Path], engine: str) -> dict[str, bytes]:
    """Our keys, hashes and verdict still open. The values of `recipe` must be fit for JSON."""
    return {
        VERSION_KEY: encode("str", __version__),
        ENGINE_KEY: encode("str", engine),
        RECIPE_KEY: encode("str", json.dumps(recipe)),
        SOURCE_KEY: encode("str", source_text(files, None)),
        VERIFICATION_KEY: encode("str", verdict_text(NOT_VERIFIED)),
    }


def source_text(files: Sequence[Path], hashes: Mapping[Path, str] | None) -> str:
    """File name -> SHA-256 as JSON, zeros (of the same length) while not known."""
    return json.dumps({path.name: hashes[path] if hashes else "0" * 64 for path in files})


def verdict_text(verdict: str) -> str:
    """The verdict in exactly VERDICT_BYTES bytes of UTF-8."""
    data = verdict.encode()[:VERDICT_BYTES].decode(errors="ignore").encode()
    return data.ljust(VERDICT_BYTES).decode()


def fill(header: bytes, key: str, old: str, new: str) -> tuple[int, bytes]:
    """Where in `header` the string value of `key` lies and the bytes that replace it. Same length, or a bug."""
    entry = _length_prefixed(key) + encode("str", old)
    start = header.index(entry) + len(entry) - len(old.encode())
    data = new.encode()
    if len(data) != len(old.encode()):
        raise ValueError(f"{key} is reserved {len(old.encode())} bytes and would take {len(data)}")
    return start, data


class Hasher:
    """SHA-256 of files in a thread beside the conversion: reading and hashing release the GIL."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = tuple(files)
        self._hashes: dict[Path, str] = {}
        self._error: OSError | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edgellm-hash", daemon=True)
        self._thread.start()

    def result(self) -> dict[Path, str]:
        """Wait for all hashes. Raises CheckpointError when a file could not be read or was damaged in a download."""
        self._thread.join()
        if self._error:
            raise CheckpointError(
                f"cannot read {self._error.filename}: {self._error.strerror}"
            ) from self._error
        for path, digest in self._hashes.items():
            check_download(path, digest)
        return self._hashes

    def stop(self) -> None:
        """Give up."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            for path in self._files:
                self._hashes[path] = self._sha256(path)
        except OSError as error:
            self._error = error

    def _sha256(self, path: Path) -> str:
        digest, buffer = hashlib.sha256(), bytearray(_CHUNK)
        view = memoryview(buffer)
        with path.open("rb", buffering=0) as file:
            while (n := file.readinto(buffer)) and not self._stop.is_set():
                digest.update(view[:n])
        return digest.hexdigest()


def _length_prefixed(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(8, "little") + data
