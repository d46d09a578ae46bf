"""Everything that can be wrong with a measurement, as a table: a code, the fact, and what to do about it.

A caveat is a value in the result, not a line on a terminal: renderers show it, comparisons may heed it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Value = float | int | str

#: code -> (fact, advice). Both are format strings over the caveat's values.
TEXT: dict[str, tuple[str, str]] = {
    "foreign-load": (
        "other programs used up to {share:.0%} of the processor, and more than 2% in {count} of {n} launches",
        "close them, or wait, and run again: what is too slow here may be theirs",
    ),
    "steal": (
        "the hypervisor gave up to {share:.0%} of the processor to other guests, and more than 2% in {count} of "
        "{n} launches",
        "repeat at a quieter time, or on a machine of your own",
    ),
    "ray": (
        "Ray ran beside it: {count} processes, {seconds} s of processor time, {megabytes} MB",
        "measure over --ssh where the board is small: nothing but edgellm runs there",
    ),
    "throttled": (
        "the processor throttled {count} times",
        "improve cooling or lower the thread count: the figures are of a hot machine",
    ),
    "cpu-quota": (
        "the container's CPU quota held the run back {count} times",
        "raise the quota, or use fewer threads than it allows",
    ),
    "outliers": (
        "{metric}: {count} of {n} samples lie far from the rest (they count all the same)",
        "look at the repetitions in order; more of them (-r) lessen the weight of each",
    ),
    "drift": (
        "{metric}: drifts by {percent:+.0f}% from the first repetition to the last",
        "let the machine cool or warm to a steady state, then run again",
    ),
    "launches-differ": (
        "{metric}: the launches differ by {percent:.0f}%, more than the repetitions inside one do",
        "raise --launches: the spread shown is too small",
    ),
    "one-launch": (
        "each model ran in one process only, and processes differ in ways that repetitions do not show",
        "give --launches 2 or more before you call one model faster",
    ),
    "two-launches": (
        "each model ran in two processes, too few for a 95% interval",
        "give --launches 3 or more",
    ),
    "wide": (
        "{metric}: the 95% interval is ±{percent:.0f}% wide",
        "raise -r or --launches until it is narrow enough for what you want to decide",
    ),
    "too-many-threads": (
        "{threads} threads on {cores} processors that may be used",
        "give -t {cores} or fewer: waiting for one another costs more than the extra threads bring",
    ),
    "on-battery": (
        "the machine runs on battery, where firmware may lower the clock",
        "plug it in to compare speed; stay on battery to measure energy with its gauge",
    ),
    "governor": (
        "the CPU frequency governor is {governor}",
        "select the performance governor for steadier figures (cpupower frequency-set -g performance)",
    ),
    "swapping": (
        "{bytes} bytes of the process were swapped out at the end of the {phase} phase",
        "free some memory, or choose a smaller quantization: speed and peak are of a machine that is short of it",
    ),
    "idle-differs": (
        "idle power changed by up to {percent:.0f}% between the start and the end of a launch",
        "net-of-idle energy is only as good as its baseline: run on a quieter machine",
    ),
    "idle-above-decode": (
        "{meter}: idle drew {idle:.1f} W and decoding {decode:.1f} W, which no machine does",
        "look at what the meter is plugged into and at its clock (edgellm energy import --align): doubt all of it",
    ),
    "small-model": (
        "{names}: smaller than four times the processor's last-level cache ({megabytes:.0f} MB)",
        "weights may come from the cache: do not infer the speed of larger models",
    ),
    "launch-failed": (
        "launch {launch} failed: {error}",
        "its figures are missing; the other launches stand",
    ),
    "budget-spent": (
        "the time was spent before {count} of {n} runs had all their launches",
        "give --resume with a larger --budget to go on where this stopped",
    ),
    "above-limit": (
        "{metric}: {percent:.0f}% of the most this machine was seen to do",
        "the limit or the count of bytes is wrong here: trust the speed, not its share of the limit",
    ),
    "incomplete": (
        "{done} of {planned} launches are done",
        "this file was written while the run went on, and is replaced after each launch",
    ),
    "engine-note": ("{note}", "see `edgellm doctor`"),
}

#: What a caveat is about, where it is not single figures -> its codes.
_KINDS = {
    "machine": {
        "foreign-load", "steal", "ray", "throttled", "cpu-quota", "too-many-threads", "on-battery", "governor",
        "swapping",
    },
    "runs": {"launch-failed", "budget-spent", "incomplete", "engine-note"},
}  # fmt: skip


def kind_of(code: str) -> str:
    """What a caveat is about: "machine", "runs" or "figures"."""
    return next((kind for kind, codes in _KINDS.items() if code in codes), "figures")


@dataclass(frozen=True)
class Caveat:
    """One thing to know before trusting a figure."""

    code: str  # a key of TEXT
    subject: str  # the model's name, or "" for the whole run
    values: Mapping[str, Value] = field(default_factory=dict)

    @property
    def fact(self) -> str:
        """What is the case, in English."""
        return words(TEXT, self.code, self.values)[0]

    @property
    def advice(self) -> str:
        """What to do about it, in English."""
        return words(TEXT, self.code, self.values)[1]


def words(table: Mapping[str, tuple[str, str]], code: str, values: Mapping[str, Value]) -> tuple[str, str]:
    """(fact, advice) from a language's table; the bare values for a caveat of another version's making."""
    try:
        fact, advice = table[code]
        return fact.format(**values), advice.format(**values)
    except (KeyError, ValueError):
        return f"{code} ({', '.join(f'{name} {value}' for name, value in values.items())})", ""
