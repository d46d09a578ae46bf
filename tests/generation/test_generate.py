"""Tokens to text: whole characters, stop strings, prefix reuse, honest endings."""

import pytest
from fakes import EOS, ScriptedSession
from hypothesis import given
from hypothesis import strategies as st

from edgellm.errors import EngineError
from edgellm.generation import generate
from edgellm.generation.generate import GenerateOptions

PROMPT = list(b"prompt")
FAMILY = "👩‍👩‍👧‍👦"  # seven code points joined by ZWJ
RARE = "𠀀𪚥"  # CJK extension B: four bytes each


def run(script: bytes, **options: object) -> tuple[list[str], generate.Completion]:
    generation = generate.stream(ScriptedSession(script), PROMPT, GenerateOptions(**options))  # type: ignore[arg-type]
    return list(generation), generation.completion


def test_text_ends_at_eos_and_says_so():
    pieces, completion = run(b"hello")
    assert "".join(pieces) == completion.text == "hello"
    assert completion.finish_reason == "stop"
    assert completion.tokens == tuple(b"hello")
    assert completion.usage.n_generated == 6  # EOS was drawn too
    assert completion.usage.n_prompt == len(PROMPT)


@pytest.mark.parametrize("text", [FAMILY, RARE, "é", "中文 ok"])
def test_no_piece_holds_half_a_character(text):
    pieces, completion = run(text.encode())
    assert completion.text == text
    assert all("�" not in piece for piece in pieces)


@given(st.text())
def test_the_stream_is_the_whole(text):
    pieces, completion = run(text.encode())
    assert "".join(pieces) == completion.text == text


def test_a_character_cut_short_is_shown_as_replacement():
    _, completion = run("é".encode()[:1])
    assert completion.text == "�"


@given(
    st.text(alphabet="abc", max_size=30),
    st.lists(st.text(alphabet="abc", min_size=1, max_size=4), max_size=3),
)
def test_text_ends_before_the_first_stop_string(text, stop):
    pieces, completion = run(text.encode(), stop=tuple(stop))
    cut = min((i for s in stop if (i := text.find(s)) >= 0), default=None)
    if cut is None:
        assert completion.text == text
    else:
        # Token by token, the stop string that completes first wins; nothing after its start is shown.
        ends = min(text.find(s) + len(s) for s in stop if s in text)
        first = min(i for s in stop if (i := text[:ends].find(s)) >= 0)
        assert completion.text == text[:first]
    assert "".join(pieces) == completion.text
    assert completion.finish_reason == "stop"


def test_max_tokens_is_a_length_ending():
    _, completion = run(b"hello", max_tokens=2)
    assert (completion.text, completion.finish_reason) == ("he", "length")


def test_max_tokens_zero_draws_nothing():
    _, completion = run(b"hello", max_tokens=0)
    assert (completion.text, completion.finish_reason, completion.usage.n_generated) == ("", "length", 0)


def test_a_full_context_is_a_length_ending():
    session = ScriptedSession(b"abcdefgh", n_ctx=len(PROMPT) + 3)
    completion = generate.stream(session, PROMPT).completion
    assert completion.finish_reason == "length"
    assert completion.text == "abcd"


def test_eos_can_be_ignored():
    session = ScriptedSession([*b"a", EOS, *b"b"])
    completion = generate.stream(session, PROMPT, GenerateOptions(ignore_eos=True, max_tokens=3)).completion
    assert completion.tokens == (97, EOS, 98)


def test_closing_cancels():
    generation = generate.stream(ScriptedSession(b"hello"), PROMPT)
    assert next(generation) == "h"
    generation.close()
    assert generation.completion.finish_reason == "cancelled"
    assert generation.completion.text == "h"


def test_closing_before_the_first_piece_cancels_too():
    generation = generate.stream(ScriptedSession(b"hello"), PROMPT)
    generation.close()
    assert generation.completion.finish_reason == "cancelled"
    usage = generation.completion.usage
    assert (usage.n_prompt, usage.n_cached, usage.n_generated) == (len(PROMPT), 0, 0)


def test_only_new_tokens_are_evaluated():
    session = ScriptedSession(b"x")
    first = generate.stream(session, list(b"system hello")).completion
    again = generate.stream(session, list(b"system hello there")).completion
    assert first.usage.n_cached == 0
    assert again.usage.n_cached == len(b"system hello")
    assert session.evaluated[-1] == list(b" there")


def test_the_same_prompt_again_evaluates_its_last_token():
    session = ScriptedSession(b"x")
    generate.stream(session, PROMPT).completion  # noqa: B018
    assert generate.stream(session, PROMPT).completion.usage.n_cached == len(PROMPT) - 1


def test_a_prompt_too_long_is_an_error_and_there_is_no_result():
    generation = generate.stream(ScriptedSession(n_ctx=4), PROMPT)
    with pytest.raises(EngineError, match="do not fit"):
        next(generation)
    with pytest.raises(EngineError, match="no result"):
        generation.completion  # noqa: B018


def test_rates_are_those_of_the_definition():
    usage = generate.Usage(n_prompt=10, n_cached=4, n_generated=5, prefill_seconds=2.0, decode_seconds=8.0)
    assert usage.prefill_rate == 3.0
    assert usage.decode_rate == 0.5
    assert generate.Usage(1, 0, 1, 1.0, 0.0).decode_rate is None
