"""The first opening of a file happens in a child: what hangs, crashes or eats memory there is an error here.

A header can be checked, a graph that loops for ever or a file that aborts its engine cannot: it is tried, once
for each content and build of the engine's library, within bounds of time and memory. What passed is remembered
by content; without a cache to remember it in, every opening is tried.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from edgellm import backends, files
from edgellm.backends import worker
from edgellm.errors import EngineCrashError
from edgellm.formats import onnx_folder
from edgellm.formats.artifact import Artifact
from edgellm.formats.gguf.reader import read_header
from edgellm.session import EngineOptions

_SECONDS, _BYTES_A_SECOND = 60.0, 20e6  # the slowest disk and preparation that are waited for
_MEMORY_BYTES, _MEMORY_A_BYTE = 8 << 30, 4  # address space, for a file that is mapped, repacked and run
_LOOPS = (b"Loop", b"Scan")  # how often these run may stand among the weights
_TOKENS = [0] * 32  # more than one batch of any kernel that takes few and many apart
#: Every byte that UTF-8 has: vocabularies that lack one end their engine when they meet it.
_ALL_BYTES = "".join(
    map(chr, (*range(0x801), *range(0x1000, 0x10000, 0x1000), *range(0x10000, 0x110000, 0x30000)))
)


def enabled() -> bool:
    """Whether files are tried at all: `EDGELLM_NO_TRIAL` turns it off."""
    return not os.environ.get("EDGELLM_NO_TRIAL")


def ensure(artifact: Artifact, options: EngineOptions | None = None) -> None:
    """Try `artifact` unless it was tried before. Raises EngineCrashError, EngineError."""
    if not enabled() or _record(artifact).exists():
        return
    options = EngineOptions(n_ctx=2 * len(_TOKENS), tuned=False) if options is None else options
    seconds = _SECONDS + artifact.size_bytes / _BYTES_A_SECOND
    memory = _MEMORY_BYTES + _MEMORY_A_BYTE * artifact.size_bytes
    bound = (
        memory if backends.on_cpu(artifact.format, options) else None
    )  # drivers map far more than they use
    try:
        with worker.open_isolated(
            artifact, options, timeout_seconds=seconds, max_bytes=bound, quiet=True
        ) as session:
            session.eval(_TOKENS[:1])
            session.eval(_TOKENS)
            if artifact.foreign:
                session.tokenize(_ALL_BYTES)
    except EngineCrashError as error:
        raise EngineCrashError(
            f"{error} (the file was tried in a process of its own and is not opened)"
        ) from None
    remember(artifact)


def remember(artifact: Artifact) -> None:
    """Note that an engine has opened and run `artifact`."""
    if enabled():
        files.remember(_record(artifact), json.dumps({"name": artifact.name}) + "\n")


def _record(artifact: Artifact) -> Path:
    digest = hashlib.blake2b(backends.build(artifact.format).encode())
    for part in _telling(artifact):
        digest.update(part)
    return files.cache_dir("tried") / digest.hexdigest()[:32]


def _telling(artifact: Artifact) -> list[bytes]:
    """What decides whether an engine survives the file: of GGUF its header; weights are numbers, whatever they are."""
    if artifact.format != "onnx":
        headers = map(read_header, artifact.parts or (artifact.path,))
        return [f"{header.size} {header.digest}\n".encode() for header in headers]
    graph, *others = onnx_folder.read(artifact.path).data_files
    graphs = [graph.read_bytes(), *(path.read_bytes() for path in others if path.suffix == ".onnx")]
    described = [path.read_bytes() for path in sorted(artifact.path.glob("*.json"))]
    looping = any(word in text for text in graphs for word in _LOOPS)
    return [*graphs, *described, artifact.sha256.encode() if looping else b""]
