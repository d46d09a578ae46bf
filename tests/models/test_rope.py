"""Rope frequencies against transformers' own, and against what the formulas promise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from golden.make_layout_logits import YARNS, yarn_config
from places import GOLDEN
from tinymodels import CASES, config, shapes

from edgellm.convert.verify import rotary
from edgellm.models.base import ModelSpec, RopeScaling
from edgellm.models.registry import spec_of
from edgellm.models.rope import frequencies, llama3_divisors, yarn_attention_factor

FOLDER = GOLDEN / "logits"


def spec(head_dim: int, theta: float, scaling: RopeScaling | None) -> ModelSpec:
    tiny = CASES["qwen3"]
    plain = spec_of(config(tiny), shapes(tiny))
    return replace(plain, head_dim=head_dim, rope_theta=theta, rope_scaling=scaling)


@pytest.mark.parametrize(
    ("name", "head_dim", "factor"),
    [("llama-3.1-8b", 128, 8.0), ("llama-3.2-1b", 64, 32.0), ("llama-3.2-3b", 128, 32.0)],
)
def test_divisors_of_the_released_models_are_transformers(name: str, head_dim: int, factor: float) -> None:
    expected = np.load(FOLDER / f"rope-{name}.npy")
    found = llama3_divisors(spec(head_dim, 5e5, RopeScaling("llama3", factor)))
    assert found.dtype == np.float32 and found.shape == (head_dim // 2,)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found[0] == 1.0 and found[-1] == factor
    assert np.any((found > 1.0) & (found < factor))


def test_divisors_are_for_llama3_alone() -> None:
    with pytest.raises(ValueError, match="llama3"):
        llama3_divisors(spec(64, 1e4, None))


def test_linear_divides_every_frequency() -> None:
    plain, _ = frequencies(spec(64, 1e4, None))
    scaled, magnitude = frequencies(spec(64, 1e4, RopeScaling("linear", 4.0)))
    np.testing.assert_array_equal(scaled, plain / np.float32(4))
    assert plain[0] == 1.0 and magnitude == 1.0


def test_yarn_keeps_fast_pairs_and_divides_slow_ones() -> None:
    plain, _ = frequencies(spec(128, 1e6, None))
    yarn = RopeScaling("yarn", 4.0, original_max_position_embeddings=32768)
    scaled, magnitude = frequencies(spec(128, 1e6, yarn))
    ratio = plain / scaled
    assert ratio[0] == 1.0 and ratio[-1] == pytest.approx(4.0)
    assert np.all(np.diff(ratio) > -1e-5)
    assert magnitude == pytest.approx(1.1386294)
    assert frequencies(spec(128, 1e6, replace(yarn, attention_factor=1.5)))[1] == 1.5
    shifted, _ = frequencies(spec(128, 1e6, replace(yarn, beta_fast=8.0, beta_slow=2.0)))
    assert not np.array_equal(shifted, scaled)


@pytest.mark.parametrize("name", YARNS)
def test_yarn_is_transformers_in_both_readings(name: str) -> None:
    """The converter's frequencies and the proof's, of released models and at the corners of the formula."""
    with np.load(GOLDEN / "yarn.npz") as file:
        *expected, magnitude = file[name]
    head_dim, theta, context, scaling = YARNS[name]
    tiny = replace(CASES["qwen3"], head_dim=head_dim, n_ctx_train=context)
    given = config(tiny) | {"rope_theta": theta, "rope_scaling": {"rope_type": "yarn", **scaling}}
    found, factor = frequencies(spec_of(given, shapes(tiny)))
    np.testing.assert_allclose(found, expected, rtol=2e-6)
    proof = rotary.read(yarn_config(name), head_dim)
    np.testing.assert_allclose(proof.frequencies, expected, rtol=2e-6)
    assert factor == pytest.approx(magnitude, rel=1e-6) and proof.magnitude == pytest.approx(
        magnitude, rel=1e-6
    )


def test_yarn_does_not_magnify_without_stretching() -> None:
    assert yarn_attention_factor(1.0) == 1.0
