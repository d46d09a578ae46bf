"""Which files a model is made of, and what its header says of its tensors. Reads headers only, apart from the hash."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from edgellm.artifact import Artifact
from edgellm.profiles.result import ModelRecord


def weight_files(artifact: Artifact) -> tuple[Path, ...]:
    """The files whose pages are the model's weights."""
    if artifact.format == "onnx":
        from edgellm import onnx_folder

        return onnx_folder.read(artifact.path).data_files
    from edgellm.gguf_reader import GgufFile

    return GgufFile.open(artifact.path).shard_paths()


def display_name(artifact: Artifact) -> str:
    """What reports call the model: the file's name without its suffix, a folder's whole name."""
    return artifact.path.name if artifact.path.is_dir() else artifact.path.stem


def model_record(artifact: Artifact, name: str) -> ModelRecord:
    """What the artifact's header says, with the hash of its bytes (reads them all)."""
    record = ModelRecord(
        name=name,
        path=str(artifact.path),
        format=artifact.format,
        sha256=artifact.sha256,
        size_bytes=artifact.size_bytes,
        architecture=artifact.architecture,
        quantization=artifact.quantization,
        n_ctx_train=artifact.n_ctx_train or None,
    )
    return _with_tensors(record, artifact) if artifact.format == "gguf" else record


def _with_tensors(record: ModelRecord, artifact: Artifact) -> ModelRecord:
    from edgellm.gguf_reader import GgufFile

    tensors = [tensor for path in weight_files(artifact) for tensor in GgufFile.open(path).tensors.values()]
    kinds = [tensor.type.name for tensor in tensors]
    return replace(
        record,
        n_params=sum(math.prod(tensor.shape) for tensor in tensors),
        tensor_bytes=sum(tensor.nbytes for tensor in tensors),
        tensor_types={kind: kinds.count(kind) for kind in sorted(set(kinds))},
        n_layer=artifact.metadata.get(f"{artifact.architecture}.block_count"),
    )
