"""Downloads that are cut anywhere, go on where they were cut, and are refused where bytes are not the hub's."""

import os
import random
import subprocess
import sys

import fault_rows
import pytest
from hub_server import serve

REPO = "someone/Tiny-Model-1M"
DOWNLOAD = "import sys; from edgellm.catalog import hub; print(hub.download(sys.argv[1]))"
N_FILES = 10  # a run of the client; each is cut on its way once


def download(address: str, home) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", DOWNLOAD, REPO]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


@pytest.mark.fault(8, 0)
def test_cut_transfers_end_in_the_right_bytes(tmp_path, request):
    rng, rounds = random.Random(8), fault_rows.trials(20, 1)
    for trial in range(rounds):
        repository = tmp_path / f"{trial}"
        repository.mkdir()
        (repository / "config.json").write_text("{}")
        for number in range(N_FILES):
            data = rng.randbytes(rng.randrange(20_000, 200_000))
            (repository / f"model-{number}.safetensors").write_bytes(data)
        with serve(REPO, repository) as (hub, address):
            hub.cuts_left = N_FILES
            hub.chance = rng
            home = tmp_path / f"home-{trial}"
            runs = [download(address, home)]
            while runs[-1].returncode and len(runs) <= N_FILES:
                runs.append(download(address, home))
        assert hub.cuts_left == 0 and not runs[-1].returncode, runs[-1].stderr
        assert all(run.stderr.count("Traceback") <= 1 for run in runs)
        folder = home / runs[-1].stdout.strip()
        for file in repository.iterdir():
            assert (folder / file.name).read_bytes() == file.read_bytes()
    request.node.user_properties.append(("fault", (8, rounds * N_FILES)))


@pytest.mark.wide
@pytest.mark.fault(8, 0)
@pytest.mark.parametrize("fault", ["range ignored", "too long", "too short"])
def test_a_server_that_lies_gives_the_right_bytes_or_none(fault, tmp_path, request):
    rng, rounds = random.Random(fault), fault_rows.trials(20, 1)
    n_files = fault_rows.trials(N_FILES, 3)
    for trial in range(rounds):
        repository = tmp_path / f"{trial}"
        repository.mkdir()
        (repository / "config.json").write_text("{}")
        sizes = [rng.randrange(20_000, 200_000) for _ in range(n_files)]
        for number, size in enumerate(sizes):
            (repository / f"model-{number}.safetensors").write_bytes(rng.randbytes(size))
        with serve(REPO, repository) as (hub, address):
            hub.cuts_left, hub.chance = n_files, rng
            hub.ignores_ranges = fault == "range ignored"
            hub.lies_by = {"too long": 1000, "too short": -1000}.get(fault, 0)
            home = tmp_path / f"home-{trial}"
            runs = [download(address, home)]
            while runs[-1].returncode and len(runs) <= n_files:
                runs.append(download(address, home))
        named = [file for file in home.rglob("snapshots/*/*.safetensors")]
        for file in named:  # what got its name, and so may be converted
            assert file.read_bytes() == (repository / file.name).read_bytes()
        if runs[-1].returncode:
            assert "run it again to resume" in runs[-1].stderr
        else:
            assert len(named) == n_files
    request.node.user_properties.append(("fault", (8, rounds * n_files)))
