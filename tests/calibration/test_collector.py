"""Adding up squared inputs, on arrays whose sums are known."""

from __future__ import annotations

import numpy as np
import pytest

from edgellm.backends.llama.observe import Product, plain_name
from edgellm.calibration.collector import Collector
from edgellm.errors import EngineError


def plain(weight: str = "blk.0.ffn_up.weight", n_tokens: int = 16, **changes) -> Product:
    fields = {
        "weight_shape": (1, 1, 3, 4),
        "input_shape": (1, 1, n_tokens, 4),
        "input_is_f32": True,
        "routed": False,
    }
    return Product(weight, **(fields | changes))


def test_plain_products_add_up_over_calls():
    collector, product = Collector(), plain()
    inputs = np.arange(64, dtype=np.float32).reshape(1, 1, 16, 4)
    collector.add(product, inputs, None)
    collector.add(product, -inputs, None)
    sums, counts = collector.sums[product.weight]
    np.testing.assert_array_equal(sums, 2 * np.square(inputs[0, 0]).sum(axis=0, keepdims=True))
    np.testing.assert_array_equal(counts, [32])


def test_routed_products_go_to_their_experts():
    collector = Collector()
    product = Product("blk.0.ffn_down_exps.weight", (1, 3, 2, 2), (1, 2, 2, 2), True, routed=True)
    inputs = np.array([[[[1, 2], [3, 4]], [[5, 6], [7, 8]]]], np.float32)  # [1, token, place, column]
    collector.add(product, inputs, np.array([[0, 2], [2, 0]], np.int32))
    sums, counts = collector.sums[product.weight]
    np.testing.assert_array_equal(sums, [[1 + 49, 4 + 64], [0, 0], [9 + 25, 16 + 36]])
    np.testing.assert_array_equal(counts, [2, 0, 2])


def test_one_input_for_all_experts_counts_for_each():
    collector = Collector()
    product = Product("blk.0.ffn_up_exps.weight", (1, 2, 2, 2), (1, 1, 1, 2), True, routed=True)
    collector.add(product, np.array([[[[3, 4]]]], np.float32), np.array([[0, 1]], np.int32))
    np.testing.assert_array_equal(collector.sums[product.weight][0], [[9, 16], [9, 16]])


def test_a_stack_of_matrices_keeps_its_sums_apart():
    collector = Collector()
    product = plain(weight_shape=(1, 2, 3, 4), input_shape=(1, 2, 16, 4))
    inputs = np.stack([np.ones((16, 4)), np.full((16, 4), 2)]).astype(np.float32)[None]
    collector.add(product, inputs, None)
    sums, counts = collector.sums[product.weight]
    np.testing.assert_array_equal(sums, [[16] * 4 + [64] * 4])
    np.testing.assert_array_equal(counts, [16])


@pytest.mark.parametrize(
    ("product", "wanted"),
    [
        (plain(), True),
        (plain(n_tokens=15), False),
        (plain(input_is_f32=False), False),
        (plain("output.weight"), False),
        (plain("token_embd.weight"), False),
        (plain("cache_k_l0 (view)"), False),
        (plain("blk.0.ffn_gate_exps.weight", n_tokens=1, routed=True), True),
    ],
)
def test_what_is_wanted_is_what_llama_cpp_collects(product, wanted):
    assert Collector().wants(product) is wanted


def test_the_output_matrix_is_wanted_on_request():
    assert Collector(process_output=True).wants(plain("output.weight"))


def test_damaged_activations_are_an_error_by_name():
    with pytest.raises(EngineError, match=r"blk\.0\.ffn_up\.weight are NaN"):
        Collector().add(plain(), np.full((1, 1, 16, 4), np.nan, np.float32), None)


def test_earlier_states_keep_their_values():
    collector, product = Collector(), plain()
    collector.add(product, np.ones((1, 1, 16, 4), np.float32), None)
    before = dict(collector.sums)
    collector.add(product, np.ones((1, 1, 16, 4), np.float32), None)
    assert before[product.weight][1] == 16 and collector.sums[product.weight][1] == 32


@pytest.mark.parametrize(
    ("name", "plainly"),
    [("blk.0.attn_k.weight", "blk.0.attn_k.weight"), ("CUDA0#blk.0.attn_k.weight#0", "blk.0.attn_k.weight")],
)
def test_a_device_copy_is_called_by_its_own_name(name, plainly):
    assert plain_name(name) == plainly
