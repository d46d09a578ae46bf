"""Block quantization against ONNX Runtime's own quantizer, and what each algorithm is for."""

from pathlib import Path

import numpy as np
import pytest

from edgellm import privacy
from edgellm.convert.onnx.blocks import BlockFormat, decode, encode
from edgellm.convert.onnx.linear import encode_columns
from edgellm.convert.onnx.options import OnnxOptions, recipe
from edgellm.convert.onnx.writer import OnnxRequest
from edgellm.errors import UsageError
from edgellm.models.base import Role


def weights(n_rows: int = 96, row_size: int = 512, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n_rows, row_size)).astype(np.float32) * 0.02


def error(rows: np.ndarray, form: BlockFormat) -> float:
    found = decode(encode(rows, form), form, rows.shape[1])
    return float(np.linalg.norm(found - rows) / np.linalg.norm(rows))


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("block", [16, 32, 128])
@pytest.mark.parametrize("bits", [4, 8])
def test_bytes_equal_the_librarys_own(bits, block, symmetric):
    library = privacy.onnxruntime().capi._pybind_state
    rows = weights()
    rows[3] = 0  # a row without any range
    n, k = rows.shape
    form = BlockFormat(bits, block, symmetric)
    packed = np.zeros((n, form.n_blocks(k), form.block_bytes), np.uint8)
    scales = np.zeros(n * form.n_blocks(k), np.float32)
    zeros = np.zeros(n * form.zero_bytes(k), np.uint8)
    quantize = library.quantize_matmul_4bits if bits == 4 else library.quantize_matmul_8bits
    quantize(packed, np.ascontiguousarray(rows.T), scales, zeros, block, n, k, symmetric)
    ours = encode(rows, form)
    live = np.arange(n) != 3  # what stands for zeros is each one's own choice
    np.testing.assert_array_equal(ours.weights[live], packed[live])
    np.testing.assert_array_equal(ours.scales, scales.reshape(n, -1))
    if not symmetric:
        np.testing.assert_array_equal(ours.zeros[live], zeros.reshape(n, -1)[live])
    assert not decode(ours, form, k)[3].any()


def test_each_algorithm_is_better_than_rounding():
    rows = weights()
    plain = error(rows, BlockFormat(4, 32))
    assert error(rows, BlockFormat(4, 32, algorithm="search")) < 0.97 * plain
    asymmetric = error(rows, BlockFormat(4, 32, symmetric=False))
    assert error(rows, BlockFormat(4, 32, symmetric=False, algorithm="kquant")) < 0.98 * asymmetric
    assert error(rows, BlockFormat(8, 32)) < plain / 12


def test_rows_that_do_not_fill_their_last_block():
    rows = weights(8, 72)
    form = BlockFormat(8, 32)
    assert encode(rows, form).weights.shape == (8, 3, 32)
    assert error(rows, form) < 0.01


def test_columns_for_integer_products_are_transposed_and_scaled_by_output():
    rows = weights(40, 64)
    columns, scales = encode_columns(rows)
    assert columns.shape == (64, 40) and columns.dtype == np.int8 and np.abs(columns.astype(int)).max() == 127
    np.testing.assert_allclose(columns.T * scales[:, None], rows, atol=float(scales.max()) / 2 * 1.001)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("blok=32", "blok=32 is unknown; settings are algorithm, attention, block"),
        ("block=33", "block must be one of 16, 32"),
        ("context=many", "context must be a positive number"),
        ("algorithm=gptq", "algorithm must be one of auto, rtn"),
    ],
)
def test_unknown_settings_fail(setting, said):
    with pytest.raises(UsageError, match=said):
        OnnxOptions.parse([setting])


def test_senseless_mixes_fail():
    with pytest.raises(UsageError, match="unknown ONNX type 'onnx-int3'; choose one of onnx-fp32"):
        recipe("onnx-int3", OnnxOptions())
    with pytest.raises(UsageError, match="kquant needs asymmetric"):
        recipe("onnx-int4", OnnxOptions(algorithm="kquant", symmetric=True))


def test_int4_keeps_down_in_int8_at_the_ends_and_in_every_third_layer():
    for options in (OnnxOptions(), OnnxOptions(mixed=True)):
        mixed = recipe("onnx-int4", options)
        down = [mixed.encoding((Role.FFN_DOWN,), layer, 24).label for layer in range(24)]
        assert [i for i, label in enumerate(down) if label == "int8/128"] == [
            *(0, 1, 2, 5, 8, 11, 14, 17, 20, 21, 22, 23)
        ]
        assert {*down} == {"int8/128", "int4a/32"}
        assert mixed.encoding((Role.FFN_UP,), 0, 24).label == "int4a/32"
        assert mixed.expert_encoding(0, 24).label == ("int8/128" if options.mixed else "int4a/128")
    assert recipe("onnx-int4", OnnxOptions(mixed=False)).encoding((Role.FFN_DOWN,), 0, 24).label == "int4a/32"


def test_an_importance_matrix_has_scales_searched():
    def label_and_algorithm(**asked):
        chosen = OnnxRequest(Path("m"), imatrix=Path("i.gguf"), **asked).encodings.matrix
        return chosen.label, chosen.format.algorithm

    assert label_and_algorithm() == ("int4a/32", "kquant")
    assert label_and_algorithm(options=OnnxOptions(symmetric=True)) == ("int4/32", "search")
    assert label_and_algorithm(options=OnnxOptions(algorithm="rtn")) == ("int4a/32", "rtn")
    assert label_and_algorithm(quant="onnx-int8") == ("int8/32", "rtn")


def test_an_embedding_that_is_not_the_head_takes_four_bits():
    chosen = recipe("onnx-int4", OnnxOptions())
    assert chosen.embedding_encoding(tied=False).label == "int4a/32"
    assert chosen.embedding_encoding(tied=True).label == chosen.head_encoding(tied=True).label == "int8/128"
    assert recipe("onnx-int4", OnnxOptions(head="fp32")).embedding_encoding(tied=False).label == "fp32"
    assert recipe("onnx-int8", OnnxOptions()).embedding_encoding(tied=False).label == "int8/32"


def test_attention_stays_in_int8_unless_asked_otherwise():
    qkv, out = (Role.ATTN_Q, Role.ATTN_K, Role.ATTN_V), (Role.ATTN_OUT,)
    for options, label in (
        (OnnxOptions(), "int8/128"),
        (OnnxOptions(block=32), "int8/32"),
        (OnnxOptions(attention="int4"), "int4a/32"),
        (OnnxOptions(attention="int4", block=128), "int4a/128"),
        (OnnxOptions(attention="int4", symmetric=True), "int4/32"),
    ):
        chosen = recipe("onnx-int4", options)
        assert {chosen.encoding(roles, layer, 24).label for roles in (qkv, out) for layer in (0, 5)} == {
            label
        }


def test_an_algorithm_brings_the_blocks_it_is_for():
    labels = {"search": "int4/32", "kquant": "int4a/32", "rtn": "int4a/32"}
    for algorithm, label in labels.items():
        assert recipe("onnx-int4", OnnxOptions(algorithm=algorithm)).matrix.label == label
