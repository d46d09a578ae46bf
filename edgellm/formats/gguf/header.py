"""A GGUF file's header as data: metadata and where each tensor lies. Opens no file."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, islice
from math import prod
from pathlib import Path
from typing import Any, overload

from edgellm.errors import ArtifactError
from edgellm.formats.gguf.types import FILE_TYPE_NAMES, OWN_TYPES, GgmlType

STOP_IDS_KEY = "edgellm.tokenizer.eos_token_ids"
RECIPE_KEY = "edgellm.recipe"  # how a file of ours was made, as JSON


class StringArray(Sequence[str]):
    """The strings of one array, decoded when asked for. Undecodable bytes become surrogates (PEP 383)."""

    def __init__(self, data: bytes, starts: array[int], end: int) -> None:
        self._data = data
        self.starts, self.end = starts, end  # where in `data` each begins, and the last one ends

    def __len__(self) -> int:
        return len(self.starts)

    def raw(self, index: int) -> bytes:
        """The bytes of one element as they are in the file."""
        index = range(len(self.starts))[index]
        start = self.starts[index]
        stop = self.starts[index + 1] - 8 if index + 1 < len(self.starts) else self.end
        return self._data[start:stop]

    def raws(self) -> Iterator[bytes]:
        """The bytes of all elements."""
        data = self._data
        stops = chain((start - 8 for start in islice(self.starts, 1, None)), (self.end,))
        return (data[start:stop] for start, stop in zip(self.starts, stops, strict=False))

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self.raw(index).decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"StringArray({len(self)} strings)"


@dataclass(frozen=True)
class GgufTensor:
    """Where one tensor lies. `shape` has rows first, as numpy and checkpoints do: GGUF's `ne` reversed."""

    name: str
    type: GgmlType
    shape: tuple[int, ...]
    offset: int  # bytes from the start of the file
    nbytes: int


def bits_per_weight(tensors: Iterable[GgufTensor]) -> float | None:
    """Bits a weight takes on average, norms and all: the tensors' bytes, as llama.cpp counts them, without a header.

    None where there are no weights.
    """
    n_bytes = n_weights = 0
    for tensor in tensors:
        n_bytes, n_weights = n_bytes + tensor.nbytes, n_weights + prod(tensor.shape)
    return 8 * n_bytes / n_weights if n_weights else None


@dataclass(frozen=True)
class GgufFile:
    """A header, read within bounds by reader.py.

    `metadata` values are bool, int, float, str, an array.array of numbers, or a StringArray.
    """

    path: Path
    version: int
    metadata: Mapping[str, Any]
    value_types: Mapping[str, str]  # key -> "u32", "str", "arr[i32]", ...
    tensors: Mapping[str, GgufTensor]
    alignment: int
    data_offset: int  # bytes from the start of the file
    size: int  # bytes of the file
    _raw: Mapping[str, tuple[int, int]] = field(repr=False)
    _header: bytes = field(repr=False)
    checked: bool = False  # these very bytes were checked before (known.py)

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of the header's bytes: all of the file but its tensors' data."""
        return hashlib.sha256(self._header).hexdigest()

    @property
    def string_arrays(self) -> list[StringArray]:
        """All of its arrays of strings, in order."""
        return [value for value in self.metadata.values() if isinstance(value, StringArray)]

    @property
    def header_bytes(self) -> int:
        """How long the header is."""
        return len(self._header)

    def raw_value(self, key: str) -> bytes:
        """A key's value exactly as stored, its value type (4 bytes) first: for copying without loss."""
        start, stop = self._raw[key]
        return self._header[start:stop]

    def get(self, key: str, default: Any = None) -> Any:
        """A metadata value, or `default`."""
        return self.metadata.get(key, default)

    @property
    def quantization(self) -> str:
        """The type people call the file by, e.g. `Q4_K_M`; without `general.file_type`, most bytes' type."""
        file_type = self.get("general.file_type")
        if isinstance(file_type, int) and file_type in FILE_TYPE_NAMES:
            name, made_as = FILE_TYPE_NAMES[file_type], str(self.get(RECIPE_KEY, ""))
            # Whoever quantizes a file of ours again leaves our key in it: it counts under its own number only.
            own = (own for own, like in OWN_TYPES.items() if like == name and f'"type": "{own}"' in made_as)
            return next(own, name)
        nbytes: dict[str, int] = {}
        for tensor in self.tensors.values():
            nbytes[tensor.type.name] = nbytes.get(tensor.type.name, 0) + tensor.nbytes
        return max(nbytes, key=nbytes.__getitem__, default="none")

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end an answer, as edgellm lists them all; GGUF itself has room for one."""
        return frozenset(int(i) for i in self.get(STOP_IDS_KEY, ()))

    def shard_paths(self) -> tuple[Path, ...]:
        """All files of a split model in order, this one alone when it is not split. Raises ArtifactError."""
        count = self.get("split.count", 1)
        if not isinstance(count, int) or count <= 1:
            return (self.path,)
        stem = self.path.name.removesuffix(".gguf")
        tail = f"-{int(self.get('split.no', 0)) + 1:05d}-of-{count:05d}"
        if not stem.endswith(tail) or count > 9999:
            raise ArtifactError(
                f"{self.path}: is a part of {count} files but not named *{tail}.gguf; give it its name back"
            )
        base = stem.removesuffix(tail)
        paths = tuple(self.path.with_name(f"{base}-{i:05d}-of-{count:05d}.gguf") for i in range(1, count + 1))
        for path in paths:
            if not path.is_file():
                raise ArtifactError(f"{path}: this part of a model of {count} files is missing; fetch it")
        return paths
