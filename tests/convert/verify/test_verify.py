"""The figures and bounds of the proof; what it finds in real files is in integration/test_planted_faults.py."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import tensor_files
import tinymodels

from edgellm import backends
from edgellm.catalog import conversion
from edgellm.convert.gguf import ggml
from edgellm.convert.gguf.convert import ConvertRequest, convert
from edgellm.convert.verify import logits, tensors
from edgellm.convert.verify.gguf import ENGINE, Target
from edgellm.convert.verify.logits import Fidelity, compare
from edgellm.convert.verify.original import Original
from edgellm.errors import CheckFailedError, EdgellmError
from edgellm.formats.artifact import Artifact
from edgellm.formats.gguf.types import GGML_TYPES_BY_NAME

#: ggml searches its grids of one and two bits for most of a minute before their first use.
TYPES = [
    pytest.param(name, marks=pytest.mark.slow if name.startswith(("IQ1", "IQ2")) else ())
    for name, type_ in sorted(GGML_TYPES_BY_NAME.items())
    if name not in ("I8", "I16", "I32", "I64", "F64")
]
RNG = np.random.default_rng(5)
LOGITS = RNG.standard_normal((6, 50)).astype(np.float32)


def test_the_same_logits_are_no_distance_apart() -> None:
    found = compare(LOGITS, LOGITS)
    assert (found.nmse, found.same_top, found.n_tokens) == (0.0, 1.0, 6)
    assert abs(found.mean_kld) < 1e-12


def test_figures_are_those_of_their_definitions() -> None:
    other = LOGITS + RNG.standard_normal(LOGITS.shape).astype(np.float32)
    p, q = (
        np.exp(x.astype(np.float64)) / np.exp(x.astype(np.float64)).sum(1, keepdims=True)
        for x in (LOGITS, other)
    )
    found = compare(LOGITS, other)
    assert math.isclose(found.nmse, float(((other - LOGITS) ** 2).sum() / (LOGITS**2).sum()), rel_tol=1e-5)
    assert math.isclose(found.mean_kld, float((p * np.log(p / q)).sum(1).mean()), rel_tol=1e-6)
    assert found.same_top == float((LOGITS.argmax(1) == other.argmax(1)).mean())


def test_a_shift_of_all_logits_changes_no_distribution() -> None:
    assert abs(compare(LOGITS, LOGITS + 3).mean_kld) < 1e-6


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_are_infinitely_far(value: float) -> None:
    bad = LOGITS.copy()
    bad[2, 3] = value
    found = compare(LOGITS, bad)
    assert found.nmse == math.inf
    with pytest.raises(CheckFailedError):
        logits.check(found, 0.65, lambda: 2.0, lambda: "")


@pytest.mark.parametrize(
    ("nmse", "rounding", "explained", "outcome"),
    [
        (1e-4, 6e-5, None, None),  # ordinary: the oracle is not asked again
        (1e-2, 6e-5, 5e-3, None),  # this model does more to rounding than others
        (1e-2, 6e-5, 1e-3, "refused"),
        (0.2, 0.1, 0.1, None),  # coarse types are asked above a tenth
        (1.5, 6e-5, 0.3, "refused"),
        (0.9, 0.65, 0.3, "prove little"),
        (0.09, 1e-3, 0.3, "prove little"),
    ],
)
def test_logits_may_be_as_far_off_as_rounding_explains(
    nmse: float, rounding: float, explained: float | None, outcome: str | None
) -> None:
    def ask() -> float:
        assert explained is not None
        return explained

    fidelity = Fidelity(nmse, 0.0, 1.0, 28)
    if outcome == "refused":
        with pytest.raises(CheckFailedError, match="because"):
            logits.check(fidelity, rounding, ask, lambda: "because")
    else:
        remark = logits.check(fidelity, rounding, ask, lambda: "because")
        assert (remark is None) if outcome is None else (remark is not None and outcome in remark)


@pytest.mark.parametrize(
    ("rounding", "nmse", "same_top"),
    [(1e-3, 0.25, 0.5), (6e-5, 0.25, 0.5), (2e-2, 0.5, 0.25), (0.1, 0.75, 0.1), (0.65, 1.0, 0.0)],
)
def test_a_verdict_has_a_floor_whatever_rounding_explains(
    rounding: float, nmse: float, same_top: float
) -> None:
    def check(nmse: float, same_top: float) -> None:
        logits.check(Fidelity(nmse, 0.0, same_top, 28), rounding, lambda: 9.0, lambda: "")

    check(0.99 * nmse, same_top)
    with pytest.raises(CheckFailedError, match="more bits"):
        check(nmse, 1.0)
    if same_top:
        with pytest.raises(CheckFailedError, match="more bits"):
            check(1e-9, same_top - 0.01)


@pytest.mark.parametrize("quant", ["onnx-int4", "onnx-int8", "Q4_K_M", "Q8_0", "BF16"])
def test_a_weight_beyond_all_others_is_never_verified(quant: str, tmp_path: Path) -> None:
    """In float32 the square of 1e30 is infinite: what any engine, transformers too, makes of it is nonsense."""
    tiny = tinymodels.variant("qwen2-256", n_shards=1)
    values = tinymodels.tensors(tiny)
    values["model.layers.0.mlp.down_proj.weight"][0, 7] = 1e30
    folder = tinymodels.write(tiny, tmp_path / "model")
    tensor_files.write_shards(folder, {name: ("BF16", value) for name, value in values.items()})
    with pytest.raises(EdgellmError) as caught:
        conversion.convert_checkpoint(folder, tmp_path / f"out-{quant}", quant)
    assert "\n" not in str(caught.value) and not (tmp_path / f"out-{quant}").exists()
    assert isinstance(caught.value, CheckFailedError) or "too large" in str(caught.value)


@pytest.mark.parametrize("case", ["llama-256", "qwen3moe-256"])
@pytest.mark.parametrize("quant", ["F16", "Q8_0", "Q4_0"])
def test_what_the_oracle_expects_of_rounding_is_what_the_engine_shows(
    case: str, quant: str, tmp_path: Path
) -> None:
    folder = tinymodels.write(tinymodels.CASES[case], tmp_path / case)
    path = convert(ConvertRequest(folder, quant, tmp_path / "model.gguf")).path
    tokens = [(37 * i) % 300 for i in range(28)]
    with Original.open(folder) as source:
        original = source.logits(tokens)
        expected = logits.expected_nmse(source, tokens, original, Target.open(path).rounding)
    with backends.open_session(Artifact.open(path), ENGINE) as session:
        found = compare(original, session.eval_all(tokens)).nmse
    assert 0.2 * expected < found < 3 * expected


@pytest.mark.fault(16)
@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("shape", ["normal", "heavy tails", "mostly zero"])
def test_rounding_is_explained_and_another_row_is_not(name: str, shape: str) -> None:
    weights = RNG.standard_normal((8, 512)) if shape == "normal" else RNG.standard_t(3, (8, 512))
    if shape == "mostly zero":
        weights = weights * (RNG.random((8, 512)) < 0.1)
    rows = np.ascontiguousarray(weights * 0.02, dtype=np.float32)
    found = through(name, rows)
    if (name, shape) != ("IQ1_M", "mostly zero"):  # ggml's own quantizer goes astray there
        assert tensors.deviation(name, found, rows) is None
    assert tensors.deviation(name, found[::-1], rows) is not None
    assert tensors.deviation(name, -found, rows) is not None
    bad = found.copy()
    bad[0, 0] = np.nan
    assert tensors.deviation(name, bad, rows) is not None


@pytest.mark.parametrize("name", [each for each in TYPES if "F32" not in each.values])
def test_the_rounding_of_a_type_is_what_ggml_makes_of_normal_weights(name: str) -> None:
    """Of the weights alone, or with that of the inputs, which no type has finer than in 8 bits."""
    rows = (0.02 * np.random.default_rng(1).standard_normal((16, 1024))).astype(np.float32)
    power = float((rows.astype(np.float64) ** 2).sum())
    of_weights, of_inputs = (
        float(((through(each, rows).astype(np.float64) - rows) ** 2).sum()) / power for each in (name, "Q8_0")
    )
    both = of_weights if name in ("F16", "BF16") else of_weights + of_inputs
    assert 0.7 * of_weights < logits.ROUNDING[name] < 1.3 * both


def through(name: str, rows: np.ndarray) -> np.ndarray:
    """Rows encoded and decoded by ggml."""
    type_ = GGML_TYPES_BY_NAME[name]
    if name == "F32":
        return rows.copy()
    encoded, decoded = np.zeros(type_.nbytes(rows.size), np.uint8), np.empty_like(rows)
    importance = np.ones(rows.shape[1], np.float32)
    needs = importance.ctypes.data if name in ggml.ABORT_WITHOUT_IMATRIX else None
    ggml.quantize(type_, rows.ctypes.data, encoded.ctypes.data, *rows.shape, needs)
    ggml.dequantizer(type_)(encoded.ctypes.data, decoded.ctypes.data, rows.size)
    return decoded


def test_rows_of_zeros_are_themselves() -> None:
    zeros = np.zeros((2, 256), np.float32)
    for name in ("F32", "Q8_0", "Q2_K"):
        assert tensors.deviation(name, zeros, zeros) is None
    assert tensors.deviation("Q8_0", zeros + 1, zeros) is not None


def test_sampled_rows_are_few_distinct_and_reach_both_ends() -> None:
    for n_rows in (1, 7, 8, 9, 100, 151_936):
        rows = tensors.sample_rows(n_rows)
        assert rows == sorted(set(rows)) and rows[0] == 0 and rows[-1] == n_rows - 1
        assert len(rows) <= tensors.N_ROWS
