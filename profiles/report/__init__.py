"""Rendering a report: one result, many pure renderers.

A format is one file beside this one with `SUFFIX` and `render(report, lang) -> str`; adding the file is the
registration (a trailing underscore in the file's name, there to keep clear of the standard library, is not
part of the format's). Renderers compute nothing that is not in the report and touch no file.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from edgellm.errors import UsageError
from edgellm.profiles.result.result import Report


def formats() -> tuple[str, ...]:
    """Names of the registered formats."""
    return tuple(sorted(_modules()))


def render(report: Report, format_: str, lang: str = "en") -> str:
    """The report in a format. Raises UsageError for an unknown one."""
    text: str = _load(format_).render(report, lang)
    return text


def render_all(results: Mapping[str, Report], format_: str, lang: str = "en") -> str:
    """One result as it is, several joined, by the names of their files. Raises UsageError where they cannot be.

    A format joins by a function `render_many(results, lang)`; one without it takes one result only.
    """
    if len(results) == 1:
        return render(next(iter(results.values())), format_, lang)
    module = _load(format_)
    if not hasattr(module, "render_many"):
        able = ", ".join(name for name in formats() if hasattr(_load(name), "render_many"))
        raise UsageError(f"several results cannot be joined as {format_}; there are: {able}")
    text: str = module.render_many(results, lang)
    return text


def check_format(format_: str) -> None:
    """Raise UsageError for an unknown format."""
    _load(format_)


def format_for(path: Path, default: str | None = None) -> str:
    """The format a file name asks for by its suffix, else the default. Raises UsageError without either."""
    suffixes = {_load(name).SUFFIX: name for name in formats()}
    found = suffixes.get(path.suffix.lower(), default)
    if found is None:
        known = ", ".join(sorted(suffixes))
        raise UsageError(f"{path}: the suffix does not tell the format; use one of {known}, or give -o")
    return found


def _modules() -> dict[str, str]:
    """Format name -> module name."""
    names = [m.name for m in pkgutil.iter_modules(__path__) if not m.ispkg]
    return {name.rstrip("_"): name for name in names}


def _load(format_: str) -> ModuleType:
    modules = _modules()
    if format_ not in modules:
        raise UsageError(f"unknown format {format_!r}; there are: {', '.join(sorted(modules))}")
    return importlib.import_module(f"{__name__}.{modules[format_]}")
