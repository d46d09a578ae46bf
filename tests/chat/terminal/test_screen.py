"""The screen of a chat, recorded: a scripted model in a real pseudo-terminal, in English and Chinese.

Every byte is a token, so that each character outside ASCII is split; what the terminal then shows is asked of
a small terminal of our own (terminal.py), at widths that make lines wrap.
"""

import json
import os
import re
import signal
import sys

import pexpect
import pytest
from places import HELPERS
from terminal import Screen

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*multi-threaded.*:DeprecationWarning"
)  # forkpty, Python 3.12+

TESTS = HELPERS
PROMPT = ">>>"
SENT = "\x1b[?2004l"
STATS = r"\d+ tokens(?: \(\d+ thinking\))? · first after"
FAMILY, RARE = "👩‍👩‍👧‍👦", "𠀀𪚥"


@pytest.fixture
def start(tmp_path):
    """Start the scripted chat in a terminal of `columns`."""
    started = []

    def chat(*answers: str, columns: int = 100, colour: bool = False, **told) -> pexpect.spawn:
        script = tmp_path / "script.json"
        script.write_text(json.dumps({"answers": answers, **told}), encoding="utf-8")
        data = {f"EDGELLM_{name.upper()}": str(tmp_path / name) for name in ("cache", "data")}
        plain = {"PROMPT_TOOLKIT_NO_CPR": "1", "TERM": "xterm-256color", "PYTHONUTF8": "1"}
        environment = {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | data | plain
        child = pexpect.spawn(
            sys.executable,
            [str(TESTS / "scripted_chat.py"), str(script)],
            env=environment | ({} if colour else {"NO_COLOR": "1"}),
            encoding="utf-8",
            timeout=60,
            dimensions=(40, columns),
        )
        child.delaybeforesend = None
        started.append(child)
        child.expect(PROMPT)
        return child

    yield chat
    for child in started:
        if child.isalive():
            child.kill(signal.SIGKILL)
            child.wait()
        child.close()


def shown(chat: pexpect.spawn, line: str, end: str = STATS) -> str:
    """What the program writes after a line, up to `end`."""
    chat.send(line + "\r")
    chat.expect(end)
    written = chat.before.rpartition(SENT)[2]
    chat.expect(PROMPT)
    return written


def on_screen(written: str, columns: int) -> list[str]:
    screen = Screen(columns)
    screen.write(written.replace("\r\n", "\n"))
    assert not screen.broken  # every line was ended by us, not by the terminal's edge
    return screen.lines


@pytest.mark.parametrize(
    ("answer", "columns"),
    [
        (
            f"A family {FAMILY} and rare characters {RARE} stay whole when the line ends anywhere near them.",
            24,
        ),
        (f"这是一段很长的中文回答，用来检查换行：{RARE}这些字不能被切成两半。{FAMILY}家庭也不能。", 21),
    ],
    ids=["en", "zh"],
)
def test_split_characters_arrive_whole_and_lines_break_where_they_may(start, answer, columns):
    chat = start(answer, columns=columns)
    written = shown(chat, "hi", r"\d+\s+tokens")
    assert "\ufffd" not in written
    lines = on_screen(written, columns)
    assert "".join(lines).replace(" ", "") == answer.replace(" ", "")
    assert sum(bool(line) for line in lines) > 3
    words = re.findall(r"[a-z]+", answer)
    assert all(any(re.search(rf"\b{word}\b", line) for line in lines) for word in words)
    assert not any(line.startswith(("，", "。", "：")) for line in lines)


@pytest.mark.parametrize(
    ("thought", "answer"), [("Two and three.", "Five."), ("二加三。", "五。🎉")], ids=["en", "zh"]
)
def test_thinking_is_dim_counted_hidden_and_gone_from_the_next_prompt(start, thought, answer):
    text = f"<think>\n{thought}\n</think>\n\n{answer}"
    chat = start(text, colour=True, template="</think> enable_thinking")
    n_thinking = len(f"<think>\n{thought}\n</think>".encode())
    written = shown(chat, "2 + 3?", rf"\d+ tokens \({n_thinking} thinking\) · first after")
    assert f"\x1b[2m{thought}\x1b[0m" in written
    assert written.endswith(f"{answer}\r\n\x1b[2m")
    chat.send("/set show-thinking off\r")
    chat.expect(r"\(show-thinking is off\)")
    chat.expect(PROMPT)
    written = shown(chat, "again")
    assert thought not in written
    assert answer in written
    chat.send("/set think off\r")
    chat.expect(r"\(think is off\)")
    chat.expect(PROMPT)
    chat.send("/stats\r")
    chat.expect(r"context +[█░]+ \d+ of 4,096")


def test_markdown_is_styled_and_can_be_turned_off(start):
    chat = start("# Title\n**粗体** and `code`\n```\nx = 1\n```\n", colour=True)
    written = shown(chat, "hi")
    for styled in (
        "\x1b[1mTitle\x1b[0m",
        "\x1b[1m粗体\x1b[0m",
        "\x1b[36mcode\x1b[0m",
        "\x1b[36mx = 1\x1b[0m",
    ):
        assert styled in written
    chat.send("/set markdown off\r")
    chat.expect(r"\(markdown is off\)")
    chat.expect(PROMPT)
    assert "# Title\r\n**粗体** and `code`\r\n" in shown(chat, "hi")


@pytest.mark.parametrize(("first", "second"), [("one", "eins"), ("你好", "您好")], ids=["en", "zh"])
def test_an_earlier_message_is_edited_in_the_line_and_the_old_way_kept(start, first, second):
    chat = start("A", "B", "C")
    shown(chat, first)
    shown(chat, "two")
    chat.send("/edit #1\r")
    chat.expect(f"/edit #1 {first}")
    chat.send("\x15")  # Ctrl-U
    written = shown(chat, second)
    assert "C\r\n" in written
    chat.send("/branches\r")
    chat.expect(rf"#1 +parts at #1 +2 turns +{first}")
    chat.expect(PROMPT)
    chat.send("/branches 1\r")
    chat.expect("two")
    chat.expect(PROMPT)
    chat.send("/show messages\r")
    chat.expect("#2 user")
    chat.expect(PROMPT)


def test_a_full_window_is_summed_up_on_the_screen(start):
    chat = start("好" * 30, n_ctx=1024, on_full="summarise")
    for i in range(5):
        chat.send(f"message {i} {'x' * 60}\r")
        chat.expect(STATS)
        chat.expect(PROMPT)
    chat.send("one more\r")
    chat.expect("the model sums up")
    chat.expect(r"\(end of the summary\)")
    chat.expect(STATS)
    chat.expect(PROMPT)
    chat.send("/stats\r")
    chat.expect("left out")
