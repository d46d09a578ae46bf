"""Nothing leaves the machine and nothing is kept of its user: looked at from outside, by strace."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

#: Libraries that send something home, or bring one that does.
TALKERS = ("huggingface_hub", "onnxruntime", "onnxruntime_genai", "optimum", "transformers")
HOME = "edgellm/privacy.py"

strace = pytest.mark.skipif(
    sys.platform != "linux" or not shutil.which("strace"),
    reason="needs Linux and strace (apt install strace)",
)


def sources() -> list[Path]:
    folders = ("edgellm", "convert", "models", "profiles", "bench", "tests")
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert len(found) > 200
    return found


def imported(node: ast.AST) -> set[str]:
    """Top-level packages that a statement imports, by any of the three ways to say it."""
    names: list[str] = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        names = [node.module or ""]
    elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in (
        "import_module",
        "__import__",
        "importorskip",
    ):
        names = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
    return {name.split(".")[0] for name in names}


def imports_without_switch(path: Path) -> list[str]:
    """Imports of TALKERS that no call of `refuse_telemetry` in the same function goes before."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    scopes = [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    wrong = []
    for node in ast.walk(tree):
        for name in imported(node) & set(TALKERS):
            around = [s for s in scopes if s.lineno <= node.lineno <= (s.end_lineno or 0)] or [tree]
            calls = [
                call.lineno
                for scope in around
                for call in ast.walk(scope)
                if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("refuse_telemetry")
            ]
            if not any(line < node.lineno for line in calls):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} imports {name}")
    return wrong


def test_no_library_that_talks_is_imported_before_its_switch():
    tests = ROOT / "tests"  # their conftest throws the switches for all of them
    wrong = [line for path in sources() if tests not in path.parents for line in imports_without_switch(path)]
    assert not wrong


def test_one_line_of_the_package_imports_onnxruntime():
    found = [
        str(path.relative_to(ROOT))
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if "onnxruntime" in imported(node)
    ]
    assert found == [HOME]


def test_the_switch_holds_against_the_users_environment_and_reaches_children():
    code = (
        "import subprocess, sys; from edgellm import privacy; privacy.refuse_telemetry()\n"
        'child = \'import os; print(os.environ["ORT_DISABLE_TELEMETRY"], os.environ["HF_HUB_DISABLE_TELEMETRY"])\'\n'
        "subprocess.run([sys.executable, '-c', child], check=True)"
    )
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "0", "HF_HUB_DISABLE_TELEMETRY": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["1", "1"], done.stderr


def traced(command: list[str], home: Path) -> tuple[list[str], list[Path]]:
    """Run as a stranger would, in a home of its own: what went out of the machine, and files that are not ours."""
    switches = ("ORT_", "HF_", "CI", "DO_NOT_TRACK", "DISABLE_TELEMETRY", "XDG_", "EDGELLM_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(switches)}
    environment |= {"HOME": str(home)}
    log = home.parent / "strace.txt"
    calls = "trace=socket,connect,sendto,sendmsg,sendmmsg"
    done = subprocess.run(
        ["strace", "-f", "-qq", "-e", calls, "-o", log, *command],
        env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if "ptrace" in done.stderr and not log.exists():
        pytest.skip(f"strace may not trace here: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    outward = re.compile(r"\b(socket\(AF_INET|connect\(.*AF_INET|send\w+\(.*AF_INET)")
    lines = [line for line in log.read_text(errors="replace").splitlines() if outward.search(line)]
    ours = home / ".cache" / "edgellm"
    return lines, [p for p in home.rglob("*") if p.is_file() and ours not in p.parents]


@pytest.fixture
def home(tmp_path):
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@strace
@pytest.mark.parametrize("model", ["tiny-qwen3:onnx-int4", "tiny-qwen3"])
def test_a_run_contacts_nobody_and_leaves_only_our_cache(home, model):
    """ONNX Runtime 1.32 writes its device id and event queue at its first session, however short."""
    command = [sys.executable, "-m", "edgellm", "run", model, "hi", "-n", "3"]
    assert traced(command, home) == ([], [])


@strace
@pytest.mark.slow
def test_a_run_of_half_a_minute_contacts_nobody(home):
    """Left on, the first look-up of its host comes about nine seconds after the first session."""
    code = (
        "import time, edgellm\n"
        "with edgellm.load('tiny-qwen3:onnx-int4') as model:\n"
        "    until = time.monotonic() + 27\n"
        "    while time.monotonic() < until: model.complete('hi', max_tokens=16); time.sleep(0.2)\n"
    )
    assert traced([sys.executable, "-c", code], home) == ([], [])


@strace
def test_a_server_contacts_nobody_but_its_clients(home):
    """Asked over loopback, by every engine; then ended."""
    code = (
        "import http.client, json, re, signal, subprocess, sys\n"
        "models = ['tiny-qwen3', 'tiny-qwen3:onnx-int8']\n"
        "serve = [sys.executable, '-m', 'edgellm', 'serve', '--port', '0', '-c', '256', '-t', '1', *models]\n"
        "child = subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)\n"
        "port = int(re.search(rb'http://127.0.0.1:([0-9]+)', child.stdout.readline())[1])\n"
        "for model in models:\n"
        "    connection = http.client.HTTPConnection('127.0.0.1', port)\n"
        "    body = json.dumps({'model': model, 'prompt': 'hi', 'max_tokens': 3})\n"
        "    connection.request('POST', '/v1/completions', body, {'content-type': 'application/json'})\n"
        "    response = connection.getresponse()\n"
        "    assert response.status == 200, response.read()\n"
        "child.send_signal(signal.SIGTERM)\n"
        "sys.exit(child.wait())\n"
    )
    outward, files = traced([sys.executable, "-c", code], home)
    sent = [line for line in outward if "socket(AF_INET" not in line]
    assert any("connect(" in line for line in sent)  # ours, which shows that the trace sees them
    assert not [line for line in sent if 'inet_addr("127.0.0.1")' not in line] and not files
