"""A Hugging Face checkpoint folder, opened without reading its weights and without running its code.

Knows files: config.json, the safetensors shards and their index. Nothing outside the folder is read, except
what a Hugging Face cache's links point to, and pickle files (which can run code) are never opened.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgellm.convert.checkpoint.safetensors_file import NUMPY_DTYPES, LazyTensor, Shard, read_tensors
from edgellm.errors import CheckpointError
from edgellm.formats import links
from edgellm.formats.nested_config import language_model
from edgellm.models.renaming import is_ignored, renamed, tower_of

__all__ = ["Checkpoint", "LazyTensor", "find_file", "read_json", "read_json_list"]

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_SHA256 = re.compile("[0-9a-f]{64}")
MAX_JSON_BYTES = 64 << 20  # the largest tokenizer.json of the supported families has 17 MB


@dataclass(frozen=True)
class Checkpoint:
    """A folder with config.json and safetensors shards. Close it, or use it as a context manager."""

    dir: Path
    config: Mapping[str, Any]  # of the language model, where the checkpoint holds more than that
    generation_config: Mapping[str, Any]  # empty when the checkpoint has none
    tensors: Mapping[str, LazyTensor]  # by the names of transformers' classes; each knows its stored one
    shards: tuple[Shard, ...]
    adapter: Mapping[str, Any] = field(
        default_factory=dict
    )  # what to record of one merged in, see adapter.py

    @classmethod
    def open(cls, folder: Path) -> Checkpoint:
        """Open a checkpoint and check its files against each other. Reads headers only.

        Raises CheckpointError when a file is missing, truncated, damaged, a pickle or outside the folder.
        """
        if not folder.is_dir():
            what = "is a file" if folder.exists() else "does not exist"
            raise CheckpointError(f"{folder} {what}: give the folder that holds config.json")
        config = read_json(folder, "config.json")
        if config is None:
            raise CheckpointError(f"{folder} has no config.json: give a Hugging Face checkpoint folder")
        generation_config = read_json(folder, "generation_config.json") or {}
        shards: list[Shard] = []
        try:
            stored = _open_shards(folder, shards)
            names = renamed(stored)
            tensors = {names[name]: tensor for name, tensor in stored.items()}
        except BaseException:
            _close(shards)
            raise
        return cls(folder, language_model(config), generation_config, tensors, tuple(shards))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's shape by name, as `registry.spec_of` wants them."""
        return {name: tensor.shape for name, tensor in self.tensors.items()}

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def sha256(self) -> dict[str, str]:
        """SHA-256 of every shard by file name, in hex. Reads everything."""
        found = {}
        for shard in self.shards:
            found[shard.path.name] = digest = _sha256(shard)
            check_download(shard.path, digest)
        return found

    def close(self) -> None:
        """Close the shards; tensors cannot be read afterwards."""
        _close(self.shards)

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def find_file(folder: Path, name: str) -> Path | None:
    """The path of a checkpoint's file, None when it is not there.

    Raises CheckpointError when the name or a link would lead out of the folder. The one exception is a
    snapshot in a Hugging Face cache, whose files are links to `blobs/` of the same repository.
    """
    path = folder / name
    if Path(name).name != name or "\\" in name or name in ("", ".", ".."):
        raise CheckpointError(
            f"file name {name!r} would lead out of {folder}: the checkpoint is hostile or damaged"
        )
    if not os.path.lexists(path):
        return None
    if target := links.leads_out(path):
        raise CheckpointError(
            f"{path} is a link to {target}, outside the checkpoint: put the file itself there"
        )
    if not path.is_file():
        raise CheckpointError(f"{path} is a broken link or no regular file: download it again")
    return path


def check_download(path: Path, sha256: str) -> None:
    """Raise CheckpointError when a file in a Hugging Face cache is not what the hub says.

    The cache calls large files by the SHA-256 the hub gave; the download itself compares lengths only.
    """
    blob = Path(os.path.realpath(path))
    if blob.parent.name == "blobs" and _SHA256.fullmatch(blob.name) and blob.name != sha256:
        raise CheckpointError(
            f"{path.name} was damaged on its way from the hub: delete {blob} and fetch it again"
        )


def read_json(folder: Path, name: str) -> dict[str, Any] | None:
    """A JSON object from a checkpoint's file; None when there is no such file. Raises CheckpointError."""
    found: dict[str, Any] | None = _parsed(folder, name, dict, "object")
    return found


def read_json_list(folder: Path, name: str) -> list[Any] | None:
    """The same for a file that holds a list."""
    found: list[Any] | None = _parsed(folder, name, list, "list")
    return found


def _parsed(folder: Path, name: str, kind: type, what: str) -> Any:
    path = find_file(folder, name)
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            text = file.read(MAX_JSON_BYTES + 1)
        if len(text) > MAX_JSON_BYTES:
            raise CheckpointError(f"{path} is larger than {MAX_JSON_BYTES} bytes: no model's is")
        found = json.loads(text)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}): download it again") from error
    if not isinstance(found, kind):
        raise CheckpointError(f"{path} holds no JSON {what}: download it again")
    return found


def _open_shards(folder: Path, shards: list[Shard]) -> dict[str, LazyTensor]:
    """All tensors by name. Every shard opened is appended to `shards` at once, for the caller to close."""
    # A whole file goes before an index, as in transformers' from_pretrained.
    index = None if find_file(folder, WEIGHTS) else read_json(folder, INDEX)
    if index is None:
        return _open_shard(folder, WEIGHTS, shards)
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{folder / INDEX} has no weight_map: download it again")
    tensors: dict[str, LazyTensor] = {}
    for name in sorted({str(file) for file in weight_map.values()}):
        found = _open_shard(folder, name, shards)
        listed = {tensor for tensor, file in weight_map.items() if file == name}
        for tensor in sorted(name for name in listed ^ found.keys() if not is_ignored(name))[:1]:
            fault = "does not hold" if tensor in listed else "holds, but the index does not list there,"
            raise CheckpointError(
                f"{folder / name} {fault} tensor {tensor!r}: download the shard and {INDEX} again"
            )
        tensors |= found
    return tensors


def _open_shard(folder: Path, name: str, shards: list[Shard]) -> dict[str, LazyTensor]:
    path = find_file(folder, name)
    if path is None:
        raise CheckpointError(_no_weights(folder, name))
    if path.suffix != ".safetensors":
        raise CheckpointError(
            f"shard {path} is not a .safetensors file: the checkpoint is hostile or damaged"
        )
    shards.append(Shard.open(path))
    tensors = read_tensors(shards[-1])
    for tensor in tensors.values():
        if not is_ignored(tensor.name) and not tower_of(tensor.name):
            _check_readable(path, tensor)
    return tensors


def _check_readable(path: Path, tensor: LazyTensor) -> None:
    if tensor.dtype not in NUMPY_DTYPES:
        raise CheckpointError(
            f"tensor {tensor.name!r} in {path} is {tensor.dtype}: only {', '.join(NUMPY_DTYPES)} weights can be "
            "converted, use the checkpoint that was not quantized"
        )
    if not 1 <= len(tensor.shape) <= 3 or 0 in tensor.shape:
        raise CheckpointError(
            f"tensor {tensor.name!r} in {path} has shape {list(tensor.shape)}: no weight has"
        )


def _no_weights(folder: Path, name: str) -> str:
    if name != WEIGHTS:
        return f"{folder} lacks the shard {name!r} that {INDEX} lists: download it"
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        return (
            f"{folder} has its weights in {pickles[0]}, a pickle file, which can run code and is not opened: use a "
            "safetensors checkpoint, or on a machine you trust with it load it with transformers and "
            "save_pretrained(..., safe_serialization=True)"
        )
    return f"{folder} has no {WEIGHTS} and no {INDEX}: download the weights"


def _close(shards: list[Shard] | tuple[Shard, ...]) -> None:
    for shard in shards:
        shard.close()


def _sha256(shard: Shard) -> str:
    digest = hashlib.sha256()
    for chunk in shard.chunks(0, os.fstat(shard.fd).st_size):
        digest.update(chunk)
    return digest.hexdigest()
