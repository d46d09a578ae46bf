"""The oracle against logits that transformers computed (tests/golden/make_reference_logits.py)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from golden.make_reference_logits import POSITIONS, TOKENS
from places import GOLDEN
from tensor_files import Array
from tinymodels import CASES as DENSE
from tinymodels import HYBRIDS, config, shapes, tensors

from edgellm.models.base import ModelSpec, Role, Stored, TensorSpec
from edgellm.models.reference import logits
from edgellm.models.registry import spec_of

CASES = DENSE | HYBRIDS
FOLDER = GOLDEN / "logits"
TOLERANCE = 1e-5  # of the largest logit; the measured errors are 4e-7 to 3e-6


class InMemory:
    """A tensor's rows from an array, counting the largest block asked for."""

    largest = 0

    def __init__(self, value: Array) -> None:
        self.matrix = value.reshape(-1, value.shape[-1])

    def rows(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        found = self.matrix[start:stop]
        InMemory.largest = max(InMemory.largest, found.nbytes)
        return found


def load(name: str) -> tuple[ModelSpec, dict[str, InMemory]]:
    tiny = CASES[name]
    spec = spec_of(config(tiny), shapes(tiny))
    return spec, {tensor: InMemory(value) for tensor, value in tensors(tiny).items()}


def error(found: Array, expected: Array) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def test_every_case_has_its_golden_logits() -> None:
    assert {path.stem for path in FOLDER.glob("*.npy")} >= CASES.keys()


@pytest.mark.parametrize("name", CASES)
def test_logits_are_transformers(name: str) -> None:
    spec, weights = load(name)
    found = logits(spec, weights, TOKENS)
    assert found.shape == (len(TOKENS), spec.n_vocab) and found.dtype == np.float32
    assert error(found[POSITIONS], np.load(FOLDER / f"{name}.npy")) <= TOLERANCE


@pytest.mark.parametrize("name", ["llama", "qwen2moe", "qwen3moe-stacked", "qwen35-grouped"])
def test_small_blocks_change_nothing_but_the_memory(name: str) -> None:
    spec, weights = load(name)
    whole = logits(spec, weights, TOKENS[:9])
    InMemory.largest = 0
    pieces = logits(spec, weights, TOKENS[:9], block_bytes=1024)
    assert 0 < InMemory.largest <= 1024
    np.testing.assert_allclose(pieces, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["qwen3", "qwen35-grouped"])
def test_the_past_does_not_see_the_future(name: str) -> None:
    spec, weights = load(name)
    np.testing.assert_allclose(
        logits(spec, weights, TOKENS)[:5], logits(spec, weights, TOKENS[:5]), atol=1e-5
    )


def without(role: Role, suffix: str) -> Callable[[ModelSpec], ModelSpec]:
    def change(spec: ModelSpec) -> ModelSpec:
        kept = (tensor for tensor in spec.tensors if (tensor.role, tensor.suffix) != (role, suffix))
        return replace(spec, tensors=tuple(kept))

    return change


def swapped(one: Role, other: Role) -> Callable[[ModelSpec], ModelSpec]:
    def place(tensor: TensorSpec) -> TensorSpec:
        return replace(tensor, role={one: other, other: one}.get(tensor.role, tensor.role))

    return lambda spec: replace(spec, tensors=tuple(map(place, spec.tensors)))


def unnormalised(spec: ModelSpec) -> ModelSpec:
    assert spec.moe is not None
    return replace(spec, moe=replace(spec.moe, norm_topk_prob=not spec.moe.norm_topk_prob))


def stored_otherwise(stored: Stored) -> Callable[[ModelSpec], ModelSpec]:
    """What is stored so is taken as it is."""

    def place(tensor: TensorSpec) -> TensorSpec:
        return replace(tensor, stored=Stored.AS_IS) if tensor.stored is stored else tensor

    return lambda spec: replace(spec, tensors=tuple(map(place, spec.tensors)))


def ungated(spec: ModelSpec) -> ModelSpec:
    """Queries of the first half, as if the gates were all in the second."""

    def halved(tensor: TensorSpec) -> TensorSpec:
        if tensor.role is not Role.ATTN_Q:
            return tensor
        n = tensor.n_rows // 2
        return replace(tensor, shape=(n, tensor.shape[1]), sources=(replace(tensor.sources[0], stop=n),))

    family = replace(spec.architecture, gated_attention=False)
    return replace(spec, architecture=family, tensors=tuple(map(halved, spec.tensors)))


def in_turns(spec: ModelSpec) -> ModelSpec:
    """Time steps in GGUF's order of value heads where transformers' is wanted."""

    def place(tensor: TensorSpec) -> TensorSpec:
        if tensor.role is not Role.SSM_ALPHA:
            return tensor
        (source,) = tensor.sources
        rows = [replace(source, start=row, stop=row + 1) for row in range(source.stop)]
        return replace(tensor, sources=(*rows[::2], *rows[1::2]))

    return replace(spec, tensors=tuple(map(place, spec.tensors)))


def halves_swapped(spec: ModelSpec) -> ModelSpec:
    """The net's keys for its queries, and the other way round."""
    assert spec.delta_net is not None
    n = spec.delta_net.n_k

    def place(tensor: TensorSpec) -> TensorSpec:
        if tensor.role is not Role.ATTN_QKV:
            return tensor
        (source,) = tensor.sources
        parts = ((n, 2 * n), (0, n), (2 * n, source.stop))
        return replace(tensor, sources=tuple(replace(source, start=a, stop=b) for a, b in parts))

    return replace(spec, tensors=tuple(map(place, spec.tensors)))


FAULTS: dict[str, tuple[str, Callable[[ModelSpec], ModelSpec]]] = {
    "llama3 scaling lost": ("llama", lambda spec: replace(spec, rope_scaling=None)),
    "linear scaling lost": ("llama-bias", lambda spec: replace(spec, rope_scaling=None)),
    "yarn scaling lost": ("qwen2-odd", lambda spec: replace(spec, rope_scaling=None)),
    "q and k swapped": ("qwen2-f16", swapped(Role.ATTN_Q, Role.ATTN_K)),
    "gate and up swapped": ("qwen3", swapped(Role.FFN_GATE, Role.FFN_UP)),
    "expert gate and up swapped": ("qwen3moe-stacked", swapped(Role.FFN_GATE_EXPS, Role.FFN_UP_EXPS)),
    "v bias dropped": ("qwen2", without(Role.ATTN_V, "bias")),
    "down bias dropped": ("llama-bias", without(Role.FFN_DOWN, "bias")),
    "router weights normalised": ("qwen2moe", unnormalised),
    "router weights not normalised": ("qwen3moe", unnormalised),
    "head replaced by embedding": ("qwen3moe", lambda spec: replace(spec, tied=True)),
    "norms of less one taken as they are": ("qwen35", stored_otherwise(Stored.LESS_ONE)),
    "decay taken as it is": ("qwen35", stored_otherwise(Stored.LOG_NEGATED)),
    "whole heads turned": ("qwen35", lambda spec: replace(spec, n_rot=0)),
    "gates left out": ("qwen35-grouped", ungated),
    "time steps of other heads": ("qwen35-grouped", in_turns),
    "queries and keys of the net swapped": ("qwen35-256", halves_swapped),
    "how much is written and how fast it fades swapped": ("qwen35", swapped(Role.SSM_ALPHA, Role.SSM_BETA)),
    "another rope base": ("qwen2", lambda spec: replace(spec, rope_theta=10000.0)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(fault: str) -> None:
    """The golden logits tell right from nearly right: every fault is off by far more than the tolerance."""
    name, change = FAULTS[fault]
    spec, weights = load(name)
    found = logits(change(spec), weights, TOKENS)
    assert error(found[POSITIONS], np.load(FOLDER / f"{name}.npy")) > 1e-3


@pytest.mark.parametrize("tokens", [[], [-1], [320], [0, 5000]])
def test_tokens_out_of_range_are_refused(tokens: list[int]) -> None:
    spec, weights = load("qwen3")
    with pytest.raises(ValueError, match="0 to 319"):
        logits(spec, weights, tokens)
