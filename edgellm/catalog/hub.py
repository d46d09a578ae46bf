"""Checkpoints from the Hugging Face hub, through huggingface_hub and its shared cache.

Only the files a conversion needs are fetched. HF_TOKEN, HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE mean what they
mean everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgellm import privacy
from edgellm.errors import CheckpointError

#: What a conversion reads. Pickles, ONNX exports and other formats in the same repository stay where they are.
NEEDED = ("*.json", "*.safetensors", "*.jinja", "README.md", "LICENSE*")
#: Sub-folders hold exports of other kinds; of additional_chat_templates/ the templates are wanted, of 1_Pooling/ and
#: its like, which sentence-transformers numbers, the settings.
_UNNEEDED = ("[!0-9]*/*.json", "*/*.safetensors")

_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


@dataclass(frozen=True)
class Download:
    """A checkpoint in the shared cache."""

    repo_id: str
    path: Path
    size_bytes: int


def is_repo_id(text: str) -> bool:
    """Whether `text` has the form owner/name."""
    return bool(_REPO_ID.fullmatch(text)) and ".." not in text and "--" not in text


def download(repo_id: str, *, revision: str | None = None, offline: bool = False) -> Path:
    """The folder of a checkpoint's snapshot, fetched (and resumed) as needed.

    Raises CheckpointError naming the cause: not found, gated, no network, or not in the cache when `offline`.
    """
    if not is_repo_id(repo_id):
        raise CheckpointError(
            f"{repo_id!r} is not a hub id; it has the form owner/name, e.g. Qwen/Qwen3-0.6B"
        )
    privacy.refuse_telemetry()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        folder = snapshot_download(
            repo_id,
            revision=revision,
            allow_patterns=list(NEEDED),
            ignore_patterns=list(_UNNEEDED),
            local_files_only=offline,
        )
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
    return Path(folder)


def downloads() -> list[Download]:
    """Checkpoints in the shared cache, by id: those that a conversion could read, whoever fetched them."""
    return [
        Download(repo.repo_id, repo.repo_path, repo.size_on_disk)
        for repo in sorted(_cached_repos(), key=lambda repo: str(repo.repo_id))
        if any(file.file_name.endswith(".safetensors") for rev in repo.revisions for file in rev.files)
    ]


def delete(repo_id: str) -> None:
    """Delete a checkpoint from the shared cache. Raises CheckpointError when it is not there."""
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
