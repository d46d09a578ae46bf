"""Which tests may notice a change: those that were seen to execute its lines, quick ones first.

The map comes from one run of the whole suite under `coverage` and stays good while the tree resembles it: lines are
found again by their text where a file has changed since, and tests that the map has not seen are tried as well.
"""

from __future__ import annotations

import ast
import difflib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mutate import Mutant

#: What a first round of tests may take, and a second one of all that lie near (seconds, as measured under coverage).
FIRST_SECONDS, SECOND_SECONDS = 20.0, 30.0
#: More tests than this cost more in collection than they find.
MOST_TESTS = 120

_COVERAGE = """[run]
data_file = {folder}/data
context = ${{PYTEST_CURRENT_TEST-}}
parallel = true
sigterm = true
source = {root}
omit = */tests/*
disable_warnings = no-data-collected, module-not-measured, module-not-imported, already-imported
"""


@dataclass(frozen=True)
class Map:
    """Tests with their seconds, and for each file which tests (by number) execute which lines."""

    tests: dict[str, float]
    lines: dict[str, dict[int, frozenset[str]]]
    sources: dict[str, str]

    def save(self, path: Path) -> None:
        """As JSON; tests are numbers there."""
        number = {test: i for i, test in enumerate(self.tests)}
        lines = {
            f: {n: sorted(number[t] for t in own) for n, own in at.items()} for f, at in self.lines.items()
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        plain = {"tests": self.tests, "lines": lines, "sources": self.sources}
        path.write_text(json.dumps(plain), encoding="utf-8")

    def of(self, root: Path, mutant: Mutant) -> list[str]:
        """Tests that execute the mutant's lines, the most promising first."""
        found: set[str] = set()
        if mutant.lines:
            found = self._at(root, mutant.path, mutant.lines)
        else:
            inner = all(name.startswith("_") for name in mutant.names)
            for path in [mutant.path] if inner else self.sources:
                found |= self._at(root, path, _lines_naming(root / path, mutant.names))
            found = found | self._in_files_naming(root, mutant.names)
            found = found | self._at(root, mutant.path, range(1, 10_000))
        return self.ordered(found, mirror_of(root, mutant.path))

    def ordered(self, tests: Iterable[str], mirror: str) -> list[str]:
        """The room's own first, quick before slow; but one case of each test before the second of any."""
        quick = sorted(tests, key=lambda t: (self.tests[t], t))
        seen: Counter[str] = Counter()
        place: dict[str, int] = {}
        for test in quick:
            name = test.split("[")[0]
            place[test], seen[name] = seen[name], seen[name] + 1
        return sorted(quick, key=lambda t: (not t.startswith(mirror), place[t]))

    def _in_files_naming(self, root: Path, names: tuple[str, ...]) -> set[str]:
        """Tests in files that use one of the names themselves."""
        files = {test.split("::")[0] for test in self.tests}
        naming = {file for file in files if (root / file).exists() and _lines_naming(root / file, names)}
        return {test for test in self.tests if test.split("::")[0] in naming}

    def _at(self, root: Path, path: str, lines: Any) -> set[str]:
        known = self.lines.get(path, {})
        where = (
            _moved(self.sources.get(path, ""), (root / path).read_text("utf-8"))
            if (root / path).exists()
            else {}
        )
        return {test for line in lines for test in known.get(where.get(line, 0), ())}


def load(path: Path) -> Map:
    """What `Map.save` wrote."""
    plain = json.loads(path.read_text(encoding="utf-8"))
    names = list(plain["tests"])
    lines = {
        file: {int(n): frozenset(names[i] for i in own) for n, own in at.items()}
        for file, at in plain["lines"].items()
    }
    return Map(plain["tests"], lines, plain["sources"])


def measure(root: Path, folder: Path, tests: tuple[str, ...] = (), echo: Any = None, jobs: int = 1) -> Map:
    """Run the tests (all of them, unless some are named) of the tree at `root`; what they leave lies in `folder`.

    Tests that are named run with all their cases.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings, times = folder / "coverage.ini", folder / "times.json"
    settings.write_text(_COVERAGE.format(folder=folder, root=root), encoding="utf-8")
    environment = environment_of(root, folder) | {
        "COVERAGE_PROCESS_START": str(settings),
        "EDGELLM_TEST_TIMES": str(times),
    }
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "line_contexts",
        "-p",
        "no:cacheprovider",
        *(tests or ("tests",)),
    ]
    if jobs > 1:
        command += ["-p", "xdist.plugin", "-n", str(jobs), "--dist", "worksteal"]
    subprocess.run(command, cwd=root, env=environment, stdout=echo, stderr=echo, check=False)
    return collect(root, folder, json.loads(times.read_text(encoding="utf-8")))


def collect(root: Path, folder: Path, seconds: dict[str, float]) -> Map:
    """The map from coverage's files; only tests that passed count."""
    from coverage import CoverageData

    lines: dict[str, dict[int, set[str]]] = {}
    for each in sorted(folder.glob("data.*")):
        data = CoverageData(str(each))
        try:
            data.read()
        except Exception:  # of a process that was killed while it wrote
            continue
        for file in data.measured_files():
            path = Path(file).resolve().relative_to(root.resolve()).as_posix()
            at = lines.setdefault(path, {})
            for line, contexts in data.contexts_by_lineno(file).items():
                own = {c.strip("|").rsplit(" (", 1)[0] for c in contexts} & seconds.keys()
                at.setdefault(line, set()).update(own)
    frozen = {f: {n: frozenset(own) for n, own in at.items() if own} for f, at in lines.items()}
    return Map(seconds, frozen, {f: (root / f).read_text(encoding="utf-8") for f in frozen})


def environment_of(root: Path, folder: Path) -> dict[str, str]:
    """For tests of the tree at `root`: its own code and nothing else's, temporary files and caches in `folder`."""
    temporary = folder / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join(map(str, (root, root / "tests" / "helpers", Path(__file__).parent)))
    outer = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    return {
        **outer,
        "PYTHONPATH": path,
        "TMPDIR": str(temporary),
        "EDGELLM_CACHE": str(folder / "cache"),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # none is needed, and each costs at every start
    }


def mirror_of(root: Path, path: str) -> str:
    """The folder of tests (or the file) that is named after a module's room."""
    room = Path(path.removeprefix("edgellm/"))
    if len(room.parts) == 1:
        own = f"tests/house/test_{room.stem}.py"
        return own if (root / own).exists() else "tests/house/"
    folder = room.parent
    while not (root / "tests" / folder).is_dir() and folder.parent != Path():
        folder = folder.parent
    return f"tests/{folder.as_posix()}/"


def rounds(root: Path, known: Map, mutant: Mutant) -> list[list[str]]:
    """Arguments for pytest, one call after the other: the room's tests that execute the lines, tests that are newer
    than the map, then for a survivor what lies near.

    The last is for what shared fixtures and caches hide: a test that never executes a line itself, because another
    one, earlier, made what it uses.
    """
    covering, mirror = known.of(root, mutant), mirror_of(root, mutant.path)
    first = _within([t for t in covering if t.startswith(mirror)] or covering, known.tests, FIRST_SECONDS)
    mapped, homes = ({t.split("::")[0] for t in tests} for tests in (known.tests, covering))
    there = [root / mirror] if mirror.endswith(".py") else sorted((root / mirror).rglob("test_*.py"))
    new = [f for f in (p.relative_to(root).as_posix() for p in there) if f not in mapped]
    done = set(first)
    near = [t for t in covering if t not in done]
    also = [t for t in known.tests if t.startswith(mirror) or t.split("::")[0] in homes]
    left = {*done, *near}
    near += known.ordered((t for t in also if t not in left), mirror)
    return [each for each in (first, new, _within(near, known.tests, SECOND_SECONDS)) if each]


def _within(tests: list[str], seconds: dict[str, float], most: float) -> list[str]:
    kept: list[str] = []
    for test in tests:
        if seconds[test] <= most and len(kept) < MOST_TESTS:
            kept.append(test)
            most -= seconds[test]
    return kept


def _moved(old: str, new: str) -> dict[int, int]:
    """Line of the new text -> the line of the old one that it was."""
    if old == new:
        return {n: n for n in range(1, new.count("\n") + 2)}
    before, after = old.splitlines(), new.splitlines()
    same = difflib.SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks()
    found = {b.b + i + 1: b.a + i + 1 for b in same for i in range(b.size)}
    # A line that changed stands where its neighbour above stands.
    last = 0
    for line in range(1, len(after) + 1):
        last = found.setdefault(line, last)
    return found


def _lines_naming(path: Path, names: tuple[str, ...]) -> list[int]:
    """Lines of a file that use one of the names."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    if not any(name in text for name in names):
        return []
    return [
        node.lineno
        for node in ast.walk(ast.parse(text))
        if (isinstance(node, ast.Name) and node.id in names)
        or (isinstance(node, ast.Attribute) and node.attr in names)
    ]
