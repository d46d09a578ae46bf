"""Statistics held against what others publish: the t density integrated, numpy's fits, normal quantiles."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgellm.stats import (
    drift,
    estimate_ratio,
    launch_means,
    outliers,
    paired_ratio,
    quantile,
    ratio,
    student_p,
    summarize,
    t95,
    widen,
)

QUICK = settings(max_examples=60)
VALUES = st.lists(st.floats(0.1, 1e6), min_size=1, max_size=30)
Z = statistics.NormalDist().inv_cdf(0.975)


def chance_within(t: float, df: int) -> float:
    """P(|T| < t) by Simpson's rule over Student's density, from the gamma function."""
    x = np.linspace(-t, t, 20_001)
    constant = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(df * math.pi)
    y = constant * (1 + x * x / df) ** (-(df + 1) / 2)
    return float((y[0] + y[-1] + 4 * y[1:-1:2].sum() + 2 * y[2:-1:2].sum()) * (x[1] - x[0]) / 3)


@pytest.mark.parametrize("df", [*range(1, 41), 60, 200])
def test_each_quantile_of_t_leaves_out_five_of_a_hundred(df):
    assert chance_within(t95(df), df) == pytest.approx(0.95, abs=6.5e-5)  # the table has three decimals


@pytest.mark.parametrize("df", [1, 2, 3, 4, 7, 10, 31])
@pytest.mark.parametrize("t", [0.3, 1.7, 4.0])
def test_the_chance_of_a_t_is_the_integral_of_its_density(t, df):
    assert student_p(t, df) == pytest.approx(1 - chance_within(t, df), abs=1e-9)


def test_t_needs_a_degree_of_freedom():
    with pytest.raises(ValueError, match="at least one degree of freedom, got 0"):
        t95(0)
    assert t95(1) == 12.706


@QUICK
@given(VALUES, st.floats(0, 1))
def test_quantiles_are_numpys(values, q):
    assert quantile(values, q) == pytest.approx(float(np.quantile(values, q)))


@QUICK
@given(st.integers(1, 20), st.floats(-100, 100), st.floats(0.01, 10))
def test_what_an_instrument_cannot_tell_widens_both_ends(n, mean, error):
    wide = widen(summarize([mean] * n), error)
    half = Z * error / math.sqrt(n)
    assert (wide.ci95_low, wide.ci95_high) == pytest.approx((mean - half, mean + half), rel=1e-6, abs=1e-6)
    assert wide.ci95_unit == ("resolution" if n == 1 else "repetitions")
    assert widen(wide, error * 0.99) is wide and widen(wide, error * 1.01) is not wide


@QUICK
@given(st.lists(st.floats(1, 100), min_size=3, max_size=20))
def test_drift_is_the_slope_of_numpys_line(values):
    slope, _ = drift(values)
    fitted = np.polyfit(np.arange(len(values)), values, 1)[0]
    assert slope == pytest.approx(fitted / np.mean(values), abs=1e-9)


def test_drift_is_clear_beyond_twice_the_slopes_own_interval():
    """The standard error of a slope: sqrt(residual variance / spread of x), n - 2 degrees of freedom."""
    x = np.arange(6.0)
    noise = np.array([0.3, -0.4, 0.1, 0.2, -0.4, 0.2])
    noise -= np.polyval(np.polyfit(x, noise, 1), x)  # what a line cannot follow
    error = math.sqrt(noise @ noise / 4 / ((x - x.mean()) @ (x - x.mean())))
    edge = 2 * 2.7764 * error  # t(0.975; 4)
    assert drift(list(100 + 1.001 * edge * x + noise))[1]
    assert not drift(list(100 + 0.999 * edge * x + noise))[1]
    assert drift([1.0, 2.0]) == (None, False) and drift([-1.0, 0.0, 1.0]) == (None, False)
    assert drift([1.0, 2.0, 4.0])[0] is not None, "three points have one degree of freedom"


def test_an_outlier_is_beyond_three_and_a_half_of_iglewicz_and_hoaglin():
    """Modified z = 0.6745 |x - median| / MAD; here the median is 10 and the MAD 1."""
    edge = 3.5 / 0.6745
    rest = [9.0, 9.0, 10.0, 10.0, 11.0, 11.0]
    assert outliers([*rest, 10 + edge * 1.001]) == (6,)
    assert outliers([*rest, 10 + edge * 0.999]) == ()
    assert outliers([10.0, 10.0, 10.0, 10.0, 99.0]) == (), "no spread to measure by"
    assert outliers([9.0, 10.0, 11.0, 10.5, 99.0]) == (4,) and outliers([9.0, 10.0, 11.0, 99.0]) == ()


@QUICK
@given(
    st.lists(st.floats(0.5, 2), min_size=2, max_size=8), st.lists(st.floats(0.5, 2), min_size=2, max_size=8)
)
def test_a_ratio_is_students_pooled_interval_of_logarithms(a, b):
    x, y = np.log(a), np.log(b)
    df = len(a) + len(b) - 2
    pooled = math.sqrt((x.var() * len(a) + y.var() * len(b)) / df * (1 / len(a) + 1 / len(b)))
    centre, found = x.mean() - y.mean(), ratio(a, b)
    assert found.value == pytest.approx(np.mean(a) / np.mean(b))
    ends = (math.exp(centre - t95(df) * pooled), math.exp(centre + t95(df) * pooled))
    assert (found.ci95_low, found.ci95_high) == pytest.approx(ends, rel=1e-9)
    if pooled > 1e-6:
        assert found.p_value == pytest.approx(1 - chance_within(abs(centre) / pooled, df), abs=1e-4)


@QUICK
@given(st.lists(st.tuples(st.floats(0.5, 2), st.floats(0.5, 2)), min_size=2, max_size=8))
def test_a_paired_ratio_is_students_interval_of_the_differences(pairs):
    a, b = zip(*pairs, strict=True)
    logs = np.log(a) - np.log(b)
    half = t95(len(logs) - 1) * logs.std(ddof=1) / math.sqrt(len(logs))
    found = paired_ratio(a, b)
    expected = (math.exp(logs.mean()), math.exp(logs.mean() - half), math.exp(logs.mean() + half))
    assert (found.value, found.ci95_low, found.ci95_high) == pytest.approx(expected, rel=1e-9)


@QUICK
@given(st.floats(0.5, 2), st.floats(0.01, 0.2), st.floats(0.5, 2), st.floats(0.01, 0.2))
def test_a_ratio_of_estimates_is_normal_on_the_logarithm(a, da, b, db):
    """The delta method: relative errors of independent factors add as squares."""
    error, found = math.sqrt((da / a) ** 2 + (db / b) ** 2), estimate_ratio(a, da, b, db)
    ends = (a / b * math.exp(-Z * error), a / b * math.exp(Z * error))
    assert (found.ci95_low, found.ci95_high) == pytest.approx(ends, rel=1e-6)
    p = 2 * statistics.NormalDist().cdf(-abs(math.log(a / b)) / error)
    assert found.p_value == pytest.approx(p, abs=1e-9)
    assert estimate_ratio(a, None, b, db).p_value is None and estimate_ratio(a, da, b, None).ci95_low is None
    assert estimate_ratio(a, 0.0, a, 0.0).p_value == 1.0 and estimate_ratio(a, 0.0, 2 * a, 0.0).p_value == 0.0


def test_a_claim_needs_an_interval_that_leaves_out_one():
    assert ratio([2.0, 2.1, 2.05], [1.0, 1.01, 1.02]).differs and ratio([1.0, 1.01], [2.0, 2.1]).differs
    assert not ratio([1.0, 1.1], [1.0, 1.05]).differs and not ratio([2.0], [1.0]).differs


def test_means_are_by_launch_in_the_order_of_their_numbers():
    assert launch_means([1.0, 10.0, 3.0, 20.0], [7, 2, 7, 2]) == [15.0, 2.0]
