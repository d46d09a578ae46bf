"""Importance matrices: how much each column of a weight matrix matters, in llama.cpp's own files.

For every matrix, and every expert of it, a file holds the sum over calibration tokens of each input's square,
and the number of tokens. Both of llama.cpp's formats are read, the GGUF one (tools/imatrix) and the older
binary one (`imatrix.dat`); the GGUF one is written. Sums are read from the file when asked for, so that a
large mixture of experts does not sit in memory. Knows nothing of models.
Source: tools/imatrix/imatrix.cpp, common/imatrix-loader.cpp and tools/quantize/quantize.cpp of llama.cpp.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from edgellm.errors import ArtifactError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Float32s = npt.NDArray[np.float32]

_SUMS, _COUNTS = ".in_sum2", ".counts"
_CHECK_BYTES = 4 << 20
_INT32_MAX = (1 << 31) - 1  # llama.cpp counts calls and chunks in an int


@dataclass(frozen=True)
class _Place:
    """Where one matrix's sums lie. `counts` is one number for all rows of sums, or one for each expert."""

    offset: int  # bytes from the start of the file
    n_values: int
    counts: tuple[float, ...]


@dataclass(frozen=True)
class Imatrix:
    """An open importance matrix."""

    path: Path
    datasets: tuple[str, ...]  # names of the calibration texts
    chunk_count: int
    chunk_size: int  # tokens in a chunk, 0 in the older format
    _places: Mapping[str, _Place] = field(repr=False)

    @classmethod
    def open(cls, path: Path | str) -> Imatrix:
        """Read and check a file of either format. Raises ArtifactError."""
        path = Path(path)
        try:
            with path.open("rb") as file:
                magic = file.read(4)
            matrix = _open_gguf(path) if magic == b"GGUF" else _open_dat(path)
            matrix._check_finite()
        except OSError as error:
            raise ArtifactError(f"{path}: cannot be read: {error.strerror or error}") from error
        return matrix

    @property
    def sizes(self) -> dict[str, int]:
        """Tensor name -> number of values: columns, times experts."""
        return {name: place.n_values for name, place in self._places.items()}

    def sums(self, name: str) -> tuple[Float32s, Float32s]:
        """What was collected for one tensor: sums of squares [n_counts, n_columns] and token counts [n_counts]."""
        import numpy as np

        place = self._places[name]
        counts = np.array(place.counts, dtype=np.float32)
        return self._read(place, 0, place.n_values).reshape(len(counts), -1), counts

    def weights(self, name: str, first: int, count: int) -> Float32s:
        """The mean squares of values [first, first + count) of one tensor; 1 where no token reached an expert."""
        import numpy as np

        place = self._places[name]
        per_count = place.n_values // len(place.counts)
        values = self._read(place, first, count)
        which = np.arange(first, first + count) // per_count
        counts = np.array(place.counts, dtype=np.float32)[which]
        ones = np.ones(count, dtype=np.float32)
        return np.divide(values, counts, out=ones, where=counts > 0)

    def _read(self, place: _Place, first: int, count: int) -> Float32s:
        import numpy as np

        with self.path.open("rb") as file:
            file.seek(place.offset + 4 * first)
            data = file.read(4 * count)
        return np.frombuffer(data, dtype="<f4", count=count).astype(np.float32, copy=True)

    def _check_finite(self) -> None:
        import numpy as np

        for name, place in self._places.items():
            for first in range(0, place.n_values, _CHECK_BYTES // 4):
                count = min(_CHECK_BYTES // 4, place.n_values - first)
                if not np.isfinite(self._read(place, first, count)).all():
                    raise ArtifactError(f"{self.path}: {name} holds NaN or infinity; make the file again")


def write(
    path: Path,
    sums: Mapping[str, tuple[Float32s, Float32s]],
    *,
    datasets: Sequence[str],
    chunk_count: int,
    chunk_size: int,
    extra: Mapping[str, bytes] | None = None,
) -> None:
    """Write llama.cpp's GGUF format, atomically, over what is there.

    `sums` gives for each tensor the sums of squares [n_counts, n_columns] and the token counts [n_counts],
    as `Imatrix.sums` does. `extra` are keys of our own, encoded, which other readers pass over.
    """
    import numpy as np

    from edgellm import files
    from edgellm.convert.gguf.writer import TensorEntry, encode, layout
    from edgellm.formats.gguf.types import GGML_TYPES_BY_NAME

    key_values = {
        "general.type": encode("str", "imatrix"),
        "imatrix.datasets": encode("arr[str]", list(datasets)),
        "imatrix.chunk_count": encode("u32", chunk_count),
        "imatrix.chunk_size": encode("u32", chunk_size),
        **(extra or {}),
    }
    arrays: dict[str, Float32s] = {}
    for name in sorted(sums):
        values, counts = (np.ascontiguousarray(array, dtype="<f4") for array in sums[name])
        arrays[name + _SUMS] = values.reshape(counts.size, -1)
        arrays[name + _COUNTS] = counts.reshape(-1, 1)
    f32 = GGML_TYPES_BY_NAME["F32"]
    placed = layout(key_values, [TensorEntry(n, a.shape, f32, a.nbytes) for n, a in arrays.items()])
    with files.atomic_path(path, force=True) as temporary, temporary.open("wb") as file:
        file.write(placed.header)
        for name, array in arrays.items():
            file.seek(placed.offsets[name])
            file.write(array.tobytes())
        file.truncate(placed.size)


def _open_gguf(path: Path) -> Imatrix:
    import numpy as np

    from edgellm.formats.gguf.reader import read_header

    header = read_header(path)
    if header.get("general.type") != "imatrix" or "imatrix.chunk_count" not in header.metadata:
        raise ArtifactError(
            f"{path}: is a GGUF file but no importance matrix; make one with edgellm calibrate"
        )
    places = {}
    for tensor in header.tensors.values():
        if not tensor.name.endswith(_SUMS):
            continue
        name = tensor.name.removesuffix(_SUMS)
        counts = header.tensors.get(name + _COUNTS)
        if counts is None or tensor.type.name != "F32" or counts.type.name != "F32":
            raise ArtifactError(f"{path}: {name} has sums but no counts in F32; make the file again")
        with path.open("rb") as file:
            file.seek(counts.offset)
            numbers = np.frombuffer(file.read(counts.nbytes), dtype="<f4")
        n_values = tensor.nbytes // 4
        if n_values % len(numbers) or not np.isfinite(numbers).all():
            raise ArtifactError(
                f"{path}: {name} has {n_values} sums for {len(numbers)} counts; make it again"
            )
        places[name] = _Place(tensor.offset, n_values, tuple(np.floor(numbers + 0.5).tolist()))
    return Imatrix(
        path=path,
        datasets=tuple(header.get("imatrix.datasets", ())),
        chunk_count=int(header.metadata["imatrix.chunk_count"]),
        chunk_size=int(header.get("imatrix.chunk_size", 0)),
        _places=places,
    )


def _open_dat(path: Path) -> Imatrix:
    """The older format: entries of name, calls, values; then, if the file goes on, chunks and a dataset."""
    size = path.stat().st_size
    places = {}
    with path.open("rb") as file:
        for _ in range(_int32(file, path, 1, 1 << 20)):
            name = _text(file, path, size)
            calls = _int32(file, path, 0, _INT32_MAX)
            n_values = _int32(file, path, 1, size // 4)
            places[name] = _Place(file.tell(), n_values, (float(max(calls, 1)),))
            file.seek(4 * n_values, 1)
            if file.tell() > size:
                raise ArtifactError(f"{path}: is cut off inside {name}; copy it again")
        more = file.tell() < size
        chunks = _int32(file, path, 0, _INT32_MAX) if more else 0
        datasets = (_text(file, path, size),) if file.tell() < size else ()
    return Imatrix(path, datasets, chunks, 0, places)


def _int32(file: BinaryIO, path: Path, low: int, high: int) -> int:
    data = file.read(4)
    value = struct.unpack("<i", data)[0] if len(data) == 4 else -1
    if not low <= value <= high:
        raise ArtifactError(f"{path}: is neither of llama.cpp's importance matrix formats, or damaged")
    return int(value)


def _text(file: BinaryIO, path: Path, size: int) -> str:
    data = file.read(_int32(file, path, 0, min(size, 1 << 16)))
    return data.decode("utf-8", "surrogateescape")
