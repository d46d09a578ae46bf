"""What a converted model says it is for, against the checkpoint's own files, read once more.

Follows sentence-transformers' base/model.py and sentence_transformer/modules/pooling.py; shares nothing with
convert/checkpoint/purpose.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgellm.errors import CheckFailedError
from edgellm.formats.artifact import Artifact
from edgellm.formats.purpose import Embedding, embedding_of


def check_embedding(artifact: Artifact, folder: Path) -> str | None:
    """Pooling, prompts and limits. Gives a fact to tell; None for a model that is not for embedding."""
    found, expected = embedding_of(artifact), _expected(folder)
    said = None if found is None else vars(found) | {"prompts": dict(found.prompts)}
    if said != expected:
        raise CheckFailedError(f"the check of the pooling failed: the file says {said}, not {expected}")
    return f"pooling {found.pooling}" if found else None


def _expected(folder: Path) -> dict[str, Any] | None:
    listed = _load(folder / "modules.json", [])
    kinds = {str(module["type"]).split(".")[-1]: folder / module["path"] for module in listed}
    if "Pooling" not in kinds:
        return None
    pooling = _load(kinds["Pooling"] / "config.json", {})
    flags = [key for key in pooling if key.startswith("pooling_mode_") and pooling[key]]
    mode = pooling.get("pooling_mode", flags[0] if flags else "mean")
    said = _load(folder / "config_sentence_transformers.json", {})
    settings: Mapping[str, Any] = {}
    for kind in ("bert", "roberta", "distilbert"):
        settings = settings or _load(folder / f"sentence_{kind}_config.json", {})
    return vars(
        Embedding(
            pooling="last" if "last" in str(mode) else "cls" if "cls" in str(mode) else "mean",
            prompts=said.get("prompts") or {},
            default_prompt=said.get("default_prompt_name"),
            include_prompt=pooling.get("include_prompt", True),
            max_tokens=settings.get("max_seq_length"),
        )
    )


def _load(path: Path, default: Any) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else default
