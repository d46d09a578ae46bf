"""Models from the Hugging Face hub, through huggingface_hub and its shared cache.

Only the files a conversion needs are fetched, or the GGUF files that are run. HF_TOKEN, HF_HOME, HF_ENDPOINT and
HF_HUB_OFFLINE mean what they mean everywhere.
"""

from __future__ import annotations

import contextlib
import glob
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgellm import privacy
from edgellm.catalog.spellings import is_repo_id
from edgellm.errors import CheckpointError, option

#: What a conversion reads. Pickles, ONNX exports and other formats in the same repository stay where they are.
NEEDED = ("*.json", "*.safetensors", "*.jinja", "README.md", "LICENSE*")
#: Sub-folders hold exports of other kinds; of additional_chat_templates/ the templates are wanted, of 1_Pooling/ and
#: its like, which sentence-transformers numbers, the settings.
UNNEEDED = ("[!0-9]*/*.json", "*/*.safetensors")
WEIGHTS = (".safetensors", ".gguf")


@dataclass(frozen=True)
class Download:
    """A repository in the shared cache."""

    repo_id: str
    path: Path
    size_bytes: int


def download(repo_id: str, *, revision: str | None = None, offline: bool = False) -> Path:
    """The folder of a checkpoint's snapshot, fetched (and resumed) as needed.

    Raises CheckpointError naming the cause: not found, gated, no network, or not in the cache when `offline`.
    """
    if not is_repo_id(repo_id):
        raise CheckpointError(
            f"{repo_id!r} is not a hub id; it has the form owner/name, e.g. Qwen/Qwen3-0.6B"
        )
    return _snapshot(repo_id, NEEDED, UNNEEDED, revision, offline)


def names(repo_id: str, *, offline: bool = False) -> list[str]:
    """The names of a repository's files; without network those that are in the cache. Raises CheckpointError."""
    privacy.refuse_telemetry()
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    with _explained(repo_id, None, offline):
        if not offline:
            try:
                return [file.rfilename for file in HfApi().model_info(repo_id).siblings or ()]
            except (GatedRepoError, RepositoryNotFoundError):
                raise
            except (
                Exception
            ):  # of the HTTP client, which changes with the library, or of a server that is down
                pass
        return _cached_names(repo_id)


def _cached_names(repo_id: str) -> list[str]:
    """The names of the files that are here of a repository. Raises LocalEntryNotFoundError where none are."""
    privacy.refuse_telemetry()
    from huggingface_hub.errors import LocalEntryNotFoundError

    revisions = [r for repo in _cached_repos() if repo.repo_id == repo_id for r in repo.revisions]
    if not revisions:
        raise LocalEntryNotFoundError(repo_id)
    newest = max(revisions, key=lambda revision: ("main" in revision.refs, revision.last_modified))
    return sorted(file.file_path.relative_to(newest.snapshot_path).as_posix() for file in newest.files)


def fetch(repo_id: str, files: Sequence[str], *, offline: bool = False) -> Path:
    """The folder of a snapshot that holds `files`, each of them what the hub announced. Raises CheckpointError."""
    from edgellm import digests
    from edgellm.convert.checkpoint.folder import check_download

    folder = _snapshot(repo_id, [glob.escape(name) for name in files], (), None, offline)
    for name in files:
        if not (folder / name).is_file():
            raise CheckpointError(
                f"{repo_id}: {name} is not in the local cache; run it again without {option('offline')}"
            )
        check_download(folder / name, digests.of(folder / name))
    return folder


def _snapshot(
    repo_id: str, wanted: Iterable[str], unwanted: Iterable[str], revision: str | None, offline: bool
) -> Path:
    privacy.refuse_telemetry()
    from huggingface_hub import snapshot_download

    with _explained(repo_id, revision, offline):
        folder = snapshot_download(
            repo_id,
            revision=revision,
            allow_patterns=list(wanted),
            ignore_patterns=list(unwanted),
            local_files_only=offline,
        )
    return Path(folder)


@contextlib.contextmanager
def _explained(repo_id: str, revision: str | None, offline: bool) -> Iterator[None]:
    """What the library raises as one line with the cause and the remedy."""
    privacy.refuse_telemetry()
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError:
        raise CheckpointError(
            f"{repo_id} is gated: accept its licence on its page, then set HF_TOKEN or run: hf auth login"
        ) from None
    except RepositoryNotFoundError:
        raise CheckpointError(
            f"the hub has no {repo_id} (or it is private: set HF_TOKEN); check the spelling of owner/name"
        ) from None
    except RevisionNotFoundError:
        raise CheckpointError(
            f"{repo_id} has no revision {revision!r}; leave it out for the newest"
        ) from None
    except LocalEntryNotFoundError:
        why = (
            "is not in the local cache"
            if offline
            else "cannot be fetched (no network?) and is not in the local cache"
        )
        raise CheckpointError(f"{repo_id} {why}; bundled models need no network: edgellm list") from None
    except (HfHubHTTPError, OSError) as error:
        raise CheckpointError(f"downloading {repo_id} failed: {error}; run it again to resume") from error


def downloads() -> list[Download]:
    """Models in the shared cache, by id: what a conversion could read or an engine run, whoever fetched it."""
    return [
        Download(repo.repo_id, repo.repo_path, repo.size_on_disk)
        for repo in sorted(_cached_repos(), key=lambda repo: str(repo.repo_id))
        if any(file.file_name.endswith(WEIGHTS) for rev in repo.revisions for file in rev.files)
    ]


def delete(repo_id: str) -> None:
    """Delete a repository from the shared cache. Raises CheckpointError when it is not there."""
    privacy.refuse_telemetry()
    from huggingface_hub import scan_cache_dir

    hashes = [r.commit_hash for repo in _cached_repos() if repo.repo_id == repo_id for r in repo.revisions]
    if not hashes:
        raise CheckpointError(f"{repo_id} is not in the local cache; see: edgellm list")
    scan_cache_dir().delete_revisions(*hashes).execute()


def _cached_repos() -> Iterable[Any]:
    privacy.refuse_telemetry()
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        return [repo for repo in scan_cache_dir().repos if repo.repo_type == "model"]
    except CacheNotFound:
        return []
