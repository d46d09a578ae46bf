"""What is inside a timed span and what is not, on a clock that only the session moves."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from edgellm.errors import EngineError, UsageError
from edgellm.formats.artifact import Artifact
from edgellm.profiles.measure import speed
from edgellm.profiles.measure.prompt import TEXT, make_prompt
from edgellm.session import GREEDY, EngineInfo, EngineOptions, Sampling

MS = 1_000_000


class Clock:
    """Nanoseconds that pass only when somebody says so."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


class ClockedSession:
    """A session over bytes: tokenizing takes 3 ms, a prompt token 1 ms, a decoded token 10 ms and growing."""

    def __init__(self, clock: Clock, n_ctx: int = 10_000, *, add_bos: bool = False) -> None:
        self.clock, self.tokens, self.closed_streams = clock, list[int](), 0
        self.info = EngineInfo("fake", "0", "", EngineOptions(), n_ctx, 257, frozenset({256}), add_bos)
        self.artifact = Artifact(Path("x.gguf"), "gguf", "llama", "x", "F32", 0, n_ctx, None)

    def tokenize(self, text: str, *, special: bool = True, add_bos: bool = False) -> list[int]:
        self.clock.now += 3 * MS
        return [256] * add_bos + list(text.encode())

    def piece(self, token: int) -> bytes:
        return bytes([token]) if token < 256 else b""

    def eval(self, tokens: Sequence[int]) -> None:
        self.clock.now += len(tokens) * MS
        self.tokens += tokens

    def stream(self, tokens: Sequence[int], sampling: Sampling, **_: object) -> Iterator[int]:
        self.eval(tokens)
        self.clock.now += 5 * MS  # one sampling
        try:
            while True:
                yield 256
                if len(self.tokens) >= self.info.n_ctx:
                    return
                self.tokens.append(256)
                self.clock.now += (10 + len(self.tokens)) * MS
        finally:
            self.closed_streams += 1

    def rewind(self, n: int) -> None:
        del self.tokens[n:]


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(speed.time, "perf_counter_ns", clock)
    return clock


def test_each_span_holds_what_its_definition_says_and_boundaries_are_in_none(clock):
    session = ClockedSession(clock)
    session.eval([1, 2, 3])  # left over from before: a repetition begins empty
    prompt = make_prompt(session, 20)

    def boundary() -> None:
        clock.now += 1000 * MS  # a slow meter

    result = speed.repetition(session, prompt, 5, GREEDY, boundary)
    assert result.tokenize_ns == 3 * MS
    assert result.prefill_ns == (20 + 5) * MS
    assert result.gaps_ns == tuple((10 + 20 + i) * MS for i in (1, 2, 3, 4))
    assert session.closed_streams == 1
    assert len(session.tokens) == 24, "the last token is drawn, and not evaluated"


def test_eos_does_not_end_a_repetition_and_one_token_has_no_gaps(clock):
    session = ClockedSession(clock)
    prompt = make_prompt(session, 4)
    assert len(speed.repetition(session, prompt, 50, GREEDY).gaps_ns) == 49  # every token here is EOS
    assert speed.repetition(session, prompt, 1, GREEDY).gaps_ns == ()
    assert speed.repetition(session, prompt, 0, GREEDY).gaps_ns == ()


def test_a_context_that_fills_up_is_an_error_and_not_a_shorter_measurement(clock):
    session = ClockedSession(clock, n_ctx=12)
    with pytest.raises(EngineError, match="context filled up"):
        speed.repetition(session, make_prompt(session, 8), 20, GREEDY)


def test_loops_for_slow_meters_do_only_their_own_phase(clock):
    session = ClockedSession(clock)
    prompt = make_prompt(session, 6)
    assert speed.prefill_only(session, prompt) == 6
    before = clock.now
    assert speed.decode_only(session, prompt, 3, GREEDY) == 3
    spent = clock.now - before
    assert spent == (1 + 5 + (10 + 7) + (10 + 8)) * MS, "one prompt token again, not six"


def test_what_comes_before_the_prompt_is_there_whatever_was_before(clock):
    session = ClockedSession(clock)
    prompt = make_prompt(session, 3, n_depth=6)
    for earlier in ((), (9, 9, 9), prompt.before[:4], (*prompt.before, 9, 9)):
        session.rewind(0)
        if earlier:
            session.eval(earlier)
        speed.to_depth(session, prompt)
        assert tuple(session.tokens) == prompt.before


def test_the_prompt_has_exactly_the_tokens_asked_for(clock):
    session = ClockedSession(clock)
    n_text = len(TEXT.encode())
    for n in (1, 7, n_text, n_text + 1, 3 * n_text):
        prompt = make_prompt(session, n)
        assert len(prompt.tokens) == prompt.record.n_tokens == n
        assert prompt.record.n_bytes == n
    assert make_prompt(session, n_text).text == TEXT
    assert prompt.record.bytes_per_token == 1.0
    with pytest.raises(UsageError, match="-p 0"):
        make_prompt(session, 0)


def test_bos_is_one_of_the_tokens_where_the_model_wants_it(clock):
    prompt = make_prompt(ClockedSession(clock, add_bos=True), 5)
    assert prompt.tokens[0] == 256 and len(prompt.tokens) == 5
    assert prompt.record.n_bytes == 4
    assert prompt.record.bytes_per_token == 1.0, "BOS is no part of the text"


def test_a_prompt_cut_inside_a_character_is_still_text(clock):
    session = ClockedSession(clock)
    inside = TEXT.encode().index("河".encode()) + 1
    prompt = make_prompt(session, inside)
    assert prompt.record.n_bytes == inside
    assert prompt.text == TEXT.encode()[: inside - 1].decode()


def test_the_text_is_bilingual_and_unchanged():
    """Results are only comparable while it is: its hash is in every result."""
    import hashlib

    assert sum("\u4e00" <= c <= "\u9fff" for c in TEXT) > 150
    assert hashlib.sha256(TEXT.encode()).hexdigest().startswith("2f8485a72bad63d1")
