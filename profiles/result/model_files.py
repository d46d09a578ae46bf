"""Which files a model is made of, and what its header says a token costs. Reads headers only, apart from the hash."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgellm import files
from edgellm.formats.artifact import Artifact
from edgellm.formats.gguf.families import FAMILIES
from edgellm.profiles.result.result import ModelRecord

if TYPE_CHECKING:
    from edgellm.formats.gguf.header import GgufFile, GgufTensor

_EMBEDDING, _HEAD = "token_embd.weight", "output.weight"
_ROPE = "rope_freqs.weight"  # made of the configuration, no parameter of the checkpoint's


def weight_files(artifact: Artifact) -> tuple[Path, ...]:
    """The files whose pages are the model's weights."""
    if artifact.format == "onnx":
        from edgellm.formats import onnx_folder

        return onnx_folder.read(artifact.path).data_files
    from edgellm.formats.gguf.reader import read_header

    return read_header(artifact.path).shard_paths()


def weight_places(artifact: Artifact) -> tuple[Path, ...]:
    """The same, with the folder of the copies that ONNX Runtime's kernels want in their own order."""
    own = weight_files(artifact)
    return (*own, files.cache_dir("prepacked")) if artifact.format == "onnx" else own


def display_name(artifact: Artifact) -> str:
    """What reports call the model: the file's name without its suffix, a folder's whole name."""
    return artifact.path.name if artifact.path.is_dir() else artifact.path.stem


def model_record(artifact: Artifact, name: str) -> ModelRecord:
    """What the artifact's header says, with the hash of its bytes (reads them all)."""
    record = ModelRecord(
        name=name,
        path=files.unnamed(artifact.path),
        format=artifact.format,
        sha256=artifact.sha256,
        size_bytes=artifact.size_bytes,
        architecture=artifact.architecture,
        quantization=artifact.quantization,
        n_ctx_train=artifact.n_ctx_train or None,
    )
    return _of_gguf(record, artifact) if artifact.format == "gguf" else _of_onnx(record, artifact)


def _of_onnx(record: ModelRecord, artifact: Artifact) -> ModelRecord:
    from edgellm.formats import onnx_folder
    from edgellm.profiles.result import onnx_weights

    folder = onnx_folder.read(artifact.path)
    tokenizer = artifact.path / "tokenizer.json"
    record = replace(
        record,
        n_params=folder.n_params or None,  # a graph does not tell: heads are padded, tables shared and packed
        tokenizer_sha256=files.sha256(tokenizer) if tokenizer.is_file() else None,
    )
    try:
        cost = onnx_weights.per_token(folder.model, folder.n_vocab)
    except (ValueError, KeyError):  # a graph of another maker's: nothing is claimed of it
        return record
    return replace(
        record,
        n_params_active=cost.n_params or None,
        n_params_head=cost.n_params_head,
        weight_bytes_per_token=cost.weight_bytes or None,
    )


def _of_gguf(record: ModelRecord, artifact: Artifact) -> ModelRecord:
    from edgellm.formats.gguf.reader import read_header

    header = read_header(artifact.path)
    tensors = {
        name: tensor for path in weight_files(artifact) for name, tensor in read_header(path).tensors.items()
    }
    kinds = [tensor.type.name for tensor in tensors.values()]
    record = replace(
        record,
        n_params=sum(math.prod(tensor.shape) for name, tensor in tensors.items() if name != _ROPE),
        tensor_bytes=sum(tensor.nbytes for tensor in tensors.values()),
        tensor_types={kind: kinds.count(kind) for kind in sorted(set(kinds))},
        n_layer=artifact.metadata.get(f"{artifact.architecture}.block_count"),
        tokenizer_sha256=_tokenizer_sha256(header),
    )
    if artifact.architecture not in FAMILIES:  # which tensors a token needs is not known
        return record
    head = _EMBEDDING if _HEAD not in tensors else _HEAD
    # An embedding table that is not the head as well is looked up by row.
    used = {
        name: _share(header, tensor)
        for name, tensor in tensors.items()
        if name in (head, _HEAD) or name != _EMBEDDING
    }
    return replace(
        record,
        n_params_active=round(
            sum(math.prod(tensors[name].shape) * share for name, share in used.items() if name != head)
        ),
        n_params_head=math.prod(tensors[head].shape) if head in tensors else 0,
        weight_bytes_per_token=round(sum(tensors[name].nbytes * share for name, share in used.items())),
    )


def _share(header: GgufFile, tensor: GgufTensor) -> float:
    """The part of a tensor that one token needs: the experts it is sent to."""
    if "_exps." not in tensor.name:
        return 1.0
    prefix = header.get("general.architecture")
    used, count = (header.get(f"{prefix}.{key}", 1) for key in ("expert_used_count", "expert_count"))
    return float(used) / max(float(count), 1.0)


def _tokenizer_sha256(header: GgufFile) -> str:
    """Over the stored bytes of every key that tells how text becomes tokens, template and sampling apart."""
    digest = hashlib.sha256()
    for key in sorted(header.metadata):
        if key.startswith("tokenizer.") and not key.startswith("tokenizer.chat_template"):
            digest.update(key.encode() + b"\0" + header.raw_value(key))
    return digest.hexdigest()
