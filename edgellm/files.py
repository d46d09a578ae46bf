"""The one way edgellm writes: a temporary file beside the target, fsync, validate, rename, fsync the folder.

A reader sees the old file or the new one, never a part of either; an exception or a kill leaves the target
as it was. A leftover of a killed writer is recognised by its dead owner and swept by the next writer.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from edgellm.errors import OutputExistsError, StorageError

_PREFIX = ".edgellm-tmp-"


def check_output(path: Path, *, force: bool) -> None:
    """Refuse early: raise OutputExistsError when `path` is there and `force` is not given."""
    if path.exists() and not force:
        raise OutputExistsError(f"{path} exists; give --force to replace it, or another -o")
    if not path.parent.is_dir():
        raise StorageError(f"the folder {path.parent} does not exist; create it first")


def unnamed(path: Path) -> str:
    """The path with `~` for the home folder: without its user's name, for files that are passed around."""
    with contextlib.suppress(ValueError, RuntimeError):  # it is elsewhere; there is no home
        return str(Path("~") / path.relative_to(Path.home()))
    return str(path)


def as_text(name: str) -> str:
    """`name` with U+FFFD for what is no text: bytes that are not UTF-8 (PEP 383), halves of a surrogate pair."""
    return name.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def check_space(folder: Path, need_bytes: int) -> None:
    """Raise StorageError when the file system of `folder` has fewer than `need_bytes` free."""
    free = shutil.disk_usage(folder).free
    if free < need_bytes:
        raise StorageError(
            f"not enough space in {folder}: {need_bytes:,} bytes needed, {free:,} free; "
            f"free some, or write elsewhere with -o"
        )


@contextlib.contextmanager
def atomic_path(
    target: Path, *, force: bool = False, validate: Callable[[Path], None] | None = None
) -> Iterator[Path]:
    """Yield a temporary path (nothing there yet) beside `target`; on a clean exit it becomes `target`.

    `validate` sees the finished file before it gets its name; what it raises leaves `target` untouched.
    The yielded path may be made a file or a folder. Raises OutputExistsError, StorageError.
    """
    check_output(target, force=force)
    with _lock(target):
        _sweep(target.parent)
        temporary = _claim(target)
        try:
            with storage_errors(target):
                yield temporary
                fsync_tree(temporary)
            if validate:
                validate(temporary)
            with storage_errors(target):
                check_output(target, force=force)
                _replace(temporary, target)
        finally:
            _remove(temporary)


def write_bytes(target: Path, data: bytes, *, force: bool = True) -> None:
    """Write a small file atomically."""
    with atomic_path(target, force=force) as temporary:
        temporary.write_bytes(data)


def write_text(target: Path, text: str, *, force: bool = True) -> None:
    """Write a small UTF-8 text file atomically.

    Surrogates, as in paths that are not UTF-8, are written as JSON escapes them, so that JSON gives them back.
    """
    write_bytes(target, text.encode("utf-8", "backslashreplace"), force=force)


def sha256(*paths: Path, block: int = 1 << 20) -> str:
    """Hex SHA-256 of a file's bytes, or of several files' one after the other, read in blocks."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(block):
                digest.update(chunk)
    return digest.hexdigest()


def cache_dir() -> Path:
    """Folder for what edgellm can make again: `$EDGELLM_CACHE`, else the XDG cache folder. Created."""
    base = os.environ.get("EDGELLM_CACHE")
    root = (
        Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgellm"
    )
    root.mkdir(parents=True, exist_ok=True)
    return root


@contextlib.contextmanager
def storage_errors(target: Path) -> Iterator[None]:
    """Turn the operating system's word on space and permission into a StorageError about `target`."""
    try:
        yield
    except OSError as error:
        remedy = {
            errno.ENOSPC: "free some space, or write elsewhere with -o",
            errno.EDQUOT: "your quota is used up; write elsewhere with -o",
            errno.EFBIG: "the file-size limit is too small; raise it (ulimit -f) or split the output",
            errno.EACCES: "you may not write there; choose another -o",
            errno.EROFS: "the file system is read-only; choose another -o",
        }.get(error.errno or 0)
        if remedy is None:
            raise
        raise StorageError(f"cannot write {target}: {os.strerror(error.errno or 0)}; {remedy}") from error


def fsync_tree(path: Path) -> None:
    """Flush a file, or every file of a folder, to the disk."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _claim(target: Path) -> Path:
    """A fresh name in the target's folder that carries our process id, so that leftovers have an owner."""
    folder = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=target.parent)
    return Path(folder) / target.name


def _remove(temporary: Path) -> None:
    shutil.rmtree(temporary.parent, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove temporary folders whose owner is no longer running."""
    for leftover in folder.glob(f"{_PREFIX}*"):
        pid = leftover.name.removeprefix(_PREFIX).split("-")[0]
        if pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(leftover, ignore_errors=True)


def _alive(pid: int) -> bool:
    import psutil

    return bool(psutil.pid_exists(pid))


def _replace(temporary: Path, target: Path) -> None:
    """Rename over the target. A folder cannot be renamed over a folder: the old one steps aside first."""
    if target.is_dir():
        aside = temporary.parent / "replaced"
        target.rename(aside)
        try:
            temporary.rename(target)
        except OSError:
            aside.rename(target)
            raise
    else:
        temporary.replace(target)
    _fsync_dir(target.parent)


def _fsync_dir(folder: Path) -> None:
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _lock(target: Path) -> Iterator[None]:
    """Hold the lock of one output. The lock file lives in the cache, so that nothing is left beside outputs."""
    name = hashlib.sha256(os.fsencode(target.resolve())).hexdigest()[:24]
    folder = cache_dir() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("a") as handle:
        try:
            _lock_handle(handle.fileno())
        except OSError as error:
            raise StorageError(
                f"{target} is being written by another process; wait for it to finish"
            ) from error
        yield


def _lock_handle(descriptor: int) -> None:
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
