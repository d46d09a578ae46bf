"""Quality as an axis of a comparison: figures that are the records' own, intervals that are the literature's.

Shares of right answers: D. Katz et al., Biometrics 34, 1978, the logarithm of a risk ratio is normal with variance
1/k - 1/n of each side; S. Walter, Biometrika 62, 1975, half an answer added to each count.
"""

import math
import random
import statistics
from dataclasses import replace

import profile_samples as samples
import pytest

from edgellm.profiles.compare.comparison import compare, value
from edgellm.profiles.compare.verdict import QUALITY_AXES
from edgellm.profiles.result.quality_record import QualityRecord
from edgellm.profiles.result.quality_stats import Estimate, Share

Z = statistics.NormalDist().inv_cdf(0.975)
AXIS = {axis.metric: axis for axis in QUALITY_AXES}


def record(bits: Estimate | None, total: Share | None, text: str = "t") -> QualityRecord:
    return QualityRecord(text=text, bits_per_byte=bits, total=total)


def compared(a: QualityRecord | None, b: QualityRecord | None):
    report = samples.report(samples.run("a"), samples.run("b"))
    quality = {name: each for name, each in (("a", a), ("b", b)) if each}
    (found,) = compare({"x.json": replace(report, quality=quality)})
    return found


def test_bits_per_byte_are_compared_by_the_delta_method():
    found = compared(record(Estimate(0.5, 0.01), None), record(Estimate(0.6, 0.02), None))
    verdict = found.verdict("bits_per_byte")
    assert verdict and verdict.winner == 0
    pair = verdict.pair(0, 1)
    assert pair and pair.ratio.value == pytest.approx(0.5 / 0.6)
    half = Z * math.hypot(0.01 / 0.5, 0.02 / 0.6)
    assert pair.ratio.ci95_low == pytest.approx(0.5 / 0.6 * math.exp(-half), rel=1e-6)
    assert pair.ratio.ci95_high == pytest.approx(0.5 / 0.6 * math.exp(half), rel=1e-6)
    assert [value(c, AXIS["bits_per_byte"]) for c in found.candidates] == [0.5, 0.6]
    turned = verdict.pair(1, 0)
    assert turned and turned.ratio.value == pytest.approx(1.2)
    assert turned.ratio.ci95_low == pytest.approx(1.2 * math.exp(-half), rel=1e-6)


@pytest.mark.parametrize(("k", "m"), [(60, 40), (100, 90), (0, 3), (50, 50)])
def test_right_answers_are_compared_as_a_risk_ratio(k, m):
    n = 100
    found = compared(record(None, Share(k, n)), record(None, Share(m, n)))
    verdict = found.verdict("tasks_right")
    assert verdict
    pair = verdict.pair(0, 1)
    assert pair
    centre = math.log((k + 0.5) / (m + 0.5))
    error = math.sqrt(1 / (k + 0.5) + 1 / (m + 0.5) - 2 / (n + 0.5))
    assert pair.ratio.ci95_low == pytest.approx(math.exp(centre - Z * error), rel=1e-6)
    assert pair.ratio.ci95_high == pytest.approx(math.exp(centre + Z * error), rel=1e-6)
    assert pair.ratio.value == pytest.approx(k / m if k else math.exp(centre)), (
        "the shares' own ratio is what is shown"
    )
    assert [value(c, AXIS["tasks_right"]) for c in found.candidates] == [k / n, m / n]
    assert verdict.winner == (0 if k > m + 5 else None), "three of a hundred are within chance"


def scored(rng, quality: float, hard) -> QualityRecord:
    """A model on 224 dialogues, of which some are hard for everyone."""
    size = [rng.randint(40, 200) for _ in hard]
    bits = [s * quality * h * math.exp(rng.gauss(0, 0.02)) for s, h in zip(size, hard, strict=True)]
    whole = sum(bits) / sum(size)
    residuals = [b - whole * s for b, s in zip(bits, size, strict=True)]
    error = math.sqrt(224 / 223 * sum(r * r for r in residuals)) / sum(size)
    return QualityRecord(
        text="t", bits_per_byte=Estimate(whole, error), dialogue_bits=tuple(bits), dialogue_bytes=tuple(size)
    )


def test_the_same_text_is_compared_dialogue_by_dialogue():
    """Simulated: dialogues vary by 30%, the models by 2%; single intervals overlap, pairs tell them apart."""
    rng = random.Random(7)
    false = found = wide = 0
    for _ in range(200):
        hard = [math.exp(rng.gauss(0, 0.3)) for _ in range(224)]
        a = scored(rng, 1.0, hard)
        sizes = a.dialogue_bytes
        b, c = (
            replace(
                a, dialogue_bits=tuple(x * q * math.exp(rng.gauss(0, 0.02)) for x in a.dialogue_bits or ())
            )
            for q in (1.0, 1.02)
        )
        b, c = (
            replace(each, bits_per_byte=Estimate(sum(each.dialogue_bits) / sum(sizes), a.bits_per_byte.error))
            for each in (b, c)
        )
        ratios = [QUALITY_AXES[AXIS["bits_per_byte"]](a, other) for other in (b, c)]
        false += ratios[0].differs
        found += ratios[1].differs
        wide += abs(c.bits_per_byte.value - a.bits_per_byte.value) > Z * math.hypot(
            a.bits_per_byte.error, c.bits_per_byte.error
        )
    assert false <= 20 and found == 200 and wide <= 20


def test_the_same_tasks_are_compared_item_by_item():
    """Simulated: what one model answers the other mostly answers too. An exact test of McNemar's is the authority."""
    rng = random.Random(3)
    agree = 0
    for trial in range(300):
        hard = [rng.random() for _ in range(200)]
        rights = [
            "".join(str(int(h < level) ^ (rng.random() < 0.03)) for h in hard)
            for level in (0.6, 0.6 + 0.1 * (trial % 2))
        ]
        a, b = (QualityRecord(total=Share(r.count("1"), 200), right=r) for r in rights)
        won, lost = (sum(x == p and y == q for x, y in zip(*rights, strict=True)) for p, q in ("10", "01"))
        n, k = won + lost, min(won, lost)
        exact = min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n)
        agree += (exact < 0.05) == QUALITY_AXES[AXIS["tasks_right"]](a, b).differs
    assert agree >= 285


def test_who_has_no_figure_takes_no_part():
    full = record(Estimate(0.5, 0.01), Share(5, 10))
    for lacking in (
        None,
        record(None, None),
        record(None, Share(0, 0)),
        record(Estimate(0.5, 0.01), None, "other"),
    ):
        for found in (compared(full, lacking), compared(lacking, full)):
            assert found.verdict("bits_per_byte") is None and found.verdict("tasks_right") is None
    found = compared(full, record(None, Share(0, 0)))
    assert [value(c, AXIS["tasks_right"]) for c in found.candidates] == [0.5, None]
    assert [value(c, AXIS["bits_per_byte"]) for c in found.candidates] == [0.5, None]


def test_none_right_against_some_has_a_ratio():
    found = compared(record(None, Share(3, 10)), record(None, Share(0, 10)))
    verdict = found.verdict("tasks_right")
    assert verdict and (pair := verdict.pair(0, 1)) and pair.ratio.value == pytest.approx(3.5 / 0.5)


def test_two_of_three_that_have_figures_are_compared():
    report = samples.report(samples.run("a"), samples.run("b"), samples.run("c"))
    quality = {"a": record(Estimate(0.5, 0.01), None), "c": record(Estimate(0.7, 0.01), None)}
    (found,) = compare({"x.json": replace(report, quality=quality)})
    verdict = found.verdict("bits_per_byte")
    assert verdict and verdict.winner == 0 and [(pair.a, pair.b) for pair in verdict.pairs] == [(0, 2)]
    assert verdict.pair(0, 1) is None
