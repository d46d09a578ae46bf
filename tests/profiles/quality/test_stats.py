"""Errors of means, ratios and quantiles of correlated positions; Wilson's interval."""

from __future__ import annotations

import numpy as np
import pytest

from edgellm.profiles.result.quality_stats import (
    Estimate,
    Share,
    block_ids,
    exponential,
    mean,
    quantiles,
    ratio,
    root,
)


def test_blocks_are_nearly_equal_and_stay_inside_chunks():
    ids = block_ids([100, 5, 31, 64])
    assert len(ids) == 200 and (np.diff(ids) >= 0).all()
    sizes = np.bincount(ids)
    assert sizes.tolist() == [34, 33, 33, 5, 31, 32, 32]
    assert ids[99] != ids[100] != ids[105]


def test_a_mean_of_independent_values_has_the_usual_error():
    values = np.random.default_rng(1).normal(3, 2, 64_000)
    found = mean(values, block_ids([64_000]))
    assert found.value == pytest.approx(values.mean())
    assert found.error == pytest.approx(2 / np.sqrt(64_000), rel=0.1)


def test_the_error_sees_correlation_that_the_usual_formula_misses():
    rng = np.random.default_rng(2)
    true_errors, claimed = [], []
    for _ in range(200):
        values = np.repeat(rng.normal(0, 1, 500), 8)  # runs of 8 equal values
        found = mean(values, block_ids([4000]))
        true_errors.append(found.value)
        claimed.append(found.error)
    assert np.mean(claimed) == pytest.approx(np.std(true_errors), rel=0.15)
    assert np.mean(claimed) > 2 * values.std() / np.sqrt(4000)


def test_a_ratio_of_totals_covers_the_truth():
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(300):
        sizes = rng.integers(1, 6, 3200).astype(float)
        found = ratio(0.5 * sizes + rng.normal(0, 1, 3200), sizes, block_ids([3200]))
        hits += abs(found.value - 0.5) < 1.96 * found.error
    assert 0.91 <= hits / 300 <= 0.99


def test_one_block_has_no_error():
    assert mean(np.ones(10), block_ids([10])) == Estimate(1.0, None)
    assert quantiles(np.ones(10), [0.5], block_ids([10])) == [Estimate(1.0, None)]


def test_quantiles_have_the_bootstraps_error():
    values = np.random.default_rng(4).exponential(1, 32_000)
    median, tail = quantiles(values, [0.5, 0.99], block_ids([32_000]))
    assert median.value == pytest.approx(np.log(2), rel=0.05)
    assert median.error == pytest.approx(1 / np.sqrt(32_000), rel=0.25)  # sqrt(q (1-q) / n) / density
    assert tail.error == pytest.approx(np.sqrt(0.99 * 0.01 / 32_000) / 0.01, rel=0.25)
    assert quantiles(values, [0.5, 0.99], block_ids([32_000])) == [median, tail]


def test_functions_of_estimates_to_first_order():
    assert exponential(Estimate(0.0, 0.1)) == Estimate(1.0, 0.1)
    assert root(Estimate(4.0, 0.4)) == Estimate(2.0, 0.1)
    assert root(Estimate(0.0, 0.4)) == Estimate(0.0, None)
    assert Estimate(0.5, 0.1).scaled(100) == Estimate(50.0, 10.0)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [  # R: prop.test(k, n, correct = FALSE)$conf.int
        (90, 100, 0.8256343, 0.9447708),
        (0, 20, 0.0, 0.1611252),
        (20, 20, 0.8388748, 1.0),
    ],
)
def test_wilsons_interval(k, n, low, high):
    assert Share(k, n).interval == pytest.approx((low, high), abs=1e-6)


def test_a_share_of_nothing_is_no_number():
    assert np.isnan(Share(0, 0).value) and Share(0, 0).interval == (0.0, 1.0)
