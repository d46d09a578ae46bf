"""The search takes a difference that is there and leaves one that is not; what it finds is remembered and applied."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from edgellm.backends import tuned
from edgellm.formats.artifact import Artifact
from edgellm.machine import hardware
from edgellm.session import EngineOptions
from edgellm.tuning import search, space
from edgellm.tuning.space import DECODE, PREFILL, Knob

START = EngineOptions(n_threads=4, flash_attn="on", n_ubatch=512)
ATTENTION = Knob("attention", ({"flash_attn": "on"}, {"flash_attn": "off"}), lossy=({"type_k": "q8_0"},))
THREADS = Knob("threads", ({"n_threads": 4}, {"n_threads": 8}, {"n_threads": 2}))
BATCH = Knob("batch", ({"n_ubatch": 512}, {"n_ubatch": 128}), PREFILL)


class FakeMachine:
    """A `Bench` whose speeds are a function of the settings, with noise, a drift that all share, and a clock."""

    def __init__(
        self, speed: Callable[[EngineOptions, str, int], float], noise: float = 0.01, seed: int = 0
    ) -> None:
        self._speed, self._noise, self._random = speed, noise, random.Random(seed)
        self.now = 0.0
        self.visits: list[EngineOptions] = []
        self.started: list[list[EngineOptions]] = []
        self.refused: dict[EngineOptions, str] = {}

    def start(self, variants: Sequence[EngineOptions]) -> None:
        self.started.append(list(variants))

    def why_not(self, options: EngineOptions) -> str | None:
        return self.refused.get(options)

    def visit(self, options: EngineOptions, phase: str, depth: int) -> float:
        assert options in self.started[-1]
        self.now += 0.25
        self.visits.append(options)
        slower = 1 + 0.3 * (self.now % 20 > 10)  # every ten seconds somebody else wants the machine
        return self._speed(options, phase, depth) * self._random.lognormvariate(0, self._noise) / slower


def find(machine: FakeMachine, *knobs: Knob, **more) -> search.Found:
    request = search.Request(knobs, START, (512, 2048), **more)
    return search.Search(machine, request, clock=lambda: machine.now).run()


def flat(options: EngineOptions, phase: str, depth: int) -> float:
    return 50.0


def attention_off_is_faster(options: EngineOptions, phase: str, depth: int) -> float:
    return 50.0 * (1.0 + (options.flash_attn == "off") * (0.06 if depth == 512 else 0.3))


def test_a_faster_setting_is_taken():
    found = find(FakeMachine(attention_off_is_faster), ATTENTION, THREADS)
    assert found.options == replace(START, flash_attn="off")
    assert found.finished
    assert [trial.verdict for trial in found.trials if trial.knob == "attention"] == ["behind", "taken"]


@pytest.mark.parametrize("noise", [0.01, 0.1])
def test_a_difference_that_is_not_there_is_seldom_taken(noise):
    taken = [find(FakeMachine(flat, noise, seed), ATTENTION).options != START for seed in range(100)]
    assert sum(taken) <= 5


def test_a_real_gain_is_found_through_noise():
    found = [
        find(FakeMachine(attention_off_is_faster, 0.05, seed), ATTENTION).options.flash_attn
        for seed in range(50)
    ]
    assert found.count("off") >= 48


def test_a_gain_too_small_to_matter_is_left():
    tiny = FakeMachine(lambda options, phase, depth: 50.0 + 0.5 * (options.n_threads == 8), noise=0.0)
    assert find(tiny, THREADS).options == START


def test_the_settings_of_one_knob_are_kept_for_the_next():
    def speed(options: EngineOptions, phase: str, depth: int) -> float:
        threads = {2: 30.0, 4: 50.0, 8: 40.0}[options.n_threads or 0]
        return threads * (1.2 if options.flash_attn == "off" else 1.0)

    machine = FakeMachine(speed)
    find(machine, ATTENTION, THREADS)
    assert all(options.flash_attn == "off" for options in machine.started[1])


def test_the_hopeless_are_visited_once():
    machine = FakeMachine(lambda options, phase, depth: 10.0 if options.n_threads == 2 else 50.0)
    find(machine, THREADS)
    assert machine.visits.count(replace(START, n_threads=2)) == 2  # once at each depth


def test_faster_decoding_must_not_cost_the_prompt():
    def speed(options: EngineOptions, phase: str, depth: int) -> float:
        off = options.flash_attn == "off"
        return (60.0 if off else 50.0) if phase == DECODE else (100.0 if off else 200.0)

    found = find(FakeMachine(speed), ATTENTION)
    assert found.options == START
    assert found.trials[-1].verdict == "prompts too slow"


def test_the_next_faster_is_taken_where_the_fastest_slows_prompts():
    def speed(options: EngineOptions, phase: str, depth: int) -> float:
        slow = options.type_k == "q8_0"
        return (
            (70.0 if slow else attention_off_is_faster(options, phase, depth))
            if phase == DECODE
            else 100.0 - 50 * slow
        )

    found = find(FakeMachine(speed), ATTENTION, lossy=True)
    assert found.options == replace(START, flash_attn="off")
    assert [trial.verdict for trial in found.trials] == ["behind", "taken", "prompts too slow"]


def test_a_prompt_knob_is_judged_by_prompts():
    def speed(options: EngineOptions, phase: str, depth: int) -> float:
        return 50.0 if phase == DECODE else 100.0 + 50.0 * (options.n_ubatch == 128)

    assert find(FakeMachine(speed), BATCH).options.n_ubatch == 128


def test_lossy_settings_are_tried_on_request_alone():
    def speed(options: EngineOptions, phase: str, depth: int) -> float:
        return 80.0 if options.type_k == "q8_0" else 50.0

    assert find(FakeMachine(speed), ATTENTION).options == START
    assert find(FakeMachine(speed), ATTENTION, lossy=True).options.type_k == "q8_0"


def test_the_budget_ends_the_search_and_what_was_found_stands():
    machine = FakeMachine(attention_off_is_faster)
    found = find(machine, ATTENTION, THREADS, BATCH, budget_seconds=6.0)
    assert found.options.flash_attn == "off"
    assert not found.finished
    assert machine.now < 6.0 + 3.0 + 1.5  # the budget, the look at the prompt's speed, one round


def test_settings_that_cannot_be_opened_are_told_and_passed_over():
    machine = FakeMachine(attention_off_is_faster)
    machine.refused = {replace(START, flash_attn="off"): "no such kernel"}
    found = find(machine, ATTENTION)
    assert found.options == START
    assert found.trials[0].verdict == "no such kernel"


def test_both_are_held_against_each_other_at_the_end():
    machine = FakeMachine(attention_off_is_faster)
    rows = search.compare(machine, START, replace(START, flash_attn="off"), (512, 2048), 6)
    assert [(row.phase, row.depth) for row in rows] == [(DECODE, 512), (DECODE, 2048), (PREFILL, 512)]
    assert rows[1].ratio.value == pytest.approx(1.3, rel=0.05)
    assert rows[1].ratio.ci95_low is not None and rows[1].ratio.ci95_low > 1.2


@pytest.mark.parametrize("format_", ["gguf", "onnx"])
def test_every_knob_starts_from_the_default_and_turns_what_has_a_flag(format_):
    start = space.start(format_)
    for knob in space.knobs(format_):
        variants = knob.variants(start, lossy=True)
        assert variants[0] == start and len(variants) > 1
        assert space.turned(knob.name, start)
        for options in variants:
            changed = {
                n: getattr(options, n) for n in tuned._FLAGS if getattr(options, n) != getattr(start, n)
            }
            assert (options == start) == (not changed)


MODEL = Artifact(
    Path("m.gguf"),
    "gguf",
    "llama",
    "m",
    "Q4_0",
    1 << 28,
    4096,
    None,
    {"llama.block_count": 4, "general.name": "m"},
)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGELLM_CACHE", str(tmp_path))
    monkeypatch.delenv("EDGELLM_NO_TUNE", raising=False)
    return tmp_path


def remember(settings: dict, build: str = "build 1") -> tuned.Record:
    record = tuned.Record("m", settings, "full", "2026-01-01T00:00:00+00:00", (512,))
    tuned.write(MODEL, build, record)
    return record


def apply(options: EngineOptions, build: str = "build 1") -> tuple[EngineOptions, list[str]]:
    notes: list[str] = []
    return tuned.apply(MODEL, build, options, notes), notes


def test_what_was_found_is_used_and_said(cache):
    record = remember({"flash_attn": "off", "n_ubatch": 256})
    assert tuned.read(MODEL, "build 1") == record
    options, notes = apply(EngineOptions(tuned=True))
    assert (options.flash_attn, options.n_ubatch) == ("off", 256)
    assert notes == ["tuned for this machine: -fa off -ub 256 (edgellm tune --show)"]


def test_what_the_user_says_goes_first_with_all_that_was_measured_with_it(cache):
    remember({"flash_attn": "off", "n_threads": 3, "n_threads_batch": 4})
    options, _ = apply(EngineOptions(tuned=True, type_v="q8_0"))
    assert (options.flash_attn, options.n_threads) == ("auto", 3)
    options, notes = apply(EngineOptions(tuned=True, n_threads=1))
    assert (options.flash_attn, options.n_threads, options.n_threads_batch) == ("off", 1, None)
    assert "-tb" not in notes[0]


def test_nothing_is_used_unasked(cache, monkeypatch):
    remember({"flash_attn": "off"})
    assert apply(EngineOptions()) == (EngineOptions(), [])
    monkeypatch.setenv("EDGELLM_NO_TUNE", "1")
    assert apply(EngineOptions(tuned=True)) == (EngineOptions(tuned=True), [])


def test_it_holds_for_this_machine_model_and_build_alone(cache, monkeypatch):
    remember({"flash_attn": "off"})
    assert tuned.read(MODEL, "build 2") is None
    assert tuned.read(replace(MODEL, quantization="Q8_0"), "build 1") is None
    assert tuned.read(replace(MODEL, metadata={"llama.block_count": 5}), "build 1") is None
    assert tuned.read(replace(MODEL, path=Path("copy.gguf"), name="copy"), "build 1")
    monkeypatch.setattr(hardware, "default_threads", lambda: 99)
    assert tuned.read(MODEL, "build 1") is None


@pytest.mark.parametrize("damage", ["", "{", '{"model": 1}', "[]"])
def test_a_damaged_record_is_none(cache, damage):
    remember({"flash_attn": "off"})
    tuned.path(MODEL, "build 1").write_text(damage)
    assert tuned.read(MODEL, "build 1") is None


def test_a_record_of_another_version_with_unknown_settings_is_none(cache):
    remember({"warp": 9})
    assert tuned.read(MODEL, "build 1") is None


def test_forgetting(cache):
    remember({})
    assert tuned.forget(MODEL, "build 1")
    assert not tuned.forget(MODEL, "build 1")
