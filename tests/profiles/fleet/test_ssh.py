"""Fleets over a real sshd: nodes are this machine under three names, each with a cache of its own."""

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import sshd

from edgellm.profiles.result.result import read

pytestmark = sshd.needed
SMALL = ["tiny-qwen3", "-p", "32", "-n", "8", "-r", "1", "--launches", "1", "-t", "1", "--no-roofline"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with sshd.running(tmp_path_factory.mktemp("sshd")) as command:
        yield command


@pytest.fixture
def edgellm(server, tmp_path):
    """Runs edgellm here; on the nodes it is this checkout's, under a cache of their own."""
    there = tmp_path / "node"
    here = Path(sys.executable).parent
    remote = f"EDGELLM_CACHE={shlex.quote(str(there))} EDGELLM_NO_TUNE=1 EDGELLM_NO_TRIAL=1 {here}/python -m edgellm"

    environment = {**os.environ, "EDGELLM_SSH": server}

    def run(*arguments, remote=remote, check=True, **how):
        command = [sys.executable, "-m", "edgellm", *arguments[:1], "--ssh-command", remote, *arguments[1:]]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, **how)
        assert not check or done.returncode == 0, done.stderr
        return done

    run.folder, run.node, run.remote, run.environment = tmp_path, there, remote, environment
    return run


def test_machines_are_listed_and_who_does_not_answer_is_named(edgellm):
    done = edgellm("fleet", "--ssh", "a,nowhere.invalid", "--json", check=False)
    told = json.loads(done.stdout)
    assert done.returncode == 1 and "1 of 2 machines did not answer: nowhere.invalid" in done.stderr
    assert told["a"]["memory_bytes"] == psutil.virtual_memory().total
    assert told["a"]["engines"].keys() == {"llama-cpp-python", "onnxruntime"}
    assert "resolve hostname" in told["nowhere.invalid"]["error"]
    assert "a  " in edgellm("fleet", "--ssh", "a").stdout


def test_a_plan_runs_on_each_and_one_report_joins_them(edgellm):
    done = edgellm("profile", *SMALL, "--ssh", "a,b", "--out", "all.html", "-q")
    results = [read(edgellm.folder / "fleet" / f"{name}.json") for name in "ab"]
    assert all(report.complete and report.runs[0].launches for report in results)
    assert len({report.runs[0].model.sha256 for report in results}) == 1
    assert "a (" in done.stdout and "b (" in done.stdout and "Decode" in done.stdout
    assert "<html" in (edgellm.folder / "all.html").read_text()
    refused = edgellm("profile", *SMALL, "--ssh", "a", check=False)
    assert refused.returncode == 2 and "--finish to go on" in refused.stderr
    before = (edgellm.folder / "fleet" / "a.json").read_bytes()
    edgellm("profile", *SMALL, "--ssh", "a,c", "--finish", "-q")
    assert (edgellm.folder / "fleet" / "a.json").read_bytes() == before, (
        "what is complete is not measured again"
    )
    assert read(edgellm.folder / "fleet" / "c.json").complete


def test_a_model_that_is_not_there_is_brought_once_and_what_is_damaged_is_brought_again(edgellm):
    hidden = edgellm.folder / "mine"
    hidden.mkdir()
    model = hidden / "m.gguf"
    edgellm_here = [
        sys.executable,
        "-m",
        "edgellm",
        "convert",
        "tiny-qwen3",
        "-q",
        "Q4_0",
        "-o",
        str(model),
        "--no-verify",
    ]
    subprocess.run(edgellm_here, check=True, capture_output=True)
    if os.geteuid() or subprocess.run(["unshare", "-m", "true"]).returncode:
        pytest.skip("needs a mount namespace")
    # The node has mounts of its own, in which this folder is empty: it cannot see the file at its path.
    script = f'mount -t tmpfs none {hidden} && {edgellm.remote} "$0" "$1"'
    remote = f"unshare -m sh -c {shlex.quote(script)}"
    arguments = ["profile", str(model), *SMALL[1:], "--ssh", "a", "--force"]
    first = edgellm(*arguments, remote=remote)
    assert "a: sending m.gguf" not in first.stderr, "shares are for terminals"
    (kept,) = (edgellm.node / "shipped").glob("*/m.gguf")
    assert kept.read_bytes() == model.read_bytes()
    stamp = kept.stat().st_mtime_ns
    edgellm(*arguments, "-q", remote=remote)
    assert kept.stat().st_mtime_ns == stamp, "it is there and is not brought again"
    damaged = bytearray(kept.read_bytes())
    damaged[-1] ^= 1
    kept.write_bytes(damaged)
    edgellm(*arguments, "-q", remote=remote)
    assert kept.read_bytes() == model.read_bytes()


def test_versions_and_missing_programs_are_named(edgellm):
    done = edgellm("profile", *SMALL, "--ssh", "a", remote="no-such-edgellm", check=False)
    assert done.returncode == 1 and "there is no edgellm there" in done.stderr
    other = f"{sys.executable} -c {shlex.quote(OTHER)}"
    done = edgellm("profile", *SMALL, "--ssh", "a", remote=other, check=False)
    assert done.returncode == 1 and "edgellm 9.9 is installed there and" in done.stderr


OTHER = """
import dataclasses, sys
from edgellm.profiles.fleet import facts, node
real = facts.here
facts.here = lambda models: dataclasses.replace(real(models), edgellm="9.9")
node.main(dict)
"""


@pytest.mark.parametrize("host", ["-oProxyCommand=touch x", "a b", "a;b", "user@", "a:x", "$(id)", "a,a", ""])
def test_no_host_is_taken_for_anything_else(edgellm, host):
    done = edgellm("fleet", "--ssh", host, check=False)
    assert done.returncode == 2 and "--ssh" in done.stderr
    assert not (edgellm.folder / "x").exists()


def test_what_ran_there_ends_with_the_connection(edgellm):
    command = [sys.executable, "-m", "edgellm", "profile", "--ssh-command", edgellm.remote, "tiny-qwen3"]
    long = [
        *command,
        "-p",
        "32",
        "-n",
        "200",
        "-r",
        "500",
        "--launches",
        "3",
        "--no-roofline",
        "--ssh",
        "a",
        "-q",
    ]
    asking = subprocess.Popen(long, cwd=edgellm.folder, env=edgellm.environment, stderr=subprocess.DEVNULL)
    try:
        launches = wait_for(lambda: there(edgellm, "profiles.measure.launch"))
        asking.kill()
        asking.wait()
        wait_for(lambda: not any(psutil.pid_exists(pid) for pid in launches))
        wait_for(lambda: not there(edgellm, "--on-stdin"))
    finally:
        asking.kill()


def there(edgellm, what: str) -> list[int]:
    """Processes of the nodes: those with their cache."""
    found = []
    for process in psutil.process_iter():
        try:
            ours = process.environ().get("EDGELLM_CACHE") == str(edgellm.node)
            if ours and what in " ".join(process.cmdline()):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def wait_for(found, seconds: float = 60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.1)
    raise AssertionError("it did not happen")
