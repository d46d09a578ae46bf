"""A folder as one archive, the same bytes from the same files: sorted, without times, owners or odd modes."""

from __future__ import annotations

import contextlib
import gzip
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from edgellm.errors import MissingExtraError

SUFFIXES = (".tar", ".tar.gz", ".tar.zst")
_ZSTD_LEVEL = 9


def is_archive(path: Path) -> bool:
    """Whether the name asks for an archive, and not for a folder."""
    return path.name.endswith(SUFFIXES)


def check(path: Path) -> None:
    """Raise MissingExtraError, before work is done, when what compresses is not installed."""
    if path.name.endswith(".zst"):
        _zstd()


def pack(folder: Path, target: Path, top: str) -> None:
    """Write the files of `folder` to `target`, below the folder `top` of the archive."""
    with (
        _compressed(target) as stream,
        tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                entry = tarfile.TarInfo(f"{top}/{path.relative_to(folder).as_posix()}")
                entry.size = path.stat().st_size
                entry.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
                with path.open("rb") as file:
                    tar.addfile(entry, file)


@contextlib.contextmanager
def _compressed(target: Path) -> Iterator[Any]:
    with target.open("wb") as file:
        if target.name.endswith(".gz"):
            with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as stream:
                yield stream
        elif target.name.endswith(".zst"):
            with _zstd()(file) as stream:
                yield stream
        else:
            yield file


def _zstd() -> Any:
    """A function from a file to a stream that compresses into it."""
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]  # Python 3.14

        return lambda file: zstd.ZstdFile(file, "wb", level=_ZSTD_LEVEL)
    except ImportError:
        pass
    try:
        import zstandard
    except ImportError:
        raise MissingExtraError("a .tar.zst archive (.tar and .tar.gz do not)", "bundle") from None

    def stream(file: IO[bytes]) -> Any:
        return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).stream_writer(file, closefd=False)

    return stream
