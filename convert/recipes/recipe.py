"""A recipe file: `base`, the type that decides what no rule does, and `types`, patterns with their types.

    about = "why and for which models"
    base = "IQ4_NL"
    [types]
    "output" = "IQ4_NL"
    "ffn_down 0%-12%,88%-100%" = "Q8_0"

The first pattern that fits a matrix counts (rules.py). A base that begins with `onnx-` makes it a recipe for ONNX,
whose types are those of onnx/options.py. Files that the package brings are found by their name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgellm import files, toml
from edgellm.convert.recipes.rules import Pattern
from edgellm.errors import ArtifactError, UsageError

_FOLDER = Path(__file__).parent
_KEYS = {"about": str, "base": str, "imatrix": bool, "types": dict}
_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class RecipeFile:
    """A recipe as it was read."""

    name: str
    base: str
    patterns: tuple[Pattern, ...]
    about: str = ""
    imatrix: bool = False  # its types were chosen for weights rounded with an importance matrix
    sha256: str = field(default="", compare=False)

    @property
    def is_onnx(self) -> bool:
        """Whether it is for ONNX."""
        return self.base.lower().startswith("onnx-")

    @property
    def record(self) -> dict[str, Any]:
        """What a converted model says of it."""
        types = {pattern.text: pattern.type for pattern in self.patterns}
        return {"name": self.name, "sha256": self.sha256, "base": self.base, "types": types}


def names() -> tuple[str, ...]:
    """The recipes of the package."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def load(name_or_path: str) -> RecipeFile:
    """Read a file, or the package's recipe of that name. Raises UsageError, ArtifactError."""
    path = Path(name_or_path)
    if path.suffix.lower() != ".toml" and not path.is_file():
        if name_or_path not in names():
            known = ", ".join(names()) or "none"
            raise UsageError(f"there is no recipe {name_or_path!r}; give a .toml file or a name: {known}")
        path = _FOLDER / f"{name_or_path}.toml"
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES)
        return parse(data.decode(), path.stem)
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: cannot be read: {error}") from error
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def parse(text: str, name: str) -> RecipeFile:
    """Read a recipe's text. Raises UsageError naming the key."""
    try:
        found = toml.loads(text)
    except ValueError as error:
        raise UsageError(f"is no TOML: {error}") from error
    for key, value in found.items():
        if key not in _KEYS:
            raise UsageError(f"has a key {key!r}; a recipe's are {', '.join(_KEYS)}")
        if not isinstance(value, _KEYS[key]):
            raise UsageError(f"{key} must be a {_KEYS[key].__name__}, not {value!r}")
    if "base" not in found:
        raise UsageError('names no base, e.g. base = "Q4_0"')
    return RecipeFile(
        name=name,
        base=found["base"],
        patterns=_patterns(found.get("types", {})),
        about=found.get("about", ""),
        imatrix=found.get("imatrix", False),
        sha256=hashlib.sha256(text.encode()).hexdigest(),
    )


def _patterns(types: Mapping[str, object]) -> tuple[Pattern, ...]:
    for pattern, type_ in types.items():
        if not isinstance(type_, str):
            raise UsageError(f"the type of {pattern!r} must be a string, not {type_!r}")
    return tuple(Pattern(pattern, str(type_)) for pattern, type_ in types.items())


def write(
    path: Path,
    base: str,
    types: Sequence[tuple[str, str]],
    *,
    about: str,
    imatrix: bool = False,
    force: bool = False,
) -> RecipeFile:
    """Write a recipe atomically and return it as read again. Raises OutputExistsError, StorageError."""
    lines = [f"about = {_quoted(about)}", f"base = {_quoted(base)}"]
    lines += ["imatrix = true"] * imatrix
    lines += ["", "[types]", *(f"{_quoted(pattern)} = {_quoted(type_)}" for pattern, type_ in types), ""]
    text = "\n".join(lines)
    made = parse(text, path.stem)
    with files.atomic_path(path, force=force) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return made


def _quoted(text: str) -> str:
    import json

    return json.dumps(text, ensure_ascii=False)
