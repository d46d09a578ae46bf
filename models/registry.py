"""Which families there are, and what a checkpoint of one of them becomes: its `ModelSpec`. Reads no file."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import Any

from edgellm.errors import CheckpointError
from edgellm.formats.nested_config import language_model
from edgellm.models import hparams
from edgellm.models.base import Architecture, ModelSpec
from edgellm.models.classifier import with_score, without_score
from edgellm.models.hparams import read_spec
from edgellm.models.refused import reason


def spec_of(
    config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], *, headless: bool = False
) -> ModelSpec:
    """Hold a checkpoint, by its config.json and its tensors' names and shapes, against its family.

    `headless` says that it was made for its hidden states, so that it may lack an output projection: the embedding
    then takes its place, as in llama.cpp. A class without a head says so by itself; one with a row of scores has that
    as its classifier (`with_score`). Raises CheckpointError for an
    unknown family, when a number is missing, absurd or at odds with another, when the config asks for something
    neither engine does, and when a tensor is missing, has another shape or is unknown.
    """
    config = language_model(config)
    family = find(config)
    base, scored = (
        any(name in names for name in _classes(config)) for names in (family.base_names, family.scorer_names)
    )
    spec = read_spec(family, config, without_score(shapes) if scored else shapes, headless or base or scored)
    return with_score(spec, shapes) if scored else spec


def expected_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that a checkpoint with this config.json has by itself.

    Towers and blocks that predict further tokens, which config.json alone does not settle, are not among them.
    Raises CheckpointError.
    """
    config = language_model(config)
    return hparams.expected_shapes(find(config), config)


@cache
def architectures() -> tuple[Architecture, ...]:
    """Every registered family, in the order of their file names."""
    package = importlib.import_module("edgellm.models.families")
    found = []
    for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda module: module.name):
        family = getattr(importlib.import_module(f"{package.__name__}.{module.name}"), "ARCHITECTURE", None)
        found += [family] if isinstance(family, Architecture) else []
    return tuple(found)


def find(config: Mapping[str, Any]) -> Architecture:
    """The family of a checkpoint with this config.json. Raises CheckpointError for an unknown one."""
    classes = _classes(config)
    model_type = config.get("model_type")
    for family in architectures():
        if any(name in (*family.class_names, *family.base_names, *family.scorer_names) for name in classes):
            return family
        if not classes and model_type in family.model_types:
            return family
    known = ", ".join(name for family in architectures() for name in family.class_names)
    if not classes and not model_type:
        raise CheckpointError(f"config.json names no architecture: add `architectures`, one of: {known}")
    what = ", ".join(map(repr, classes)) if classes else f"of model_type {model_type!r}"
    why = reason([*classes, model_type])
    raise CheckpointError(f"architecture {what} is not supported{why and ': '}{why}; supported are: {known}")


def _classes(config: Mapping[str, Any]) -> list[Any]:
    classes: Any = config.get("architectures") or []
    return classes if isinstance(classes, list) else [classes]
