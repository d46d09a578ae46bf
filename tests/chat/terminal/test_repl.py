"""The chat loop and its commands, with a scripted model and scripted keys."""

import dataclasses
import io
import re
import signal

import pytest
from chat_fakes import ChatMl, ChatSession, Terminal, Typist

from edgellm.chat.conversation import Conversation
from edgellm.chat.store import Store
from edgellm.chat.talk import commands
from edgellm.chat.talk.repl import Repl
from edgellm.chat.terminal.reader import LineReader
from edgellm.chat.terminal.render import Screen
from edgellm.errors import EngineError


@pytest.fixture
def store(tmp_path, monkeypatch) -> Store:
    for name in ("cache", "data"):
        monkeypatch.setenv(f"EDGELLM_{name.upper()}", str(tmp_path / name))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "300")
    return Store()


@pytest.fixture
def chat(store):
    """Type lines at a model; returns the loop afterwards, its screen's text in `.shown`."""

    def run(*lines, session: ChatSession | None = None, interactive: bool = True, **options) -> Repl:
        conversation = Conversation(session or ChatSession(b"ok"), ChatMl(), **options)
        repl = Repl(conversation, Typist(*lines, interactive=interactive), Screen(Terminal()), "fake", store)
        repl.begin()
        repl.code = repl.run()
        repl.shown = repl.screen.out.getvalue()
        return repl

    return run


def said(repl: Repl) -> list[str]:
    return [message.content for message in repl.conversation.messages]


def test_a_turn_shows_the_answer_and_what_it_took(chat):
    repl = chat("hello", "/set stats all", "hello", session=ChatSession("你好！🎉".encode()))
    assert "你好！🎉\n" in repl.shown
    short, long = re.findall(r".*tok/s.*", repl.shown)
    assert re.fullmatch(r"[\d.]+ tok/s · \d+% full", short)
    assert "first after" in long and " MB" in long
    assert repl.code == 0


def test_nothing_happens_on_an_empty_line(chat):
    repl = chat("", "   ")
    assert said(repl) == []


@pytest.mark.parametrize("leave", ["/bye", "/exit", "/quit"])
def test_leaving(chat, leave):
    assert said(chat("one", leave, "two")) == ["one", "ok"]


def test_ctrl_c_at_the_prompt_leaves_nothing_but_a_hint(chat):
    repl = chat("one", KeyboardInterrupt, "two")
    assert said(repl) == ["one", "ok", "two", "ok"]
    assert "Ctrl-D" in repl.shown


@pytest.mark.parametrize("before_token", [0, 3])
def test_ctrl_c_stops_the_answer_and_not_the_program(chat, before_token):
    session = ChatSession(b"a long answer", b"next")
    session.interrupt_before = before_token
    repl = chat("one", "two", session=session)
    assert "(stopped" in repl.shown
    assert said(repl)[-2:] == ["two", "next"]
    assert len(said(repl)) == (2 if before_token == 0 else 4)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_while_a_word_is_shown_ends_the_answer_there(store):
    class Interrupted(Terminal):
        pressed = False

        def write(self, text: str) -> int:
            if "g" in text and not self.pressed:
                self.pressed = True
                raise KeyboardInterrupt
            return super().write(text)

    session = ChatSession(b"a long answer\n\n" * 20)
    repl = Repl(Conversation(session, ChatMl()), Typist("one"), Screen(Interrupted()), "fake", store)
    repl.begin()
    repl.run()
    assert len(session.tokens) < 100, "the rest is not written for nobody"


def test_ctrl_c_ends_a_filter(chat):
    session = ChatSession(b"a long answer")
    session.interrupt_before = 3
    with pytest.raises(KeyboardInterrupt):
        chat("one", "two", session=session, interactive=False)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (('"""first', "", '  second"""'), "first\n\n  second"),
        (('"""one line"""',), "one line"),
        (('"""', "/bye", '"""'), "/bye"),
        (('"""', "你好", "世界", '"""'), "你好\n世界"),
    ],
)
def test_multiline(chat, lines, message):
    repl = chat(*lines)
    assert said(repl) == [message, "ok"]
    assert repl.reader.prompts[1 : len(lines)] == ["... "] * (len(lines) - 1)


def test_the_end_within_a_multiline_message(chat):
    watched = chat('"""never', "finished", EOFError, "next")
    assert "not sent" in watched.shown
    assert said(watched) == ["next", "ok"]
    assert said(chat('"""no closing', "quotes", interactive=False)) == ["no closing\nquotes", "ok"]


def test_ctrl_c_within_a_multiline_message_drops_it(chat):
    assert said(chat('"""never', KeyboardInterrupt, "next")) == ["next", "ok"]


def test_messages_that_look_like_commands(chat):
    assert said(chat("//set is a command", "/usr/bin is a folder")) == [
        "/set is a command", "ok", "/usr/bin is a folder", "ok",
    ]  # fmt: skip


def test_an_unknown_command_names_the_nearest(chat):
    repl = chat("/sav x", "/xyzzy")
    assert "did you mean /save?" in repl.shown
    assert "/? lists them" in repl.shown
    assert said(repl) == []


def test_help_lists_every_command_in_the_width_of_the_terminal(chat, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    shown = chat("/?").shown
    assert all(name in shown for command in commands.COMMANDS for name in command.names)
    assert max(map(len, shown.splitlines()[1:])) < 60


@pytest.mark.parametrize("command", commands.COMMANDS, ids=lambda command: command.names[0])
@pytest.mark.parametrize("arg", ["", "x", "中文", "-f", "/", "'"])
def test_no_command_breaks_the_loop(chat, command, arg):
    chat("hello", *(f"{name} {arg}" for name in command.names), "bye")


def test_set_changes_and_shows(chat):
    repl = chat(
        "/set temp 0.25", "/set parameter seed 7", "/set", "/set temp", "/set temp hot", "/set nothing 1"
    )
    sampling = repl.conversation.options.sampling
    assert (sampling.temperature, sampling.seed) == (0.25, 7)
    assert repl.shown.count("(temp is 0.25)") == 2
    assert "temp cannot be 'hot': give a number of at least 0" in repl.shown
    assert "no setting nothing" in repl.shown


def test_set_reaches_the_next_answer(chat):
    session = ChatSession(b"0123456789")
    repl = chat("/set n-predict 4", "hello", session=session)
    assert said(repl)[-1] == "0123"
    assert "the limit of -n is reached" in repl.shown


def test_stats_can_be_switched_off_and_asked_for(chat):
    repl = chat(
        "/set stats off", "hello", "/set stats sometimes", "/stats", session=ChatSession(b"ok", n_ctx=4096)
    )
    assert repl.shown.count("tok/s") == 2  # both from /stats
    assert "stats cannot be 'sometimes': give one of short, all, off" in repl.shown
    assert "of 4,096 tokens" in repl.shown


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("", "scripted"),
        ("model", "1"),
        ("settings", "temp"),
        ("system", "SYS"),
        ("template", "(none)"),
        ("messages", "hi"),
    ],
)
def test_show(chat, topic, expected):
    assert expected in chat("hi", f"/show {topic}", system="SYS").shown


def test_show_an_unknown_topic(chat):
    assert "there are: model, settings, system, template, messages" in chat("/show weather").shown


def test_the_system_prompt_can_be_seen_changed_and_removed(chat):
    session = ChatSession(b"ok")
    repl = chat("/system", "/system Speak 中文.", "hi", "/system -", "hi", session=session, system="old")
    assert "(system prompt: old)" in repl.shown
    assert "(system prompt: Speak 中文.)" in repl.shown
    assert "system\nSpeak 中文.<|im_end|>" in session.text(session.evaluated[0])
    assert "system" not in session.text(session.tokens)


def test_everything_said_is_on_disk_as_it_happens(chat, store):
    def look(prompt: str) -> bytes:
        (saved,) = store.all()
        assert saved.messages[-1].content == "question"  # there before the answer
        return b"answer"

    repl = chat("question", session=ChatSession(look), system="S")
    (saved,) = store.all()
    assert [m.content for m in saved.messages] == said(repl) == ["question", "answer"]
    assert saved.system == "S"


def test_a_state_that_cannot_be_taken_up_is_said_and_the_text_read_again(chat, store):
    chat("first", "/save plan")
    store.state_path("plan").write_bytes(b"no state of ours")
    repl = chat("/load plan", "second")
    assert "(the text is read again: " in repl.shown and said(repl) == ["first", "ok", "second", "ok"]


def test_save_names_load_goes_on_clear_starts_anew(chat, store):
    chat("first", "/save 旅行", "second")
    assert [saved.name for saved in store.all()] == ["旅行"]
    repl = chat("other", "/load", "/load 旅行", "third", "/clear", "fresh")
    assert "4 turns" not in repl.shown
    assert "2 turns" in repl.shown
    assert said(repl) == ["fresh", "ok"]
    assert len(store.load("旅行").messages) == 6
    assert len(store.all()) == 3


def test_another_program_on_the_same_conversation_is_said(chat, store):
    def meddle(prompt: str) -> bytes:
        other = Store()
        (saved,) = other.all()
        other.write(other.load(saved.name), dataclasses.replace(saved.history, system="theirs"))
        return b"ok"

    assert "another program has written" in chat("one", session=ChatSession(meddle)).shown
    assert {saved.system for saved in store.all()} == {"theirs", None}


def test_save_never_clobbers_without_being_told(chat, store):
    chat("first", "/save plan")
    repl = chat("other", "/save plan")
    assert "already" in repl.shown
    assert store.load("plan").messages[0].content == "first"
    chat("third", "/save -f plan")
    assert store.load("plan").messages[0].content == "third"


def test_nothing_is_kept_unless_asked(chat, store):
    session = ChatSession(b"ok")
    repl = Repl(
        Conversation(session, ChatMl()), Typist("secret", "/save"), Screen(Terminal()), "fake", store=None
    )
    repl.begin()
    repl.run()
    assert store.all() == []
    assert "nothing is being saved" in repl.screen.out.getvalue()


def test_a_full_disk_is_said_and_the_chat_goes_on(chat, store, monkeypatch):
    def full(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edgellm.files.write_text", full)
    repl = chat("one", "two")
    assert "not saved" in repl.shown
    assert said(repl) == ["one", "ok", "two", "ok"]


def test_resuming_shows_where_it_stood_and_what_is_owed(chat, store):
    def crash(prompt: str) -> bytes:
        raise SystemExit  # as kill -9 would: the question is on disk, the answer is not

    with pytest.raises(SystemExit):
        chat("one", "two", session=ChatSession(b"A", crash))
    repl = Repl(
        Conversation(ChatSession(b"B"), ChatMl()), Typist("/regen"), Screen(Terminal()), "fake", store
    )
    repl.begin(store.newest())
    repl.run()
    assert said(repl) == ["one", "A", "two", "B"]
    assert "no answer yet; /regen answers it" in repl.screen.out.getvalue()


def test_regen_edit_undo(chat):
    session = ChatSession(b"A", b"B", b"C", b"D")
    repl = chat("one", "/regen", "two", "/edit zwei", "/undo", session=session)
    assert said(repl) == ["one", "B"]
    assert "(taken back: zwei)" in repl.shown


def test_edit_offers_the_last_message(chat):
    repl = chat("one", "/edit", "eins")
    assert repl.reader.defaults[2] == "one"
    assert said(repl) == ["eins", "ok"]
    assert said(chat("one", "/edit", KeyboardInterrupt)) == ["one", "ok"]
    assert "/edit TEXT" in chat("one", "/edit", interactive=False).shown


def test_regen_at_temperature_zero_says_that_nothing_will_change(chat):
    assert "temp is 0" in chat("/set temp 0", "one", "/regen").shown


def test_read_sends_a_file_with_the_next_message(chat, tmp_path):
    path = tmp_path / "笔记 1.txt"
    path.write_text("第一行\n```\ncode\n```\n", encoding="utf-8")
    repl = chat(f"/read {path}", "What is it?", "more")
    assert said(repl)[0] == "笔记 1.txt:\n````\n第一行\n```\ncode\n```\n````\n\nWhat is it?"
    assert said(repl)[2] == "more"
    assert repl.reader.prompts[1] == "[笔记 1.txt] >>> "


def test_read_refuses_in_one_line(chat, tmp_path):
    (tmp_path / "binary").write_bytes(b"ab\xff")
    (tmp_path / "long").write_text("x" * 5000)
    (tmp_path / "huge").touch()
    with (tmp_path / "huge").open("r+") as file:
        file.truncate(9 << 20)
    names = ("binary", "long", "huge", "missing", ".")
    shown = chat(*(f"/read {tmp_path}/{name}" for name in names), "/read").shown
    for fact in ("is not UTF-8 text (byte 2)", "5,000 tokens; the window holds 4,096", "at most 8.39 MB are read",
                 "No such file", "Is a directory", "/read needs a file"):  # fmt: skip
        assert fact in shown


def test_a_message_too_long_is_one_line_with_numbers_and_remedy_and_keeps_its_file(chat, tmp_path):
    path = tmp_path / "f.txt"
    path.write_text("x" * 200)
    repl = chat(f"/read {path}", "y" * 100, "short", session=ChatSession(b"ok", n_ctx=256))
    assert (
        "takes at most 224 and an answer: shorten it, or take a larger n_ctx (this model: up to 4,096)"
        in repl.shown
    )
    assert repl.attachments
    assert said(repl) == []


def test_dropping_is_said_and_the_meter_shows(chat):
    repl = chat(*(f"message {i}" for i in range(9)), "/stats", session=ChatSession(b"x" * 30, n_ctx=256))
    assert "the model no longer sees the" in repl.shown
    assert "% full" in repl.shown
    assert "left out" in repl.shown
    assert len(said(repl)) == 18


def test_on_full_can_be_switched_to_stop(chat):
    repl = chat(
        "/set on-full stop", *(f"message {i}" for i in range(9)), session=ChatSession(b"x" * 30, n_ctx=256)
    )
    assert "the window is full" in repl.shown
    assert repl.conversation.n_hidden == 0


def test_an_engine_error_is_one_line_and_the_chat_goes_on(chat):
    def fail(prompt: str) -> bytes:
        raise EngineError("the engine is gone; see: edgellm doctor")

    repl = chat("one", "two", session=ChatSession(fail, b"back"))
    assert "the engine is gone" in repl.shown
    assert said(repl) == ["two", "back"]


def test_escape_sequences_of_the_model_never_reach_the_terminal(chat, monkeypatch):
    repl = chat("hi", "/show messages", session=ChatSession(b"\x1b]0;owned\x07\x1b[31mred\x1b[0m"))
    assert "\x1b" not in repl.shown
    assert "red" in repl.shown


def test_a_filter_gives_one_answer_for_each_line_and_its_last_error_as_exit_code(store):
    out, notes = io.StringIO(), io.StringIO()
    reader = LineReader(io.TextIOWrapper(io.BytesIO("一\n\nbad \xff\n".encode("latin-1", "replace"))))
    session = ChatSession(b"1", b"2")
    repl = Repl(Conversation(session, ChatMl()), reader, Screen(out, notes), "fake", store, stats="off")
    repl.begin()
    assert repl.run() == 0
    assert out.getvalue() == "1\n2\n"
    assert said(repl)[2] == "bad �"
    repl = Repl(
        Conversation(session, ChatMl()), Typist("/xyzzy", interactive=False), Screen(out, notes), "m", store
    )
    assert repl.run() == 2
    assert "xyzzy" in notes.getvalue()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("/s", {"/set", "/show", "/system", "/save", "/stats"}), ("/set te", {"temp"}),
     ("/set on-full ", {"drop", "stop", "summarise"}),
     ("/show s", {"settings", "system"}), ("/load pl", {"plan"}), ("hello /s", set()), ("/xyzzy ", set())],
)  # fmt: skip
def test_completion(chat, text, expected):
    assert set(chat("one", "/save plan").complete(text)) == expected


def test_completion_of_paths(chat, tmp_path, monkeypatch):
    (tmp_path / "notes 一.txt").touch()
    (tmp_path / "nested").mkdir()
    monkeypatch.chdir(tmp_path)
    repl = chat()
    assert repl.complete("/read n") == ["nested/", "notes 一.txt"]
    assert repl.complete(f"/read {tmp_path}/note") == [f"{tmp_path}/notes 一.txt"]
    assert repl.complete("/read nowhere/x") == []
