"""Names: what a model's folder or hub name says of it, and the file name that is made of that.

The convention (`<Base>-<Size>-<Finetune>-<Version>-<ENCODING>.gguf`) is docs/gguf.md of the ggml project; the
reading of existing names follows gguf-py/gguf/metadata.py, so that both give one model one name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

_VERSION = re.compile(r"(v|iter)?\d+([.]\d+)*", re.IGNORECASE)
_ENCODING = re.compile(r"i?q\d(_\w)*|b?fp?(16|32)", re.IGNORECASE)
_SIZE = re.compile(
    r"((a|\d+x)?\d+([._]\d+)?[kmbt]\d?|small|mini|medium|large|x?xl)", re.IGNORECASE
)  # 7B, 8x7B, A3B, 1_5b, 7b1, large
_TUNING = re.compile(r"chat|instruct|vision|lora", re.IGNORECASE)
_NOT_TITLED = re.compile(r"v\d+(\.\d+)*|\d.*")
_SCALES = (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3))


@dataclass(frozen=True)
class NameParts:
    """What a model name is made of; None where it does not say."""

    full: str | None = None
    organization: str | None = None
    base: str | None = None
    finetune: str | None = None
    version: str | None = None
    size: str | None = None


@dataclass
class _Part:
    text: str
    kinds: set[str] = field(default_factory=set)


def read_name(model_id: str, n_params: int) -> NameParts:
    """Take `[organization/]name` apart. Sizes far from `n_params` (0: unknown) are taken for context lengths."""
    if " " in model_id:  # a sentence, not an id
        return NameParts(full=model_id)
    organization, slash, full = model_id.partition("/")
    if not slash:
        organization, full = "", model_id
    if organization.startswith("."):
        organization = ""
    parts = [_Part(text) for text in full.split("-") if text]
    for index, part in enumerate(parts):
        _classify(part, first=index == 0, n_params=n_params)
    _drop_word_sizes(parts)
    _find_base(parts)
    size = "-".join(dict.fromkeys(p.text for p in parts if "size" in p.kinds)) or None
    finetune = _join(p.text for p in parts if "finetune" in p.kinds)
    version = _join(p.text for p in parts if "version" in p.kinds and "base" not in p.kinds)
    base = _join(p.text for p in parts if "base" in p.kinds)
    if size is None and finetune is None and version is None:
        base = None  # nothing to tell the base from the rest
    return NameParts(full, organization or None, base, finetune, version, size)


def _classify(part: _Part, *, first: bool, n_params: int) -> None:
    if _VERSION.fullmatch(part.text):
        part.kinds.add("version")
    elif _ENCODING.fullmatch(part.text):
        part.kinds.add("encoding")
        part.text = part.text.upper()
    elif not first and _SIZE.fullmatch(part.text):
        _classify_size(part, n_params)
    elif not first and _TUNING.fullmatch(part.text):
        part.kinds.add("finetune")


def _classify_size(part: _Part, n_params: int) -> None:
    text = part.text.replace("_", ".")
    if text[-1].isdecimal():  # 7b1 is 7.1B
        text = f"{text[:-2]}.{text[-1]}{text[-2]}"
    if len(text) > 1 and text[-2].isdecimal():
        text = text[:-1] + text[-1].upper()
    try:
        claimed = float(text[:-1]) * 1000.0 ** " KMBT".find(text[-1])
    except ValueError:
        claimed = float(n_params)
    if n_params and abs(claimed - n_params) > 7 * n_params // 8:
        part.kinds.add("finetune")
        text = text[:-1] + text[-1].lower()
    else:
        part.kinds.add("size")
    part.text = text


def _drop_word_sizes(parts: list[_Part]) -> None:
    """A size in words says nothing beside one in numbers."""
    sizes = [part for part in parts if "size" in part.kinds]
    if any(char.isdecimal() for part in sizes for char in part.text):
        for part in sizes:
            if part.text.isalpha():
                part.kinds.discard("size")


def _find_base(parts: list[_Part]) -> None:
    """The base is what stands first, versions in its middle included; other unexplained parts are tuning."""
    at_start = True
    for part in parts:
        if at_start and ((not part.kinds and part.text[0].isalpha()) or "version" in part.kinds):
            part.kinds.add("base")
            continue
        at_start = False
        if not part.kinds:
            part.kinds.add("finetune")
    for part in reversed(parts):
        if "base" not in part.kinds or len(part.kinds) == 1:
            break
        part.kinds.discard("base")


def _join(texts: Iterable[str]) -> str | None:
    return "-".join(texts) or None


def title(name: str) -> str:
    """`some-model-v2-7b` -> `Some Model v2 7b`: words titled, versions and numbers left."""
    words = name.strip().replace("-", " ").split()
    return " ".join(w.title() if w.islower() and not _NOT_TITLED.fullmatch(w) else w for w in words)


def size_label(n_params: int, n_shared: int, n_per_expert: int, n_expert: int) -> str:
    """`1.2B`, `630M`; for a mixture of experts `128x258M`, one expert with what is shared."""
    if n_expert:
        return f"{n_expert}x{_rounded(n_shared + n_per_expert)}"
    return _rounded(n_params)


def _rounded(n: int) -> str:
    """At least two digits, in the largest unit that leaves more than one whole."""
    letter, scale = next(((letter, scale) for letter, scale in _SCALES if n > scale), _SCALES[-1])
    scaled = n / scale
    digits = len(str(round(scaled)).lstrip("0"))
    return f"{scaled:.{max(2 - digits, 0)}f}{letter}"


def file_stem(
    name: str | None,
    base: str | None,
    size: str | None,
    finetune: str | None,
    version: str | None,
    encoding: str | None,
) -> str:
    """The file name of a converted model, without its ending."""
    stem = (base or name or "model").strip().replace(" ", "-").replace("/", "-")
    for part in (size, finetune, version, encoding.upper() if encoding else None):
        stem += f"-{part.strip().replace(' ', '-').replace('/', '-')}" if part else ""
    return stem
