"""Models from ModelScope: its protocol, every fault of a transfer, and that it is asked only when the user says so."""

import errno
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import foreign_gguf
import pytest
from modelscope_server import serve

from edgellm.catalog import hubs, models, modelscope
from edgellm.cli.shared import open_model
from edgellm.errors import CheckpointError, StorageError, UsageError
from edgellm.models import bundled

REPO = "someone/Tiny-GGUF"
SECRET = "ms-secret"


@pytest.fixture
def repository(tmp_path) -> Path:
    folder = tmp_path / "repository"
    (folder / "sub").mkdir(parents=True)
    foreign_gguf.write(folder / "Tiny-Q8_0.gguf", foreign_gguf.CASES["smollm"])
    (folder / "Tiny-Q4_K_M.gguf").write_bytes((folder / "Tiny-Q8_0.gguf").read_bytes() + b"\0")
    (folder / "README.md").write_text("# Tiny")
    (folder / "sub" / "note.json").write_text("{}")
    return folder


@pytest.fixture
def scope(repository, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGELLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MODELSCOPE_API_TOKEN", raising=False)
    with serve(REPO, repository) as (scope, address):
        monkeypatch.setenv("MODELSCOPE_DOMAIN", address)
        yield scope


def edgellm(address: str, folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "MODELSCOPE_DOMAIN": address, "EDGELLM_CACHE": str(folder / "cache"), **more}
    environment |= {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(folder / "home")}
    return subprocess.run(
        [sys.executable, "-m", "edgellm", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )


def run(
    address: str, folder: Path, name: str, *more: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    asked = (
        "run",
        name,
        "What is the capital of France?",
        "-n",
        "12",
        "-t",
        "1",
        "--temp",
        "0",
        "--no-stats",
    )
    return edgellm(address, folder, *asked, *more, **variables)


def test_the_names_of_a_repository(scope):
    assert modelscope.names(REPO) == ["README.md", "Tiny-Q4_K_M.gguf", "Tiny-Q8_0.gguf", "sub/note.json"]


def test_a_file_is_fetched_once(scope, repository):
    folder = modelscope.fetch(REPO, ["Tiny-Q8_0.gguf"])
    assert (folder / "Tiny-Q8_0.gguf").read_bytes() == (repository / "Tiny-Q8_0.gguf").read_bytes()
    assert [path.name for path in folder.iterdir()] == ["Tiny-Q8_0.gguf"]
    scope.requests.clear()
    modelscope.fetch(REPO, ["Tiny-Q8_0.gguf"])
    assert scope.requests == [f"/api/v1/models/{REPO}/repo/files"]
    scope.requests.clear()
    assert modelscope.fetch(REPO, ["Tiny-Q8_0.gguf"], offline=True) == folder
    assert modelscope.names(REPO, offline=True) == ["Tiny-Q8_0.gguf"] and not scope.requests


def test_what_changed_there_is_fetched_anew(scope, repository):
    modelscope.fetch(REPO, ["README.md"])
    (repository / "README.md").write_text("# Other")
    assert (modelscope.fetch(REPO, ["README.md"]) / "README.md").read_text() == "# Other"


def test_what_was_changed_here_is_fetched_anew(scope, repository):
    folder = modelscope.fetch(REPO, ["README.md"])
    (folder / "README.md").write_text("# Tidy")
    assert (modelscope.fetch(REPO, ["README.md"]) / "README.md").read_text() == "# Tiny"


def test_a_transfer_that_breaks_off_is_gone_on_with(scope, repository):
    size = (repository / "Tiny-Q8_0.gguf").stat().st_size
    scope.cut_at = size // 3
    folder = modelscope.fetch(REPO, ["Tiny-Q8_0.gguf"])
    assert (folder / "Tiny-Q8_0.gguf").read_bytes() == (repository / "Tiny-Q8_0.gguf").read_bytes()
    starts = [int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0 for wanted in scope.ranges]
    assert starts == [0, size // 3, 2 * (size // 3), 3 * (size // 3)][: len(starts)] and len(starts) >= 3


def test_a_transfer_that_keeps_breaking_off_says_how_to_go_on(scope, repository):
    scope.cut_at = 20_000
    with pytest.raises(CheckpointError, match=r"stopped at 100 kB of .*; run it again to resume"):
        modelscope.fetch(REPO, ["Tiny-Q8_0.gguf"])
    (partial,) = (modelscope._folder(REPO)).iterdir()
    assert partial.name.endswith(".partial") and partial.stat().st_size == 100_000
    scope.cut_at = None
    scope.ranges.clear()
    folder = modelscope.fetch(REPO, ["Tiny-Q8_0.gguf"])
    assert scope.ranges == ["bytes=100000-"] and [p.name for p in folder.iterdir()] == ["Tiny-Q8_0.gguf"]


@pytest.mark.fault(8, 30)
def test_breaks_at_any_place_end_in_the_right_bytes(scope, repository):
    wanted = (repository / "Tiny-Q8_0.gguf").read_bytes()
    chance = random.Random(5)
    for _ in range(30):
        scope.cut_at, scope.ignores_ranges = chance.randrange(1, len(wanted)), chance.random() < 0.2
        for _ in range(400):
            try:
                folder = modelscope.fetch(REPO, ["Tiny-Q8_0.gguf"])
                break
            except CheckpointError as error:
                assert "run it again to resume" in str(error)
                scope.cut_at = chance.randrange(len(wanted) // 4, 2 * len(wanted))
        assert [path.read_bytes() for path in folder.iterdir()] == [wanted]
        modelscope.delete(REPO)


def test_a_full_disk_is_said_so(scope, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(modelscope, "_copy", full)
    with pytest.raises(StorageError, match=r"Tiny-Q8_0.gguf"):
        modelscope.fetch(REPO, ["Tiny-Q8_0.gguf"])


def test_a_name_the_file_system_does_not_take_is_one_line(scope):
    scope.listing = {"Files": [{"Path": "x" * 300 + ".json", "Size": 1, "Sha256": "0" * 64}]}
    with pytest.raises(StorageError, match="File name too long"):
        modelscope.fetch(REPO, ["x" * 300 + ".json"])


def test_a_server_without_ranges_sends_all_again(scope, repository):
    scope.cut_at = 20_000
    with pytest.raises(CheckpointError):
        modelscope.fetch(REPO, ["Tiny-Q8_0.gguf"])
    scope.cut_at, scope.ignores_ranges = None, True
    folder = modelscope.fetch(REPO, ["Tiny-Q8_0.gguf"])
    assert (folder / "Tiny-Q8_0.gguf").read_bytes() == (repository / "Tiny-Q8_0.gguf").read_bytes()


def test_a_wrong_hash_is_refused_and_nothing_is_left(scope):
    scope.corrupt = True
    with pytest.raises(
        CheckpointError, match=r"was damaged on its way from 127.0.0.1.*is not the announced one"
    ):
        modelscope.fetch(REPO, ["Tiny-Q8_0.gguf"])
    assert list(modelscope._folder(REPO).iterdir()) == []


def test_the_token_is_for_its_host_alone(scope, repository, monkeypatch):
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", SECRET)
    with serve(REPO, repository) as (store, other):
        scope.elsewhere = other.replace("127.0.0.1", "localhost")
        modelscope.fetch(REPO, ["Tiny-Q8_0.gguf"])
    assert scope.tokens == {(f"Bearer {SECRET}", f"m_session_id={SECRET}")}
    assert store.tokens == {(None, None)} and len(store.requests) == 1


def test_a_redirect_is_gone_on_with_at_a_range(scope, repository):
    with serve(REPO, repository) as (store, other):
        scope.elsewhere, store.cut_at = other, (repository / "Tiny-Q8_0.gguf").stat().st_size // 2
        folder = modelscope.fetch(REPO, ["Tiny-Q8_0.gguf"])
    assert (folder / "Tiny-Q8_0.gguf").read_bytes() == (repository / "Tiny-Q8_0.gguf").read_bytes()
    assert store.ranges[0] is None and store.ranges[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"repo_id": "someone/Else"}, f"has no {REPO} "),
        ({"status": 403}, r"HTTP 403\): accept its terms there, then set MODELSCOPE_API_TOKEN"),
        ({"status": 500}, r"cannot be fetched from 127.0.0.1:\d+ \(HTTP 500\)"),
        ({"success": False}, f"lists no files of {REPO}: record not found"),
        ({"listing": [1]}, f"lists no files of {REPO}"),
        ({"listing": {"Files": [{"Path": "x"}]}}, "with no listing of files"),
        (
            {"listing": {"Files": [{"Path": "../x", "Size": 1, "Sha256": "0" * 64}]}},
            "would lead out of its folder",
        ),
        (
            {"listing": {"Files": [{"Path": "/x", "Size": 1, "Sha256": "0" * 64}]}},
            "would lead out of its folder",
        ),
        ({"listing": {"Files": [{"Path": "x.gguf", "Size": 1}]}}, "announces no SHA-256 of"),
        (
            {"listing": {"Files": [{"Path": "x.gguf", "Size": 1, "Sha256": "g" * 64}]}},
            "announces no SHA-256 of",
        ),
        (
            {"listing": {"Files": [{"Path": "a\0b", "Size": 1, "Sha256": "0" * 64}]}},
            "would lead out of its folder",
        ),
        ({"listing": {"Files": [{"Path": p, "Size": 1} for p in ("x", "x/y")]}}, "lists one name twice"),
    ],
)
def test_answers_that_are_no_listing_are_one_line(scope, change, message):
    for name, value in change.items():
        setattr(scope, name, value)
    with pytest.raises(CheckpointError, match=message) as caught:
        modelscope.names(REPO)
    assert "\n" not in str(caught.value)


def test_without_a_server_what_is_here_is_used(scope, monkeypatch):
    modelscope.fetch(REPO, ["Tiny-Q8_0.gguf"])
    monkeypatch.setenv("MODELSCOPE_DOMAIN", "http://127.0.0.1:9")
    assert modelscope.names(REPO) == ["Tiny-Q8_0.gguf"]
    with pytest.raises(
        CheckpointError, match=r"README.md is not in the local cache, and 127.0.0.1:9 was not reached"
    ):
        modelscope.fetch(REPO, ["README.md"])
    with pytest.raises(CheckpointError, match=r"someone/Other cannot be fetched from 127.0.0.1:9"):
        modelscope.names("someone/Other")
    with pytest.raises(CheckpointError, match="someone/Other is not in the local cache"):
        modelscope.names("someone/Other", offline=True)


def test_a_variable_that_names_no_hub(monkeypatch):
    monkeypatch.setenv("EDGELLM_HUB", "elsewhere")
    with pytest.raises(UsageError, match="EDGELLM_HUB is 'elsewhere'; it is one of huggingface, modelscope"):
        hubs.preferred()


def test_a_gguf_model_runs_is_listed_and_deleted(repository, tmp_path):
    with serve(REPO, repository) as (scope, address):
        first = run(address, tmp_path, REPO, "--hub", "modelscope")
        assert first.returncode == 0, first.stderr
        assert f"{REPO}: taking Q4_K_M; there are also Q8_0" in first.stderr
        assert f"/api/v1/models/{REPO}/repo Tiny-Q4_K_M.gguf" in scope.requests
        assert not any("Q8_0" in request for request in scope.requests)
        other = run(address, tmp_path, f"modelscope:{REPO}:Q8_0")
        assert other.returncode == 0 and any("Q8_0" in request for request in scope.requests)
    offline = run("http://127.0.0.1:9", tmp_path, REPO, "--offline", EDGELLM_HUB="modelscope")
    assert offline.stdout == first.stdout and offline.returncode == 0
    rows = json.loads(edgellm("", tmp_path, "list", "--json").stdout)
    (row,) = [row for row in rows if row["kind"] == "download"]
    assert row["name"] == f"modelscope:{REPO}"
    assert row["size_bytes"] == sum(path.stat().st_size for path in repository.glob("*.gguf"))
    removed = edgellm("", tmp_path, "rm", "--download", f"modelscope:{REPO}")
    assert f"deleted the download modelscope:{REPO}" in removed.stdout
    assert not (tmp_path / "cache" / "modelscope" / "someone").exists()


def test_a_checkpoint_is_fetched_and_converted(tmp_path):
    with serve("someone/Tiny-Qwen3", bundled.path("tiny-qwen3")) as (_, address):
        first = run(address, tmp_path, "https://www.modelscope.cn/models/someone/Tiny-Qwen3")
        assert first.returncode == 0, first.stderr
        assert "first use of modelscope--someone--Tiny-Qwen3: converting it to Q4_K_M, once" in first.stderr
    again = run("http://127.0.0.1:9", tmp_path, "modelscope:someone/Tiny-Qwen3", "--offline")
    assert (
        again.stdout == first.stdout == "The capital of France is Paris.\n"
        and "converting" not in again.stderr
    )
    removed = edgellm("", tmp_path, "rm", "--download", "modelscope:someone/Tiny-Qwen3").stdout
    assert "deleted modelscope--someone--Tiny-Qwen3-Q4_K_M" in removed
    assert "deleted the download modelscope:someone/Tiny-Qwen3" in removed


def test_nobody_is_asked_without_being_asked_for(repository, tmp_path):
    with serve(REPO, repository) as (scope, address):
        run(address, tmp_path, REPO)
        run(address, tmp_path, "tiny-qwen3:q8_0")
        edgellm(address, tmp_path, "list")
        assert scope.requests == []


def test_two_processes_fetch_a_file_once(repository, tmp_path):
    environment = {**os.environ, "EDGELLM_CACHE": str(tmp_path / "cache")}
    code = f"from edgellm.catalog import modelscope; modelscope.fetch({REPO!r}, ['Tiny-Q8_0.gguf'])"
    with serve(REPO, repository) as (scope, address):
        environment["MODELSCOPE_DOMAIN"] = address
        children = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(2)]
        assert [child.wait(timeout=60) for child in children] == [0, 0]
    assert len([request for request in scope.requests if request.endswith("Tiny-Q8_0.gguf")]) == 1


def test_a_model_of_another_hub_keeps_its_own_place(scope, monkeypatch):
    monkeypatch.setenv("EDGELLM_HUB", "modelscope")
    source = models.locate(f"{REPO}:Q8_0")
    assert source.path == modelscope._folder(REPO) / "Tiny-Q8_0.gguf" and not source.is_checkpoint


def test_a_conversation_remembers_the_hub(monkeypatch):
    assert open_model.spelled("a/b:Q8_0") == "a/b:Q8_0"
    monkeypatch.setenv("EDGELLM_HUB", "modelscope")
    assert open_model.spelled("a/b:Q8_0") == "modelscope:a/b:Q8_0"
    assert open_model.spelled("hf.co/a/b") == "hf.co/a/b" and open_model.spelled("tiny-qwen3") == "tiny-qwen3"
