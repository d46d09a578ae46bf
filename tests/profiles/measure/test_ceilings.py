"""Ceilings, limits, and what ONNX graphs say a token costs - against the onnx package."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import profile_samples as samples
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgellm.profiles.measure import ceilings
from edgellm.profiles.result import onnx_weights, roofline
from edgellm.profiles.result.bounds import Ceiling
from edgellm.profiles.result.codec import from_plain
from edgellm.profiles.result.settings import Workload


def test_limits_are_bandwidth_over_bytes_and_operations_over_parameters():
    model = samples.run().model
    ceiling = Ceiling(4, 20e9, (20e9,), operations_per_second={"f32": 1e11, "int8": 4e11})
    found = roofline.limits(model, Workload(n_prompt=100, n_gen=20, n_depth=300), ceiling, 1000.0)
    n_bytes = model.weight_bytes_per_token + 1000 * 410
    assert found.decode_tokens_per_second == pytest.approx(20e9 / n_bytes)
    assert found.prefill_tokens_per_second == pytest.approx(4e11 / (2 * (90e6 + 10e6 / 100)))
    assert found.reason is None


def test_no_claim_without_ceilings():
    found = roofline.limits(samples.run().model, Workload(), None, 1.0)
    assert found.decode_tokens_per_second is None and "not measured" in found.reason
    assert found.bytes_per_token is not None


def test_shares_follow_from_limits_and_more_than_everything_is_said():
    from edgellm.profiles.study import checks

    run = samples.run()
    rate, share = run.summary("decode_tokens_per_second"), run.summary("decode_bandwidth_share")
    assert share.mean == pytest.approx(rate.mean / run.limits.decode_tokens_per_second)
    assert "above-limit" not in {c.code for c in checks.check_run(run)}
    fast = samples.run(launches=(samples.launch(gap_ms=(1.0, 1.0, 1.0)),))
    assert "above-limit" in {c.code for c in checks.check_run(fast)}


def test_the_best_of_two_measurements_counts():
    a = Ceiling(2, 5.0, (4.0, 5.0), operations_per_second={"f32": 3.0})
    b = Ceiling(2, 6.0, (6.0,), operations_per_second={"f32": 2.0, "int8": 9.0})
    found = ceilings.best(a, b)
    assert (found.read_bytes_per_second, found.read_samples) == (6.0, (4.0, 5.0, 6.0))
    assert found.operations_per_second == {"f32": 3.0, "int8": 9.0}
    assert ceilings.best(a, Ceiling(2, None, reason="no")) is a


@pytest.mark.parametrize("kind", ["f32", "int8"])
def test_the_product_graph_is_a_model(kind):
    onnx.checker.check_model(onnx.load_from_string(ceilings.product_graph(kind)))


def test_a_ceiling_is_measured_in_a_process_of_its_own():
    command = [sys.executable, "-m", "edgellm.profiles.measure.ceilings", "1", str(1 << 20)]
    done = subprocess.run(command, capture_output=True, check=True)
    found = from_plain(Ceiling, json.loads(done.stdout))
    assert len(found.read_samples) >= ceilings.PASSES
    assert found.read_bytes_per_second == max(found.read_samples) > 0
    assert sum((1 << 20) / rate for rate in found.read_samples) >= ceilings.READING_SECONDS


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_is_read_is_a_mapped_file_as_the_kernel_lists_it(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGELLM_CACHE", str(tmp_path))
    mappings = []

    def reader():
        def read(part):
            mappings.extend(Path("/proc/self/maps").read_text().splitlines())

        return "a look", read

    monkeypatch.setattr(ceilings, "_reader", reader)
    monkeypatch.setattr(ceilings, "READING_SECONDS", 0)
    ceilings.here(1, 1 << 20)
    (mapped,) = {line for line in mappings if str(tmp_path) in line}
    begin, end = (int(x, 16) for x in mapped.split()[0].split("-"))
    assert end - begin == 1 << 20 and mapped.split()[1].startswith("r--")


def save(path, nodes, weights):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, [1])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(graph), path)
    return path


def test_what_a_token_reads_and_multiplies_in_a_graph(tmp_path):
    weights = {
        "table": np.zeros((50, 8), np.float32),
        "norm": np.zeros(8, np.float32),
        "up": np.zeros((8, 32), np.float16),
        "packed": np.zeros((50, 1, 4), np.uint8),
        "scales": np.zeros((50, 1), np.float32),
        "experts": np.zeros((4, 16, 8), np.uint8),
    }
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"]),
        helper.make_node("Mul", ["e", "norm"], ["n"]),
        helper.make_node("MatMul", ["n", "up"], ["u"]),
        helper.make_node("QMoE", ["u", "router", "experts"], ["m"], k=2, expert_weight_bits=4),
        helper.make_node(
            "MatMulNBits", ["m", "packed", "scales"], ["logits"], K=8, N=50, bits=4, block_size=8
        ),
    ]
    found = onnx_weights.per_token(save(tmp_path / "m.onnx", nodes, weights), n_vocab=50)
    assert found.weight_bytes == 8 * 4 + 8 * 32 * 2 + (4 * 16 * 8) // 2 + 50 * 4 + 50 * 4
    assert found.n_params == 8 * 32 + 2 * 16 * 8 * 2
    assert found.n_params_head == 8 * 50


def test_a_table_that_is_the_head_too_is_read(tmp_path):
    weights = {"table": np.zeros((50, 8), np.float32)}
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"]),
        helper.make_node("Gemm", ["e", "table"], ["logits"], transB=1),
    ]
    found = onnx_weights.per_token(save(tmp_path / "m.onnx", nodes, weights), n_vocab=50)
    assert (found.weight_bytes, found.n_params, found.n_params_head) == (1600, 0, 400)


def test_what_is_no_graph_is_said(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x3a\xff\xff\xff")
    with pytest.raises(ValueError):
        onnx_weights.per_token(path, 1)
