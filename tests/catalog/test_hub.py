"""Downloads through the real huggingface_hub client from a server on this machine."""

import json
import os
import subprocess
import sys

import embedders
import pytest
from hub_server import serve

from edgellm.catalog import hub
from edgellm.models import bundled

REPO = "someone/Tiny-Model-1M"
DOWNLOAD = (
    "import sys; from edgellm.catalog import hub; "
    "print(hub.download(sys.argv[1], offline=sys.argv[2:] == ['offline']))"
)


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


def edgellm(address: str, folder, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "HF_ENDPOINT": address,
        "HF_HOME": str(folder / "home"),
        "HF_HUB_DISABLE_XET": "1",
    }
    environment["EDGELLM_CACHE"] = str(folder / "cache")
    command = [sys.executable, "-m", "edgellm", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


def last_line(run: subprocess.CompletedProcess[str]) -> str:
    return run.stderr.strip().splitlines()[-1]


def test_all_files_that_say_something_of_a_tokenizer_are_fetched_and_no_exports():
    """By huggingface_hub's own filter, which snapshot_download uses."""
    from huggingface_hub.utils import filter_repo_objects

    wanted = [
        "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "added_tokens.json",
        "special_tokens_map.json", "chat_template.jinja", "chat_template.json",
        "additional_chat_templates/tool_use.jinja", "model.safetensors", "README.md", "LICENSE",
        "modules.json", "1_Pooling/config.json",
    ]  # fmt: skip
    others = [
        "pytorch_model.bin",
        "onnx/model.onnx",
        "original/params.json",
        "fp8/model.safetensors",
        "a/README.md",
    ]
    found = filter_repo_objects(
        [*wanted, *others], allow_patterns=list(hub.NEEDED), ignore_patterns=list(hub.UNNEEDED)
    )
    assert list(found) == wanted


def test_only_what_a_conversion_needs_is_fetched(repository, tmp_path):
    with serve(REPO, repository) as (hub, address):
        run = download(address, tmp_path / "home", token="hf_secret")
    assert run.returncode == 0, run.stderr
    folder = tmp_path / "home" / run.stdout.strip()
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == (repository / "model.safetensors").read_bytes()
    assert not any("pytorch_model.bin" in request for request in hub.requests)
    assert "Bearer hf_secret" in hub.tokens


def test_the_token_does_not_follow_to_another_host(repository, tmp_path):
    with serve(REPO, repository) as (hub, address), serve(REPO, repository) as (store, other):
        hub.elsewhere = other.replace("127.0.0.1", "localhost")
        run = download(address, tmp_path / "home", token="hf_secret")
    assert run.returncode == 0, run.stderr
    assert any("model.safetensors" in request for request in store.requests)
    assert "Bearer hf_secret" in hub.tokens and store.tokens == {None}


def test_a_file_damaged_on_its_way_is_not_converted(tmp_path):
    with serve(REPO, bundled.path("tiny-qwen3")) as (hub, address):
        hub.corrupt = True
        run = edgellm(address, tmp_path, "run", f"{REPO}:q8_0", "Hello")
    assert run.returncode == 1
    assert "model.safetensors was damaged on its way from the hub: delete" in last_line(run)


def test_a_hub_id_is_downloaded_converted_and_kept(tmp_path):
    question = ("run", f"{REPO}:q8_0", "What is the capital of France?", "--temp", "0", "-t", "1")
    with serve(REPO, bundled.path("tiny-qwen3")) as (hub, address):
        first = edgellm(address, tmp_path, *question)
        assert "first use of someone--Tiny-Model-1M: converting it to Q8_0, once" in first.stderr
        hub.requests.clear()
        again = edgellm(address, tmp_path, *question)
        assert not any("safetensors" in request for request in hub.requests)
    gone = edgellm("http://127.0.0.1:9", tmp_path, *question, "--offline")
    assert first.stdout == again.stdout == gone.stdout == "The capital of France is Paris.\n"
    assert "converting" not in again.stderr + gone.stderr

    kinds = {row["name"]: row["kind"] for row in json.loads(edgellm("", tmp_path, "list", "--json").stdout)}
    assert kinds["someone--Tiny-Model-1M-Q8_0"] == "kept" and kinds[REPO] == "download"
    removed = edgellm("", tmp_path, "rm", "--download", REPO).stdout
    assert "deleted someone--Tiny-Model-1M-Q8_0" in removed and f"deleted the download {REPO}" in removed
    left = json.loads(edgellm("", tmp_path, "list", "--json").stdout)
    assert {row["kind"] for row in left} == {"bundled"}


def test_an_embedding_model_comes_with_its_pooling(tmp_path):
    source = embedders.write(tmp_path / "repository")
    with serve(REPO, source) as (_, address):
        found = edgellm(address, tmp_path, "embed", f"{REPO}:f32", "-t", "1", "hello")
    assert found.returncode == 0, found.stderr
    assert "pooling last, as the model's file says" in found.stderr


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
