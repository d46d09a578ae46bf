"""What noise in a group of matrices does to the model: the divergence it causes, through the real engine.

A Q8_0 file of the model is the reference. One group at a time is rounded to a coarse type and put back in Q8_0, in
place; the divergence over the group's noise is its factor. To first order divergences of small noises add up, so a
mixture's is predicted as the sum of factor times noise (search.py verifies the candidates that come of it).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgellm import backends
from edgellm.calibration import text
from edgellm.formats.artifact import Artifact
from edgellm.formats.gguf.reader import read_header
from edgellm.generation.scoring import Chunk
from edgellm.profiles.quality import quality
from edgellm.profiles.quality.reference_logits import CompactReference, Source, create
from edgellm.recipes.matrices import Group, Matrix
from edgellm.recipes.noise import noise, through_ggml
from edgellm.session import EngineOptions

if TYPE_CHECKING:
    from edgellm.convert.gguf.imatrix import Imatrix

#: The type that groups are rounded to: rows of every width that is a multiple of 32 take it.
PROBE = "Q4_0"
_CHUNK = 96  # tokens evaluated together
_ROWS = 512  # rounded at a time
_SAMPLE_ROWS = 128


@dataclass(frozen=True)
class Measured:
    """One group's divergence, in nats a token, and the noise that caused it."""

    name: str
    kld: float
    noise: float

    @property
    def factor(self) -> float:
        """Divergence per noise."""
        return self.kld / self.noise if self.noise else 0.0


def chunks(artifact: Artifact, engine: EngineOptions, n_tokens: int) -> list[Chunk]:
    """The calibration text in short pieces from all over it: prose in two languages, dialogue and code."""
    with backends.open_session(artifact, engine) as session:
        ids = session.tokenize(text.text(), special=False)
        bos = session.tokenize("", special=False, add_bos=session.info.add_bos)
    size = min(_CHUNK, max(32, n_tokens), len(ids))
    n = max(1, n_tokens // size)
    starts = [(len(ids) - size) * part // n for part in range(n)]
    return [Chunk((*bos, *ids[start : start + size]), 1 + len(bos)) for start in starts]


def save_reference(
    path: Path, artifact: Artifact, engine: EngineOptions, pieces: Sequence[Chunk]
) -> CompactReference:
    """Keep what a model says of `pieces`."""
    with backends.open_session(artifact, engine) as session:
        digest = quality.tokenizer_sha256(session, pieces)
        source = Source(artifact.name, artifact.quantization, "", text.NAME, digest, session.info.n_vocab)
        with create(path, pieces, source, force=True) as writer:
            quality.evaluate(session, pieces, sink=writer)
    return CompactReference(path)


def divergence(path: Path, reference: CompactReference, engine: EngineOptions) -> float:
    """Mean KLD of a model from the reference, in nats a token. Raises EngineError."""
    with backends.open_session(Artifact.open(path), engine) as session:
        found = quality.evaluate(session, reference.chunks, reference=reference)
    assert found.divergence
    return found.divergence.kld_mean.value


def measure(
    group: Group, probe: Path, reference: CompactReference, engine: EngineOptions, imatrix: Imatrix | None
) -> Measured:
    """Round `group` in the Q8_0 file `probe`, evaluate, and put it back as it was."""
    total = sum(member.n_weights for member in group.members)
    shares = (
        (noise(member.sample(_SAMPLE_ROWS), PROBE, member.importance(imatrix)), member.n_weights)
        for member in group.members
    )
    level = sum(value * n / total for value, n in shares)
    with _rounded(group.members, probe, imatrix):
        return Measured(group.name, divergence(probe, reference, engine), level)


@contextlib.contextmanager
def _rounded(members: Sequence[Matrix], probe: Path, imatrix: Imatrix | None) -> Iterator[None]:
    places = read_header(probe).tensors
    with probe.open("r+b") as file:
        kept = []
        for member in members:
            place = places[member.name]
            file.seek(place.offset)
            kept.append((place.offset, file.read(place.nbytes)))
        try:
            for member in members:
                file.seek(places[member.name].offset)
                for start in range(0, member.source.n_rows, _ROWS):
                    rows = member.rows(start, min(start + _ROWS, member.source.n_rows))
                    coarse = through_ggml(rows, PROBE, member.importance(imatrix))[1]
                    file.write(through_ggml(coarse, "Q8_0", None)[0].tobytes())
            file.flush()
            yield
        finally:
            for offset, data in kept:
                file.seek(offset)
                file.write(data)
