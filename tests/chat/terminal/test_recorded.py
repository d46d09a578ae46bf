"""A recorded session of what a person meets in the chat, in a pseudo-terminal: the bundled model, and a script.

One process serves several tests where they do not disturb each other.
"""

import json
import os
import re
import signal
import sys
from pathlib import Path

import pexpect
import pytest
from places import HELPERS
from terminal import Screen

from edgellm.chat.terminal.text import Cleaner

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*multi-threaded.*:DeprecationWarning"
)  # forkpty, Python 3.12+

PASTE = "\x1b[200~", "\x1b[201~"
LINES = "".join(f"line {i} of a long text\n" for i in range(40))
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 2, "b": 40}}\n</tool_call>'
SERVER = f"{sys.executable} {HELPERS / 'mcp_server.py'}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("recorded")


@pytest.fixture(scope="module")
def spawn(folder):
    started = []

    def start(*arguments: str, columns: int = 100, **variables: str) -> pexpect.spawn:
        plain = {"NO_COLOR": "1", "PROMPT_TOOLKIT_NO_CPR": "1", "TERM": "xterm-256color", "PYTHONUTF8": "1"}
        environment = os.environ | plain | {"EDGELLM_DATA": str(folder / "data")} | variables
        child = pexpect.spawn(
            sys.executable,
            [*arguments],
            env={name: value for name, value in environment.items() if value},
            encoding="utf-8",
            timeout=30,
            dimensions=(40, columns),
        )
        child.delaybeforesend = None
        started.append(child)
        return child

    yield start
    for child in started:
        if child.isalive():
            child.kill(signal.SIGKILL)
            child.wait()
        child.close()


@pytest.fixture(scope="module")
def chat(spawn):
    child = spawn("-m", "edgellm", "chat", "tiny-qwen3", "-t", "1", "-n", "16", "--temp", "0")
    child.expect(">>>")
    return child


@pytest.fixture(scope="module")
def scripted(spawn, folder):
    def start(
        *answers: str, columns: int = 100, NO_COLOR: str = "1", LC_ALL: str = "", **told: object
    ) -> pexpect.spawn:
        script = folder / "script.json"
        script.write_text(json.dumps({"answers": answers, **told}), encoding="utf-8")
        child = spawn(
            str(HELPERS / "scripted_chat.py"), str(script), columns=columns, NO_COLOR=NO_COLOR, LC_ALL=LC_ALL
        )
        child.expect(">>>")
        return child

    return start


def tell(chat: pexpect.spawn, line: str, *expected: str) -> str:
    """Type a line; what must be shown, in order, and all that was."""
    chat.send(line + "\r")
    shown = ""
    for text in (*expected, ">>>"):
        chat.expect(text)
        shown += chat.before + chat.after
    return shown


def names(folder: Path) -> set[str]:
    return {path.stem for path in (folder / "data" / "chats").glob("*.json")}


def test_the_line_after_an_answer_is_short_and_stats_has_the_rest(chat, folder):
    shown = tell(chat, "What is the capital of France?", r"\d tok/s · \d+% full")
    assert "first after" not in shown
    tell(chat, "/stats", r"context +[█░]+", r"first after", r"prompt \d+ new \+ \d+ cached", "memory")
    assert "what-is-the-capital-of-france" in names(folder)  # it is called by what was asked first


def test_the_window_and_the_model_change_inside(chat):
    tell(chat, "/set ctx 512", r"\(ctx is 512\)")
    tell(chat, "/set ctx 9m", "ctx cannot be '9m'")
    tell(chat, "/model no-such-model", "no-such-model")
    tell(chat, "/model tiny-llama3", r"Tiny Llama3 · Q8_0 · 512 tokens")
    tell(chat, "And of Japan?", "% full")
    tell(chat, "/show messages", "Japan")


def test_a_long_paste_is_a_few_words_on_the_screen_and_all_of_it_in_the_message(chat):
    tell(chat, "/set ctx 2k", "ctx is 2,048")
    chat.send(f"Sum up {PASTE[0]}{LINES}{PASTE[1]}")
    chat.expect(r"Sum up \[40 lines pasted #1\]")
    shown = tell(chat, " please", "% full")
    assert "line 7 of" not in shown
    tell(chat, "/show messages", "line 0 of a long text", r"line 39 of a long text\s+please")
    chat.send(f"{PASTE[0]}{LINES}{PASTE[1]}\x7fgone")
    chat.expect("gone")
    chat.sendintr()  # the line is dropped
    tell(chat, "/undo", r"taken back: Sum up line 0")


def test_files_are_sent_by_their_path_and_other_kinds_are_refused_by_name(chat, folder):
    (folder / "notes 1.txt").write_text("The cat is on the mat.\n", encoding="utf-8")
    (folder / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    tell(chat, "/clear", "a new conversation")
    tell(chat, f"What is in '{folder}/notes 1.txt'?", r"notes 1.txt: \d+ tokens, sent", "% full")
    tell(chat, "/show messages", "The cat is on the mat", r"What is in notes 1.txt\?")
    tell(chat, f"Look at @{folder}/photo.png", "photo.png is a PNG file: only text can be sent")
    tell(chat, f"What is {folder} for?", "% full")


def test_conversations_are_picked_from_a_numbered_list(chat, spawn, folder):
    tell(chat, "/load", r"1  what-is-in", "2  what-is-the-capital-of-france")
    tell(chat, "/load 2", r"what-is-the-capital-of-france: \d turns")
    again = spawn("-m", "edgellm", "chat", "--resume", "-t", "1", "-n", "16")
    again.expect("1  what-is")
    again.expect("number or name")
    again.send("9\r")
    again.expect("there are 2")
    again.expect("number or name")
    again.send("2\r")
    again.expect(r"(what-is-\S+): \d turns? with tiny-")
    again.expect(">>>")
    again.send("quit\r")
    again.expect(pexpect.EOF)


def test_after_a_crash_the_next_message_is_answered_with_the_lost_one(spawn, folder):
    path = folder / "crash" / "chats" / "lost.json"
    path.parent.mkdir(parents=True)
    said = [{"role": "user", "content": "What is the capital of Japan?"}]
    now = "2026-01-01T00:00:00+00:00"
    told = {"format": "edgellm-chat/1", "name": "lost", "model": "tiny-qwen3", "created": now, "updated": now}
    path.write_text(json.dumps(told | {"system": None, "messages": said}), encoding="utf-8")
    data = {"EDGELLM_DATA": str(folder / "crash")}
    child = spawn(
        "-m", "edgellm", "chat", "--continue", "-p", "And of France?", "-st", "-t", "1", "-n", "9", **data
    )
    child.expect("had no answer yet")
    child.expect("% full")
    child.expect(pexpect.EOF)
    messages = json.loads(path.read_text(encoding="utf-8"))["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant"]
    assert messages[0]["content"] == "What is the capital of Japan?\n\nAnd of France?"


def test_the_chat_speaks_chinese_where_the_locale_does(scripted):
    chat = scripted("你好！", LC_ALL="zh_CN.UTF-8")
    tell(chat, "/help", "显示本帮助", "停止回答")
    tell(chat, "/set temp 0", "（temp 为 0）")
    tell(chat, "hello", "窗口已用")


def test_tools_of_a_file_and_of_a_server_run_when_they_are_allowed(scripted, folder):
    (folder / "mine.py").write_text(
        'def shout(text: str) -> str:\n    """Shout."""\n    return text.upper()\n'
    )
    shout = '<tool_call>\n{"name": "shout", "arguments": {"text": "hey"}}\n</tool_call>'
    chat = scripted(
        CALL, "It is 42.", CALL, "Very well.", shout, "Done.", shout, "Again.",
        template="<tool_call> tools", tools=[str(folder / "mine.py")], mcp=[SERVER],
    )  # fmt: skip
    chat.send("2 + 40?\r")
    chat.expect_exact('(calls add {"a": 2, "b": 40})')
    chat.expect_exact("run add? [y]es, [N]o, [a]lways:")
    chat.send("y\r")
    chat.expect("→ 42")
    chat.expect("It is 42")
    chat.expect(">>>")
    chat.send("again\r")
    chat.expect("run add")
    chat.send("\r")
    chat.expect("not run; the model is told so")
    chat.expect(">>>")
    chat.send("shout\r")
    chat.expect("run shout")
    chat.send("a\r")
    chat.expect("→ HEY")
    chat.expect(">>>")
    shown = tell(chat, "once more", "→ HEY", "Again")
    assert "run shout" not in shown
    tell(chat, "/show messages", "did not allow this call")
    chat.send("/bye\r")
    chat.expect(pexpect.EOF)


def test_lists_hang_and_code_is_coloured_as_its_lines_end(scripted):
    text = (
        "- a point that is longer than one line of so narrow a terminal\n"
        "```python\ndef double(x):\n    return 'x' * 2  # twice\n```\n"
    )
    chat = scripted(text, columns=40, NO_COLOR="")
    chat.send("go\r")
    chat.expect("tokens ·")
    written = chat.before.rpartition("\x1b[?2004l")[2]
    screen = Screen(40)
    screen.write(re.sub(r"\r\n|.*\r\x1b\[K", lambda found: "\n" if found[0] == "\r\n" else "", written))
    assert not screen.broken
    lines = [line.rstrip() for line in screen.lines]
    assert lines[0].startswith("- a point") and lines[1].startswith("  ")
    assert "    return 'x' * 2  # twice" in lines
    assert "\x1b[35mdef\x1b[0m" in written and "\x1b[32m'x'\x1b[0m" in written
    assert "double(x)" in Cleaner().feed(written)
