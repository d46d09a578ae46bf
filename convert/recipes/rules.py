"""Rules from tensors to types: by role and depth, by name, by regular expression. Knows names, no types, no files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Protocol

from edgellm.errors import UsageError

_LAYERS = re.compile(r"(\d+)(?:-(\d+))?")
_SHARE = re.compile(r"(\d+)%-(\d+)%")


@dataclass(frozen=True)
class Subject:
    """A matrix that wants a type."""

    name: str  # as a GGUF file has it, e.g. "blk.3.ffn_down.weight"
    roles: tuple[
        str, ...
    ]  # e.g. ("ffn_down",); several where matrices are stored as one, or a tied head's two
    layer: int  # -1 outside the layers
    n_layer: int


class Rule(Protocol):
    """One line of a recipe, or one option."""

    @property
    def type(self) -> str:
        """What the matrices it is for become."""
        ...

    def matches(self, subject: Subject) -> bool:
        """Whether it is for this matrix."""
        ...


@dataclass(frozen=True)
class Pattern:
    """`ROLE`, `ROLE LAYERS` or a whole name; * stands for anything.

    LAYERS are numbers and shares of the depth: `0-2,21`, `0%-12%,88%-100%` (each from its start up to, not including,
    its end). A role is GGUF's name of it: `ffn_down`, `attn_*`, `output`, `token_embd`.
    """

    text: str
    type: str

    def __post_init__(self) -> None:
        words = self.text.split()
        if not 1 <= len(words) <= 2:
            raise UsageError(f"{self.text!r} is no pattern: give ROLE, ROLE LAYERS or a tensor's name")
        for part in words[1].split(",") if len(words) == 2 else ():
            low, high = _span(part, self.text)
            if high < low:
                raise UsageError(f"{self.text!r}: {part} ends before it begins")

    def matches(self, subject: Subject) -> bool:
        """Whether role, or name, and depth fit."""
        return self.is_for(subject) and self._at(subject)

    def is_for(self, subject: Subject) -> bool:
        """Whether role or name fit, at whatever depth."""
        role = self.text.split()[0]
        return any(fnmatchcase(name, role) for name in (subject.name, *subject.roles))

    @property
    def last_layer(self) -> int:
        """The largest layer it numbers, -1 if none."""
        _, *layers = self.text.split()
        parts = layers[0].split(",") if layers else []
        return max((_span(part, self.text)[1] for part in parts if "%" not in part), default=-1)

    def _at(self, subject: Subject) -> bool:
        _, *layers = self.text.split()
        return not layers or any(self._covers(part, subject) for part in layers[0].split(","))

    def _covers(self, part: str, subject: Subject) -> bool:
        low, high = _span(part, self.text)
        if subject.layer < 0:
            return False
        if "%" in part:
            return low * subject.n_layer <= 100 * subject.layer < high * subject.n_layer
        return low <= subject.layer <= high


@dataclass(frozen=True)
class Regex:
    """Tensors whose name a regular expression is found in: `--tensor-type`."""

    text: str
    type: str

    def matches(self, subject: Subject) -> bool:
        """Whether it is found in the name. Raises UsageError when it is no regular expression."""
        try:
            return re.search(self.text, subject.name) is not None
        except re.error as error:
            raise UsageError(
                f"--tensor-type {self.text}={self.type}: not a regular expression: {error}"
            ) from error


def first_match(rules: Iterable[Rule], subject: Subject) -> str | None:
    """The type of the first rule for a matrix, None when there is none."""
    return next((rule.type for rule in rules if rule.matches(subject)), None)


def check_patterns(patterns: Iterable[Pattern], subjects: list[Subject]) -> None:
    """Raise UsageError for a pattern that is for none of a model's matrices, or for layers it has not."""
    for pattern in patterns:
        own = [subject for subject in subjects if pattern.is_for(subject)]
        if not own:
            raise UsageError(
                f"the recipe's {pattern.text!r} is for no matrix of this model; edgellm inspect lists their names"
            )
        if pattern.last_layer >= own[0].n_layer:
            raise UsageError(f"the recipe's {pattern.text!r}: this model has {own[0].n_layer} layers, from 0")


def _span(part: str, text: str) -> tuple[int, int]:
    """First and last layer, or the shares in percent."""
    if share := _SHARE.fullmatch(part):
        return int(share[1]), int(share[2])
    if layers := _LAYERS.fullmatch(part):
        return int(layers[1]), int(layers[2] or layers[1])
    raise UsageError(f"{text!r}: {part!r} is no depth; give layers, e.g. 0-2,21, or shares, e.g. 0%-12%")
