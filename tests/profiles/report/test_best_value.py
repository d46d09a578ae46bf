"""Of models that predict and write as well as each other, the one that needs the least memory is the best value.

The rule is docs/report.md's; who it names is decided here from the figures that the runs were made of.
"""

import itertools
import re
from dataclasses import replace

import profile_samples as samples
import pytest

from edgellm.profiles.report import html_
from edgellm.profiles.result.quality_record import QualityRecord
from edgellm.profiles.result.quality_stats import Estimate

MB = 1_000_000
#: Launch by launch the same spread, in other orders: means are equal, and no difference is measurable.
SPREADS = [(1.00, 1.02, 0.98, 1.01), (1.02, 0.98, 1.01, 1.00), (0.98, 1.01, 1.00, 1.02)]


def run(name: str, peak: int, spread: tuple[float, ...], gap_ms: float = 10.0):
    def launch(i: int, factor: float):
        made = samples.launch(i, gap_ms=(gap_ms * factor,) * 3)
        phases = tuple(
            p if p.phase == "start" else replace(p, peak=peak, resident=min(p.resident, peak))
            for p in made.memory.phases
        )
        return replace(made, memory=replace(made.memory, phases=phases))

    return samples.run(name, tuple(launch(i, factor) for i, factor in enumerate(spread)))


def first_finding(runs, bits: dict[str, float], quality: QualityRecord) -> str:
    """The sentence of the page that names a winner, as text. Dialogue by dialogue the models fare alike."""
    bytes_ = (100,) * 40
    records = {
        name: replace(
            quality,
            bits_per_byte=Estimate(value, 0.01),
            dialogue_bits=tuple(value * 100 * (1 + 0.1 * (i % 3)) for i in range(40)),
            dialogue_bytes=bytes_,
        )
        for name, value in bits.items()
    }
    page = html_.render(replace(samples.report(*runs), quality=records), "en")
    item = next(item for item in re.findall(r"<li>(.*?)</li>", page, re.S) if "bits per byte" in item)
    return re.sub(r"<.*?>", "", item)


@pytest.fixture
def quality():
    import study_samples

    report = study_samples.study(types=("F16",), threads=(1,), launches=3)
    assert report.quality is not None
    return next(iter(report.quality.values()))


@pytest.mark.parametrize("order", list(itertools.permutations((300, 200, 400))))
def test_of_three_that_are_level_the_smallest_is_named(quality, order):
    runs = [run(f"m{peak}", peak * MB, spread) for peak, spread in zip(order, SPREADS, strict=True)]
    text = first_finding(runs, dict.fromkeys(("m200", "m300", "m400"), 0.5), quality)
    assert text.startswith("m200") and "200 MB" in text, text


def test_memory_decides_only_between_those_that_are_level(quality):
    """Measurably faster beats smaller; and what predicts worse than by one in a hundred takes no part."""
    big = run("big", 400 * MB, SPREADS[0], gap_ms=8.0)
    small = run("small", 200 * MB, SPREADS[1])
    poor = run("poor", 100 * MB, SPREADS[2], gap_ms=8.0)
    text = first_finding([small, big, poor], {"big": 0.5, "small": 0.5, "poor": 0.51}, quality)
    assert text.startswith("big"), text
    level = run("level", 100 * MB, SPREADS[2], gap_ms=8.0)
    text = first_finding([small, big, level], {"big": 0.5, "small": 0.5, "level": 0.504}, quality)
    assert text.startswith("level"), text


def test_what_is_near_the_best_by_chance_is_not_called_as_good(quality):
    """Dialogue by dialogue the fast one is now far better, now far worse: nothing says that it is as good."""
    slow, fast = run("slow", 200 * MB, SPREADS[0]), run("fast", 100 * MB, SPREADS[1], gap_ms=5.0)
    bits = {"slow": [50.0] * 40, "fast": [40.0, 60.2] * 20}
    records = {
        name: replace(
            quality,
            bits_per_byte=Estimate(sum(own) / 4000, 0.01),
            dialogue_bits=tuple(own),
            dialogue_bytes=(100,) * 40,
        )
        for name, own in bits.items()
    }
    page = html_.render(
        replace(samples.report(slow, fast, run("other", 300 * MB, SPREADS[2])), quality=records), "en"
    )
    item = next(item for item in re.findall(r"<li>(.*?)</li>", page, re.S) if "best value" in item)
    assert item.startswith("slow"), item
