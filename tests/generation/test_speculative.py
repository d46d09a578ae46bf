"""Speculative decoding: what is drafted, when it stops, and that draft tokens never change what is drawn."""

import random

import pytest
from fakes import ScriptedSession
from hypothesis import given
from hypothesis import strategies as st

from edgellm.backends import steps
from edgellm.generation.draft_length import DraftLength
from edgellm.generation.speculative import Lookup


class Clock:
    """Time passes by what an evaluation of n draft tokens costs."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def eager() -> DraftLength:
    """Drafts as far as it can."""
    length = DraftLength()
    length.step = lambda available, match, growing=True: available  # type: ignore[method-assign]
    return length


def begun(ids: list[int], length: DraftLength | None = None) -> Lookup:
    session = ScriptedSession()
    session.eval(ids)
    lookup = Lookup(length or eager())
    lookup.begin(session)
    return lookup


def slow_draft(ids: list[int], n: int) -> list[int]:
    """The definition: the last place where the longest of 4, 3, 2 newest ids stood, going on from there."""
    for size in (4, 3, 2):
        places = [i for i in range(len(ids) - size) if ids[i : i + size] == ids[-size:]]
        if places and len(ids) >= size:
            text = list(ids)
            place = places[-1] + size
            for i in range(n):
                text.append(text[place + i])
            return text[len(ids) :]
    return []


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_the_index_finds_what_a_search_finds(ids):
    assert list(begun(ids).draft(6)) == slow_draft(ids, 6)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.lists(st.integers(0, 3), max_size=30))
def test_taking_ids_is_like_having_begun_with_them(prompt, answer):
    grown = begun(prompt)
    for token in answer:
        grown.take(token)
    fresh = begun(prompt + answer)
    assert grown._after == fresh._after and grown._ids == fresh._ids


def test_a_running_match_is_followed_not_searched_anew():
    lookup = begun([1, 2, 3, 4, 5, 9, 3, 4, 7, 8, 1, 2])
    for token in (3, 4):
        lookup.take(token)
    assert lookup.draft(2)[0] == 5  # not 7, which the newer "3 4" would say


def test_the_next_turn_keeps_the_index():
    lookup = begun([1, 2, 3])
    lookup.take(4)
    before = lookup._after
    session = ScriptedSession()
    session.eval([1, 2, 3, 4, 5, 6])
    lookup.begin(session)
    assert lookup._after is before and lookup._ids == [1, 2, 3, 4, 5, 6]
    session.rewind(2)
    lookup.begin(session)
    assert lookup._after is not before and lookup._ids == [1, 2]


def simulate(
    hit_rate: float, cost: dict[int, float], n_ids: int = 3000, match: int = 8
) -> tuple[float, float]:
    """Seconds with and without drafting, where draft tokens are accepted at `hit_rate`."""
    clock, rng = Clock(), random.Random(4)
    length, drawn = DraftLength(clock), 0
    length.begin()
    while drawn < n_ids:
        n = length.step(31, match, growing=False)
        clock.now += cost.get(n, 0.0) or 1.0 + 0.3 * n
        drawn += 1
        for _ in range(n):
            true = rng.random() < hit_rate
            length.saw(match, true)
            if not true:
                break
            drawn += 1
        else:
            if not n:
                length.saw(match, rng.random() < hit_rate)
    return clock.now, float(drawn)


DEAR = {1: 1.8, 3: 2.5, 7: 4.2, 15: 6.2, 31: 11.2}  # as measured with llama.cpp on two cores
HOPELESS = {n: 1.0 + n for n in DEAR}


@pytest.mark.parametrize("cost", [DEAR, HOPELESS])
@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5, 0.7])
def test_guessing_that_does_not_pay_stops(rate, cost):
    with_draft, plain = simulate(rate, cost)
    assert with_draft < plain / 0.97


@pytest.mark.parametrize("cost", [DEAR, HOPELESS])
@pytest.mark.parametrize("match", [3, 8, 20])
@pytest.mark.parametrize("rate", [0.0, 0.3, 0.5])
def test_a_single_answer_loses_few_steps(rate, match, cost):
    with_draft, plain = simulate(rate, cost, n_ids=128, match=match)
    assert with_draft < plain + 5


def test_guessing_that_pays_goes_on_and_far():
    with_draft, plain = simulate(0.98, DEAR)
    assert with_draft < plain / 1.7


def test_one_disturbed_time_does_not_end_guessing():
    clock, length = Clock(), None
    length = DraftLength(clock)
    taken = []
    for step in range(2000):
        n = length.step(31, 20)
        taken.append(n)
        clock.now += 50.0 if step in (4, 5) else DEAR.get(n, 1.0)
        for _ in range(max(n, 1)):
            length.saw(20, True)
    assert set(taken[1500:]) != {0}


class ScriptedEngine:
    """A stepper whose sampler draws a script, whatever was guessed."""

    max_draft = 8

    def __init__(self, session: ScriptedSession, script: list[int]) -> None:
        self.session, self.script, self.drawn = session, script, 0
        self.ahead: list[int] = []
        self.n_evaluations = 0

    def logits(self, row):
        raise AssertionError("nobody asked for logits")

    def check(self, row):
        """A script has no logits to be wrong."""

    def sample(self, row):
        self.drawn += 1
        return self.script[self.drawn - 1]

    def evaluate(self, token, draft):
        self.n_evaluations += 1
        self.session._tokens.append(token)
        self.ahead = list(draft)

    def accept(self, token):
        assert self.ahead.pop(0) == token
        self.session._tokens.append(token)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=60), st.integers(0, 60))
def test_any_script_is_drawn_as_it_is_and_stopping_anywhere_leaves_the_sequence_right(script, stop):
    session = ScriptedSession()
    session.eval([0, 1, 2])
    engine = ScriptedEngine(session, script)
    stream = steps.draw(engine, session, len(script) - 1, None, Lookup(eager()))
    drawn = []
    for token in stream:
        assert session.tokens == [0, 1, 2, *drawn]  # an id is appended when the next is asked for
        drawn.append(token)
        if len(drawn) == stop:
            break
    stream.close()
    assert drawn == script[: max(stop, 1) if stop else len(script)]


def test_copying_takes_few_evaluations():
    session = ScriptedSession()
    text = random.Random(0).sample(range(200), 100)
    session.eval([*text, 250, *text[:4]])
    engine = ScriptedEngine(session, text[4:])
    assert list(steps.draw(engine, session, len(text) - 5, None, Lookup(eager()))) == text[4:]
    assert engine.n_evaluations <= 12


class ForcedAtTimes:
    """A constraint that forces three tokens after every fifth one taken."""

    def __init__(self, script: list[int]) -> None:
        self.script, self.n_taken = script, 0

    def apply(self, logits):
        """Excludes nothing."""

    def take(self, token):
        self.n_taken += 1
        return token

    def forced(self):
        return self.script[self.n_taken : self.n_taken + 3] if self.n_taken % 5 == 0 else ()


class ClockedEngine(ScriptedEngine):
    """Evaluations take time, and those of four tokens more."""

    def __init__(self, session, script, clock):
        super().__init__(session, script)
        self.clock = clock

    def logits(self, row):
        """Nobody looks at them."""

    def evaluate(self, token, draft):
        super().evaluate(token, draft)
        self.clock.now += 1.0 + 10.0 * len(draft)


def test_tokens_that_a_grammar_forces_are_none_of_a_drafters_steps():
    """Their evaluation takes 31 plain steps; taken for one, plain steps would look dear and drafting cheap."""
    session, clock = ScriptedSession(), Clock()
    session.eval([200, 201])
    script = random.Random(1).sample(range(200), 150)  # nothing repeats: the drafter has no draft token
    length = DraftLength(clock)
    engine = ClockedEngine(session, script, clock)
    drawn = steps.draw(engine, session, len(script) - 1, ForcedAtTimes(script), Lookup(length))
    assert list(drawn) == script
    assert engine.n_evaluations < 0.7 * len(script)  # forced tokens were evaluated together
    assert set(length._times[0]) == {1.0}
