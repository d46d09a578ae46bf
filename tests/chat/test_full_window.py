"""What happens at the very edge of the window, by policy: the numbers docs/chat.md gives, in tokens counted here.

A token is a byte here, or one of ChatML's two marks; the prompt's length is counted from ChatML's published form and
not asked of the code. The room kept for the answer: an eighth of the window, or less where less may be written.
"""

import re

import pytest
from chat_fakes import ChatMl, ChatSession

from edgellm.chat.conversation import ContextFullError, Conversation
from edgellm.generation.generate import GenerateOptions

N_CTX = 1024
ROOM = N_CTX // 8
ANSWER = 40


def chatml_tokens(*messages: tuple[str, int]) -> int:
    """<|im_start|>role\\n content <|im_end|>\\n for each, and the head of the answer."""
    return sum(1 + len(role) + 1 + n + 1 + 1 for role, n in messages) + 1 + len("assistant\n")


def filled(on_full: str, n_turns: int, **more) -> tuple[Conversation, ChatSession]:
    """After turns of a 40-letter question and a 40-letter answer, summaries written as asked."""
    session = ChatSession(
        lambda prompt: b"SUM" if "Summarize" in prompt[-400:] else b"x" * ANSWER, n_ctx=N_CTX
    )
    conversation = Conversation(session, ChatMl(), on_full=on_full, **more)
    for _ in range(n_turns):
        "".join(conversation.ask("q" * 40))
    return conversation, session


def longest(n_turns: int, system: int = 0) -> int:
    """Letters of the longest question that fits after so many turns with nothing left out."""
    history = [("user", 40), ("assistant", ANSWER)] * n_turns
    head = [("system", system)] if system else []
    return N_CTX - ROOM - chatml_tokens(*head, *history, ("user", 0))


def test_stop_takes_what_fits_to_the_token_and_refuses_one_more():
    conversation, _ = filled("stop", 4)
    before = conversation.history
    with pytest.raises(
        ContextFullError, match=r"the window is full: 897 tokens .* 1,024 in the window, 128 kept"
    ):
        conversation.ask("y" * (longest(4) + 1))
    assert conversation.history == before, "a refused message changes nothing"
    assert "".join(conversation.ask("y" * longest(4))) == "x" * ANSWER
    assert conversation.n_hidden == 0


def test_stop_never_hides_and_the_first_message_is_refused_for_its_own_length():
    conversation, _ = filled("stop", 0, system="S" * 100)
    with pytest.raises(
        ContextFullError, match=r"the message with the system prompt is 897 tokens; .* at most 896"
    ):
        conversation.ask("y" * (longest(0, 100) + 1))
    assert conversation.messages == []
    "".join(conversation.ask("y" * longest(0, 100)))
    with pytest.raises(ContextFullError, match="the window is full"):
        conversation.ask("z" * 100)
    assert conversation.n_hidden == 0 and len(conversation.messages) == 2


def test_a_small_answer_needs_less_room():
    conversation, _ = filled("stop", 4, options=GenerateOptions(max_tokens=50))
    with pytest.raises(ContextFullError, match="50 kept for the answer"):
        conversation.ask("y" * (longest(4) + ROOM - 50 + 1))
    assert "".join(conversation.ask("y" * (longest(4) + ROOM - 50)))


@pytest.mark.parametrize("on_full", ["drop", "summarise"])
def test_nothing_is_left_out_while_all_of_it_fits(on_full):
    conversation, session = filled(on_full, 4)
    "".join(conversation.ask("y" * longest(4)))
    assert conversation.n_hidden == 0 and conversation.summary is None
    assert session.text(session.tokens).count("<|im_start|>user\n") == 5


def kept_turns(limit: int, n_turns: int, n_letters: int, system: int = 0) -> int:
    """The most old turns that leave the prompt within a limit."""
    head = [("system", system)] if system else []
    return max(
        kept
        for kept in range(n_turns + 1)
        if chatml_tokens(*head, *[("user", 40), ("assistant", ANSWER)] * kept, ("user", n_letters)) <= limit
    )


def test_drop_makes_a_quarter_of_the_window_free_and_no_more():
    n_letters = longest(6) + 1
    conversation, session = filled("drop", 6)
    reply = conversation.ask("y" * n_letters)
    "".join(reply)
    kept = kept_turns(N_CTX - N_CTX // 4, 6, n_letters)
    assert 0 < kept < 6 and reply.n_dropped == 6 - kept == conversation.n_hidden // 2
    assert session.text(session.tokens).count("<|im_start|>user\n") == kept + 1


def test_summarise_keeps_room_for_the_summary_and_says_it_in_words():
    n_letters = longest(6) + 1
    conversation, session = filled("summarise", 6)
    shown: list[str] = []
    conversation.on_summary = lambda reply: shown.append("".join(reply) + session.text(session.tokens))
    "".join(conversation.ask("y" * n_letters))
    summary_tokens = N_CTX // 8
    kept = kept_turns(N_CTX - N_CTX // 4 - summary_tokens, 6, n_letters)
    assert conversation.n_hidden == 2 * (6 - kept)
    (text,) = shown
    assert text.startswith("SUM") and f"in at most {summary_tokens // 2} words" in text
    assert conversation.summary is not None and conversation.summary.text == "SUM"
    assert conversation.summary.n_messages == conversation.n_hidden
    seen = session.text(session.tokens)
    assert seen.startswith("<|im_start|>system\nSummary of the conversation so far:\nSUM<|im_end|>")
    assert len(re.findall(r"<\|im_start\|>user\nq", seen)) == kept


def test_where_no_summary_can_be_asked_for_the_turns_are_dropped():
    """One old turn fills nearly all of the window: the request for a summary of it has no room."""
    conversation, _ = filled("summarise", 0)
    "".join(conversation.ask("y" * longest(0)))
    reply = conversation.ask("z" * 200)
    assert "".join(reply) == "x" * ANSWER
    assert reply.n_dropped == 1 and conversation.n_hidden == 2 and conversation.summary is None


def test_a_large_window_keeps_no_more_than_512_tokens_for_answer_and_summary():
    session = ChatSession(
        lambda prompt: b"SUM" if "Summarize" in prompt[-400:] else b"x" * ANSWER, n_ctx=8192
    )
    conversation = Conversation(session, ChatMl(), on_full="stop")
    "".join(conversation.ask("q" * 4000))
    fits = 8192 - 512 - chatml_tokens(("user", 4000), ("assistant", ANSWER), ("user", 0))
    with pytest.raises(ContextFullError, match="512 kept for the answer"):
        conversation.ask("y" * (fits + 1))
    conversation.on_full = "summarise"
    shown: list[str] = []
    conversation.on_summary = lambda reply: shown.append("".join(reply) + session.text(session.tokens))
    "".join(conversation.ask("y" * (fits + 1)))
    assert "in at most 256 words" in shown[0]
    assert conversation.summary is not None and conversation.summary.n_messages == 2
