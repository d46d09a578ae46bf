"""What a reference model said of every token of a text, in a file about a hundredth of its logits' size.

For each scored position the file keeps the `TOP` largest probabilities p_i (the set S), the mass p_T of all other
tokens (the tail T), and `TAIL` tokens drawn from the tail in proportion to p, with their probabilities. The
Kullback-Leibler divergence from a model q, of which everything is known, is then

    KLD = sum_S p_i ln(p_i / q_i)  +  p_T ln(p_T / q_T)  +  p_T KLD_T,     q_T = 1 - sum_S q_i

exactly, where KLD_T is the divergence within the tail, between p_i / p_T and q_i / q_T. The first two terms are
computed and are a lower bound (the data processing inequality; T. Cover, J. Thomas, Elements of Information
Theory, 2nd ed. 2006, theorem 2.8.1). KLD_T is estimated from the drawn tokens as the mean of r - 1 - ln r with
r = (q_i / q_T) / (p_i / p_T): without bias, since r has mean 1, and never negative, each term being so
(J. Schulman, Approximating KL divergence, 2020). The draw is systematic: equally spaced quantiles of the tail
from one random start. With a vocabulary of at most TOP tokens nothing is left out.

Probabilities are stored as 16-bit steps of ln p, and scaled on reading so that S and T sum to 1: the divergence is
then of a true distribution beside p, and rounding enters only multiplied by ln(p / q).

The file is in the safetensors format (https://huggingface.co/docs/safetensors), arrays as in `_columns`.
"""

from __future__ import annotations

import contextlib
import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from edgellm import files
from edgellm.errors import ArtifactError
from edgellm.generation.scoring import Block, Chunk, target_log_probs

Float64s = npt.NDArray[np.float64]

TOP = 256
TAIL = 32
#: Steps of ln p stored in 16 bits reach down to ln p = -32.
_STEP = 1 / 2048
_KIND = "edgellm reference logits 1"
_MAX_HEADER = 1 << 20
_DTYPES = {"U16": np.uint16, "U32": np.uint32, "F32": np.float32}


@dataclass(frozen=True)
class Source:
    """Whose probabilities a file holds, of what."""

    model: str
    quantization: str
    model_sha256: str
    text: str  # name of the text
    tokenizer_sha256: str  # over the text's tokens and what each stands for
    n_vocab: int


@dataclass(frozen=True)
class Comparison:
    """A reference p and a model q at some positions, each [n]."""

    kld: Float64s  # of q from p, in nats
    same_top: npt.NDArray[np.bool_]  # whether the likeliest token is the same
    log_p_target: Float64s  # ln p of the token that came


@dataclass(frozen=True)
class _Array:
    """One array of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * np.dtype(_DTYPES[self.dtype]).itemsize


def _columns(n: int, n_tokens: int, n_chunks: int, n_vocab: int) -> tuple[_Array, ...]:
    """Every array of a file of `n` positions."""
    top = min(TOP, n_vocab)
    tail = TAIL if n_vocab > TOP else 0
    id_type = "U16" if n_vocab <= 1 << 16 else "U32"
    return (
        _Array("tokens", "U32", (n_tokens,)),  # all chunks, one after the other
        _Array("chunks", "U32", (n_chunks, 2)),  # length and first scored token of each
        _Array("log_p_target", "F32", (n,)),
        _Array("tail_mass", "F32", (n,)),
        _Array("top_ids", id_type, (n, top)),  # likeliest first
        _Array("top_codes", "U16", (n, top)),  # -ln p in steps
        _Array("tail_ids", id_type, (n, tail)),
        _Array("tail_codes", "U16", (n, tail)),
    )


def full_bytes(n_positions: int, n_vocab: int) -> int:
    """What llama-perplexity's base file takes for the same: 16 bits a logit."""
    return 2 * n_positions * n_vocab


class Writer:
    """Takes blocks of log-probabilities in any order and puts each where it belongs."""

    def __init__(self, file: BinaryIO, chunks: Sequence[Chunk], source: Source) -> None:
        n = sum(chunk.n_scored for chunk in chunks)
        n_tokens = sum(len(chunk.tokens) for chunk in chunks)
        self._file = file
        self._rng = np.random.default_rng(0)
        self._first = np.cumsum([0, *(chunk.n_scored for chunk in chunks)])
        self._arrays = {a.name: a for a in _columns(n, n_tokens, len(chunks), source.n_vocab)}
        self._offsets = self._write_header(source)
        self._put("tokens", 0, np.array([token for chunk in chunks for token in chunk.tokens]))
        self._put("chunks", 0, np.array([[len(chunk.tokens), chunk.first] for chunk in chunks]))

    def add(self, block: Block) -> None:
        """Store one block."""
        row = int(self._first[block.chunk]) + block.start
        top = self._arrays["top_ids"].shape[1]
        ids = _largest(block.log_probs, top)
        kept = np.take_along_axis(block.log_probs, ids, axis=1)
        tail = np.exp(block.log_probs)
        np.put_along_axis(tail, ids, 0.0, axis=1)
        tail_mass = tail.sum(axis=1)
        drawn = _draw(tail, self._arrays["tail_ids"].shape[1], self._rng)
        self._put("log_p_target", row, target_log_probs(block))
        self._put("tail_mass", row, tail_mass)
        self._put("top_ids", row, ids)
        self._put("top_codes", row, _encode(kept))
        self._put("tail_ids", row, drawn)
        self._put("tail_codes", row, _encode(np.take_along_axis(block.log_probs, drawn, axis=1)))

    def _write_header(self, source: Source) -> dict[str, int]:
        metadata = {name: str(value) for name, value in vars(source).items()}
        header: dict[str, Any] = {"__metadata__": {"kind": _KIND, **metadata}}
        at, offsets = 0, {}
        for array in self._arrays.values():
            offsets[array.name] = at
            span = [at, at + array.nbytes]
            header[array.name] = {"dtype": array.dtype, "shape": array.shape, "data_offsets": span}
            at += array.nbytes
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        self._file.write(struct.pack("<Q", len(text)) + text)
        self._file.truncate(8 + len(text) + at)
        return {name: 8 + len(text) + offset for name, offset in offsets.items()}

    def _put(self, name: str, row: int, values: npt.NDArray[Any]) -> None:
        array = self._arrays[name]
        data = np.ascontiguousarray(values, dtype=_DTYPES[array.dtype])
        self._file.seek(self._offsets[name] + row * (array.nbytes // max(1, array.shape[0])))
        self._file.write(data.tobytes())


@contextlib.contextmanager
def create(path: Path, chunks: Sequence[Chunk], source: Source, *, force: bool = False) -> Iterator[Writer]:
    """Write a file atomically: it gets its name when the block is left without an exception."""
    with files.atomic_path(path, force=force) as temporary, temporary.open("wb") as file:
        yield Writer(file, chunks, source)


class CompactReference:
    """An open file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        metadata, self._arrays = _read(path)
        try:
            self.source = _source(metadata)
            self.chunks = self._read_chunks()
        except (KeyError, ValueError) as error:
            raise ArtifactError(f"{path}: is a damaged reference file ({error}); make it again") from error
        self._first = np.cumsum([0, *(chunk.n_scored for chunk in self.chunks)])
        expected = _columns(
            int(self._first[-1]), self._arrays["tokens"].size, len(self.chunks), self.source.n_vocab
        )
        found = {name: array.shape for name, array in self._arrays.items()}
        if {array.name: array.shape for array in expected} != found:
            raise ArtifactError(f"{path}: is a damaged reference file (its arrays do not fit); make it again")

    def compare(self, block: Block) -> Comparison:
        """The reference against what a model said at the same positions."""
        row = int(self._first[block.chunk]) + block.start
        rows = slice(row, row + len(block.targets))
        top_ids = self._arrays["top_ids"][rows].astype(np.int64)
        tail_mass = self._arrays["tail_mass"][rows].astype(np.float64)
        log_p = _decode(self._arrays["top_codes"][rows])
        log_p += (np.log1p(-tail_mass) - _log_sum(log_p))[:, None]
        log_q = np.take_along_axis(block.log_probs, top_ids, axis=1)
        kld = (np.exp(log_p) * (log_p - log_q)).sum(axis=1)
        if self._arrays["tail_ids"].shape[1]:
            kld += self._tail(rows, block, tail_mass, np.exp(log_q).sum(axis=1))
        return Comparison(
            kld,
            block.log_probs.argmax(axis=1) == top_ids[:, 0],
            self._arrays["log_p_target"][rows].astype(np.float64),
        )

    def _tail(self, rows: slice, block: Block, tail_mass: Float64s, q_top: Float64s) -> Float64s:
        """The tail's part: p_T ln(p_T / q_T) + p_T mean(r - 1 - ln r)."""
        smallest = np.finfo(np.float64).tiny
        log_p_tail = np.log(np.maximum(tail_mass, smallest))
        log_q_tail = np.log(np.maximum(1 - q_top, np.finfo(np.float64).eps))
        ids = self._arrays["tail_ids"][rows].astype(np.int64)
        log_r = np.take_along_axis(block.log_probs, ids, axis=1) - log_q_tail[:, None]
        log_r -= _decode(self._arrays["tail_codes"][rows]) - log_p_tail[:, None]
        within = (np.expm1(log_r) - log_r).mean(axis=1)
        return np.where(tail_mass > 0, tail_mass * (log_p_tail - log_q_tail + within), 0.0)

    def _read_chunks(self) -> list[Chunk]:
        tokens = self._arrays["tokens"].tolist()
        found, at = [], 0
        for length, first in self._arrays["chunks"].tolist():
            if not 1 <= first <= length or at + length > len(tokens):
                raise ValueError("chunks outside its tokens")
            found.append(Chunk(tuple(tokens[at : at + length]), first))
            at += length
        return found


def _largest(log_probs: Float64s, k: int) -> npt.NDArray[np.int64]:
    """Ids of the k largest of each row, largest first; among equals the smaller id, as argmax has it."""
    n_vocab = log_probs.shape[1]
    ids = np.argpartition(log_probs, n_vocab - k, axis=1)[:, n_vocab - k :] if k < n_vocab else None
    ids = np.sort(ids, axis=1) if ids is not None else np.tile(np.arange(n_vocab), (len(log_probs), 1))
    order = np.argsort(-np.take_along_axis(log_probs, ids, axis=1), axis=1, kind="stable")
    found: npt.NDArray[np.int64] = np.take_along_axis(ids, order, axis=1)
    return found


def _draw(masses: Float64s, n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Systematic draw of `n` ids from each row in proportion to `masses` [rows, n_vocab]."""
    found = np.zeros((len(masses), n), np.int64)
    cumulative: Float64s = np.cumsum(masses, axis=1)
    for row, total in enumerate(cumulative[:, -1]):
        points = (np.arange(n) + rng.random()) / max(1, n) * total
        found[row] = np.searchsorted(cumulative[row], points, side="right")
    last = masses.shape[1] - 1
    return np.asarray(np.minimum(found, last), np.int64)


def _encode(log_p: Float64s) -> npt.NDArray[np.uint16]:
    steps: npt.NDArray[np.uint16] = np.clip(np.rint(-log_p / _STEP), 0, 65535).astype(np.uint16)
    return steps


def _decode(codes: npt.NDArray[np.uint16]) -> Float64s:
    return codes.astype(np.float64) * -_STEP


def _log_sum(log_p: Float64s) -> Float64s:
    total: Float64s = np.log(np.exp(log_p).sum(axis=1))
    return total


def is_reference(path: Path) -> bool:
    """Whether a file is a reference file (and not a model)."""
    try:
        with path.open("rb") as file:
            start = file.read(256)
    except OSError:
        return False
    return _KIND.rpartition(" ")[0].encode() in start


def _source(metadata: Mapping[str, str]) -> Source:
    return Source(
        metadata["model"],
        metadata["quantization"],
        metadata["model_sha256"],
        metadata["text"],
        metadata["tokenizer_sha256"],
        int(metadata["n_vocab"]),
    )


def _read(path: Path) -> tuple[Mapping[str, str], dict[str, npt.NDArray[Any]]]:
    """Metadata and memory-mapped arrays. Raises ArtifactError when the file is not what it says."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(_MAX_HEADER, size):
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(file.read(length))
        metadata = header.pop("__metadata__")
        if metadata["kind"] != _KIND:
            raise ValueError(f"kind {metadata['kind']!r}, not {_KIND!r}")
        arrays = {name: _map(path, size, 8 + length, entry) for name, entry in header.items()}
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise ArtifactError(
            f"{path}: is no reference file of edgellm ({error}); make one with --save-ref"
        ) from error
    return metadata, arrays


def _map(path: Path, size: int, start: int, entry: Mapping[str, Any]) -> npt.NDArray[Any]:
    dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), tuple(int(n) for n in entry["shape"])
    first, last = entry["data_offsets"]
    if (
        min(shape) < 0
        or last - first != math.prod(shape) * dtype.itemsize
        or not 0 <= first <= last <= size - start
    ):
        raise ValueError("an array outside the file")
    if first == last:
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, "r", start + first, shape)
