"""`edgellm convert` of several checkpoints: in turn, and over a real Ray cluster of two nodes."""

import subprocess
import sys

import pytest
import tinymodels
from rack import rack

pytestmark = pytest.mark.wide  # a cluster takes many seconds to start


def convert(*arguments):
    command = [sys.executable, "-m", "edgellm", "convert", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_several_are_spread_over_nodes_with_the_bytes_of_one_machine(tmp_path):
    cases = ("llama-256", "qwen3-f32", "qwen3")
    sources = [tinymodels.write(tinymodels.CASES[case], tmp_path / case) for case in cases]
    alone = convert(*sources, "-q", "Q8_0,F16", "-o", tmp_path / "alone", "--no-verify")
    assert alone.returncode == 0, alone.stderr
    broken = tmp_path / "broken"
    broken.mkdir()
    with rack("a", "b") as cluster:
        options = ("-q", "Q8_0,F16", "-o", tmp_path / "there", "--no-verify", "--ray", cluster.address)
        done = convert(*sources, broken, *options)
    assert done.returncode == 1 and "1 of 4 sources were not converted" in done.stderr
    assert f"{broken}: " in done.stderr
    names = sorted(path.name for path in (tmp_path / "alone").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "there").iterdir()) and len(names) == 6
    for name in names:
        assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    assert done.stdout.count("a: ") + done.stdout.count("b: ") == done.stdout.count("\n")


def test_what_is_for_one_source_is_refused(tmp_path):
    for arguments in (("a", "b", "--dry-run"), ("a", "--ray", "auto", "--dry-run")):
        done = convert(*arguments)
        assert done.returncode == 2 and "are for one SRC" in done.stderr
