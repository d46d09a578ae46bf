"""Errors from few blocks, where n and n - 1 differ: held against the textbook's forms, worked with `statistics`.

W. G. Cochran, Sampling Techniques, 3rd ed. 1977: (2.19) the standard error of a mean of n draws, sqrt(s^2 / n) with
s^2 over n - 1; (6.9), (6.13) the ratio of two totals, s^2 of y - R x over n - 1, divided by the mean of x.
"""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgellm.profiles.result.quality_stats import block_ids, mean, quantiles, ratio


@pytest.mark.parametrize("n_blocks", [2, 3, 5])
def test_a_mean_over_few_equal_blocks_has_the_error_of_that_many_draws(n_blocks):
    values = np.random.default_rng(n_blocks).normal(1, 1, 32 * n_blocks)
    blocks = block_ids([32] * n_blocks)
    means = [float(values[blocks == i].mean()) for i in range(n_blocks)]
    found = mean(values, blocks)
    assert found.value == pytest.approx(statistics.fmean(means))
    assert found.error == pytest.approx(statistics.stdev(means) / math.sqrt(n_blocks), rel=1e-12)


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.floats(-5, 5)), min_size=2, max_size=6),
    st.integers(0, 2**32 - 1),
)
def test_a_ratio_of_few_uneven_blocks_has_cochrans_error(sizes, seed):
    rng = np.random.default_rng(seed)
    blocks = np.repeat(np.arange(len(sizes)), [n for n, _ in sizes])
    y = rng.normal(0, 1, len(blocks)) + np.repeat([shift for _, shift in sizes], [n for n, _ in sizes])
    x = rng.uniform(0.5, 2, len(blocks))
    tops = [float(y[blocks == i].sum()) for i in range(len(sizes))]
    bottoms = [float(x[blocks == i].sum()) for i in range(len(sizes))]
    r = sum(tops) / sum(bottoms)
    variance = sum((t - r * b) ** 2 for t, b in zip(tops, bottoms, strict=True)) / (len(sizes) - 1)
    error = math.sqrt(variance / len(sizes)) / statistics.fmean(bottoms)
    found = ratio(y, x, blocks)
    assert found.value == pytest.approx(r, rel=1e-9, abs=1e-12)
    assert found.error == pytest.approx(error, rel=1e-9, abs=1e-12)


def test_errors_of_a_few_blocks_cover_like_students_t():
    """Three blocks: the interval by t(0.975; 2) = 4.303 holds the truth in 95 of 100; with n for n - 1 in 90."""
    rng = np.random.default_rng(8)
    blocks = block_ids([32] * 3)
    hits = sum(
        abs((found := mean(np.repeat(rng.normal(0, 1, 3), 32), blocks)).value) < 4.303 * found.error
        for _ in range(4000)
    )
    assert 0.935 <= hits / 4000 <= 0.965


def test_quantiles_of_few_blocks_are_drawn_with_replacement():
    """Two blocks of one value each: a replicate's median is either, or their middle in half of all draws."""
    values, blocks = np.repeat([0.0, 1.0], 32), block_ids([32, 32])
    (median,) = quantiles(values, [0.5], blocks)
    assert median.value == 0.5
    assert median.error == pytest.approx(math.sqrt(1 / 8), rel=0.15)  # 0, 1/2, 1 with chances 1/4, 1/2, 1/4
