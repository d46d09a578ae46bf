"""Calibration results as files: llama.cpp's importance matrix format, with keys of our own to go on from.

An unfinished run is kept beside the output (`<output>.partial`), itself a valid importance matrix; the output
gets its name when the run is done.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgellm import files
from edgellm.calibration import Calibration, calibrate
from edgellm.convert.gguf import imatrix
from edgellm.convert.gguf.writer import encode
from edgellm.errors import ArtifactError
from edgellm.formats.artifact import Artifact
from edgellm.generation.scoring import Chunk
from edgellm.session import EngineOptions

_KEY = "edgellm.calibration."


@dataclass(frozen=True)
class Identity:
    """What a result was made of. Runs may be joined only when all of it is the same."""

    model_sha256: str
    tokens_sha256: str
    chunk_size: int
    process_output: bool

    @staticmethod
    def of(model_sha256: str, chunks: Sequence[Chunk], process_output: bool) -> Identity:
        """Of a run over `chunks`."""
        digest = hashlib.sha256()
        for chunk in chunks:
            digest.update(struct.pack(f"<{len(chunk.tokens) + 1}I", len(chunk.tokens), *chunk.tokens))
        return Identity(model_sha256, digest.hexdigest(), max(len(c.tokens) for c in chunks), process_output)


def partial_path(output: Path) -> Path:
    """Where an unfinished run is kept."""
    return output.with_name(f"{output.name}.partial")


@dataclass(frozen=True)
class Job:
    """A run from a model and a text to a file."""

    artifact: Artifact
    chunks: Sequence[Chunk]
    dataset: str  # names the text in the file
    output: Path
    engine: EngineOptions
    process_output: bool = False
    resume: bool = False  # go on from the partial file, if there is one
    save_every: int = 10  # chunks
    force: bool = False  # replace an output that is there


def run(job: Job, report: Callable[[Calibration], None] | None = None) -> Calibration:
    """Calibrate and write the file. `report` gets the state at the start and after each chunk.

    Whatever ends the run early leaves the partial file, up to the last whole chunk. Raises EngineError,
    OutputExistsError, StorageError, and ArtifactError when there is a partial file of another run.
    """
    files.check_output(job.output, force=job.force)
    identity = Identity.of(job.artifact.sha256, job.chunks, job.process_output)
    partial = partial_path(job.output)
    state = load(partial, identity) if job.resume and partial.exists() else Calibration()
    saved = state.n_chunks

    def keep() -> None:
        nonlocal saved
        save(partial, state, identity, job.dataset)
        saved = state.n_chunks

    def after_chunk(new: Calibration) -> None:
        nonlocal state
        state = new
        if state.n_chunks - saved >= job.save_every:
            keep()
        if report:
            report(state)

    if report:
        report(state)
    try:
        calibrate(
            job.artifact,
            job.chunks,
            engine=job.engine,
            process_output=job.process_output,
            start=state,
            after_chunk=after_chunk,
        )
    except BaseException:
        if state.n_chunks > saved:
            keep()
        raise
    files.check_output(job.output, force=job.force)
    save(job.output, state, identity, job.dataset)
    partial.unlink(missing_ok=True)
    return state


def save(path: Path, state: Calibration, identity: Identity, dataset: str) -> None:
    """Write `state` atomically over what is there. `dataset` names the calibration text."""
    sums = {name: (values, counts.astype(np.float32)) for name, (values, counts) in state.sums.items()}
    values = {
        "model_sha256": encode("str", identity.model_sha256),
        "tokens_sha256": encode("str", identity.tokens_sha256),
        "process_output": encode("bool", identity.process_output),
        "n_scored": encode("u64", state.n_scored),
        "nll_sum": encode("f64", state.nll_sum),
        "nll_squares": encode("f64", state.nll_squares),
    }
    imatrix.write(
        path,
        sums,
        datasets=[dataset],
        chunk_count=state.n_chunks,
        chunk_size=identity.chunk_size,
        extra={_KEY + name: value for name, value in values.items()},
    )


def load(path: Path, identity: Identity) -> Calibration:
    """Read what `save` wrote. Raises ArtifactError when it is damaged or of another run."""
    from edgellm.formats.gguf.reader import read_header

    matrix, header = imatrix.Imatrix.open(path), read_header(path)

    def key(name: str) -> object:
        return header.get(_KEY + name)

    found = Identity(
        str(key("model_sha256")), str(key("tokens_sha256")), matrix.chunk_size, bool(key("process_output"))
    )
    if found != identity:
        raise ArtifactError(
            f"{path} is of another run ({_difference(found, identity)}); leave --resume out to start anew"
        )
    sums = {name: matrix.sums(name) for name in matrix.sizes}
    return Calibration(
        {name: (values, counts.astype(np.int64)) for name, (values, counts) in sums.items()},
        matrix.chunk_count,
        int(header.get(_KEY + "n_scored", 0)),
        float(header.get(_KEY + "nll_sum", 0.0)),
        float(header.get(_KEY + "nll_squares", 0.0)),
    )


def _difference(found: Identity, wanted: Identity) -> str:
    what = {
        "model_sha256": "another model",
        "tokens_sha256": "another text or number of chunks",
        "chunk_size": f"chunks of {found.chunk_size} tokens, not {wanted.chunk_size}",
        "process_output": "another choice about the output matrix",
    }
    return next(text for name, text in what.items() if getattr(found, name) != getattr(wanted, name))
