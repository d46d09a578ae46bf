"""What a checkpoint says about itself: README front matter, folder name, sampling advice, as `general.*` keys.

Knows nothing of weights or tokenizers. Which field wins follows gguf-py/gguf/metadata.py of llama.cpp.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgellm import files
from edgellm.convert.checkpoint.folder import find_file
from edgellm.convert.checkpoint.model_name import NameParts, read_name, title

KeyValues = dict[str, tuple[str, Any]]  # key -> (value type as in GgufFile.value_types, value)

MAX_CARD_BYTES = 1 << 20

# generation_config.json key(s), the first that is there -> `general.sampling.*` key and its type.
_SAMPLING: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("sequence",), "sequence", "str"),
    (("top_k",), "top_k", "i32"),
    (("top_p",), "top_p", "f32"),
    (("min_p",), "min_p", "f32"),
    (("xtc_probability",), "xtc_probability", "f32"),
    (("xtc_threshold",), "xtc_threshold", "f32"),
    (("temperature",), "temp", "f32"),
    (("penalty_last_n",), "penalty_last_n", "i32"),
    (("penalty_repeat", "repetition_penalty"), "penalty_repeat", "f32"),
    (("mirostat",), "mirostat", "i32"),
    (("mirostat_tau",), "mirostat_tau", "f32"),
    (("mirostat_eta",), "mirostat_eta", "f32"),
)
# `general.*` key -> front matter keys, the first that is there.
_CARD: dict[str, tuple[str, ...]] = {
    "name": ("name", "model_name"),
    "author": ("author", "model_author", "model_creator"),
    "version": ("version", "model_version"),
    "organization": ("organization", "model_organization"),
    "finetune": ("finetune", "model_finetune"),
    "basename": ("basename", "model_basename", "model_type"),
    "description": ("description", "model_description"),
    "size_label": ("size_label", "model_size_label"),
    "license": ("license",),
    "license.name": ("license_name",),
    "license.link": ("license_link",),
    "source.url": ("url", "model_url"),
    "source.doi": ("doi", "model_doi"),
    "source.uuid": ("uuid", "model_uuid"),
    "source.repo_url": ("repo_url", "model_repo_url"),
}
_FROM_NAME = {
    "organization": "organization",
    "basename": "base",
    "finetune": "finetune",
    "version": "version",
    "size_label": "size",
}
_RELATED = {
    "base_model": ("base_model", "base_models", "base_model_sources"),
    "dataset": ("datasets", "dataset", "dataset_sources"),
}
_RELATED_FIELDS = (
    "name",
    "author",
    "version",
    "organization",
    "description",
    "url",
    "doi",
    "uuid",
    "repo_url",
)


_NOTHING = ("", "null", "~")


def general_keys(
    folder: Path, config: Mapping[str, Any], generation_config: Mapping[str, Any], n_params: int
) -> KeyValues:
    """`general.*` keys about origin, name, license and sampling. A field nobody states is left out."""
    card = read_card(folder)
    fields = {field: _first(card, keys) for field, keys in _CARD.items()}
    if isinstance(fields["license"], list):
        fields["license"] = ",".join(map(str, fields["license"]))
    for model_id in _model_ids(folder, config):
        _fill(fields, read_name(files.as_text(model_id), n_params))
    keys = dict(_sampling(generation_config))
    keys |= {f"general.{k}": ("str", str(v)) for k, v in fields.items() if v is not None}
    for kind, names in _RELATED.items():
        keys |= _related(kind, _first(card, names), any(name in card for name in names), n_params)
    for key, sources in (("tags", ("tags", "pipeline_tag")), ("languages", ("languages", "language"))):
        if items := [item for source in sources for item in _listed(card.get(source))]:
            keys[f"general.{key}"] = ("arr[str]", items)
    return keys


def _model_ids(folder: Path, config: Mapping[str, Any]) -> Iterator[str]:
    """Names to read the model's parts from, the most trustworthy first."""
    name = config.get("_name_or_path")
    if isinstance(name, str) and name and name.count("/") <= 1:  # more slashes: a path on somebody's machine
        yield name
    folder = folder.absolute()
    repository = folder.parent.parent.name
    if folder.parent.name == "snapshots" and repository.startswith("models--"):
        yield repository.removeprefix("models--").replace("--", "/")
    else:
        yield folder.name


def _fill(fields: dict[str, Any], parts: NameParts) -> None:
    if fields["name"] is None and parts.full is not None:
        fields["name"] = title(parts.full)
    for field, attribute in _FROM_NAME.items():
        value = getattr(parts, attribute)
        if fields[field] is None and value is not None:
            fields[field] = title(value) if field == "organization" else value


def _sampling(generation_config: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, Any]]]:
    for sources, key, kind in _SAMPLING:
        value = _first(generation_config, sources)
        if kind == "str" and isinstance(value, str):
            yield f"general.sampling.{key}", (kind, value)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield f"general.sampling.{key}", (kind, int(value) if kind == "i32" else float(value))


def _related(kind: str, value: Any, mentioned: bool, n_params: int) -> KeyValues:
    """Keys of the models or data sets this one was made from."""
    if not mentioned:
        return {}
    entries = value if isinstance(value, list) else [value] if isinstance(value, str) else []
    keys: KeyValues = {f"general.{kind}.count": ("u32", len(entries))}
    for index, entry in enumerate(entries):
        fields = (
            entry if isinstance(entry, dict) else _origin(entry, n_params) if isinstance(entry, str) else {}
        )
        for field in _RELATED_FIELDS:
            if field in fields:
                keys[f"general.{kind}.{index}.{field}"] = ("str", str(fields[field]))
    return keys


def _origin(reference: str, n_params: int) -> dict[str, str]:
    """A hub id or an address, taken apart."""
    fields = {}
    if reference.startswith(("http://", "https://", "ssh://")):
        fields["repo_url"] = reference
        match = re.match(r"https?://huggingface.co/([^/]+/[^/]+)$", reference)
        if not match:
            return fields
        reference = match[1]
    parts = read_name(reference, n_params)
    if parts.full is not None:
        fields["name"] = title(parts.full)
    if parts.organization is not None:
        fields["organization"] = title(parts.organization)
        fields.setdefault("repo_url", f"https://huggingface.co/{parts.organization}/{parts.full}")
    if parts.version is not None:
        fields["version"] = parts.version
    return fields


def read_card(folder: Path) -> dict[str, Any]:
    """The YAML front matter of README.md; empty when there is none or it cannot be read: it is decoration."""
    path = find_file(folder, "README.md")
    if path is None:
        return {}
    import yaml

    with path.open(encoding="utf-8", errors="replace") as file:
        lines = file.read(MAX_CARD_BYTES).splitlines()
    if not lines or lines[0] != "---" or "---" not in lines[1:]:
        return {}
    text = "\n".join(lines[1 : lines.index("---", 1)]).replace(
        "\t", "  "
    )  # YAML forbids the tabs some cards have
    try:
        # Every scalar stays text: a version 1.0 is no number, and the language `no` is not false.
        card = yaml.load(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    return {k: v for k, v in card.items() if v not in _NOTHING} if isinstance(card, dict) else {}


def _first(source: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    return next((source[key] for key in keys if source.get(key) is not None), None)


def _listed(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [str(item) for item in value] if isinstance(value, list) else []
