"""Our key-values against those of llama.cpp's own converter, which bench/metadata_parity.py --golden wrote down."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import metadata_cases as cases
import pytest
from places import GOLDEN, ROOT

EXPECTED: dict[str, dict[str, list[Any]]] = json.loads((GOLDEN / "metadata.json").read_text(encoding="utf-8"))
BUNDLED = ROOT / "models" / "bundled"
CHECKPOINTS = os.environ.get(
    "EDGELLM_CHECKPOINTS"
)  # a folder of real checkpoints, or of configs and tokenizers


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {folder.name: folder for folder in cases.write_tiny(tmp_path_factory.mktemp("tiny"))}


def test_tiny_checkpoints_equal_the_converter(tiny: dict[str, Path]) -> None:
    known = [
        name for name in tiny if name in EXPECTED
    ]  # a case added since the golden file was made is not in it
    assert len(known) >= 20
    assert {name: check(tiny[name]) for name in known} == {name: [] for name in known}


@pytest.mark.parametrize("name", ["tiny-qwen3", "tiny-qwen35", "tiny-llama3"])
def test_bundled_models_equal_the_converter(name: str) -> None:
    assert check(BUNDLED / name) == []


@pytest.mark.skipif(not CHECKPOINTS, reason="set EDGELLM_CHECKPOINTS to a folder of checkpoints")
def test_real_checkpoints_equal_the_converter() -> None:
    folders = [path for path in sorted(Path(str(CHECKPOINTS)).iterdir()) if path.name in EXPECTED]
    assert folders, f"none of {sorted(EXPECTED)} in {CHECKPOINTS}"
    assert {path.name: check(path) for path in folders} == {path.name: [] for path in folders}


def test_the_comparison_sees_a_difference(tiny: dict[str, Path]) -> None:
    theirs = dict(EXPECTED["llama"])
    theirs["tokenizer.ggml.eos_token_id"] = ["u32", 1]
    del theirs["tokenizer.ggml.bos_token_id"]
    ours = cases.summary(cases.our_metadata(tiny["llama"]))
    assert [line.split(":")[0] for line in cases.differences(theirs, ours)] == [
        "tokenizer.ggml.bos_token_id",
        "tokenizer.ggml.eos_token_id",
    ]


def test_every_intended_difference_is_documented() -> None:
    text = (ROOT / "docs" / "gguf.md").read_text(encoding="utf-8")
    assert [key for key in cases.OURS_ALONE if f"`{key}`" not in text] == []


def check(folder: Path) -> list[str]:
    return cases.differences(EXPECTED[folder.name], cases.summary(cases.our_metadata(folder)))
