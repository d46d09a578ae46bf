"""Statistics against values worked out elsewhere, and against what they promise on random data."""

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgellm.stats import (
    Ratio,
    drift,
    half_width95,
    holm,
    launch_medians,
    outliers,
    paired_ratio,
    plus_minus,
    quantile,
    ratio,
    student_p,
    summarize,
    t95,
    widen,
)


def test_summary_of_a_textbook_sample():
    """Values by hand: mean 5, sample variance 32/7."""
    summary = summarize([2, 4, 4, 4, 5, 5, 7, 9])
    assert summary.mean == 5 and summary.median == 4.5
    assert summary.stddev == pytest.approx(math.sqrt(32 / 7))
    half = 2.365 * math.sqrt(32 / 7) / math.sqrt(8)
    assert (summary.ci95_low, summary.ci95_high) == (pytest.approx(5 - half), pytest.approx(5 + half))
    assert summary.ci95_unit == "repetitions"


def test_one_sample_has_no_spread_and_none_is_an_error():
    summary = summarize([3.0])
    assert (summary.stddev, summary.ci95_low, summary.ci95_unit) == (None, None, None)
    with pytest.raises(ValueError, match="no samples"):
        summarize([])


@pytest.mark.parametrize(
    ("df", "expected"), [(1, 12.706), (30, 2.042), (60, 2.0003), (120, 1.9799), (10**6, 1.96)]
)
def test_t_quantiles(df, expected):
    assert t95(df) == pytest.approx(expected, abs=1e-3)


def test_the_interval_covers_the_truth_in_95_of_100():
    rng = random.Random(7)
    covered = sum(
        summary.ci95_low <= 10 <= summary.ci95_high  # type: ignore[operator]
        for summary in (summarize([rng.gauss(10, 2) for _ in range(6)]) for _ in range(2000))
    )
    assert 0.935 < covered / 2000 < 0.965


def test_with_three_launches_they_carry_the_interval():
    """Repetitions agree to a hair inside each launch; the launches do not, and that is the uncertainty."""
    samples = [10.0, 10.01, 9.99, 12.0, 12.01, 11.99, 11.0, 11.01, 10.99]
    launches = [0] * 3 + [1] * 3 + [2] * 3
    summary = summarize(samples, launches)
    half = half_width95([10.0, 12.0, 11.0])
    assert summary.ci95_unit == "launches"
    assert half is not None and summary.ci95_high == pytest.approx(11 + half)
    for few in (
        [0] * 9,
        [0] * 5 + [1] * 4,
    ):  # repetitions inside one or two processes say too little of the next
        assert (summarize(samples, few).ci95_low, summarize(samples, few).ci95_unit) == (None, None)


def test_one_hiccup_in_a_launch_leaves_what_is_shown_alone():
    summary = summarize([10.0, 10.0, 99.0, 12.0, 12.0, 12.0, 11.0, 3.0, 11.0], [0] * 3 + [1] * 3 + [2] * 3)
    assert summary.median == 11.0
    half = half_width95([10.0, 12.0, 11.0])
    assert half is not None and summary.ci95_low == pytest.approx(11 - half)


@given(st.lists(st.floats(1, 100), min_size=3, max_size=9))
def test_an_interval_holds_what_is_shown(units):
    summary = summarize(units, range(len(units)))
    assert summary.ci95_low is not None and summary.ci95_high is not None
    assert summary.ci95_low <= summary.median <= summary.ci95_high


def test_an_outlier_is_pointed_at_and_counts():
    samples = [10, 10.1, 9.9, 10.05, 9.95, 20]
    summary = summarize(samples)
    assert summary.outliers == (5,)
    assert summary.maximum == 20 and summary.mean == pytest.approx(sum(samples) / 6)
    assert outliers([1, 1, 1, 50]) == (), "too few samples to call one"


def test_drift_is_found_and_noise_is_not_called_drift():
    slope, clear = drift([100, 99.1, 98.0, 97.05, 96.0])
    assert clear and slope == pytest.approx(-0.0102, abs=2e-4)
    rng = random.Random(3)
    false_alarms = sum(drift([rng.gauss(100, 1) for _ in range(8)])[1] for _ in range(2000))
    assert false_alarms / 2000 < 0.01
    assert drift([1, 2]) == (None, False)


def test_a_step_between_launches_is_no_drift_but_a_slope_in_each_is():
    step = [10, 10.1, 9.9, 10.05, 9.95, 10, 14, 14.1, 13.9, 14.05, 13.95, 14]
    assert drift(step)[1]
    assert not drift(step, [0] * 6 + [1] * 6)[1]
    slopes = [10, 10.5, 11.01, 11.5, 20, 20.5, 21.0, 21.49]
    slope, clear = drift(slopes, [0] * 4 + [1] * 4)
    assert clear and slope == pytest.approx(0.5 / statistics.fmean(slopes), rel=0.01)


def test_quantiles_interpolate():
    assert quantile([4, 1, 3, 2], 0.5) == 2.5
    assert quantile([1, 2, 3, 4, 5], 0.95) == pytest.approx(4.8)
    assert quantile([7], 0.95) == 7


def test_the_ratio_of_equals_rarely_differs_and_a_slowdown_shows():
    rng = random.Random(11)

    def run(scale: float) -> Ratio:
        return ratio([scale * rng.gauss(100, 3) for _ in range(10)], [rng.gauss(100, 3) for _ in range(10)])

    assert sum(run(1.0).differs for _ in range(1000)) / 1000 < 0.06
    assert sum(run(0.9).differs for _ in range(200)) == 200
    assert not ratio([5.0], [1.0]).differs, "one sample each: no interval, no claim"


def test_results_are_written_as_llama_bench_does():
    assert plus_minus(12.3449, 0.0511) == "12.34 ± 0.05"
    assert plus_minus(12.3449, None) == "12.34"
    assert plus_minus(1234.5, 6.0, digits=0) == "1234 ± 6"


@pytest.mark.parametrize(
    ("t", "df", "p"),
    [  # R: 2 * pt(-t, df)
        (12.7062, 1, 0.05),
        (4.302653, 2, 0.05),
        (2.570582, 5, 0.05),
        (1.0, 7, 0.3506167),
        (5.0, 4, 0.007490),
        (2.228139, 10, 0.05),
        (0.0, 3, 1.0),
    ],
)
def test_the_chance_of_a_t(t, df, p):
    assert student_p(t, df) == pytest.approx(p, abs=2e-6)
    assert student_p(-t, df) == student_p(t, df)


def test_holm_s_p_values():
    """R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_pairs_cancel_what_both_shared():
    rng = random.Random(5)
    shared = [math.exp(rng.gauss(0, 0.5)) for _ in range(6)]
    a = [2 * s * math.exp(rng.gauss(0, 0.01)) for s in shared]
    paired, apart = paired_ratio(a, shared), ratio(a, shared)
    assert paired.value == pytest.approx(2, rel=0.02) and paired.differs and not apart.differs
    assert paired.p_value is not None and paired.p_value < 1e-4
    assert paired_ratio([1.0], [2.0]).p_value is None
    assert paired_ratio([2.0, 4.0], [1.0, 2.0]).p_value == 0
    assert launch_medians([1, 2, 9, 4], [0, 0, 0, 2]) == {0: 2, 2: 4}


def test_an_instruments_error_widens_an_interval_and_never_narrows_it():
    agreeing = summarize([10.0, 10.0])
    wide = widen(agreeing, 1.0)
    assert (wide.ci95_high or 0) - wide.mean == pytest.approx(1.96 / 2**0.5, rel=1e-3)
    scattered = summarize([5.0, 15.0])
    assert widen(scattered, 1.0) == scattered
    assert widen(summarize([10.0]), 1.0).ci95_unit == "resolution"
