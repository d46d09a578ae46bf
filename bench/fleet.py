"""A fleet of three nodes on this machine, reached over a real sshd, of which two are held back: its joined report.

    python bench/fleet.py [--out build/fleet] [--models tiny-qwen3,tiny-llama3] [--shares 2,1,0.4]

Node a, b and c are this machine under three names, each in a CPU cgroup with so many processors' time (root, cgroup v1
or v2). They run the plan one after the other, for together they would measure one another: a fleet of real boards
runs at the same time. Then quality, once, and the page, `OUT/fleet.html`. Ends with one line of JSON: decode speed by
node, and each node's share of the first one's beside its share of processor time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))

import sshd

from edgellm.profiles.result.result import read

NODES = "abc"
PERIOD = 100_000  # microseconds
V1, V2 = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")


@contextlib.contextmanager
def held_back(shares: dict[str, float]) -> Iterator[str]:
    """A cgroup for each node with its processors' time; the command that joins its own, by $NODE."""
    old = V1.is_dir()
    root, tasks = (V1, "tasks") if old else (V2, "cgroup.procs")
    made = []
    for name, share in shares.items():
        group = root / f"edgellm-{name}"
        group.mkdir()
        made.append(group)
        quota = int(share * PERIOD)
        if old:
            (group / "cpu.cfs_period_us").write_text(str(PERIOD))
            (group / "cpu.cfs_quota_us").write_text(str(quota))
        else:
            (group / "cpu.max").write_text(f"{quota} {PERIOD}")
    try:
        yield f"echo $$ > {root}/edgellm-$NODE/{tasks} && exec"
    finally:
        for group in made:
            group.rmdir()


def main(argv: list[str] | None = None) -> int:
    """Make the fleet and its report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("build/fleet"))
    parser.add_argument("--models", default="tiny-qwen3,tiny-llama3")
    parser.add_argument("--shares", default="2,1,0.4")
    given = parser.parse_args(argv)
    shares = dict(zip(NODES, map(float, given.shares.split(",")), strict=True))
    plan = ["-p", "128", "-n", "64", "-r", "3", "--launches", "3", "-t", "2"]
    with (
        tempfile.TemporaryDirectory() as folder,
        sshd.running(Path(folder)) as ssh,
        held_back(shares) as join,
    ):
        remote = f"{join} env EDGELLM_CACHE={folder}/$NODE {shlex.quote(sys.executable)} -m edgellm"
        for last in range(1, len(NODES) + 1):
            command = [sys.executable, "-m", "edgellm", "profile", *given.models.split(","), *plan]
            command += ["--ssh", ",".join(NODES[:last]), "--ssh-command", remote, "--into", str(given.out)]
            command += [
                "--finish" if last > 1 else "--force",
                "--out",
                str(given.out / "fleet.html"),
                "--force",
            ]
            command += ["--quality"] * (last == len(NODES))
            given.out.mkdir(parents=True, exist_ok=True)
            subprocess.run(
                command, env=os.environ | {"EDGELLM_SSH": ssh}, check=True, stdout=subprocess.DEVNULL
            )
    speeds = {}
    for name in NODES:
        (run, *_) = read(given.out / f"{name}.json").runs
        summary = run.summary("decode_tokens_per_second")
        speeds[name] = summary.median if summary else 0.0
    over = {name: speed / speeds["a"] for name, speed in speeds.items()}
    print(json.dumps({"decode_tokens_per_second": speeds, "over_a": over, "processors": shares}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
