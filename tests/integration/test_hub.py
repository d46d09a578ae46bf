"""Downloads through the real huggingface_hub client from a server on this machine."""

import os
import subprocess
import sys

import pytest
from hub_server import serve

REPO = "someone/Tiny-Model-1M"
DOWNLOAD = "import sys; from edgellm import hub; print(hub.download(sys.argv[1], offline=sys.argv[2:] == ['offline']))"


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(os.urandom(300_000))
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    return folder


def download(address: str, home, *arguments: str, token: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    environment["HF_TOKEN"] = token
    command = [sys.executable, "-c", DOWNLOAD, REPO, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


def last_line(run: subprocess.CompletedProcess[str]) -> str:
    return run.stderr.strip().splitlines()[-1]


def test_only_what_a_conversion_needs_is_fetched(repository, tmp_path):
    with serve(REPO, repository) as (hub, address):
        run = download(address, tmp_path / "home", token="hf_secret")
    assert run.returncode == 0, run.stderr
    folder = tmp_path / "home" / run.stdout.strip()
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == (repository / "model.safetensors").read_bytes()
    assert not any("pytorch_model.bin" in request for request in hub.requests)
    assert "Bearer hf_secret" in hub.tokens


def test_a_cut_transfer_is_resumed_to_the_same_bytes(repository, tmp_path):
    with serve(REPO, repository) as (hub, address):
        hub.cuts_left = 1
        first = download(address, tmp_path / "home")
        second = download(address, tmp_path / "home")
    assert hub.cuts_left == 0
    assert second.returncode == 0, first.stderr + second.stderr
    folder = tmp_path / "home" / second.stdout.strip()
    assert (folder / "model.safetensors").read_bytes() == (repository / "model.safetensors").read_bytes()


def test_offline_uses_the_cache_and_no_network(repository, tmp_path):
    with serve(REPO, repository) as (_, address):
        download(address, tmp_path / "home")
    run = download("http://127.0.0.1:9", tmp_path / "home", "offline")
    assert run.returncode == 0, run.stderr


def test_offline_without_a_copy_says_so(tmp_path):
    run = download("http://127.0.0.1:9", tmp_path / "home", "offline")
    assert "is not in the local cache" in last_line(run)


def test_no_network_says_so(tmp_path):
    run = download("http://127.0.0.1:9", tmp_path / "home")
    assert "CheckpointError" in last_line(run) and REPO in last_line(run)


def test_a_gated_repository_names_the_remedy(repository, tmp_path):
    with serve(REPO, repository) as (hub, address):
        hub.gated = True
        run = download(address, tmp_path / "home")
    assert "HF_TOKEN" in last_line(run)


def test_an_unknown_repository_names_it(repository, tmp_path):
    with serve("someone/Else", repository) as (_, address):
        run = download(address, tmp_path / "home")
    assert f"the hub has no {REPO}" in last_line(run)
