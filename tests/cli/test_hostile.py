"""Text that came from outside, on every way to a terminal: shown, and no more than shown.

The authority is what the program wrote, byte by byte, held against Unicode's tables (plain.py).
"""

import dataclasses
import json
from pathlib import Path

import hostile_gguf
import profile_samples as samples
import pytest
import tinymodels
from plain import EVIL, NAME, check, edgellm, in_terminal

from edgellm.chat.store import Store
from edgellm.convert.gguf.writer import encode
from edgellm.errors import StorageError
from edgellm.profiles.result.caveats import Caveat
from edgellm.profiles.result.result import to_json
from edgellm.prompt.messages import History, Message
from edgellm.prompt.tools import ToolCall

FORMATS = ("table", "json", "jsonl", "csv", "md", "html")
SHOWN = r"\u001b[2J"  # what EVIL's escape sequence becomes


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> hostile_gguf.RawFile:
    return hostile_gguf.take_apart(hostile_gguf.good_file(tmp_path_factory.mktemp("good")))


@pytest.fixture
def places(tmp_path, monkeypatch) -> dict[str, str]:
    found = {f"EDGELLM_{name}": str(tmp_path / name.lower()) for name in ("CACHE", "DATA")}
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    return found


def write(path: Path, raw: hostile_gguf.RawFile) -> Path:
    path.write_bytes(raw.bytes())
    return path


def evil_tokens(raw: hostile_gguf.RawFile) -> hostile_gguf.RawFile:
    """Every token of the vocabulary, those that stop included, with EVIL after it."""
    tokens = [f"{i}{EVIL}" for i in range(320)]
    return raw.with_key("tokenizer.ggml.tokens", encode("arr[str]", tokens))


KEYS = (
    "general.name",
    "general.license",
    "tokenizer.ggml.pre",
    "tokenizer.ggml.model",
    "tokenizer.chat_template",
    "qwen3.rope.scaling.type",
    "edgellm.source",
    f"edgellm.{EVIL}",
)


class TestGguf:
    @pytest.mark.parametrize("key", KEYS)
    def test_metadata(self, good, tmp_path, places, key):
        path = write(tmp_path / "x.gguf", good.with_key(key, encode("str", EVIL)))
        for arguments in (("inspect", path), ("inspect", path, "--json")):
            code, shown = in_terminal(arguments, places)
            assert SHOWN in check(shown) and code in (0, 1)
        assert json.loads(edgellm("inspect", path, "--json").stdout)["path"] == str(path)

    @pytest.mark.parametrize("key", ["general.architecture", "general.file_type"])
    def test_metadata_that_is_refused(self, good, tmp_path, places, key):
        path = write(tmp_path / "x.gguf", good.with_key(key, encode("str", EVIL)))
        for command in ("inspect", "doctor", "embed"):
            check(in_terminal((command, path, "hello")[: 3 if command == "embed" else 2], places)[1])

    def test_tokens_and_tensors(self, good, tmp_path, places):
        path = write(tmp_path / "x.gguf", evil_tokens(good).with_tensor(0, name=EVIL.encode()))
        code, shown = in_terminal(("inspect", path, "--tensors"), places)
        assert check(shown).count(SHOWN) >= 2 and code == 0
        for arguments in (("run", path, "hello"), ("doctor", path)):
            check(in_terminal(arguments, places)[1])

    def test_a_model_of_a_hostile_name_speaks(self, good, tmp_path, places):
        path = write(tmp_path / "x.gguf", good.with_key("general.name", encode("str", EVIL)))
        common = (path, "-n", "2", "-t", "1")
        code, shown = in_terminal(("run", *common, "-p", "hello"), places)
        assert code == 0
        check(shown)
        code, shown = in_terminal(("chat", *common, "-p", "hello", "-st"), places)
        assert code == 0
        check(shown)
        for arguments in (
            ("tune", path, "--show"),
            ("eval", path, *["--chunks", "1", "-c", "32", "-t", "1"]),
        ):
            assert SHOWN in check(in_terminal(arguments, places)[1])
        assert json.loads(edgellm("run", *common, "-p", "hello", "--json").stdout)["model"].startswith(
            "a\x1b"
        )

    def test_a_template_that_raises(self, good, tmp_path, places):
        template = "{{ raise_exception('" + EVIL.replace("\n", "\\n") + "') }}"
        path = write(tmp_path / "x.gguf", good.with_key("tokenizer.chat_template", encode("str", template)))
        done = edgellm("run", path, "hello", env=places)
        assert SHOWN in check(done.stderr) and done.returncode != 0
        assert done.stderr.count(b"\n") == 1


def hostile_result() -> str:
    run = samples.run(f"={EVIL}")
    run = dataclasses.replace(run, model=dataclasses.replace(run.model, quantization=EVIL))
    report = samples.report(
        run,
        samples.run("@SUM(A1)"),
        caveats=(Caveat("foreign-load", EVIL, {"share": 0.4, "count": 2, "n": 4}),),
    )
    return to_json(
        dataclasses.replace(report, machine=dataclasses.replace(report.machine, cpu_model=EVIL, os=EVIL))
    )


class TestResults:
    @pytest.mark.parametrize("form", FORMATS)
    def test_reports(self, tmp_path, places, form):
        path = tmp_path / "r.json"
        path.write_text(hostile_result(), encoding="utf-8")
        code, shown = in_terminal(("report", path, "-o", form), places)
        assert code == 0
        text = check(shown, document=form == "html")
        if form == "md":
            assert "<img" not in text
            rows = [line for line in text.splitlines() if line.startswith("| ")]
            cells = {line.replace("\\\\", "").replace("\\|", "").count("|") for line in rows}
            assert len(cells) == 1  # no name added a cell
        out = tmp_path / f"out.{form}"
        assert edgellm("report", path, "-o", form, "--out", out, env=places).returncode == 0
        if form in ("table", "md", "csv"):
            check(out.read_bytes())
        if form == "csv":
            assert b"'=a" in out.read_bytes() and b"'@SUM" in out.read_bytes()

    @pytest.mark.parametrize("form", ["table", "md", "json", "html"])
    def test_comparisons(self, tmp_path, places, form):
        for name in "ab":
            (tmp_path / f"{name}.json").write_text(hostile_result(), encoding="utf-8")
        code, shown = in_terminal(("compare", tmp_path / "a.json", tmp_path / "b.json", "-o", form), places)
        assert code == 0, shown
        check(shown, document=form == "html")
        code, shown = in_terminal(("report", tmp_path / "a.json", tmp_path / "b.json", "-o", form), places)
        check(shown, document=form == "html")

    @pytest.mark.wide
    @pytest.mark.parametrize(
        "text", ["[" * 200_000, json.dumps({"schema": EVIL}), "\x1b[2J", '"\\ud800"', "{}", "\udce9"]
    )
    def test_what_is_no_result(self, tmp_path, places, text):
        path = tmp_path / f"r{EVIL.replace('/', '')}.json"
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        for arguments in (
            ("report", path),
            ("compare", path, path),
            ("profile", "--resume", path),
            ("energy", "import", path, path),
        ):
            done = edgellm(*arguments, env=places)
            assert done.returncode in (1, 2)
            check(done.stderr)


class TestChats:
    def test_what_was_saved(self, places, good, tmp_path):
        store = Store()
        said = (
            Message("user", EVIL),
            Message("assistant", "", "tool_calls", thinking=EVIL, calls=(ToolCall(EVIL, {EVIL: 1}, "c"),)),
            Message("tool", EVIL, call_id="c"),
            Message("assistant", EVIL, "stop", False, 5),
        )
        saved = store.rename(store.write(store.new(EVIL, "x"), History(said, EVIL)), "trip")
        for arguments in (
            ("chats",),
            ("chats", "show", "trip"),
            ("chats", "export", "trip", "-f", "openai"),
            ("chats", "list", "--json"),
        ):
            code, shown = in_terminal(arguments, places)
            assert code == 0
            assert SHOWN in check(shown, document=True)  # what was said in two lines is two lines
        assert json.loads(edgellm("chats", "export", "trip", "-f", "json").stdout)["system"] == EVIL
        assert saved.model == EVIL

    def test_what_is_no_conversation(self, places):
        store = Store()
        saved = store.write(store.new("m", "x"), History((Message("user", "hi"),)))
        path = store.path(saved.name)
        data = json.loads(path.read_text(encoding="utf-8"))
        for key, value in (
            ("updated", 5),
            ("model", None),
            ("created", []),
            ("system", 3),
            ("messages", EVIL),
            ("format", EVIL),
        ):
            path.write_text(json.dumps(data | {key: value}), encoding="utf-8")
            assert store.all() == []
            with pytest.raises(StorageError, match="not a saved conversation"):
                store.load(saved.name)
        done = edgellm("chats", "show", saved.name)
        assert done.returncode == 1 and "format" in check(done.stderr)

    def test_a_long_first_message_does_not_hold_up_the_list(self, places):
        store = Store()
        store.write(store.new("m", "x"), History((Message("user", "中 \u0301" * 300_000),)))
        code, shown = in_terminal(("chats",), places)
        assert code == 0 and "…" in check(shown)


@pytest.mark.wide
class TestNames:
    def test_files_that_are_there(self, good, tmp_path, places):
        path = write(tmp_path / f"{NAME}.gguf", good)
        for arguments in (
            ("inspect", path),
            ("inspect", path, "--json"),
            ("run", path, "hello", "-n", "1", "-t", "1"),
            ("run", path, "hello", "-n", "1", "-t", "1", "--json"),
            ("chat", path, "-p", "hello", "-st", "-n", "1", "-t", "1"),
            ("chats",),
            ("chats", "list", "--json"),
            ("doctor", path),
            ("doctor", path, "--json"),
            ("tune", path, "--show"),
            ("embed", path, "hello"),
            ("embed", path, "hello", "--npy", tmp_path / f"{NAME}.npy"),
            ("convert", path, "-q", "q8_0", "-o", tmp_path / f"{NAME}-q8.gguf", "--no-verify"),
            ("calibrate", path, "--chunks", "1", "-c", "32", "-t", "1", "-o", tmp_path / f"{NAME}.imatrix"),
            ("eval", path, "--chunks", "1", "-c", "32", "-t", "1"),
        ):
            code, shown = in_terminal(arguments, places)
            assert code == 0, check(shown)
            check(shown)

    def test_files_that_are_not(self, tmp_path, places):
        path = tmp_path / NAME
        for arguments in (
            ("inspect", path),
            ("run", path, "hello"),
            ("chat", path),
            ("doctor", path),
            ("convert", path),
            ("report", path),
            ("compare", path, path),
            ("profile", path),
            ("profile", "--plan", path),
            ("profile", "--resume", path),
            ("eval", path),
            ("embed", path, "x"),
            ("tune", path),
            ("calibrate", path),
            ("rm", path),
            ("parity", path),
            ("chats", "show", path),
            ("chat", "--resume", path),
            ("energy", "import", path, path),
            (path,),
            ("run", "tiny-qwen3", "x", "--grammar", path),
            ("run", "tiny-qwen3", "x", "--json-schema", path),
            ("run", "tiny-qwen3", "x", "--draft", path),
        ):
            code, shown = in_terminal(arguments, places)
            assert code in (1, 2), (arguments, shown)
            assert check(shown).count("\n") <= 4  # click's lines about usage are three

    def test_a_checkpoint_is_kept_listed_and_deleted(self, tmp_path, places):
        folder = tinymodels.write(tinymodels.CASES["qwen3"], tmp_path / NAME)
        for arguments in (
            ("inspect", folder),
            ("convert", folder, "-q", "f16", "--dry-run"),
            ("convert", folder, "-q", "onnx-int8", "--dry-run"),
            ("run", folder, "hello", "-n", "1", "-t", "1"),
            ("chat", f"{folder}:onnx-int8", "-p", "hello", "-st", "-n", "1", "-t", "1", "--save-state"),
            ("list",),
            ("list", "--json"),
            ("cache",),
            ("rm", "--all"),
        ):
            code, shown = in_terminal(arguments, places)
            assert code == 0, check(shown)
            check(shown)

    def test_a_profile(self, good, tmp_path, places):
        path, out = write(tmp_path / f"{NAME}.gguf", good), tmp_path / f"{NAME}.json"
        done = edgellm(
            "profile",
            path,
            "-p",
            "8",
            "-n",
            "2",
            "-r",
            "1",
            "--launches",
            "1",
            "--energy",
            "none",
            "--no-roofline",
            "--out",
            out,
            env=places,
        )
        assert done.returncode == 0, check(done.stderr)
        check(done.stdout)
        for form in FORMATS:
            done = edgellm("report", out, "-o", form, env=places)
            assert done.returncode == 0, check(done.stderr)
            if form in ("table", "md", "csv"):
                check(done.stdout)
