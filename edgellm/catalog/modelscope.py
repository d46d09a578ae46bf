"""Models from ModelScope, for people who do not reach the other hub: a small client over plain HTTPS.

    GET {endpoint}/api/v1/models/{id}/repo/files?Revision=master&Recursive=True   names, sizes, SHA-256
    GET {endpoint}/api/v1/models/{id}/repo?Revision=master&FilePath={name}        the bytes, often by a redirect

Every file is held against the SHA-256 that the listing announced before it gets its name; what a transfer left
behind is gone on with (`Range`). Files lie under the cache (`modelscope/OWNER/NAME`), the listing beside them. Asks
nobody unless such a model was asked for.
Variables: MODELSCOPE_DOMAIN (a host, or an address that begins with http), MODELSCOPE_API_TOKEN.
Source: modelscope/hub/api.py and file_download.py of ModelScope's own client.
"""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import json
import os
import re
import shutil
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from typing import IO, Any

from edgellm import files
from edgellm.catalog.hub import NEEDED, UNNEEDED, WEIGHTS, Download
from edgellm.catalog.spellings import MODELSCOPE, is_repo_id
from edgellm.errors import CheckpointError, EdgellmError, option
from edgellm.terminal import Progress, note
from edgellm.units import format_size
from edgellm.version import __version__

_DOMAIN, _REVISION = "www.modelscope.cn", "master"
_TIMEOUT_SECONDS = 60.0  # of silence
_TRIES = 5  # of one file, as long as each brings something
_BLOCK = 1 << 20
_MOST_LISTED = 64 << 20  # bytes of a listing
_PARTIAL = ".partial"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class RemoteFile:
    """One file as the listing has it."""

    name: str
    size: int
    sha256: str


def download(repo_id: str, *, revision: str | None = None, offline: bool = False) -> Path:
    """The folder with what a conversion reads of a checkpoint. Raises CheckpointError."""
    listed, fresh = _listing(repo_id, revision, offline)
    wanted = [
        name
        for name in listed
        if any(fnmatch.fnmatch(name, pattern) for pattern in NEEDED)
        and not any(fnmatch.fnmatch(name, pattern) for pattern in UNNEEDED)
    ]
    return _fetch(repo_id, wanted, listed, revision or _REVISION, ask=fresh)


def names(repo_id: str, *, offline: bool = False) -> list[str]:
    """The names of a repository's files; without network those of the last listing. Raises CheckpointError."""
    listed, fresh = _listing(repo_id, None, offline)
    return [name for name in listed if fresh or (_folder(repo_id) / name).is_file()]


def fetch(repo_id: str, wanted: Sequence[str], *, offline: bool = False) -> Path:
    """The folder that holds the files `wanted`, each of them what the hub announced. Raises CheckpointError."""
    listed, fresh = _listing(repo_id, None, offline)
    return _fetch(repo_id, wanted, listed, _REVISION, ask=fresh)


def downloads() -> list[Download]:
    """What was fetched, by id with the hub's name before it."""
    found = []
    for listing in sorted(_root().glob("*/.*.json")):
        folder = listing.with_name(listing.stem[1:])
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        found.append(Download(f"{MODELSCOPE}:{folder.parent.name}/{folder.name}", folder, size))
    return found


def delete(name: str) -> None:
    """Delete what `downloads` calls `name`. Raises CheckpointError when it is not there."""
    folder = _folder(name.removeprefix(f"{MODELSCOPE}:"))
    if not folder.is_dir():
        raise CheckpointError(f"{name} is not in the local cache; see: edgellm list")
    shutil.rmtree(folder)
    _listing_file(folder).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # other models of the same owner
        folder.parent.rmdir()


def _root() -> Path:
    return files.cache_dir("modelscope")


def _folder(repo_id: str) -> Path:
    if not is_repo_id(repo_id):
        raise CheckpointError(
            f"{repo_id!r} is no ModelScope id; it has the form owner/name, e.g. Qwen/Qwen3-0.6B"
        )
    return _root() / repo_id


def _listing_file(folder: Path) -> Path:
    """Beside the folder, which holds the repository's files and no other; no id begins with a dot."""
    return folder.with_name(f".{folder.name}.json")


def _listing(repo_id: str, revision: str | None, offline: bool) -> tuple[dict[str, RemoteFile], bool]:
    """The repository's files by name, and whether the server has said so now or when it was last asked."""
    kept = _listing_file(_folder(repo_id))
    if not offline:
        try:
            listed = _ask_listing(repo_id, revision or _REVISION)
        except _UnreachableError as error:
            if not kept.is_file():
                raise CheckpointError(
                    f"{repo_id} cannot be fetched from {_host()} ({error}) and is not in the local cache; bundled "
                    "models need no network: edgellm list"
                ) from None
        else:
            with files.turn(str(kept)), files.storage_errors(kept):
                kept.parent.mkdir(parents=True, exist_ok=True)
                files.write_text(kept, json.dumps([asdict(file) for file in listed]) + "\n")
            return {file.name: file for file in listed}, True
    try:
        found = [RemoteFile(**entry) for entry in json.loads(kept.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        raise CheckpointError(
            f"{repo_id} is not in the local cache of {_host()}; run it again without {option('offline')}"
        ) from None
    return {file.name: file for file in found}, False


def _ask_listing(repo_id: str, revision: str) -> list[RemoteFile]:
    query = urllib.parse.urlencode({"Revision": revision, "Recursive": "True"})
    with _opened(f"{_endpoint()}/api/v1/models/{repo_id}/repo/files?{query}", repo_id) as response:
        data = response.read(_MOST_LISTED)
    try:
        answer = json.loads(data)
        if answer.get("Success") is False or not isinstance(answer.get("Data"), dict):
            raise CheckpointError(
                f"{_host()} lists no files of {repo_id}: {str(answer.get('Message'))[:120]}"
            )
        entries = [entry for entry in answer["Data"].get("Files") or () if entry.get("Type") != "tree"]
        listed = [_remote_file(repo_id, entry) for entry in entries]
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{_host()} answered for {repo_id} with no listing of files ({error})"
        ) from None
    known = {file.name for file in listed}
    if len(known) < len(listed) or any(
        str(parent) in known for name in known for parent in PurePosixPath(name).parents
    ):
        raise CheckpointError(
            f"{repo_id} lists one name twice, as two files or as a file and a folder; refused"
        )
    return listed


def _remote_file(repo_id: str, entry: dict[str, Any]) -> RemoteFile:
    name, size, sha256 = str(entry["Path"]), int(entry["Size"]), str(entry.get("Sha256") or "").lower()
    path = PurePosixPath(name)
    outside = path.is_absolute() or ".." in path.parts or "\\" in name
    if outside or str(path) != name or not name.isprintable():
        raise CheckpointError(f"{repo_id} names a file {name!r}, which would lead out of its folder; refused")
    if not _SHA256.fullmatch(sha256) and (sha256 or name.endswith(WEIGHTS)):
        raise CheckpointError(
            f"{_host()} announces no SHA-256 of {repo_id}'s {name}; it is not fetched unchecked"
        )
    return RemoteFile(name, size, sha256)


def _fetch(
    repo_id: str,
    wanted: Iterable[str],
    listed: dict[str, RemoteFile],
    revision: str,
    *,
    ask: bool,
) -> Path:
    folder = _folder(repo_id)
    for name in wanted:
        remote = listed.get(name)
        if remote is None:
            raise CheckpointError(f"{repo_id} has no file {name}")
        target = folder / name
        if _is_whole(target, remote):
            continue
        if not ask:
            raise CheckpointError(
                f"{repo_id}: {name} is not in the local cache, and {_host()} was not reached"
            )
        with files.turn(str(target)), files.storage_errors(target):  # another process may be fetching it
            if not _is_whole(target, remote):
                target.parent.mkdir(parents=True, exist_ok=True)
                files.check_space(folder, remote.size)
                _fetch_file(repo_id, remote, target, revision)
    return folder


def _is_whole(target: Path, remote: RemoteFile) -> bool:
    from edgellm import digests

    if not target.is_file() or target.stat().st_size != remote.size:
        return False
    return not remote.sha256 or digests.of(target) == remote.sha256


def _fetch_file(repo_id: str, remote: RemoteFile, target: Path, revision: str) -> None:
    """Fetch into a file beside `target`, going on with what is there, and give it its name when the hash is right."""
    query = urllib.parse.urlencode({"Revision": revision, "FilePath": remote.name})
    url = f"{_endpoint()}/api/v1/models/{repo_id}/repo?{query}"
    partial = target.with_name(f"{target.name}.{remote.sha256[:12] or remote.size}{_PARTIAL}")
    with Progress() as progress:
        if not progress.live:
            note(f"fetching {remote.name} ({format_size(remote.size)})")
        for _ in range(_TRIES):
            before = partial.stat().st_size if partial.exists() else 0
            with contextlib.suppress(_UnreachableError):
                _transfer(url, repo_id, remote, partial, progress)
            there = partial.stat().st_size if partial.exists() else 0
            if there >= remote.size or there <= before:
                break
    if there < remote.size:
        raise CheckpointError(
            f"downloading {remote.name} of {repo_id} stopped at {format_size(there)} of "
            f"{format_size(remote.size)}; run it again to resume"
        )
    if there != remote.size or (remote.sha256 and files.sha256(partial) != remote.sha256):
        partial.unlink()
        raise CheckpointError(
            f"{remote.name} of {repo_id} was damaged on its way from {_host()}: its SHA-256 is not the announced one; "
            "fetch it again"
        )
    partial.replace(target)
    for stale in target.parent.glob(f"{glob.escape(target.name)}.*{_PARTIAL}"):
        stale.unlink()


def _transfer(url: str, repo_id: str, remote: RemoteFile, partial: Path, progress: Progress) -> None:
    """Append to `partial` what it lacks, or write it anew where the server sends all of it."""
    start = partial.stat().st_size if partial.exists() else 0
    if start >= remote.size:
        return
    with _opened(url, repo_id, start=start) as response, partial.open("ab") as file:
        if response.status != 206 or not _begins_at(response, start):
            file.truncate(0)
            start = 0
        _copy(response, file, start, remote, progress)


def _begins_at(response: HTTPResponse, start: int) -> bool:
    return (response.headers.get("Content-Range") or "").startswith(f"bytes {start}-")


def _copy(response: HTTPResponse, file: IO[bytes], done: int, remote: RemoteFile, progress: Progress) -> None:
    while done <= remote.size and (block := response.read(_BLOCK)):
        file.write(block)
        done += len(block)
        if progress.live:
            progress.show(f"{remote.name} {format_size(done)} of {format_size(remote.size)}")


class _UnreachableError(EdgellmError):
    """No server, or one that fails."""


class _Redirect(urllib.request.HTTPRedirectHandler):
    """Follows to HTTP and HTTPS; the token stays with the host it is for."""

    def redirect_request(
        self, request: urllib.request.Request, fp: Any, code: int, message: str, headers: Any, url: str
    ) -> urllib.request.Request | None:
        """The request to follow with."""
        new = super().redirect_request(request, fp, code, message, headers, url)
        if new is not None and _origin(new.full_url) == _origin(request.full_url):
            new.unredirected_hdrs.update(request.unredirected_hdrs)
        return new


def _origin(url: str) -> tuple[str, str]:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.netloc


@contextlib.contextmanager
def _opened(url: str, repo_id: str, *, start: int = 0) -> Iterator[HTTPResponse]:
    """The answer to a request. Raises CheckpointError for what the server refuses, _UnreachableError for no answer."""
    request = urllib.request.Request(url, headers={"User-Agent": f"edgellm/{__version__}"})
    if token := os.environ.get("MODELSCOPE_API_TOKEN"):
        request.add_unredirected_header("Authorization", f"Bearer {token}")
        request.add_unredirected_header("Cookie", f"m_session_id={token}")
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        with urllib.request.build_opener(_Redirect).open(request, timeout=_TIMEOUT_SECONDS) as response:
            yield response
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 404:
            raise CheckpointError(
                f"{_host()} has no {repo_id} (or it is private: set MODELSCOPE_API_TOKEN); check the spelling"
            ) from None
        if error.code in (401, 403):
            raise CheckpointError(
                f"{_host()} does not give {repo_id} (HTTP {error.code}): accept its terms there, then set "
                "MODELSCOPE_API_TOKEN"
            ) from None
        raise _UnreachableError(f"HTTP {error.code}") from None
    except (urllib.error.URLError, TimeoutError, ConnectionError, ssl.SSLError, HTTPException) as error:
        raise _UnreachableError(str(getattr(error, "reason", error))) from None


def _endpoint() -> str:
    domain = os.environ.get("MODELSCOPE_DOMAIN") or _DOMAIN
    return domain.rstrip("/") if domain.startswith(("http://", "https://")) else f"https://{domain}"


def _host() -> str:
    return urllib.parse.urlsplit(_endpoint()).netloc
