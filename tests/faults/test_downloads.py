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
