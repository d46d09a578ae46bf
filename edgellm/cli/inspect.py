"""`edgellm inspect`: what a model file or a checkpoint folder is, without loading it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgellm.errors import ArtifactError
from edgellm.terminal import aligned, emit, fit, say, visible
from edgellm.units import format_size

if TYPE_CHECKING:
    from edgellm.formats.gguf.header import GgufFile

_TEMPLATE_COLUMNS = 60  # of a chat template, in the overview


@dataclass(frozen=True)
class TensorLine:
    """One tensor, as listed."""

    name: str
    shape: tuple[int, ...]  # rows first
    type: str
    bytes: int


@dataclass(frozen=True)
class Description:
    """Everything shown about a model. Keys of `facts` are words; values plain data."""

    path: str
    facts: Mapping[str, Any]
    provenance: Mapping[str, Any]
    tensors: tuple[TensorLine, ...]

    @property
    def types(self) -> dict[str, tuple[int, int, int]]:
        """Type -> (tensors, weights, bytes), largest first."""
        found: dict[str, tuple[int, int, int]] = {}
        for tensor in self.tensors:
            n, weights, n_bytes = found.get(tensor.type, (0, 0, 0))
            found[tensor.type] = (n + 1, weights + prod(tensor.shape), n_bytes + tensor.bytes)
        return dict(sorted(found.items(), key=lambda item: -item[1][2]))


@click.command(short_help="Show what a model file or a checkpoint folder is.")
@click.argument("path", metavar="FILE|FOLDER", type=click.Path(path_type=Path))
@click.option("--tensors", "with_tensors", is_flag=True, help="List every tensor.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object, the whole chat template included."
)
@click.option(
    "--verify", is_flag=True, help="Compare an ONNX folder's files with the hashes they were written with."
)
def command(path: Path, with_tensors: bool, as_json: bool, verify: bool) -> None:
    """Show architecture, sizes, types, tokenizer, chat template and origin of a GGUF file or checkpoint folder.

    Only headers are read. A bundled model's name is understood as well.
    """
    if verify:
        from edgellm.formats import onnx_folder

        onnx_folder.verify(path)
    found = describe(path)
    if as_json:
        emit(_as_json(found, with_tensors))
    else:
        say(*_as_text(found, with_tensors))


def describe(path: Path) -> Description:
    """Describe what is at `path`. Raises ArtifactError, CheckpointError."""
    from edgellm.formats import onnx_folder
    from edgellm.models import bundled

    if not path.exists():
        folder = bundled.path(str(path))
        if folder is None:
            raise ArtifactError(f"{path}: no such file or folder, nor a bundled model")
        path = folder
    if onnx_folder.is_model(path):
        return _describe_onnx(path)
    return _describe_folder(path) if path.is_dir() else _describe_gguf(path)


def _describe_onnx(path: Path) -> Description:
    """What an ONNX folder's files say; its tensors are the engine's business and not listed."""
    from edgellm.formats import onnx_folder

    folder = onnx_folder.read(path)
    facts = {
        "name": folder.name,
        "architecture": folder.architecture,
        "type": folder.quantization,
        "file bytes": sum(file.stat().st_size for file in folder.data_files),
        "files": len(folder.data_files),
        "context length": folder.n_ctx,
        "tokens": folder.n_vocab,
        "bos": f"{folder.bos_id} {folder.names.get('bos_token', '')}".strip()
        if folder.bos_id is not None
        else None,
        "stop ids": ", ".join(map(str, sorted(folder.eos_ids))),
        "chat template": folder.chat_template,
        "prompts": "a graph of their own" if folder.prefill else "the same graph",
    }
    own = {key.removeprefix("edgellm."): _decoded(value) for key, value in folder.facts.items()}
    return Description(str(path), _known(facts), own, ())


def _describe_gguf(path: Path) -> Description:
    from edgellm.formats.gguf.header import bits_per_weight
    from edgellm.formats.gguf.reader import read_header

    header = read_header(path)
    parts = [read_header(part) for part in header.shard_paths()]
    tensors = [
        TensorLine(t.name, t.shape, t.type.name, t.nbytes) for part in parts for t in part.tensors.values()
    ]
    size = sum(part.size for part in parts)
    n_weights = sum(prod(t.shape) for t in tensors)
    bits = bits_per_weight(tensor for part in parts for tensor in part.tensors.values())
    arch = str(header.get("general.architecture", "unknown"))
    facts = {
        "name": header.get("general.name"),
        "architecture": arch,
        "type": header.quantization,
        "file bytes": size,
        "files": len(parts),
        "weights": n_weights,
        "bits per weight": bits and round(bits, 3),
        **_numbers(header, arch),
        **_tokenizer(header),
        "license": header.get("general.license"),
        "GGUF version": header.version,
        "runs here": _verdict(header),
    }
    own = {
        key.removeprefix("edgellm."): _decoded(value)
        for key, value in header.metadata.items()
        if key.startswith("edgellm.") and not key.startswith("edgellm.tokenizer.")
    }
    return Description(str(path), _known(facts), own, tuple(tensors))


def _numbers(header: GgufFile, arch: str) -> dict[str, Any]:
    def number(key: str) -> Any:
        return _plain(header.get(f"{arch}.{key}"))

    heads = number("attention.head_count")
    return {
        **_layers(
            number("block_count"), number("nextn_predict_layers"), number("attention.recurrent_layers")
        ),
        "context length": number("context_length"),
        "embedding length": number("embedding_length"),
        "feed-forward length": number("feed_forward_length"),
        "heads": heads,
        "key-value heads": number("attention.head_count_kv"),
        "head size": number("attention.key_length") or _quotient(number("embedding_length"), heads),
        "experts": number("expert_count"),
        "experts used": number("expert_used_count"),
        "rope base": number("rope.freq_base"),
        "rope scaling": "llama3" if "rope_freqs.weight" in header.tensors else number("rope.scaling.type"),
    }


def _layers(blocks: Any, nextn: Any, recurrent: Any) -> dict[str, Any]:
    """Layers that compute the next token, apart from blocks behind them."""
    apart = isinstance(blocks, int) and isinstance(nextn, int) and 0 < nextn < blocks
    return {
        "layers": blocks - nextn if apart else blocks,
        "of them gated delta nets": recurrent.count(True) if isinstance(recurrent, list) else None,
        "predicts further tokens": nextn or None,
    }


def _tokenizer(header: GgufFile) -> dict[str, Any]:
    from edgellm.prompt import normalize

    tokens = header.get("tokenizer.ggml.tokens", ())

    def token(kind: str) -> str | None:
        index = header.get(f"tokenizer.ggml.{kind}_token_id")
        return f"{index} {tokens[index]}" if isinstance(index, int) and 0 <= index < len(tokens) else None

    stops = sorted(header.stop_ids) or [header.get("tokenizer.ggml.eos_token_id")]
    return {
        "tokenizer": f"{header.get('tokenizer.ggml.model')} {header.get('tokenizer.ggml.pre')}",
        "normalizer": header.get(normalize.KEY),
        "tokens": len(tokens),
        "bos": token("bos"),
        "adds bos": header.get("tokenizer.ggml.add_bos_token"),
        "stops at": [f"{i} {tokens[i]}" for i in stops if isinstance(i, int) and 0 <= i < len(tokens)],
        "chat template": header.get("tokenizer.chat_template"),
    }


def _verdict(header: GgufFile) -> str:
    from edgellm.formats.gguf.check import check_runnable, is_verified

    try:
        check_runnable(header)
    except ArtifactError as error:
        return f"no: {error}"
    return "yes" if is_verified(header) else "if the engine knows it: outside the verified families"


def _describe_folder(folder: Path) -> Description:
    from edgellm.convert.checkpoint.folder import Checkpoint
    from edgellm.convert.checkpoint.purpose import is_embedding
    from edgellm.convert.checkpoint.tokenizer import read_tokenizer
    from edgellm.models.base import LayerKind
    from edgellm.models.registry import spec_of

    with Checkpoint.open(folder) as checkpoint:
        spec = spec_of(checkpoint.config, checkpoint.shapes, headless=is_embedding(folder))
        vocabulary = read_tokenizer(folder, checkpoint.config, checkpoint.generation_config, spec.n_vocab)
        tensors = tuple(TensorLine(t.name, t.shape, t.dtype, t.nbytes) for t in checkpoint.tensors.values())
        special = vocabulary.special
        facts = {
            "name": folder.absolute().name,
            "architecture": spec.architecture.name,
            "type": "checkpoint",
            "file bytes": checkpoint.nbytes,
            "files": len(checkpoint.shards),
            "weights": spec.n_params,
            "layers": spec.n_layer,
            "of them gated delta nets": spec.layer_kinds.count(LayerKind.DELTA_NET) or None,
            "predicts further tokens": spec.n_layer_nextn or None,
            "context length": spec.n_ctx_train,
            "embedding length": spec.n_embd,
            "feed-forward length": spec.n_ff or None,
            "heads": spec.n_head,
            "key-value heads": spec.n_head_kv,
            "head size": spec.head_dim,
            "experts": spec.moe.n_expert if spec.moe else None,
            "experts used": spec.moe.n_expert_used if spec.moe else None,
            "rope base": spec.rope_theta,
            "rope scaling": spec.rope_scaling.kind if spec.rope_scaling else None,
            "tied embedding": spec.tied,
            "left out": ", ".join(spec.left_out) or None,
            "tokenizer": f"gpt2 {vocabulary.pre}",
            "tokens": len(vocabulary.tokens),
            "stops at": [f"{i} {vocabulary.tokens[i]}" for i in special.stop_ids],
            "chat template": special.chat_template,
            "runs here": f"after: edgellm convert {folder}",
        }
    return Description(str(folder), _known(facts), {}, tensors)


def _known(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in facts.items() if value is not None}


def _quotient(a: Any, b: Any) -> int | None:
    return a // b if isinstance(a, int) and isinstance(b, int) and b else None


def _plain(value: Any) -> Any:
    """A metadata value as plain data; whole-number floats as integers, arrays as lists."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return int(value)
    if isinstance(value, str):
        return value.rstrip()
    return value.tolist() if hasattr(value, "tolist") else value


def _decoded(value: Any) -> Any:
    """A value of ours: text that holds JSON as what it says."""
    if isinstance(value, str) and value.startswith("{"):
        with contextlib.suppress(ValueError):
            return json.loads(value)
    return _plain(value)


def _as_json(found: Description, with_tensors: bool) -> str:
    data = asdict(found) | {
        "types": {
            k: dict(zip(("tensors", "weights", "bytes"), v, strict=True)) for k, v in found.types.items()
        }
    }
    if not with_tensors:
        del data["tensors"]
    return json.dumps(data, ensure_ascii=False, indent=1)


def _as_text(found: Description, with_tensors: bool) -> Iterable[str]:
    yield from (found.path, *_table(found.facts), "")
    head = ("type", "tensors", "weights", "bytes")
    rows = [
        (name, f"{n}", f"{weights:,}", format_size(size)) for name, (n, weights, size) in found.types.items()
    ]
    yield from aligned([head, *rows], "<>")
    if found.provenance:
        yield from ("", "made by edgellm", *_table(found.provenance))
    if with_tensors:
        yield ""
        yield from aligned(
            ((t.name, "x".join(map(str, t.shape)), t.type, format_size(t.bytes)) for t in found.tensors),
            "<><>",
        )


def _table(facts: Mapping[str, Any]) -> Iterable[str]:
    rows = ((key, _shown(key, value)) for key, value in facts.items())
    return (f"  {line}" for line in aligned(rows))


def _shown(key: str, value: Any) -> str:
    """Long texts cut, sizes and counts readable."""
    if key == "chat template":
        return f"{len(str(value)):,} characters: {fit(visible(str(value)), _TEMPLATE_COLUMNS)}"
    if key == "file bytes":
        return f"{value:,} ({format_size(value)})"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{k} {v[:12] if isinstance(v, str) else v}" for k, v in value.items())
    return str(value)
