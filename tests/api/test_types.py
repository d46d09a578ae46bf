"""The API is typed: mypy finds the mistakes planted in a user's program, all of them and nothing else."""

import os
import re
import subprocess
import sys

import pytest
from places import ROOT

PROGRAM = ROOT / "tests" / "api" / "typed_program.py"


@pytest.mark.wide
def test_mypy_reports_the_planted_mistakes_and_no_other(tmp_path):
    pytest.importorskip("mypy")
    planted = {
        (number, code)
        for number, line in enumerate(PROGRAM.read_text(encoding="utf-8").splitlines(), 1)
        if "# wrong: " in line
        for code in line.split("# wrong: ")[1].split(", ")
    }
    assert len(planted) > 15
    copy = tmp_path / "program.py"  # outside the project, whose settings a user does not have
    copy.write_text(PROGRAM.read_text(encoding="utf-8"), encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--hide-error-context", "--no-pretty"]
    command += ["--cache-dir", str(ROOT / ".mypy_cache" / "program"), "--config-file", "", str(copy)]
    run = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env=dict(os.environ, MYPYPATH="")
    )
    found = re.findall(r"^(\S+?):(\d+): error: .*\[([\w-]+)\]$", run.stdout, re.MULTILINE)
    assert {name for name, _, _ in found} == {copy.name}, run.stdout + run.stderr
    assert {(int(number), code) for _, number, code in found} == planted, run.stdout
