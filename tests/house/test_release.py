"""A release is what `make dist` makes, on whatever machine; what is said of it in three places agrees."""

import re
import subprocess

import yaml
from places import ROOT

from edgellm.bundle import engine

WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def test_the_workflow_runs_what_can_be_run_here():
    steps = [step["run"] for job in WORKFLOW["jobs"].values() for step in job["steps"] if "run" in step]
    made = [step for step in steps if step.startswith("make")]
    assert made == ["make dist", "make docs"]
    targets = subprocess.run(
        ["make", "-n", "-o", ".venv/.ready", "dist"], cwd=ROOT, capture_output=True, text=True
    )
    assert "bench/dist.py x86-laptop-avx2" in targets.stdout, targets.stderr


def test_its_devices_give_one_wheel_for_each_architecture():
    names = WORKFLOW["jobs"]["dist"]["env"]["DEVICES"].split()
    targets = [engine.target(name) for name in names]
    assert len({target.arch for target in targets}) == len(targets) == 2


def test_the_engine_is_one_version():
    (made,) = re.findall(r"^ENGINE := (\S+)$", MAKEFILE, re.MULTILINE)
    assert made == engine.VERSION
