"""What each type would make of a checkpoint, and what a converted model is made of: `Build`s from headers alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgellm.backends.llama import memory_estimate
from edgellm.backends.llama.memory_estimate import Planned
from edgellm.convert.gguf import convert, plan
from edgellm.convert.gguf.metadata import hyperparameters
from edgellm.convert.gguf.recipes import OWN, recipe_of
from edgellm.convert.gguf.sources import facts_of_spec, infos_of_spec
from edgellm.convert.gguf.writer import TensorEntry, layout
from edgellm.convert.onnx import is_onnx
from edgellm.errors import EdgellmError, UsageError
from edgellm.fit import onnx_builds
from edgellm.fit.model import Build, Matrix, Subject, numbers_of
from edgellm.formats.gguf.header import GgufTensor
from edgellm.models.registry import spec_of

if TYPE_CHECKING:
    from edgellm.formats.artifact import Artifact
    from edgellm.models.base import ModelSpec

_EMBEDDING, _HEAD = "token_embd.weight", "output.weight"
#: Bytes of a vocabulary in a GGUF header, by token: its text, its kind and the merge that makes it. Llama 3's has two
#: merges a token (measured on Qwen2.5 and Llama 3).
_VOCABULARY_BYTES = {"llama": 61}
_VOCABULARY_BYTES_ELSE = 39


def of_checkpoint(folder: Path, name: str, types: Sequence[str]) -> Subject:
    """A checkpoint folder with its tokenizer: file sizes are the converter's own. Raises EdgellmError."""
    from edgellm.convert.checkpoint.folder import Checkpoint
    from edgellm.convert.checkpoint.purpose import is_embedding

    with Checkpoint.open(folder) as checkpoint:
        spec = spec_of(checkpoint.config, checkpoint.shapes, headless=is_embedding(folder))
        config = checkpoint.config
    subject = of_config(config, spec, name, types)
    plain = [b.type for b in subject.types.values() if b.engine == "llamacpp" and not b.needs_imatrix]
    requests = [convert.ConvertRequest(folder, type_) for type_ in plain]
    sizes = {
        type_: found.total_bytes
        for type_, found in zip(plain, convert.previews(requests) if requests else [], strict=True)
    }
    found = {
        type_: replace(build, file_bytes=sizes[type_], exact=True) if type_ in sizes else build
        for type_, build in subject.types.items()
    }
    return replace(subject, types=found)


def of_config(config: Mapping[str, Any], spec: ModelSpec, name: str, types: Sequence[str]) -> Subject:
    """A checkpoint of which no more is here than config.json and its tensors' shapes."""
    found, refused = {}, {}
    for type_ in types:
        try:
            found[type_] = onnx_builds.of_spec(spec, type_) if is_onnx(type_) else _gguf(config, spec, type_)
        except UsageError as error:
            refused[type_] = str(error)
    return Subject(name, found, refused)


def of_artifact(artifact: Artifact) -> Subject:
    """A model that is there, in the one type it has. Raises ArtifactError for a graph of another maker's kind."""
    build = onnx_builds.of_folder(artifact) if artifact.format == "onnx" else _of_gguf(artifact)
    return Subject(artifact.name, {build.type: build})


def _gguf(config: Mapping[str, Any], spec: ModelSpec, type_: str) -> Build:
    infos = infos_of_spec(spec)
    try:
        planned = plan.make_plan(infos, facts_of_spec(spec), plan.QuantOptions(type_))
        needs = False
    except UsageError:
        if type_ in OWN or not recipe_of(type_).quantizes:
            raise
        sizes = {i.name: _columns(i) for i in infos if plan.is_quantizable(i)}
        planned, needs = plan.make_plan(infos, facts_of_spec(spec), plan.QuantOptions(type_), sizes), True
    entries = [TensorEntry(t.name, t.shape, t.type, t.nbytes) for t in planned.tensors]
    place = layout({}, entries)
    arch = spec.architecture.name
    metadata = {f"{arch}.{key}": value for key, (_, value) in hyperparameters(spec, config)}
    tensors = {
        t.name: GgufTensor(t.name, t.type, t.shape, place.offsets[t.name], t.nbytes) for t in planned.tensors
    }
    header = Planned(arch, metadata, spec.n_ctx_train, tensors)
    vocabulary = spec.n_vocab * _VOCABULARY_BYTES.get(arch, _VOCABULARY_BYTES_ELSE)
    return replace(
        _from_header(header, type_, place.size + vocabulary),
        exact=False,
        needs_imatrix=needs,
        fallbacks=len(planned.fallbacks),
    )


def _columns(info: plan.TensorInfo) -> int:
    return info.shape[-1] * (info.shape[0] if len(info.shape) == 3 else 1)


def _of_gguf(artifact: Artifact) -> Build:
    from edgellm.formats.gguf.reader import read_header

    tensors: dict[str, GgufTensor] = {}
    for path in artifact.parts or (artifact.path,):
        tensors |= read_header(path).tensors
    header = Planned(artifact.architecture, artifact.metadata, artifact.n_ctx_train, tensors)
    build = _from_header(header, artifact.quantization, artifact.size_bytes)
    return replace(build, path=artifact.path)


def _from_header(header: Planned, type_: str, file_bytes: int) -> Build:
    tensors = header.tensors
    n_vocab = tensors[_EMBEDDING].shape[0] if _EMBEDDING in tensors else 0
    attention = len(tensors) and memory_estimate.n_attention(header)
    numbers = numbers_of(header.metadata, header.architecture, n_vocab, attention)
    matrices = tuple(_matrices(tensors, numbers.n_expert, numbers.n_expert_used, numbers.n_layer))
    return Build(type_, "llamacpp", file_bytes, True, matrices, numbers, header)


def _matrices(
    tensors: Mapping[str, GgufTensor], n_expert: int, n_used: int, n_layer: int
) -> Iterable[Matrix]:
    """The tensors that are multiplied with; an embedding only where it is the head as well."""
    copied, interleaved = memory_estimate.repacked(tensors), memory_estimate.interleaved_rows()
    drafting = tuple(
        f"blk.{i}." for i in range(n_layer, n_layer + 4)
    )  # blocks behind the layers are not loaded
    for name, tensor in tensors.items():
        kind = plan.kind_of(name)
        if len(tensor.shape) < 2 or kind == "ssm_conv1d" or name.startswith(drafting):
            continue
        if name == _EMBEDDING and _HEAD in tensors:
            continue
        type_ = tensor.type.name
        plain = type_ in interleaved and name not in copied
        stacked = len(tensor.shape) == 3
        n_weights = 1
        for size in tensor.shape:
            n_weights *= size
        yield Matrix(
            kernel=f"{type_}/plain" if plain else type_,
            n_weights=n_weights,
            n_bytes=tensor.nbytes,
            n_rows=n_weights // tensor.shape[-1],
            n_expert=n_expert if stacked and n_expert else 1,
            n_used=n_used if stacked and n_expert else 1,
            is_head=name in (_EMBEDDING, _HEAD),
            kind=kind,
            type=type_,
        )


def read_config(folder: Path) -> tuple[dict[str, Any], Mapping[str, tuple[int, ...]]]:
    """config.json of a folder without weights, and the shapes it stands for. Raises CheckpointError."""
    from edgellm.convert.checkpoint.folder import read_json
    from edgellm.errors import CheckpointError
    from edgellm.models.registry import expected_shapes

    config = read_json(folder, "config.json")
    if config is None:
        raise CheckpointError(f"{folder} has no config.json: give a Hugging Face checkpoint folder")
    return config, expected_shapes(config)


def has_weights(folder: Path) -> bool:
    """Whether a checkpoint's weights and its tokenizer are there, so that sizes can be told to the byte."""
    with contextlib.suppress(EdgellmError, OSError):
        return any(folder.glob("*.safetensors")) and (folder / "tokenizer.json").is_file()
    return False
