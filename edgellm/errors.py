"""Every error edgellm raises on purpose, and the exit code the command line gives it.

EdgellmError            1   something failed; the message names the fact, the value and the remedy
├── CheckpointError     1   a source checkpoint is missing, damaged or of an unknown kind
├── ArtifactError       1   a converted model cannot be read or is not what it says
├── OutputExistsError   1   refusing to overwrite without --force
├── StorageError        1   no space, no permission, a lock held by someone else
├── EngineError         1   llama.cpp or ONNX Runtime refused or crashed
│   ├── EngineCrashError    the engine's process died
│   └── CancelledError      it was asked to stop, and did
├── MissingExtraError   1   an optional package is needed; says the pip line
├── UsageError          2   the request itself makes no sense
└── CheckFailedError    3   work was done but a check or constraint is not met
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator

_FLAGS_ENV = "EDGELLM_SAYS_FLAGS"  # the command line's processes have it, children included
#: A setting that messages name -> what the command line calls it, what Python calls it.
_OPTIONS = {
    "device": ("--device", "device"),
    "draft": ("--draft", "draft="),
    "keep_unverified": ("--keep-unverified", "edgellm convert --keep-unverified"),
    "lora": ("--lora", "lora"),
    "mtp": ("--draft mtp", "EngineOptions.mtp"),
    "n_ctx": ("-c", "n_ctx"),
    "n_gpu_layers": ("-ngl", "n_gpu_layers"),
    "offline": ("--offline", "offline=True"),
    "on_full_drop": ("/set on-full drop", 'on_full="drop"'),
    "out": ("-o", "path"),
    "raw": ("use edgellm run --raw MODEL PROMPT", "give complete() or stream() a string"),
    "truncate": ("--truncate", "truncate=True"),
    "type_k": ("-ctk", "type_k"),
    "type_v": ("-ctv", "type_v"),
}


def option(name: str) -> str:
    """What the user calls a setting: its flag on the command line, its name in Python."""
    flag, word = _OPTIONS[name]
    return flag if os.environ.get(_FLAGS_ENV) else word


@contextlib.contextmanager
def said_as_flags() -> Iterator[None]:
    """Messages name settings by the command line's flags, for the block."""
    before = os.environ.get(_FLAGS_ENV)
    os.environ[_FLAGS_ENV] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_FLAGS_ENV, None)


class EdgellmError(Exception):
    """Base of all errors raised on purpose. `str(error)` is one line fit for a user."""

    exit_code = 1


class CheckpointError(EdgellmError):
    """A source checkpoint is missing, damaged or of an unknown kind."""


class ArtifactError(EdgellmError):
    """A converted model cannot be read or is not what it says."""


class OutputExistsError(EdgellmError):
    """The output is already there and `--force` was not given."""


class StorageError(EdgellmError):
    """The file system refused: no space, no permission, or a lock held by another process."""


class EngineError(EdgellmError):
    """An inference engine refused a model or a request."""


class EngineCrashError(EngineError):
    """The process an engine ran in died (signal or exit), so nothing it held survives."""


class CancelledError(EngineError):
    """An evaluation ended early because its caller asked for that."""

    def __init__(self, why: str = "the answer was cancelled") -> None:
        super().__init__(why)


class MissingExtraError(EdgellmError):
    """An optional package is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an optional package. Install it with: pip install 'edgellm[{extra}]'")


class UsageError(EdgellmError):
    """The request itself makes no sense, whatever the files hold."""

    exit_code = 2


class CheckFailedError(EdgellmError):
    """The work was done, but a check or a constraint asked for is not met."""

    exit_code = 3


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """`did you mean NEAREST?`, whatever the case of letters; `otherwise` where nothing is near."""
    import difflib  # when there is something to guess

    spelled = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), spelled, 1)
    return f"did you mean {spelled[near[0]]}?" if near else otherwise
