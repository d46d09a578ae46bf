"""The oracle, and the reading of checkpoints, against transformers itself. Needs `pip install edgellm[train]`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from golden.make_reference_logits import TOKENS, transformers_logits
from tinymodels import CASES as DENSE
from tinymodels import HYBRIDS, variant, write

from edgellm.convert.checkpoint.folder import Checkpoint
from edgellm.models.reference import logits
from edgellm.models.registry import spec_of

CASES = DENSE | HYBRIDS
pytestmark = [pytest.mark.transformers]
torch = pytest.importorskip("torch", reason="torch is not installed (pip install edgellm[train])")
transformers = pytest.importorskip("transformers", reason="pip install edgellm[train]")


def oracle_logits(folder: Path) -> np.ndarray:
    with Checkpoint.open(folder) as checkpoint:
        spec = spec_of(checkpoint.config, checkpoint.shapes)
        return logits(spec, checkpoint.tensors, TOKENS)


def error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("name", CASES)
def test_logits_are_transformers(name: str, tmp_path: Path) -> None:
    folder = write(CASES[name], tmp_path)
    assert error(oracle_logits(folder), transformers_logits(folder, TOKENS)) <= 1e-5


@pytest.mark.parametrize(
    "name", ["llama", "qwen2-odd", "qwen2moe", "qwen3moe-stacked", "qwen35", "qwen35-grouped"]
)
def test_what_transformers_saves_is_read(name: str, tmp_path: Path) -> None:
    """Its own config.json, its own names and shards: the same logits as from what was loaded."""
    folder = write(CASES[name], tmp_path / "ours")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    model.save_pretrained(tmp_path / "theirs", max_shard_size="100KB")
    assert error(oracle_logits(tmp_path / "theirs"), oracle_logits(folder)) <= 1e-6


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_a_head_beside_a_tie_flag_is_read_as_transformers_does(name: str, tmp_path: Path) -> None:
    from tensor_files import write_json
    from tinymodels import config, variant

    folder = write(variant(name, tied=False), tmp_path)
    write_json(folder / "config.json", config(CASES[name]) | {"tie_word_embeddings": True})
    assert error(oracle_logits(folder), transformers_logits(folder, TOKENS)) <= 1e-5


def test_in_a_text_the_sections_of_m_rope_do_not_matter(tmp_path: Path) -> None:
    """A token's positions in time, height and width are one, so that every pair turns as if there were no sections."""
    found = []
    for sections in ((3, 3, 2), (8, 0, 0), (0, 4, 4)):
        tiny = variant("qwen35-256", mrope_section=sections)
        found.append(transformers_logits(write(tiny, tmp_path / str(sections)), TOKENS))
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])
