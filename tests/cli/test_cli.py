"""The command line as a whole: every command has help, errors are one line, exit codes are those promised."""

import json
import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from edgellm import __version__, cli
from edgellm.profiles.result.settings import Workload
from edgellm.profiles.study.plan import Grid
from edgellm.session import GREEDY


def edgellm(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgellm", *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        **options,
    )


COMMANDS = cli.cli.list_commands(None)


def test_version():
    assert edgellm("--version").stdout == f"edgellm, version {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name):
    command = cli.cli.get_command(None, name)
    assert command is not None and command.help and command.get_short_help_str(200)
    undocumented = [p.name for p in command.params if isinstance(p, click.Option) and not p.help]
    assert not undocumented


def test_an_unknown_command_is_usage():
    run = edgellm("fly")
    assert run.returncode == 2
    assert "No such command 'fly'" in run.stderr


def test_more_threads_than_processors_are_fewer_and_said():
    most = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    for asked, said in (("100000", 1), ("1", 0)):
        stderr = CliRunner().invoke(cli.cli, ["convert", "nosuchmodel", "-t", asked]).stderr
        line = f"edgellm: 100,000 threads reduced to {most}: there are no more processors\n"
        assert stderr.count(line) == stderr.count("reduced") == said


def test_what_is_measured_unasked_is_greedy_decoding():
    """However a workload comes about: by the command, a plan, or the API."""
    command = cli.cli.get_command(None, "profile")
    assert command is not None
    asked = {p.name: p for p in command.params}["temperature"]
    assert "0 is greedy" in asked.help and "[default: 0.0]" in asked.help
    assert Workload().temperature == Grid.temperature == GREEDY.temperature == 0


def test_doctor_speaks_of_engines_and_energy():
    run = edgellm("doctor", "--json")
    assert run.returncode == 0, run.stderr
    findings = {(f["section"], f["name"]): f["value"] for f in json.loads(run.stdout)}
    assert "agree" in findings["llama.cpp", "canary"]
    assert "onnxruntime" in findings["ONNX Runtime", "library"]
    assert any(section == "energy" for section, _ in findings)


def test_errors_are_one_line_without_traceback(tmp_path):
    run = edgellm("run", str(tmp_path / "nothing.gguf"), "hello")
    assert run.returncode == 1
    assert run.stderr.startswith("edgellm: ") and run.stderr.count("\n") == 1
    assert "nothing.gguf" in run.stderr
