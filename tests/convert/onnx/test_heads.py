"""Heads padded to what the engine takes, and scales of an int8 cache."""

import numpy as np

from edgellm.convert.onnx.heads import HeadLayout
from edgellm.convert.onnx.kv import LARGEST, MARGIN, _scales
from edgellm.convert.onnx.rows import Rearranged


class Matrix:
    def __init__(self, values: np.ndarray) -> None:
        self.values = values
        self.n_rows, self.row_size = values.shape

    def read(self, tensors, start: int, stop: int) -> np.ndarray:
        return self.values[start:stop]


def test_heads_that_fit_are_left_alone():
    matrix = Matrix(np.zeros((128, 8), np.float32))
    for layout in (HeadLayout(64, 64), HeadLayout(64, 16)):
        assert layout.rows(matrix) is matrix and layout.columns(matrix) is matrix
    assert [HeadLayout(size, size).width for size in (2, 16, 24, 64, 100)] == [16, 16, 32, 64, 112]
    assert [HeadLayout(size, size // 4).width for size in (32, 64, 256)] == [48, 64, 256]


def test_each_half_of_a_head_gets_its_own_padding():
    matrix = Matrix(np.arange(1, 2 * 6 + 1, dtype=np.float32)[:, None])  # two heads of 6
    rows = HeadLayout(6, 6).rows(matrix)
    wide = rows.read({}, 0, rows.n_rows)[:, 0].tolist()
    zeros = [0.0] * 5
    assert wide == [1, 2, 3, *zeros, 4, 5, 6, *zeros, 7, 8, 9, *zeros, 10, 11, 12, *zeros]
    columns = HeadLayout(6, 6).columns(Matrix(matrix.values.T), 2.0)
    assert columns.read({}, 0, 1)[0].tolist() == [2 * value for value in wide]


def test_what_is_not_turned_lies_behind_both_halves_of_what_is():
    layout = HeadLayout(20, 4)
    wide = layout.spread(np.arange(1, 21, dtype=np.float32)[None])[0].tolist()
    assert wide == [1, 2, *[0.0] * 6, 3, 4, *[0.0] * 6, *range(5, 21)] and layout.turned == 16


def test_blocks_of_rows_stand_in_their_order():
    matrix = Matrix(np.arange(12, dtype=np.float32)[:, None])
    rows = Rearranged(matrix, 3, (2, 0, 3, 1))
    whole = rows.read({}, 0, 12)
    assert whole[:, 0].tolist() == [6, 7, 8, 0, 1, 2, 9, 10, 11, 3, 4, 5]
    for start in range(12):
        for stop in range(start + 1, 13):
            np.testing.assert_array_equal(rows.read({}, start, stop), whole[start:stop])


def test_rows_can_be_read_from_anywhere():
    matrix = Matrix(np.random.default_rng(0).standard_normal((18, 4), np.float32))
    for layout in (HeadLayout(6, 6), HeadLayout(6, 2)):
        rows = layout.rows(matrix)
        whole = rows.read({}, 0, rows.n_rows)
        for start, stop in ((0, 1), (5, 20), (16, 48), (47, 48)):
            np.testing.assert_array_equal(rows.read({}, start, stop), whole[start:stop])


def test_no_rotation_takes_a_key_out_of_its_scale():
    keys, values = np.random.default_rng(1).standard_normal((2, 50, 3, 8)).astype(np.float32)
    for n in (8, 4):
        scales = _scales(keys, values, n)
        for angle in np.linspace(0, 6.3, 40):
            a, b = np.split(keys[..., :n], 2, axis=-1)
            turned = [a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)]
            moved = np.concatenate([*turned, keys[..., n:]], -1)
            assert np.abs(moved / scales.key).max() <= LARGEST / MARGIN * 1.0001
        assert np.abs(values / scales.value).max() <= LARGEST / MARGIN * 1.0001
        assert _scales(keys * 0, values, n).key.min() > 0
    still = np.abs(keys[..., 4:]).max(axis=0) * MARGIN / LARGEST
    np.testing.assert_allclose(scales.key[..., 4:], still, rtol=1e-6)  # no wider than it needs to be
