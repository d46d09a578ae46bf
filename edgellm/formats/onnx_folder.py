"""An ONNX model folder: ours (edgellm.json), onnxruntime-genai's (genai_config.json) or optimum's (config.json).

Reads JSON and the graph's header only; nothing here loads weights or an engine. A graph that points outside
its folder is refused before any engine sees it.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from edgellm.errors import ArtifactError
from edgellm.formats import links, protobuf, tokenizer_files
from edgellm.formats.nested_config import language_model
from edgellm.formats.tokenizer_files import AddedToken, TokenizerFiles

MANIFEST = "edgellm.json"
MAX_JSON_BYTES = 64 << 20
MANIFEST_VERSION = 1
_MAX_SIZE = 1 << 31
_MAX_HEAD = 1 << 16


@dataclass(frozen=True)
class OnnxFolder:
    """What a folder says of its model, whoever wrote it."""

    path: Path
    model: Path
    prefill: Path | None  # a second graph for prompts, without a head
    name: str
    architecture: str
    quantization: str
    n_ctx: int
    n_vocab: int
    bos_id: int | None
    add_bos: bool
    closing_id: int | None  # what is put after a whole text
    names: Mapping[str, str]  # special tokens by the names templates know: "bos_token" and so on
    added: Mapping[int, AddedToken]  # by id: what tokenizer.json has to be told
    eos_ids: frozenset[int]
    control_ids: frozenset[int]
    chat_template: str | None
    named_templates: Mapping[str, str]  # further ones, e.g. "tool_use"
    in_place: bool  # past and present of the KV cache may be one buffer
    facts: Mapping[str, str]  # provenance, for people
    state_bytes: int = 0  # of the recurrent states of one sequence, beside its KV cache
    n_params: int = 0  # of the checkpoint; 0: not said
    head_dim: int = 0  # of the KV cache, where the graph itself does not say; 0: not said
    purpose: Mapping[str, Any] = field(default_factory=dict)  # GGUF's keys of embedding and reranking

    @property
    def data_files(self) -> tuple[Path, ...]:
        """The graph and all files its weights are in."""
        graphs = [self.model, *([self.prefill] if self.prefill else [])]
        names = {name for graph in graphs for name in external_files(graph)}
        return (*graphs, *(self.path / name for name in sorted(names)))


def read(path: Path) -> OnnxFolder:
    """Read a folder's description. Raises ArtifactError when it is damaged, hostile or no model's."""
    try:
        folder = _described(path)
        _check_values(folder)
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ArtifactError(f"{path} describes no model ({error!r}); convert or copy it again") from error
    for file in folder.data_files:
        if not file.is_file():
            raise ArtifactError(f"{path} lacks {file.name}; copy the whole folder again")
    for file in (*folder.data_files, *path.glob("*.json"), *path.glob("*.jinja")):
        if target := links.leads_out(file):
            raise ArtifactError(
                f"{file} is a link to {target}, outside the folder: put the file itself there"
            )
    return folder


def _described(path: Path) -> OnnxFolder:
    if (path / MANIFEST).is_file():
        return _ours(path, _json(path / MANIFEST))
    if (path / "genai_config.json").is_file():
        return _genai(path, _json(path / "genai_config.json"))
    return _optimum(path)


def _check_values(folder: OnnxFolder) -> None:
    """Raise ValueError for what no model has: the engine is given these numbers as they are."""
    for name, size in (("context length", folder.n_ctx), ("vocabulary size", folder.n_vocab)):
        if not 0 < size < _MAX_SIZE:
            raise ValueError(f"{name} {size}")
    frame = (index for index in (folder.bos_id, folder.closing_id) if index is not None)
    for index in (*frame, *folder.eos_ids, *folder.control_ids):
        if type(index) is not int or not 0 <= index < folder.n_vocab:
            raise ValueError(f"token id {index!r} of a vocabulary of {folder.n_vocab}")
    template = "" if folder.chat_template is None else folder.chat_template
    texts = (template, folder.name, folder.architecture, *folder.facts.values())
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"{str(text)[:40]!r} is no text")
        text.encode()  # a lone surrogate is no text; UnicodeEncodeError is a ValueError


def is_model(path: Path) -> bool:
    """Whether `path` is a folder with an ONNX graph in it."""
    return path.is_dir() and any(path.glob("*.onnx"))


def digest(path: Path) -> str:
    """Hex SHA-256 over the names and bytes of the graph and its weights."""
    from edgellm import files

    total = hashlib.sha256()
    for file in read(path).data_files:
        total.update(os.fsencode(f"{file.name}\0{files.sha256(file)}\n"))
    return total.hexdigest()


def verify(path: Path) -> int:
    """Compare every file with the hash our manifest lists; how many there are. Raises ArtifactError by name."""
    from edgellm import files

    listed = _json(path / MANIFEST).get("files") if (path / MANIFEST).is_file() else None
    if not isinstance(listed, dict) or not listed:
        raise ArtifactError(f"{path} lists no hashes; folders that edgellm wrote do")
    for name, known in listed.items():
        file = _inside(path, name)
        if not file.is_file():
            raise ArtifactError(f"{path} lacks {name}; copy the whole folder again")
        if not isinstance(known, dict) or files.sha256(file) != known.get("sha256"):
            raise ArtifactError(
                f"{file} is not what was written: its SHA-256 differs; copy or convert it again"
            )
    read(path)  # what no hash is listed of: the manifest itself
    return len(listed)


def _ours(path: Path, manifest: Mapping[str, Any]) -> OnnxFolder:
    version = manifest.get("format_version")
    if manifest.get("format") != "edgellm-onnx" or version != MANIFEST_VERSION:
        raise ArtifactError(
            f"{path / MANIFEST} has format version {version!r}; this edgellm reads {MANIFEST_VERSION}"
        )
    try:
        tokenizer, dimensions = manifest["tokenizer"], manifest["dimensions"]
        facts = {
            "edgellm.version": manifest["edgellm_version"],
            "edgellm.recipe": json.dumps(manifest["recipe"]),
            "edgellm.source": json.dumps(manifest["source"]),
            "edgellm.verification": manifest["verification"],
        }
        return OnnxFolder(
            path=path,
            model=_inside(path, manifest.get("model", "model.onnx")),
            prefill=_inside(path, manifest["prefill"]) if manifest.get("prefill") else None,
            name=str(manifest["name"]),
            architecture=str(manifest["architecture"]),
            quantization=str(manifest["quantization"]),
            n_ctx=int(manifest["n_ctx"]),
            n_vocab=int(dimensions["n_vocab"]),
            bos_id=tokenizer["bos_token_id"],
            add_bos=bool(tokenizer["add_bos"]),
            closing_id=tokenizer.get("closing_id"),
            names=_texts(tokenizer["names"]) if "names" in tokenizer else _old_names(tokenizer),
            added={},  # tokenizer.json was written with all of them
            eos_ids=frozenset(map(int, tokenizer["eos_token_ids"])),
            control_ids=frozenset(map(int, tokenizer["control_ids"])),
            chat_template=manifest["chat_template"],
            named_templates=_texts(manifest.get("named_templates", {})),
            in_place=True,
            facts=facts,
            purpose=dict(manifest.get("purpose", {})),
            state_bytes=int(manifest.get("state_bytes", 0)),
            n_params=int(manifest.get("n_params", 0)),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path / MANIFEST} is damaged ({error!r}); convert the model again") from error


def _genai(path: Path, config: Mapping[str, Any]) -> OnnxFolder:
    try:
        model, search = config["model"], config.get("search", {})
        return OnnxFolder(
            model=_inside(path, model["decoder"]["filename"]),
            architecture=str(model["type"]),
            quantization="onnx-genai",
            n_ctx=int(model["context_length"]),
            n_vocab=int(model["vocab_size"]),
            in_place=bool(search.get("past_present_share_buffer", False)),
            facts={"edgellm.made_by": "onnxruntime-genai"},
            head_dim=int(model["decoder"].get("head_size", 0)),
            **_common(path, _tokenizer(path, model), model.get("eos_token_id"), model.get("bos_token_id")),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path / 'genai_config.json'} is damaged ({error!r})") from error


def _optimum(path: Path) -> OnnxFolder:
    if not (path / "config.json").is_file():
        raise ArtifactError(f"{path} has an ONNX graph but no edgellm.json, genai_config.json or config.json")
    config = language_model(_json(path / "config.json"))
    for name in config.get("architectures") or ():
        if any(part in str(name) for part in ("Classification", "QuestionAnswering", "Reward", "MaskedLM")):
            raise ArtifactError(
                f"{path} holds a {name}: what its graph gives is no text, and nothing here reads it"
            )
    graphs = sorted(path.glob("*.onnx"))
    preferred = [path / name for name in ("model_quantized.onnx", "model.onnx") if (path / name).is_file()]
    model = (preferred or graphs)[0]
    try:
        return OnnxFolder(
            model=model,
            architecture=str(config.get("model_type", "unknown")),
            quantization="onnx-int8" if "quantized" in model.name else "onnx",
            n_ctx=int(config["max_position_embeddings"]),
            n_vocab=int(config["vocab_size"]),
            in_place=False,
            facts={"edgellm.made_by": "optimum"},
            **_common(path, _tokenizer(path, config), None, config.get("bos_token_id")),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path / 'config.json'} is damaged ({error!r})") from error


def _common(path: Path, said: TokenizerFiles, eos: Any, bos_id: int | None) -> dict[str, Any]:
    """What the tokenizer's files say, where there is no manifest. `eos` and `bos_id` are the graph's maker's."""
    templates = dict(said.chat_templates)
    ends = {int(i) for i in (eos if isinstance(eos, list) else [eos]) if i is not None} or set(said.ends)
    added = {i: token for i, token in said.added.items() if i < int(said.config["vocab_size"])}
    by_text = {token.content: index for index, token in added.items()}
    ends |= {by_text[text] for text in [said.names.get("eos_token")] if text in by_text}
    return {
        "path": path,
        "prefill": None,
        "name": path.name,
        "bos_id": bos_id if said.opening is None else said.opening,
        "add_bos": said.opening is not None,
        "closing_id": said.closing,
        "names": said.names,
        "added": added,
        "eos_ids": frozenset(i for i in ends if i >= 0),
        "control_ids": frozenset(i for i, token in added.items() if token.special),
        "chat_template": templates.pop("default", None),
        "named_templates": templates,
    }


def _tokenizer(path: Path, model: Mapping[str, Any]) -> TokenizerFiles:
    """What another program's folder says of its tokenizer; `model` says how many tokens there are."""

    def json_of(name: str) -> dict[str, Any] | None:
        return _json(path / name) if (path / name).is_file() else None

    def text_of(folder: Path, name: str) -> str | None:
        file = folder / name
        if not file.is_file():
            return None
        if file.stat().st_size > MAX_JSON_BYTES:
            raise ArtifactError(f"{file} is larger than {MAX_JSON_BYTES} bytes: no model's is")
        return file.read_text(encoding="utf-8")

    config, generation = json_of("config.json") or {}, json_of("generation_config.json") or {}
    config = {**language_model(config), "vocab_size": model.get("vocab_size")}
    return tokenizer_files.read(path, json_of, text_of, config, generation)


def _texts(value: Mapping[str, Any]) -> dict[str, str]:
    return {str(key): str(text) for key, text in value.items()}


def _old_names(tokenizer: Mapping[str, Any]) -> dict[str, str]:
    """The names of manifests written before they had all of them."""
    kept = {key: str(tokenizer[key]) for key in ("bos_token", "eos_token")}
    return {key: text for key, text in kept.items() if text}


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ArtifactError(f"{path} is larger than {MAX_JSON_BYTES} bytes: no model's is")
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); convert or copy the model again") from error
    if not isinstance(found, dict):
        raise ArtifactError(f"{path} holds no JSON object; convert or copy the model again")
    return found


def _inside(folder: Path, name: object) -> Path:
    """The file `name` of the folder. Raises ArtifactError when the name leads out of it."""
    pure = PurePosixPath(str(name).replace("\\", "/"))
    if not isinstance(name, str) or pure.is_absolute() or ".." in pure.parts or ":" in name or not pure.name:
        raise ArtifactError(f"{folder} names the file {name!r}, outside the folder: it is hostile or damaged")
    return folder / pure


# --- the few fields of a ModelProto that say where its weights are -----------------------------------------

_GRAPH, _INITIALIZER, _EXTERNAL_DATA = 7, 5, 13


def external_files(model: Path) -> frozenset[str]:
    """Names of the files a graph's tensors lie in. Raises ArtifactError when one is outside the folder.

    Walks the proto's structure without reading tensors; subgraphs (If, Loop) hold no weights in decoders. Whoever opens
    a folder asks several times: what a file said is remembered as long as it is the same one.
    """
    try:
        stat = model.stat()
    except (OSError, ValueError):
        return _external_files(model)  # which says what is wrong
    return _external_files(model, stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


@lru_cache(maxsize=4)
def _external_files(model: Path, *identity: int) -> frozenset[str]:
    try:
        with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            names = set(_locations(data))
    except FileNotFoundError:
        raise ArtifactError(f"{model} does not exist; copy the whole folder again") from None
    except (OSError, ValueError, IndexError) as error:
        raise ArtifactError(f"{model} is not an ONNX graph ({error}); convert or copy it again") from error
    for name in names:
        _inside(model.parent, name)
    return frozenset(names)


def _locations(data: mmap.mmap) -> Iterator[str]:
    for graph in protobuf.spans(data, 0, len(data), _GRAPH):
        for tensor in protobuf.spans(data, *graph, _INITIALIZER):
            for entry in protobuf.spans(data, *tensor, _EXTERNAL_DATA):
                key, value = (b"".join(data[a:b] for a, b in protobuf.spans(data, *entry, i)) for i in (1, 2))
                if key == b"location":
                    yield value.decode()
