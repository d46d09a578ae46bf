"""`edgellm chat` and `edgellm run` as a person meets them: the real program, a real model, a pseudo-terminal."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest
from places import ROOT
from plain import EVIL

from edgellm.chat.store import Store
from edgellm.chat.terminal.text import Cleaner
from edgellm.prompt.messages import History, Message

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*multi-threaded.*:DeprecationWarning"
)  # forkpty, Python 3.12+

PROMPT, CONTINUATION = ">>>", r"\.\.\."
SENT = "\x1b[?2004l"  # prompt_toolkit gives the terminal back: what follows is the program's
STATS = r"(\d+) tokens? · first after [\d.]+ s.* · prompt (\d+) new \+ (\d+) cached · [\d.]+ MB"
ENDLESS = ("--ignore-eos", "-c", "16384", "--temp", "3")
HELLO = {"en": ("Hello!", "What is 2 + 3?"), "zh": ("你好！", "二加三等于几？")}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """The bundled tiny-qwen3 as GGUF."""
    from edgellm.convert.gguf.convert import ConvertRequest, convert
    from edgellm.models import bundled

    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    convert(ConvertRequest(bundled.path("tiny-qwen3"), "q8_0", path, n_threads=1, hash_sources=False))
    return path


@pytest.fixture
def environment(tmp_path) -> dict[str, str]:
    plain = {"NO_COLOR": "1", "PROMPT_TOOLKIT_NO_CPR": "1", "TERM": "xterm-256color", "PYTHONUTF8": "1"}
    return {**os.environ, **plain, "EDGELLM_DATA": str(tmp_path / "data"), "VISUAL": "", "EDITOR": ""}


@pytest.fixture
def start(model, environment):
    """Start `edgellm chat` in a terminal."""
    started = []

    def chat(*options: str, log: io.StringIO | None = None, **variables: str) -> pexpect.spawn:
        arguments = ["-m", "edgellm", "chat", str(model), "-t", "1", "--stats", *options]
        child = pexpect.spawn(
            sys.executable,
            arguments,
            env=environment | variables,
            encoding="utf-8",
            timeout=60,
            dimensions=(30, 160),
        )
        child.delaybeforesend, child.logfile_read = None, log
        started.append(child)
        child.expect("/\\? for help")
        child.expect(PROMPT)
        return child

    yield chat
    for child in started:
        if child.isalive():
            child.kill(signal.SIGKILL)
            child.wait()
        child.close()


def run(environment, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "edgellm", *arguments],
        env=environment,
        input=stdin,
        capture_output=True,
        timeout=60,
    )


def ask(chat: pexpect.spawn, text: str) -> tuple[str, tuple[int, ...]]:
    """Send a message; the answer as it was shown, and the counts of its line."""
    chat.send(text + "\r")
    chat.expect(STATS)
    counts = tuple(map(int, chat.match.groups()))
    answer = Cleaner().feed(chat.before.rpartition(SENT)[2].rpartition("\r\x1b[K")[2])  # behind what turned
    chat.expect(PROMPT)
    return "\n".join(line for line in answer.split("\n") if not line.startswith("(")).strip(), counts


def tell(chat: pexpect.spawn, command: str, expected: str) -> None:
    """Send a command; what it must show."""
    chat.send(command + "\r")
    chat.expect(expected)
    chat.expect(PROMPT)


def saved(environment, name: str) -> dict:
    return json.loads(
        (Path(environment["EDGELLM_DATA"]) / "chats" / f"{name}.json").read_text(encoding="utf-8")
    )


@pytest.mark.parametrize("language", HELLO)
def test_a_conversation_from_hello_to_goodbye(start, environment, tmp_path, language):
    hello, question = HELLO[language]
    chat = start("--temp", "0", "-n", "40")
    answer, (_, first, cached) = ask(chat, hello)
    assert answer
    assert cached == 0
    tell(chat, "/save 旅行 trip", "saved after every turn as 旅行 trip")
    _, (_, _, cached) = ask(chat, question)
    assert cached > first  # the first turn was not evaluated again
    assert [m["content"] for m in saved(environment, "旅行 trip")["messages"]][::2] == [hello, question]

    tell(chat, "/undo", "taken back: .*" + re.escape(question[:4]))
    assert [m["content"] for m in saved(environment, "旅行 trip")["messages"]] == [hello, answer]
    again, (_, new, _) = ask(chat, "/regen")
    assert again == answer  # at temperature 0
    assert new == 1
    tell(chat, "/clear", "kept as 旅行 trip")
    tell(chat, "/show messages", "nothing was said yet")
    tell(chat, "/load 旅行 trip", re.escape(hello))
    tell(chat, "/show messages", re.escape(answer))

    chat.sendcontrol("d")
    chat.expect(pexpect.EOF)
    chat.close()
    assert chat.exitstatus == 0


def test_commands(start, tmp_path):
    chat = start("-sys", "Answer briefly.", "-n", "30")
    tell(chat, "/?", "/regen")
    tell(chat, "/set temp 0.5", r"\(temp is 0.5\)")
    tell(chat, "/set temp hot", "temp cannot be 'hot': give a number of at least 0")
    tell(chat, "/set", "repeat-penalty")
    tell(chat, "/show", "qwen3, Q8_0")
    tell(chat, "/show template", "im_start")
    tell(chat, "/system", "Answer briefly.")
    tell(chat, "/system 请用中文回答。", "system prompt: 请用中文回答。")
    path = tmp_path / "笔记.txt"
    path.write_text("The cat is on the mat.\n", encoding="utf-8")
    tell(chat, f"/read {path}", r"笔记.txt: \d+ tokens, sent with your message")
    ask(chat, "Where is the cat?")
    tell(chat, "/show messages", "on the mat")
    tell(chat, "/stats", r"context +[█░]+ \d+ of [\d,]+ tokens")
    chat.send("/sta")
    chat.expect("/stats")  # the menu
    tell(chat, "\t", r"context +[█░]+")
    tell(chat, "/nonsense", "there is no command /nonsense")
    chat.send("exit\r")  # as /bye
    chat.expect(pexpect.EOF)


@pytest.mark.parametrize("message", ["Tell me a story.", "讲一个故事。"])
def test_ctrl_c_stops_the_answer_and_not_the_program(start, message):
    chat = start(*ENDLESS)
    chat.send(message + "\r")
    chat.expect_exact(SENT)
    chat.expect(r"\w\w")
    chat.sendintr()
    chat.expect(r"\(stopped\)")
    chat.expect(PROMPT)
    tell(chat, "/set n-predict 5", "n-predict is 5")
    chat.send("again\r")
    chat.expect("the limit of -n is reached")
    chat.expect(PROMPT)
    chat.sendintr()
    chat.expect("Ctrl-D or /bye leaves")
    chat.expect(PROMPT)
    chat.send("half a line")
    chat.sendintr()
    tell(chat, "/show", "Tiny")
    chat.sendeof()
    chat.expect(pexpect.EOF)


def test_keys_typed_during_an_answer_wait_for_the_prompt(start):
    chat = start(*ENDLESS)
    chat.send("Tell me a story.\r")
    chat.expect_exact(SENT)
    chat.expect(r"\w\w")
    chat.send("/set seed 123\r")
    chat.expect(r"\w\w")
    chat.sendintr()  # the terminal drops pending keys with it, as in a shell
    chat.expect(r"\(stopped\)")
    assert "/set" not in chat.before
    chat.expect(PROMPT)


def test_multiline_edit_and_history(start):
    chat = start("--temp", "0", "-n", "20")
    chat.send('"""first line\r')
    chat.expect(CONTINUATION)
    chat.send('第二行"""\r')
    chat.expect(STATS)
    chat.expect(PROMPT)
    tell(chat, "/show messages", "first line\r\n第二行")
    chat.send('"""unfinished\r')
    chat.expect(CONTINUATION)
    chat.sendeof()
    chat.expect("was not sent")
    chat.expect(PROMPT)
    chat.send("hello\x1b\rworld\r")  # Alt-Enter between
    chat.expect(STATS)
    chat.expect(PROMPT)
    tell(chat, "/show messages", "hello\r\nworld")
    ask(chat, "Hello")
    chat.send("/edit\r")
    chat.expect("/edit #3 Hello")
    chat.send(" there\r")
    chat.expect(STATS)
    chat.expect(PROMPT)
    tell(chat, "/show messages", "Hello there\r\n")
    chat.send("\x1b[A\x1b[A")  # Up: the messages before
    chat.expect("Hello there")


def test_a_seed_repeats_a_conversation(start, environment):
    def talk(seed: str) -> list[str]:
        chat = start("--seed", seed, "--temp", "2", "-n", "12", "--ignore-eos", "--no-save")
        return [ask(chat, "Tell me a story.")[0], ask(chat, "/regen")[0]]

    first, again, other = talk("7"), talk("7"), talk("8")
    assert first == again
    assert first[0] != first[1]
    assert first[1] == other[0]  # /regen drew with seed + 1
    assert not (Path(environment["EDGELLM_DATA"]) / "chats").exists()


@pytest.mark.parametrize("state", [True, False], ids=["state", "text"])
def test_killed_and_continued(start, environment, state):
    options = ("--temp", "0", "-n", "30", *(["--save-state"] if state else []))
    chat = start(*options)
    ask(chat, "My name is Tom.")
    expected, _ = ask(chat, "What is my name?")
    tell(chat, "/undo", "taken back")
    chat.send("/set n-predict none\rWhat is my name?")
    chat.kill(9)
    chat.expect(pexpect.EOF)
    again = start("--continue", *options)
    tell(again, "/show messages", "My name is Tom.")
    answer, (_, new, _) = ask(again, "What is my name?")
    assert answer == expected
    assert (new < 20) is state  # else the earlier turn was replayed


def test_a_dumb_terminal_and_its_resizing(start):
    chat = start("-n", "20", TERM="dumb")
    chat.setwinsize(10, 20)
    chat.send("Hello!\r")
    chat.expect(r"[\d.]+\s+MB")
    assert "\x1b" not in chat.before
    assert max(map(len, chat.before.splitlines()[-4:])) <= 20  # notices fit the new width
    chat.expect(PROMPT)
    chat.sendeof()
    chat.expect(pexpect.EOF)


def test_chat_is_a_filter_in_a_pipe(model, environment):
    lines = '你好！\n\n"""two\nlines"""\nbad \udcff byte\n/stats\n'.encode("utf-8", "surrogateescape")
    done = run(environment, "chat", str(model), "--temp", "0", "-n", "20", "-t", "1", stdin=lines)
    assert done.returncode == 0
    assert len(done.stdout.decode().splitlines()) >= 3
    assert "tok/s" not in done.stdout.decode()
    assert "tok/s" in done.stderr.decode()
    (name,) = (path.stem for path in (Path(environment["EDGELLM_DATA"]) / "chats").iterdir())
    assert [m["content"] for m in saved(environment, name)["messages"]][::2] == [
        "你好！",
        "two\nlines",
        "bad � byte",
    ]
    wrong = run(environment, "chat", str(model), "-t", "1", stdin=b"/load nothing\n")
    assert wrong.returncode == 2
    assert b"no conversation 'nothing'" in wrong.stderr


def test_a_hostile_conversation_commands_no_terminal(start, environment):
    store = Store(Path(environment["EDGELLM_DATA"]) / "chats")
    said = (Message("user", EVIL), Message("assistant", EVIL, "stop"))
    store.rename(store.write(store.new(EVIL, "x"), History(said, EVIL)), "trip")
    log = io.StringIO()
    chat = start("--resume", "trip", log=log)
    for command in ("/load", "/show system", "/show messages", "/system", "/undo"):
        tell(chat, command, "img src")
    for evil in ("\x1b[2J", "\x1b]0;", "\x07", "\x9b"):
        assert evil not in log.getvalue()
    assert r"\u001b[2J" in log.getvalue()


def test_run_streams_text_or_gives_json(model, environment):
    common = (str(model), "--temp", "0.9", "--seed", "5", "-n", "20", "-t", "1")
    text = run(environment, "run", *common, "--stats", "-p", "Hello!")
    again = run(environment, "run", *common, "--json", stdin=b"Hello!")
    assert text.returncode == again.returncode == 0
    result = json.loads(again.stdout)
    assert result["text"] == text.stdout.decode().removesuffix("\n")
    assert (result["seed"], result["truncated"]) == (5, False)
    assert result["finish_reason"] in ("stop", "length")
    assert result["usage"]["n_generated"] > 0
    assert re.search(STATS, text.stderr.decode())


def test_text_that_is_not_utf8_and_terminals_that_are_not(model, environment):
    latin = environment | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    bad = "caf\udce9"  # how Python hands over the Latin-1 byte
    done = run(latin, "run", str(model), bad, "-sys", bad, "--stop", bad, "-n", "10", "-t", "1", "--raw")
    assert b"no place for a system prompt" in done.stderr
    done = run(latin, "run", str(model), bad, "-sys", bad, "--stop", bad, "-n", "10", "-t", "1")
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert (done.stdout + done.stderr).isascii()


def test_a_reader_that_goes_away_ends_the_program_quietly(model, environment):
    command = f"{sys.executable} -m edgellm run {model} hello --ignore-eos -t 1 -n 3000 -c 4096 | head -c 1"
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, timeout=60)
    assert len(done.stdout) == 1
    assert b"Traceback" not in done.stderr
    assert b"BrokenPipe" not in done.stderr


def test_ctrl_c_ends_run_with_what_there_is(model, environment):
    command = [sys.executable, "-m", "edgellm", "run", str(model), "hello", *ENDLESS, "-t", "1", "--stats"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout.read(1)
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=60)
    assert child.returncode == 130
    assert re.search(STATS, errors.decode())
    assert "Traceback" not in errors.decode()


def test_run_raw_continues_the_text_and_both_inputs_are_one_prompt(model, environment):
    raw = run(environment, "run", str(model), "Once", "--raw", "--json", "-n", "5", "-t", "1", stdin=b"upon")
    usage = json.loads(raw.stdout)["usage"]
    assert usage["n_prompt"] < 10
    assert usage["n_generated"] <= 5


def test_bad_requests_are_one_line_and_exit_2(model, environment):
    for arguments, stdin, fact in (
        ((str(model),), b"", "nothing to answer"),
        ((str(model), "x", "-p", "y"), b"", "given twice"),
        ((str(model), "x", "--raw", "-sys", "y"), b"", "no place for a system prompt"),
        ((str(model), "-c", "256"), b"word " * 2000, "the window of 256 takes at most 224"),
        ((str(model), "x", "--temp", "nan"), b"", "temp cannot be 'nan'"),
    ):
        done = run(environment, "run", *arguments, stdin=stdin)
        assert done.returncode == 2
        assert fact in done.stderr.decode()
        assert done.stdout == b""
        assert "Traceback" not in done.stderr.decode()


def test_the_python_of_the_docs_runs(model, environment):
    docs = (ROOT / "docs" / "chat.md").read_text(encoding="utf-8")
    *_, code = re.findall(r"```python\n(.*?)```", docs, re.DOTALL)
    code = code.replace("model.gguf", str(model))
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    assert b"Usage(n_prompt=" in done.stdout


def test_an_answer_that_is_not_whole_is_said(model, environment):
    schema = '{"type": "string", "minLength": 60}'
    done = run(
        environment, "chat", str(model), "-t", "1", "-n", "4", "--json-schema", schema, stdin=b"Hello!\n"
    )
    assert b"the answer is cut: 4 tokens were too few" in done.stderr + done.stdout
