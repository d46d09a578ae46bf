"""GGUF files of hub repositories: which one is chosen, that it is what the hub announced, that it can be deleted."""

import json
import os
import shutil
import subprocess
import sys

import foreign_gguf
import pytest
from hub_server import serve

from edgellm.catalog import gguf_files, models, spellings
from edgellm.catalog.spellings import Reference
from edgellm.errors import ArtifactError

REPO = "someone/Tiny-Model-GGUF"
TYPES = ("Q8_0", "Q4_K_M", "Q5_K_M")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return foreign_gguf.write(tmp_path_factory.mktemp("made") / "model.gguf", foreign_gguf.CASES["smollm"])


@pytest.fixture
def repository(model, tmp_path):
    """Three types that differ by a byte behind the tensors, and what lies beside them."""
    folder = tmp_path / "repository"
    folder.mkdir()
    for number, name in enumerate(TYPES):
        (folder / f"Tiny-{name}.gguf").write_bytes(model.read_bytes() + bytes([number]))
    (folder / "mmproj-F16.gguf").write_bytes(b"image part")
    (folder / "imatrix.gguf").write_bytes(b"matrix")
    (folder / "README.md").write_text("# Tiny")
    return folder


def edgellm(address: str, folder, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(folder / "home"), **more}
    environment |= {"HF_HUB_DISABLE_XET": "1", "EDGELLM_CACHE": str(folder / "cache")}
    command = [sys.executable, "-m", "edgellm", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=120, stdin=subprocess.DEVNULL
    )


def run(address: str, folder, name: str, *more: str, **variables: str) -> subprocess.CompletedProcess[str]:
    asked = ("run", name, "hello", "-n", "3", "-t", "1", "--temp", "0", "--no-stats")
    return edgellm(address, folder, *asked, *more, **variables)


def fetched(hub) -> set[str]:
    return {
        request.rsplit("/", 1)[-1] for request in hub.requests if "/resolve/" in request and "GET" in request
    }


def test_one_file_is_fetched_and_run(repository, tmp_path):
    with serve(REPO, repository) as (hub, address):
        first = run(address, tmp_path, REPO)
        assert first.returncode == 0, first.stderr
        assert fetched(hub) == {"Tiny-Q4_K_M.gguf"}
        assert f"{REPO}: taking Q4_K_M; there are also Q5_K_M, Q8_0" in first.stderr
        hub.requests.clear()
        assert run(address, tmp_path, f"{REPO}:q5_k_m").returncode == 0
        assert fetched(hub) == {"Tiny-Q5_K_M.gguf"}
    gone = run("http://127.0.0.1:9", tmp_path, REPO, "--offline")
    assert gone.stdout == first.stdout and gone.returncode == 0
    without = run("http://127.0.0.1:9", tmp_path, REPO)
    assert without.returncode == 0 and without.stdout == first.stdout
    missing = run("http://127.0.0.1:9", tmp_path, f"{REPO}:Q8_0", "--offline")
    assert missing.returncode == 1 and "has no Q8_0: name one as" in missing.stderr


@pytest.mark.wide
@pytest.mark.parametrize(
    "spelling",
    [
        f"hf.co/{REPO}:Q8_0",
        f"https://huggingface.co/{REPO}/blob/main/Tiny-Q8_0.gguf",
        f"{REPO}:Tiny-Q8_0.gguf",
    ],
)
def test_spellings_of_other_programs(repository, tmp_path, spelling):
    with serve(REPO, repository) as (hub, address):
        done = run(address, tmp_path, spelling)
    assert done.returncode == 0 and fetched(hub) == {"Tiny-Q8_0.gguf"}, done.stderr


def test_the_option_of_llama_cpp(repository, tmp_path):
    with serve(REPO, repository) as (hub, address):
        asked = ("run", "-hf", f"{REPO}:Q8_0", "hello", "-n", "3", "-t", "1", "--no-stats")
        done = edgellm(address, tmp_path, *asked)
        assert done.returncode == 0 and fetched(hub) == {"Tiny-Q8_0.gguf"}, done.stderr
        chat = edgellm(
            address, tmp_path, "chat", "-hf", f"{REPO}:Q8_0", "-n", "2", "-t", "1", "-p", "hi", "-st"
        )
        assert chat.returncode == 0, chat.stderr
    twice = edgellm("", tmp_path, "chat", "tiny-qwen3", "-hf", REPO)
    assert twice.returncode == 2 and "the model is given twice" in twice.stderr


def test_a_type_that_is_not_there_is_listed(repository, tmp_path):
    with serve(REPO, repository) as (_, address):
        done = run(address, tmp_path, f"{REPO}:Q2_K")
    assert done.returncode == 1
    assert done.stderr.strip().endswith(
        f"{REPO} has no Q2_K: name one as {REPO}:TYPE, of Q4_K_M, Q5_K_M, Q8_0"
    )


def test_a_split_model_is_fetched_whole(model, tmp_path):
    """The parts are made by llama.cpp's own rules of splitting: keys in the first, tensors spread."""
    folder = tmp_path / "repository"
    (folder / "Q8_0").mkdir(parents=True)
    foreign_gguf.split(model, folder / "Q8_0" / "Tiny-Q8_0")
    with serve(REPO, folder) as (hub, address):
        done = run(address, tmp_path, REPO)
    assert done.returncode == 0, done.stderr
    assert fetched(hub) == {"Tiny-Q8_0-00001-of-00002.gguf", "Tiny-Q8_0-00002-of-00002.gguf"}


def test_a_file_damaged_on_its_way_is_not_run(repository, model, tmp_path):
    (repository / "Tiny-Q4_K_M.gguf").write_bytes(model.read_bytes() + bytes(1_100_000))
    with serve(REPO, repository) as (hub, address):
        hub.corrupt = True
        done = run(address, tmp_path, REPO)
        again = run(address, tmp_path, REPO)
    for each in (done, again):
        assert each.returncode == 1
        assert "Tiny-Q4_K_M.gguf was damaged on its way from the hub: delete" in each.stderr


def test_a_cut_transfer_is_resumed(repository, tmp_path):
    with serve(REPO, repository) as (hub, address):
        hub.cuts_left = 1
        runs = [run(address, tmp_path, REPO) for _ in range(2)]
    assert hub.cuts_left == 0 and runs[1].returncode == 0, runs[1].stderr


def test_downloads_are_listed_and_deleted(repository, tmp_path):
    with serve(REPO, repository) as (_, address):
        run(address, tmp_path, REPO)
    rows = json.loads(edgellm("", tmp_path, "list", "--json").stdout)
    (row,) = [row for row in rows if row["name"] == REPO]
    assert row["kind"] == "download" and row["size_bytes"] >= (repository / "Tiny-Q4_K_M.gguf").stat().st_size
    removed = edgellm("", tmp_path, "rm", "--download", REPO)
    assert f"deleted the download {REPO}" in removed.stdout
    assert all(row["kind"] == "bundled" for row in json.loads(edgellm("", tmp_path, "list", "--json").stdout))


def test_a_repository_is_looked_into_when_its_name_says_nothing(repository, tmp_path):
    with serve("someone/Plain", repository) as (hub, address):
        done = run(address, tmp_path, "someone/Plain:Q8_0")
    assert done.returncode == 0 and "Tiny-Q8_0.gguf" in fetched(hub), done.stderr


def test_missing_and_gated_repositories_are_one_line(repository, tmp_path):
    with serve("someone/Else-GGUF", repository) as (hub, address):
        done = run(address, tmp_path, REPO)
        assert f"the hub has no {REPO}" in done.stderr and done.stderr.count("\n") == 1
        hub.gated = True
        assert "HF_TOKEN" in run(address, tmp_path, "someone/Else-GGUF").stderr
    done = run("http://127.0.0.1:9", tmp_path, REPO)
    assert "cannot be fetched (no network?)" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("qwen3:0.6b", "Qwen/Qwen3-0.6B"),
        ("qwen3:30b-a3b", "Qwen/Qwen3-30B-A3B"),
        ("llama3.2", "meta-llama/Llama-3.2-3B-Instruct"),
        ("llama3.2:1b-instruct-q4_K_M", "meta-llama/Llama-3.2-1B-Instruct"),
        ("qwen2.5:7b", "Qwen/Qwen2.5-7B-Instruct"),
    ],
)
def test_names_of_other_programs_suggest_the_hub_id(text, meant):
    with pytest.raises(ArtifactError, match=f"on the hub it is called {meant}$"):
        models.locate(text, offline=True)


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("a/b", Reference("a/b")),
        ("a/b:Q4_K_M", Reference("a/b", "Q4_K_M")),
        ("huggingface.co/a/b", Reference("a/b", "", "huggingface")),
        (
            "https://huggingface.co/a/b/resolve/main/s/x.gguf?download=true",
            Reference("a/b", "s/x.gguf", "huggingface"),
        ),
        ("https://www.modelscope.cn/models/a/b/files", Reference("a/b", "", "modelscope")),
        ("modelscope:a/b:Q8_0", Reference("a/b", "Q8_0", "modelscope")),
        ("https://example.org/a/b", None),
        ("a/b/c", None),
        ("../b", None),
        ("qwen3:0.6b", None),
        ("models/missing.gguf", None),  # asks nobody
    ],
)
def test_references(text, reference):
    assert spellings.read(text) == reference


NAMES = [
    "M-UD-Q4_K_XL.gguf",
    "M-Q4_K_M.gguf",
    "M.Q5_K_M.gguf",
    "m-q8_0.gguf",
    "BF16/M-BF16-00001-of-00002.gguf",
    "BF16/M-BF16-00002-of-00002.gguf",
    "M-Q6_K-00001-of-00002.gguf",  # a part is missing
    "mmproj-M-F16.gguf",
    "M.imatrix.gguf",
    "mtp-M-Q4_K_M.gguf",
    "README.md",
]


def test_a_choice_by_type_and_without():
    assert [one.type for one in gguf_files.candidates(NAMES)] == [
        "UD-Q4_K_XL",
        "Q4_K_M",
        "Q5_K_M",
        "Q8_0",
        "BF16",
    ]
    assert gguf_files.choose(NAMES, "", "r").files == ("M-Q4_K_M.gguf",)
    assert gguf_files.choose(NAMES, "Q8_0", "r").files == ("m-q8_0.gguf",)
    assert gguf_files.choose(NAMES, "bf16", "r").files == tuple(NAMES[4:6])
    assert gguf_files.choose(["M-Q2_K.gguf", "M-Q8_0.gguf", "M-F16.gguf"], "", "r").type == "Q8_0"
    assert gguf_files.choose(["whatever.gguf", "mmproj.gguf"], "", "r").files == ("whatever.gguf",)


@pytest.mark.parametrize(
    ("names", "wanted", "message"),
    [
        (NAMES, "Q3_K_M", "r has no Q3_K_M: name one as r:TYPE, of BF16, Q4_K_M"),
        (
            ["a-Q4_0.gguf", "b-Q4_0.gguf"],
            "",
            "several models of type Q4_0: name one as r:FILE, of a-Q4_0.gguf, b-Q",
        ),
        (
            ["a.gguf", "b.gguf"],
            "",
            "several models whose names tell no type: name one as r:TYPE, of a.gguf, b.gguf",
        ),
        (["mmproj-F16.gguf"], "", "r has no whole GGUF model, only: mmproj-F16.gguf"),
        ([NAMES[6]], "", "r has no whole GGUF model, only: M-Q6_K-00001-of-00002.gguf"),
    ],
)
def test_no_choice_is_an_error_that_lists(names, wanted, message):
    with pytest.raises(ArtifactError, match=message):
        gguf_files.choose(names, wanted, "r")


def test_a_folder_with_one_model_is_that_model(model, tmp_path):
    shutil.copy(model, tmp_path / "M-Q8_0.gguf")
    (tmp_path / "mmproj-F16.gguf").write_bytes(b"image part")
    assert models.locate(str(tmp_path)).path == tmp_path / "M-Q8_0.gguf"
    shutil.copy(model, tmp_path / "M-F16.gguf")
    with pytest.raises(
        ArtifactError, match=r"holds several models: name one of them, M-\w+.gguf, M-\w+.gguf"
    ):
        models.locate(str(tmp_path))


def test_a_folder_with_one_split_model_is_that_model(model, tmp_path):
    foreign_gguf.split(model, tmp_path / "M")
    found = models.locate(str(tmp_path))
    assert found.path == tmp_path / "M-00001-of-00002.gguf" and not found.is_checkpoint


def test_a_type_cannot_be_picked_of_a_file(model):
    with pytest.raises(ArtifactError, match=r"is a converted model already: leave :Q4_0 out"):
        models.locate(f"{model}:Q4_0")
