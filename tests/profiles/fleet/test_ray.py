"""Fleets over a real Ray cluster: each node an actor that has all of its processors."""

import json
import os
import subprocess
import sys

import pytest
from rack import rack

from edgellm.profiles.result.result import read

pytestmark = pytest.mark.wide  # a cluster takes many seconds to start

SMALL = ["tiny-qwen3", "-p", "32", "-n", "8", "-r", "1", "--launches", "1", "-t", "1", "--no-roofline"]


@pytest.fixture(scope="module")
def cluster():
    with rack("a", "b") as made:
        yield made


def edgellm(folder, *arguments, check=True):
    command = [sys.executable, "-m", "edgellm", *arguments]
    done = subprocess.run(command, cwd=folder, env=os.environ, capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stderr
    return done


def test_nodes_are_listed_by_their_names(cluster, tmp_path):
    told = json.loads(edgellm(tmp_path, "fleet", "--ray", cluster.address, "--json").stdout)
    assert told.keys() == {"a", "b"} and told["a"]["engines"]


def test_a_plan_runs_on_each_and_rays_own_processes_are_a_caveat(cluster, tmp_path):
    done = edgellm(tmp_path, "profile", *SMALL, "--ray", cluster.address, "--out", "all.html", "-q")
    for name in "ab":
        report = read(tmp_path / "fleet" / f"{name}.json")
        (caveat,) = (each for each in report.caveats if each.code == "ray")
        assert report.complete and caveat.values["count"] >= 3 and caveat.values["megabytes"] > 50
    assert "a (" in done.stdout and "b (" in done.stdout
    assert "Ray ran beside it" in (tmp_path / "all.html").read_text()


def test_what_is_no_cluster_is_said_at_once(tmp_path):
    for address, said in (
        ("127.0.0.1:1", "there is no Ray cluster at"),
        ("here", "is neither auto nor an address"),
    ):
        done = edgellm(tmp_path, "fleet", "--ray", address, check=False)
        assert done.returncode in (1, 2) and said in done.stderr
    both = edgellm(tmp_path, "fleet", "--ray", "auto", "--ssh", "a", check=False)
    assert both.returncode == 2 and "exclude each other" in both.stderr
