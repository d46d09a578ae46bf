"""The chat's newer commands and options: earlier turns, branches, thinking, summaries, one turn, joules."""

import pytest
from chat_fakes import ChatMl, ChatSession, Terminal, Typist

from edgellm.chat.conversation import Conversation
from edgellm.chat.store import Store
from edgellm.chat.talk.repl import Repl
from edgellm.chat.talk.talk import EnergySwitch
from edgellm.chat.terminal.render import Screen


@pytest.fixture
def chat(tmp_path, monkeypatch):
    """Type lines at a model; the loop afterwards, its screen's text in `.shown`."""
    for name in ("cache", "data"):
        monkeypatch.setenv(f"EDGELLM_{name.upper()}", str(tmp_path / name))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")

    def run(*lines, session=None, template=None, first=None, repl_options=None, **options) -> Repl:
        conversation = Conversation(session or ChatSession(b"ok"), template or ChatMl(), **options)
        repl = Repl(conversation, Typist(*lines), Screen(Terminal()), "fake", Store(), **(repl_options or {}))
        repl.begin()
        repl.run(first)
        repl.shown = repl.screen.out.getvalue()
        return repl

    return run


def said(repl: Repl) -> list[str]:
    return [message.content for message in repl.conversation.messages]


def test_an_earlier_message_is_edited_and_the_old_way_found_again(chat):
    session = ChatSession(b"A", b"B", b"C")
    repl = chat("one", "two", "/edit #1 eins", "/branches", "/branches 1", "/show messages", session=session)
    assert "(what followed before is kept: /branches)" in repl.shown
    assert "#1  parts at #1  2 turns  one" in repl.shown
    assert said(repl) == ["one", "A", "two", "B"]
    assert "#2 user\ntwo\n" in repl.shown
    (saved,) = Store().all()
    assert saved.history == repl.conversation.history
    assert [[m.content for m in branch] for branch in saved.history.branches] == [["eins", "C"]]


def test_the_editor_line_holds_the_old_message(chat):
    repl = chat("one", "two", "/edit #1", "eins")
    assert repl.reader.defaults[-2:] == ["one", ""]
    assert said(repl) == ["eins", "ok"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("/edit #3 x", "there is no message #3"),
        ("/branches x", "there is no branch x; /branches lists them by number"),
        ("/branches 1", "there is no branch 1; /branches lists them by number"),
        ("/branches", "there is one way only"),
        ("/set think maybe", "think cannot be 'maybe': give one of on, off, auto"),
        ("/set energy on", "energy cannot be measured here"),
    ],
)
def test_what_cannot_be_is_said(chat, line, told):
    repl = chat("one", line)
    assert told in repl.shown
    assert said(repl) == ["one", "ok"]


def test_a_new_answer_keeps_the_old_one_as_a_branch(chat):
    repl = chat("one", "/regen", session=ChatSession(b"A", b"B"))
    assert said(repl) == ["one", "B"]
    assert [m.content for m in repl.conversation.branches[0]] == ["one", "A"]


class Thinker(ChatMl):
    source = "</think>"


def test_thinking_is_shown_counted_and_can_be_hidden(chat):
    answer = b"<think>\nHm.\n</think>\n\nYes."
    repl = chat(
        "/set stats all",
        "one",
        "/set show-thinking off",
        "two",
        session=ChatSession(answer),
        template=Thinker(),
    )
    assert "(thinking)\nHm.\n(done thinking)\n\nYes.\n" in repl.shown
    assert repl.shown.count("Hm.") == 1
    n = len("<think>\nHm.\n</think>")
    assert f" tokens ({n} thinking) · first after" in repl.shown


def test_a_summary_is_shown_as_it_is_written(chat):
    session = ChatSession(
        lambda prompt: b"SUMMARY" if "Summarize" in prompt[-400:] else b"x" * 40, n_ctx=1024
    )
    lines = [f"message {i}" for i in range(16)]
    repl = chat(*lines, "/show messages", session=session, on_full="summarise")
    assert "the model sums up the" in repl.shown
    assert "\nSUMMARY\n(end of the summary)\n" in repl.shown
    assert "summary of the" in repl.shown
    assert Store().all()[0].history.summary.text == "SUMMARY"


def test_ctrl_c_stops_a_summary_and_the_message_is_not_sent(chat):
    class Interrupting(ChatSession):
        def stream(self, tokens, sampling, **kwargs):
            prompt = self.text([*self.tokens, *tokens])
            self.interrupt_before = 2 if "Summarize" in prompt[-400:] else None
            return super().stream(tokens, sampling, **kwargs)

    session = Interrupting(lambda prompt: b"x" * 40, n_ctx=1024)
    repl = chat(*(f"message {i}" for i in range(16)), session=session, on_full="summarise")
    assert "the summary was stopped and the message not sent" in repl.shown
    assert len(said(repl)) % 2 == 0


def test_one_turn_and_a_first_message(chat):
    repl = chat("two", "three", first="one", repl_options={"single_turn": True})
    assert said(repl) == ["one", "ok"]
    assert said(chat("one", "two", repl_options={"single_turn": True})) == ["one", "ok"]
    assert said(chat("two", first="/one")) == ["/one", "ok", "two", "ok"]


class Meter:
    name = "fake"

    def __init__(self):
        self.values = [1.5, None]

    def start(self) -> None:
        self.started = True

    def stop(self) -> float | None:
        return self.values.pop(0)


def test_joules_are_shown_where_they_are_measured(chat):
    options = {"energy": EnergySwitch(Meter)}
    said_ = ("/set stats all", "none", "/set energy on", "one", "two", "/set energy off", "three")
    repl = chat(*said_, repl_options=options)
    assert "1.50 J (fake) · 1% full" in repl.shown
    assert repl.shown.count("not measured, too short (fake)") == 1
    assert repl.shown.count("(fake)") == 2
