"""Which of a repository's GGUF files a name means: by its type, all parts of a split one, never a side file.

Pure: names in, names out. The types are those of llama.cpp's file names, `Model-Q4_K_M.gguf`,
`Q4_K_M/Model-Q4_K_M-00001-of-00002.gguf`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from edgellm.errors import ArtifactError

#: What is taken where no type is asked for: four bits with K-quants, then what is nearest, first above, then below.
PREFERRED = (
    *("Q4_K_M", "UD-Q4_K_XL", "Q4_K_L", "Q4_K_S", "Q4_K", "IQ4_XS", "IQ4_NL", "Q4_0", "Q4_1"),
    *("Q5_K_M", "UD-Q5_K_XL", "Q5_K_L", "Q5_K_S", "Q5_K", "Q5_0", "Q5_1", "Q6_K", "Q6_K_L", "UD-Q6_K_XL"),
    *("MXFP4", "MXFP4_MOE", "Q8_0", "Q3_K_L", "UD-Q3_K_XL", "Q3_K_M", "IQ3_M", "Q3_K_S", "Q3_K", "IQ3_S"),
    *("BF16", "F16", "FP16", "F32"),
)
_TYPE = re.compile(
    r"(?<![A-Za-z0-9])((?:UD-)?(?:I?Q\d+(?:_[A-Z0-9]+)*|TQ\d_0|MXFP4(?:_MOE)?|NVFP4|BF16|F16|FP16|F32))(?![A-Za-z0-9_])",
    re.IGNORECASE,
)
_PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})")
#: The image part of a model, a matrix of importance, a head that drafts.
_SIDE = re.compile(r"(?<![a-z])(mmproj|imatrix|mtp)(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class Candidate:
    """One model among the files: its name without part numbers, its type, and all its files in order."""

    name: str
    type: str  # upper case; empty where the name tells none
    files: tuple[str, ...]


def choose(names: Iterable[str], wanted: str, where: str) -> Candidate:
    """The model that `wanted` - a type, a file's name, or nothing - names among the files `names` of `where`.

    Raises ArtifactError that lists what there is where that is none, or more than one.
    """
    names = sorted(names)
    found = candidates(names)
    if not found:
        side = ", ".join(names[:4]) or "no .gguf file"
        raise ArtifactError(f"{where} has no whole GGUF model, only: {side}")
    if wanted:
        return _only([one for one in found if _is_meant(one, wanted)], found, where, wanted)
    if len(found) == 1:
        return found[0]
    for preferred in PREFERRED:
        if same := [one for one in found if one.type == preferred]:
            return _only(same, found, where, preferred)
    return _only([], found, where, "")


def candidates(names: Iterable[str]) -> list[Candidate]:
    """The models among files: the parts of one together, sets with a part missing and side files left out."""
    groups: dict[tuple[str, int], dict[int, str]] = {}
    for name in names:
        path = PurePosixPath(name)
        if path.suffix.lower() != ".gguf" or _SIDE.search(path.name):
            continue
        part = _PART.fullmatch(path.stem)
        base, number, count = (part[1], int(part[2]), int(part[3])) if part else (path.stem, 1, 1)
        groups.setdefault((str(path.with_name(base)), count), {})[number] = name
    whole = {key: parts for key, parts in groups.items() if sorted(parts) == list(range(1, key[1] + 1))}
    return [_candidate(base, parts) for (base, _), parts in whole.items()]


def _candidate(base: str, parts: Mapping[int, str]) -> Candidate:
    path = PurePosixPath(base)
    types = _TYPE.findall(path.name) or _TYPE.findall(path.parent.name)
    return Candidate(base, types[-1].upper() if types else "", tuple(parts[i] for i in sorted(parts)))


def _is_meant(one: Candidate, wanted: str) -> bool:
    """By type, or by the file's name with or without folder and ending."""
    names = {one.name, PurePosixPath(one.name).name, *one.files, *(PurePosixPath(f).name for f in one.files)}
    return one.type == wanted.upper() or wanted in names


def _only(meant: Sequence[Candidate], found: Sequence[Candidate], where: str, wanted: str) -> Candidate:
    if len(meant) == 1:
        return meant[0]
    if meant:
        files = ", ".join(one.files[0] for one in meant)
        raise ArtifactError(
            f"{where} has several models of type {wanted}: name one as {where}:FILE, of {files}"
        )
    named = ", ".join(dict.fromkeys(one.type or one.files[0] for one in found))
    what = f"no {wanted}" if wanted else "several models whose names tell no type"
    raise ArtifactError(f"{where} has {what}: name one as {where}:TYPE, of {named}")
