"""Every command on streams that are closed, full, of another encoding, or a terminal that knows nothing.

No traceback, one line, the exit code that was promised; the authority is what bash and the kernel hand back.
"""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import hostile_gguf
import profile_samples as samples
import pytest
from plain import check, edgellm, in_terminal

from edgellm import cli
from edgellm.profiles.result.result import to_json

#: command -> a line that ends well; `{m}` is a model, `{r}` a result.
COMMANDS = {
    "batch": "batch --help",
    "bundle": "bundle --help",
    "cache": "cache",
    "calibrate": "calibrate {m} --chunks 1 -c 32 -t 1 -o {r}.gguf --force",
    "chat": "chat {m} -p 你好 -st -n 3 -t 1",
    "chats": "chats",
    "fleet": "fleet",
    "recommend": "recommend --help",
    "compare": "compare {r} {r2} --lang zh",
    "convert": "convert tiny-qwen3 -q q8_0 --dry-run",
    "doctor": "doctor",
    "embed": "embed {m} 你好",
    "energy": "energy --help",
    "eval": "eval {m} --chunks 1 -t 1",
    "explain": "explain {m} -f {text} -t 1",
    "fit": "fit --record",
    "inspect": "inspect tiny-qwen3",
    "list": "list",
    "parity": "parity --help",
    "profile": "profile --help",
    "pull": "pull --help",
    "recipe": "recipe list",
    "rerank": "rerank --help",
    "report": "report {r} --lang zh",
    "rm": "rm --help",
    "rpc-serve": "rpc-serve --help",
    "serve": "serve --help",
    "run": "run {m} 你好 -n 3 -t 1",
    "tune": "tune {m} --show",
    "wheel": "wheel --help",
}


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> dict[str, str]:
    """Folders of our own, a model and two results."""
    folder = tmp_path_factory.mktemp("places")
    found = {f"EDGELLM_{name}": str(folder / name.lower()) for name in ("CACHE", "DATA")}
    for name in ("r", "r2"):
        (folder / name).with_suffix(".json").write_text(to_json(samples.report()), encoding="utf-8")
    model = hostile_gguf.good_file(folder)
    (folder / "text.txt").write_text("the 你好", encoding="utf-8")
    found |= {"text": str(folder / "text.txt")}
    return found | {"m": str(model), "r": str(folder / "r.json"), "r2": str(folder / "r2.json")}


def line(name: str, places: dict[str, str]) -> list[str]:
    return shlex.split(COMMANDS[name].format(**places))


def test_every_command_is_here():
    assert set(COMMANDS) == set(cli.cli.list_commands(None))


@pytest.mark.parametrize("name", COMMANDS)
def test_terminals_that_know_ascii_only(places, name):
    poor = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii", "TERM": "dumb"}
    code, shown = in_terminal(line(name, places), places | poor)
    assert code == 0, shown
    assert check(shown).isascii() or "--help" in COMMANDS[name]  # click writes its help in UTF-8 even so


def test_json_is_json_in_every_encoding(places):
    for encoding in ("ascii", "gbk"):
        done = edgellm(
            "run",
            places["m"],
            "你好 😀",
            "--json",
            *["-n", "3", "-t", "1"],
            env=places | {"PYTHONIOENCODING": encoding},
        )
        assert json.loads(done.stdout.decode(encoding))["text"]


def bash(command: str, places: dict[str, str]) -> subprocess.CompletedProcess:
    """`edgellm` and what follows as a shell runs it."""
    line = f"{shlex.quote(sys.executable)} -m edgellm {command.format(**places)}"
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        ["bash", "-c", line], env=clean | places, capture_output=True, stdin=subprocess.DEVNULL
    )


NAMES = ("chat", "compare", "convert", "doctor", "eval", "inspect", "list", "report", "run")


@pytest.mark.parametrize("name", NAMES)
def test_output_that_cannot_be_written(places, name):
    command = shlex.join(line(name, places))
    for where, why in ((">&-", "Bad file descriptor"), (">/dev/full", "No space left on device")):
        if "full" in where and not Path("/dev/full").exists():
            continue
        done = bash(f"{command} {where}", places)
        last = check(done.stderr).splitlines()[-1]
        assert (done.returncode, last) == (1, f"edgellm: standard output: {why}")


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("list", 0),
        (COMMANDS["run"], 0),
        (COMMANDS["chat"], 0),
        ("run nothing x", 1),
        ("run --wat", 2),
        ("--help", 0),
    ],
)
def test_errors_that_nobody_hears_change_no_exit_code(places, command, code):
    ways = ["2>&-", "2>/dev/full"] if Path("/dev/full").exists() else ["2>&-"]
    for where in ways:
        assert bash(f"{command} {where}", places).returncode == code


def test_input_that_is_closed_is_empty(places):
    done = bash("run {m} <&-", places)
    assert done.returncode == 2 and "nothing to answer" in check(done.stderr)
    assert bash("chat {m} <&-", places).returncode == 0


def test_a_file_opened_while_output_is_closed_stays_as_it_is(places, tmp_path):
    """Its descriptor is not that of standard output: what is printed does not get into it."""
    out = tmp_path / "m.gguf"
    assert bash(f"convert tiny-qwen3 -q f16 -o {shlex.quote(str(out))} >&- 2>&-", places).returncode == 1
    assert edgellm("inspect", out, env=places).returncode == 0
    assert out.read_bytes()[:4] == b"GGUF"


def test_help_on_output_that_is_full(places):
    if Path("/dev/full").exists():
        done = bash("--help >/dev/full", places)
        assert (done.returncode, done.stderr) == (1, b"edgellm: standard output: No space left on device\n")


def test_progress_in_a_terminal_leaves_nothing_behind(places, tmp_path):
    common = {"TERM": "xterm", "COLUMNS": "40"}
    arguments = ("convert", "tiny-qwen3", "-q", "f16", "-o", tmp_path / "m.gguf")
    code, shown = in_terminal(arguments, places | common)
    assert code == 0
    first, *drawn = shown.decode().split("\r\x1b[K")
    assert first == "" and len(drawn) > 2
    assert all(len(text) < 40 and "\n" not in text for text in drawn[:-1])
    assert drawn[-1].startswith(str(tmp_path))
