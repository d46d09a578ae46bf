"""The one way edgellm writes: a temporary file beside the target, fsync, validate, rename, fsync the folder.

A reader sees the old file or the new one, never a part of either; an exception or a kill leaves the target
as it was. Each output has one place beside it where it grows, a folder whose `lock` its writer holds:

    .edgellm-tmp-<hash of the name>/  ...lock, model.gguf, and from the moment of renaming on: ...commit

What cannot be locked is being written, by whichever process on whichever machine or container the lock reaches;
what can be locked was left by a killed writer. With `commit` in it, all is there and validated: the next who
looks finishes the renaming. Without, it is swept.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from edgellm.errors import OutputExistsError, StorageError, option

_PREFIX = ".edgellm-tmp-"
_LOCK, _COMMIT, _ASIDE = f"{_PREFIX}lock", f"{_PREFIX}commit", f"{_PREFIX}replaced"
_SAID = "EDGELLM_CACHE_SAID"  # the cache folder of which it was said that it fails
_ATTEMPTS = 100  # to take a place that others take away and make anew
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h

_REMEDIES = {
    errno.ENOSPC: "free some space, or give another {out}",
    errno.EDQUOT: "your quota is used up; give another {out}",
    errno.EFBIG: "the file-size limit is too small; raise it (ulimit -f) or split the output",
    errno.EACCES: "you may not write there; give another {out}",
    errno.EPERM: "you may not write there; give another {out}",
    errno.EROFS: "the file system is read-only; give another {out}",
    errno.EIO: "the disk or its connection fails; give another {out}",
    errno.ENAMETOOLONG: "give a shorter {out}",
    errno.ENOTDIR: "a part of the path is a file; give another {out}",
    errno.EMFILE: "too many files are open; raise the limit (ulimit -n)",
    errno.ENOLCK: "the file system has no locks; give another {out}",
    errno.ENOTSUP: "the file system cannot do that; give another {out}",
}


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
            f"free some, or give another {option('out')}"
        )


@contextlib.contextmanager
def atomic_path(
    target: Path,
    *,
    force: bool = False,
    validate: Callable[[Path], None] | None = None,
    others: Sequence[Path] = (),
) -> Iterator[Path]:
    """Yield a temporary path (nothing there yet); on a clean exit it becomes `target`.

    `validate` sees the finished file before it is flushed and gets its name, and may write its verdict into it; what
    it raises leaves `target` untouched.
    The yielded path may be made a file or a folder. `others`, in the folder of `target`, are written beside the
    yielded path and get their names with it: a kill between two renames leaves none of the old ones in use, and
    the rest to be finished. Raises OutputExistsError, StorageError.
    """
    recover(target.parent)
    check_output(target, force=force)
    with _place(target) as place:
        temporary = place / target.name
        with storage_errors(target):
            yield temporary
        if validate:
            validate(temporary)
        with storage_errors(target):
            fsync_tree(place)
            check_output(target, force=force)
            _commit(place, [*(path.name for path in others), target.name])


def write_bytes(target: Path, data: bytes, *, force: bool = True, mode: int | None = None) -> None:
    """Write a small file atomically; `mode` are its permissions where the user's umask shall not decide."""
    with atomic_path(target, force=force) as temporary:
        temporary.touch(0o666 if mode is None else mode)
        temporary.write_bytes(data)


def write_text(target: Path, text: str, *, force: bool = True, mode: int | None = None) -> None:
    """Write a small UTF-8 text file atomically.

    Surrogates, as in paths that are not UTF-8, are written as JSON escapes them, so that JSON gives them back.
    """
    write_bytes(target, text.encode("utf-8", "backslashreplace"), force=force, mode=mode)


def sha256(*paths: Path, block: int = 1 << 20) -> str:
    """Hex SHA-256 of a file's bytes, or of several files' one after the other, read in blocks."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(block):
                digest.update(chunk)
    return digest.hexdigest()


def cache_dir(*names: str) -> Path:
    """Folder for what edgellm can make again: `$EDGELLM_CACHE`, else the XDG cache folder; `names` below it.

    Created where that is possible: a cache is a convenience, and what cannot be kept is made again.
    """
    base = os.environ.get("EDGELLM_CACHE")
    root = (
        Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgellm"
    )
    folder = root.joinpath(*names)
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def remember(target: Path, text: str) -> None:
    """Write a small text into the cache, if that is possible."""
    try:
        write_text(target, text)
    except (StorageError, OSError) as error:
        say_cache_fails(error)


def say_cache_fails(error: Exception) -> None:
    """One line on standard error, the first time a folder fails, that nothing can be kept; the work goes on."""
    folder = str(cache_dir())
    if os.environ.get(_SAID) != folder:  # by this process, or by the one that started it
        os.environ[_SAID] = folder
        fact = str(error).split(";")[0]
        print(
            f"edgellm: {fact}; going on without the cache (EDGELLM_CACHE names its folder)", file=sys.stderr
        )


@contextlib.contextmanager
def storage_errors(target: Path) -> Iterator[None]:
    """Turn the operating system's word on space, permission and the disk into a StorageError about `target`."""
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0)
        if remedy is None:
            raise
        raise StorageError(
            f"cannot write {target}: {os.strerror(error.errno or 0)}; {remedy.format(out=option('out'))}"
        ) from error


def fsync_tree(path: Path) -> None:
    """Flush a file, or every file of a folder, to the disk."""
    for file in [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]:
        _fsync(file)


def recover(folder: Path) -> None:
    """Finish or sweep what killed writers left in `folder`; what another process is writing stays."""
    for leftover in folder.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            lock = _locked(leftover)
            if lock is not None:
                _leave(leftover, lock)


# --- the place where an output grows -----------------------------------------------------------------------


@contextlib.contextmanager
def _place(target: Path) -> Iterator[Path]:
    """A folder of our own beside `target`, empty but for its lock. Raises StorageError when another has it."""
    name = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:24]
    place = target.parent / f"{_PREFIX}{name}"
    with storage_errors(target):
        lock = _claim(place)
    if lock is None:
        raise StorageError(f"{target} is being written by another process; wait for it to finish")
    try:
        yield place
    finally:
        _leave(place, lock)


def _claim(place: Path) -> int | None:
    """Make `place` and lock it; what a killed writer left there is finished or swept first."""
    for _ in range(_ATTEMPTS):
        place.mkdir(mode=0o700, exist_ok=True)
        try:
            lock = _locked(place)
        except FileNotFoundError:
            continue  # its last owner has just taken it away
        except OSError:
            with contextlib.suppress(OSError):
                place.rmdir()
            raise
        if lock is None or [entry.name for entry in place.iterdir()] == [_LOCK]:
            return lock
        _leave(place, lock)
    raise StorageError(f"what a killed writer left in {place} cannot be cleared; remove that folder")


def _locked(place: Path) -> int | None:
    """A descriptor that locks `place`, None when someone else has it. Raises FileNotFoundError when it is gone."""
    lock = os.open(place / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        flock(lock)
        if os.path.samestat((place / _LOCK).stat(), os.fstat(lock)):
            return lock
        raise FileNotFoundError(place)  # taken away while we asked; what is there now is another's
    except (BlockingIOError, PermissionError):
        os.close(lock)
        return None
    except BaseException:
        os.close(lock)
        raise


def _leave(place: Path, lock: int) -> None:
    """Finish what was committed, remove the rest, the lock last."""
    try:
        with contextlib.suppress(OSError):
            _roll_forward(place)
        if (place / _COMMIT).exists():
            return  # it cannot be finished now; the next writer tries again
        for entry in place.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name != _LOCK:
                entry.unlink(missing_ok=True)
        if os.name != "nt":  # while it is locked, so that whoever waits for it sees that it is gone
            (place / _LOCK).unlink(missing_ok=True)
            place.rmdir()
    except OSError:
        pass  # an interrupted clean-up is the next writer's
    finally:
        os.close(lock)
        if os.name == "nt":
            shutil.rmtree(place, ignore_errors=True)


# --- giving names ------------------------------------------------------------------------------------------


def _commit(place: Path, names: list[str]) -> None:
    """Give everything its name. One name is one system call; several are written down first."""
    new, target = place / names[-1], place.parent / names[-1]
    if len(names) == 1 and not target.is_dir():
        new.replace(target)
    elif len(names) > 1 or not _exchange(new, target):
        note = place / f"{_COMMIT}.new"
        note.write_text(json.dumps(names), encoding="utf-8")
        _fsync(note)
        note.replace(place / _COMMIT)
        try:
            _fsync(place)
            _roll_forward(place)
        except OSError:
            _roll_back(place, names)
            raise
    _fsync(place.parent)


def _roll_back(place: Path, names: list[str]) -> None:
    """Put the old ones back under their names. Where that fails, too, `commit` stays for the next to finish."""
    for name in names:
        if not (place / name).exists():
            (place.parent / name).rename(place / name)
        if (place / _ASIDE / name).exists():
            (place / _ASIDE / name).rename(place.parent / name)
    (place / _COMMIT).unlink()


def _roll_forward(place: Path) -> None:
    """Rename what `commit` lists, the last name last: by it a model is opened, so the old one goes first of all."""
    try:
        names = json.loads((place / _COMMIT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if not isinstance(names, list) or any(not isinstance(n, str) or Path(n).name != n for n in names):
        names = []  # not ours
    if names and (place / names[-1]).exists():
        _step_aside(place, names[-1])
    for name in names:
        if (place / name).exists():
            _step_aside(place, name)
            (place / name).rename(place.parent / name)
    (place / _COMMIT).unlink()


def _step_aside(place: Path, name: str) -> None:
    if (place.parent / name).exists():
        aside = place / _ASIDE
        aside.mkdir(exist_ok=True)
        (place.parent / name).rename(aside / name)


def _exchange(new: Path, old: Path) -> bool:
    """Swap two paths in one step (renameat2, Linux 3.15); False where there is no such step."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:  # glibc before 2.28
        return False
    if rename(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(old), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):  # a file system without it
        return False
    raise OSError(code, os.strerror(code), str(old))


def _fsync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- taking turns ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def turn(name: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock called `name`. Where another process has it, call `waiting` once and wait for it.

    For what is made once for all: who waited finds it made. A process that dies gives its locks back. Where
    nothing can be kept, or the file system has no locks, nobody waits.
    """
    digest = hashlib.sha256(f"turn {name}".encode("utf-8", "surrogateescape")).hexdigest()
    with contextlib.ExitStack() as stack:
        try:
            handle = stack.enter_context((cache_dir("locks") / digest[:24]).open("a"))
        except OSError:  # without a cache there is nothing to wait for
            yield
            return
        told = False
        while _busy(handle.fileno()):
            if not told:
                waiting()
            told = True
            time.sleep(0.05)
        yield


def _busy(descriptor: int) -> bool:
    """Whether another process has the lock; where there are no locks, nobody has."""
    try:
        flock(descriptor)
    except OSError as error:
        return error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
    return False


def flock(descriptor: int) -> None:
    """Lock a file that is open, or raise OSError at once."""
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
