"""Properties of derived measurements over many made-up launches: definitions worked out anew with numpy and fractions.

The definitions are the field's: time to first token, tokens over seconds, the mean and percentiles of gaps between
tokens (numpy's linear percentiles, R type 7), joules over tokens, net of idle power.
"""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import profile_samples as samples
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgellm.profiles.result import derive
from edgellm.profiles.result.result import EnergyRecord, EnergyWindow, Launch, Repetition

QUICK = settings(max_examples=30)
NS = st.integers(1, 10**10)
REPETITIONS = st.lists(
    st.builds(
        Repetition,
        tokenize_ns=NS,
        prefill_ns=NS,
        gaps_ns=st.lists(NS, max_size=12).map(tuple),
        frequency_mhz=st.none(),
    ),
    min_size=1,
    max_size=4,
)


@st.composite
def launches(draw) -> tuple[Launch, ...]:
    """Up to three launches with numbers that have holes, as after a failed one."""
    indices = sorted(draw(st.sets(st.integers(0, 9), min_size=1, max_size=3)))
    n_tokens, bytes_each = draw(st.integers(1, 4096)), draw(st.floats(0.5, 8))
    made = []
    for index in indices:
        launch = samples.launch(index)
        prompt = replace(launch.prompt, n_tokens=n_tokens, bytes_per_token=bytes_each)
        made.append(replace(launch, prompt=prompt, repetitions=tuple(draw(REPETITIONS))))
    return tuple(made)


def named(found):
    return {m.name: m for m in found}


@QUICK
@given(launches())
def test_speeds_are_counts_over_times(made):
    found = named(derive.measurements(made))
    every = [(launch, r) for launch in made for r in launch.repetitions]
    decoding = [(launch, r) for launch, r in every if r.gaps_ns]
    billion = Fraction(10**9)

    def same(name, values, own):
        assert found[name].samples == pytest.approx([float(v) for v in values], rel=1e-9)
        assert list(found[name].launches) == [launch.index for launch, _ in own]
        assert (found[name].reason is None) == bool(own)

    same("ttft_seconds", [Fraction(r.tokenize_ns + r.prefill_ns) / billion for _, r in every], every)
    rates = [launch.prompt.n_tokens * billion / r.prefill_ns for launch, r in every]
    same("prefill_tokens_per_second", rates, every)
    each = every[0][0].prompt.bytes_per_token
    same("prefill_bytes_per_second", [float(rate) * each for rate in rates], every)
    rates = [len(r.gaps_ns) * billion / sum(r.gaps_ns) for _, r in decoding]
    same("decode_tokens_per_second", rates, decoding)
    same("decode_bytes_per_second", [float(rate) * each for rate in rates], decoding)
    same("tpot_seconds", [np.mean(r.gaps_ns) / 1e9 for _, r in decoding], decoding)
    for q in (50, 95):
        same(f"gap_p{q}_seconds", [np.percentile(r.gaps_ns, q) / 1e9 for _, r in decoding], decoding)
    answers = [Fraction(r.tokenize_ns + r.prefill_ns + sum(r.gaps_ns)) / billion for _, r in every]
    same("answer_seconds", answers, every)


@pytest.mark.parametrize("n", [derive.MIN_GAPS_FOR_P99 - 1, derive.MIN_GAPS_FOR_P99])
def test_a_99th_percentile_needs_a_thousand_gaps_of_one_launch_over_all_its_repetitions(n):
    gaps = np.random.default_rng(3).integers(1, 10**9, n).tolist()
    half = n // 2
    parts = tuple(Repetition(1, 1, tuple(own), None) for own in (gaps[:half], gaps[half:]))
    launch = replace(samples.launch(0), repetitions=parts)
    found = named(derive.measurements([launch]))["gap_p99_seconds"]
    if n < 1000:
        assert found.samples == () and found.reason and "1000 gaps" in found.reason
    else:
        assert found.samples == pytest.approx([np.percentile(gaps, 99) / 1e9])


WATTS = st.floats(0.1, 500)
SECONDS = st.floats(0.01, 100)


@QUICK
@given(WATTS, WATTS, WATTS, SECONDS, st.integers(1, 5000), st.floats(0.5, 8), st.floats(0, 5))
def test_energy_per_token_gross_and_net(idle_before, idle_after, busy, seconds, tokens, bytes_each, error):
    """Two channels are added; idle power is the mean of the windows on both sides."""
    windows = (
        EnergyWindow("idle", 2.0, 0, {"a": 2 * idle_before}, error_joules=error),
        EnergyWindow(
            "decode",
            seconds,
            tokens,
            {"a": busy * seconds / 4, "b": busy * seconds * 3 / 4},
            error_joules=error,
        ),
        EnergyWindow("prefill", seconds, 0, {"a": 1.0}, error_joules=error),
        EnergyWindow("idle", 1.0, 0, {"a": idle_after}, error_joules=error),
    )
    plain = samples.launch(0)
    launch = replace(
        plain,
        prompt=replace(plain.prompt, bytes_per_token=bytes_each),
        energy=EnergyRecord("rapl", "counter", "package", 0.001, windows),
    )
    found = named(derive.measurements([launch]))
    idle = (idle_before + idle_after) / 2
    assert found["idle_watts"].samples == pytest.approx([idle_before, idle_after])
    assert found["decode_watts"].samples == pytest.approx([busy])
    assert found["decode_joules_per_token"].samples == pytest.approx([busy * seconds / tokens])
    assert found["decode_joules_per_byte"].samples == pytest.approx([busy * seconds / tokens / bytes_each])
    net = found["decode_joules_per_token_net"]
    assert net.samples == pytest.approx([(busy - idle) * seconds / tokens], abs=1e-9)
    assert found["prefill_joules_per_token"].samples == (), "no token was counted in that window"
    assert derive.idle_watts(launch.energy) == pytest.approx(idle)
    # Independent errors add as squares; the mean of two idle windows has half the root of theirs.
    idle_error = math.sqrt((error / 2.0) ** 2 + (error / 1.0) ** 2) / 2
    expected = math.sqrt(error**2 + (idle_error * seconds) ** 2) / tokens
    assert net.resolution == pytest.approx(expected, abs=1e-12)
    assert found["decode_joules_per_token"].resolution == pytest.approx(error / tokens, abs=1e-12)


@QUICK
@given(launches())
def test_what_is_missing_in_one_launch_leaves_the_others_theirs(made):
    """A launch's figures depend on that launch alone: any subset gives the same samples for it."""
    together = named(derive.measurements(made))
    for launch in made:
        alone = named(derive.measurements([launch]))
        for name in derive.METRICS:
            own = [
                s
                for s, i in zip(together[name].samples, together[name].launches, strict=True)
                if i == launch.index
            ]
            assert list(alone[name].samples) == own


@QUICK
@given(
    st.lists(
        st.tuples(
            st.sampled_from(("load", "prefill", "decode", "repetitions", "start")), st.integers(0, 2**40)
        )
    )
)
def test_the_peak_is_the_largest_of_its_phases(peaks):
    launch = samples.launch(0)
    empty = replace(launch.memory.phases[0], peak=None)
    phases = tuple(replace(empty, phase=name, peak=peak) for name, peak in peaks)
    found = named(derive.measurements([replace(launch, memory=replace(launch.memory, phases=phases))]))
    for metric, names in {
        "peak_bytes": ("load", "prefill", "decode", "repetitions"),
        "peak_load_bytes": ("load",),
        "peak_prefill_bytes": ("prefill",),
        "peak_decode_bytes": ("decode",),
    }.items():
        known = [peak for name, peak in peaks if name in names]
        assert found[metric].samples == ((max(known),) if known else ())
