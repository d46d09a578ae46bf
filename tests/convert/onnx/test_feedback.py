"""Rounding with error feedback: what it costs is asked of the products themselves, and of the library's own kernel."""

from dataclasses import replace

import numpy as np
import pytest
import tinymodels

from edgellm import backends
from edgellm.calibration import text
from edgellm.convert.onnx import blocks, feedback
from edgellm.convert.onnx.blocks import BlockFormat
from edgellm.convert.onnx.options import OnnxOptions
from edgellm.convert.onnx.writer import OnnxRequest, convert_onnx
from edgellm.convert.verify.onnx import verify_onnx
from edgellm.errors import UsageError
from edgellm.models import bundled

FORMATS = [BlockFormat(4, 32, symmetric=symmetric, algorithm="gptq") for symmetric in (True, False)]


def correlated(rng, n, width):
    """Inputs of few directions, as a model's are, and noise."""
    few = rng.standard_normal((n, width // 8)) @ rng.standard_normal((width // 8, width))
    return (few + 0.3 * rng.standard_normal((n, width))).astype(np.float32)


def cost(inputs, rows, encoded, format_):
    return float(np.square(inputs @ (rows - blocks.decode(encoded, format_, rows.shape[1])).T).sum())


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("width", [128, 100])
def test_products_lose_less_than_half_of_what_rounding_alone_costs(format_, width):
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((24, width)).astype(np.float32)
    seen, unseen = (correlated(np.random.default_rng(2), 400, width)[part::2] for part in (0, 1))
    found = feedback.Feedback(format_, seen).encode(rows)
    plain = blocks.encode(rows, format_)
    for inputs in (seen, unseen):
        assert cost(inputs, rows, found, format_) < 0.5 * cost(inputs, rows, plain, format_)
    assert found.weights.shape == plain.weights.shape and found.scales.shape == plain.scales.shape
    assert (found.zeros is None) == format_.symmetric


@pytest.mark.parametrize("format_", FORMATS)
def test_inputs_that_do_not_go_together_change_no_rounding(format_):
    rows = np.random.default_rng(3).standard_normal((16, 96)).astype(np.float32)
    found = feedback.Feedback(format_, 10 * np.eye(96, dtype=np.float32)).encode(rows)
    plain = blocks.encode(rows, format_, np.ones(96, np.float32))
    ours, theirs = (blocks.decode(each, format_, 96) for each in (found, plain))
    assert np.isclose(ours, theirs, atol=1e-4).mean() > 0.95, "but for scales that are as good as each other"


def test_wide_rows_are_made_up_for_in_spans(monkeypatch):
    rng = np.random.default_rng(4)
    rows, inputs = rng.standard_normal((8, 192)).astype(np.float32), correlated(rng, 300, 192)
    format_ = FORMATS[1]
    whole = feedback.Feedback(format_, inputs).encode(rows)
    monkeypatch.setattr(feedback, "SPAN", 64)
    spans = feedback.Feedback(format_, inputs).encode(rows)
    plain = cost(inputs, rows, blocks.encode(rows, format_), format_)
    assert cost(inputs, rows, whole, format_) < cost(inputs, rows, spans, format_) < plain
    assert all(a.shape == b.shape for a, b in zip(whole, spans, strict=True))


def test_a_trained_model_is_nearer_to_its_original_and_as_large(tmp_path):
    """Through onnxruntime, with the proof."""
    source = bundled.path("tiny-llama3")
    assert source is not None

    def divergence(algorithm):
        options = OnnxOptions.parse([f"algorithm={algorithm}", "symmetric=false"])
        request = OnnxRequest(source, "onnx-int4", tmp_path / algorithm, options)
        found = []

        def verify(folder):
            found.append(verify_onnx(folder, source, backends.open_session, lambda _: None))
            return "passed"

        made = convert_onnx(replace(request, calibration_text=text.text(8000)), verify=verify)
        return made.size_bytes, found[0].fidelity.mean_kld

    (plain_bytes, plain), (own_bytes, own) = divergence("kquant"), divergence("gptq")
    assert abs(own_bytes - plain_bytes) < 2000 and own < 0.7 * plain


def test_without_a_text_it_is_refused(tmp_path):
    source = tinymodels.write(tinymodels.variant("qwen3-f32"), tmp_path / "source")
    with pytest.raises(UsageError, match="set calibration_text"):
        convert_onnx(
            OnnxRequest(source, "onnx-int4", tmp_path / "out", OnnxOptions.parse(["algorithm=gptq"]))
        )
    assert not (tmp_path / "out").exists()
