"""Do the tests protect the code? Makes small faults, one at a time, and counts those that no test notices.

    python tests/mutants.py [--rooms formats convert/gguf ...] [--n 150] [--seed 1] [--resume FILE]

Each mutant (helpers/mutate.py) is made in a copy of the tree with caches of its own; the tests that execute its lines
(helpers/mutant_tests.py: the suite runs once under coverage for that) run until the first failure. Survivors are
printed; those that change nothing anyone could see stand with the reason in mutants_equivalent.toml. The last line is
JSON. Exit code 3 where less than 95% of the others were killed. Needs `pip install edgellm[dev]`.

Why not mutmut or cosmic-ray: mutmut mutates functions only (half of what matters here stands in tables) and forks a
process in which engines hold threads; cosmic-ray runs one command for every mutant and draws no samples.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import json
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

import mutant_tests  # noqa: E402
from mutate import Mutant, compiles, mutants  # noqa: E402

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: What has to be killed of the mutants that are not equivalent.
PASS = 0.95
#: Where the package's code lies, and what of it is left out: tables that were trained with, not run.
SOURCES = ("edgellm", "convert", "models", "profiles")
LEFT_OUT = ("models/training/",)


@dataclass(frozen=True)
class Outcome:
    """What became of one mutant."""

    file: str
    line: int
    kind: str
    old: str
    new: str
    fate: str  # "killed" | "timeout" | "survived" | "unreached" | "equivalent" | "slow"
    by: str = ""  # the test that noticed, or why it is equivalent
    seconds: float = 0.0

    @property
    def killed(self) -> bool:
        return self.fate in ("killed", "timeout")


def source_files(root: Path, rooms: Sequence[str] = ()) -> list[str]:
    """The package's files, links not followed; of the rooms, if any are named."""
    found = [p.relative_to(root).as_posix() for top in SOURCES for p in sorted((root / top).rglob("*.py"))]
    names = tuple(room.removeprefix("edgellm/").strip("/") for room in rooms)
    return [
        path
        for path in dict.fromkeys(found)
        if not path.startswith(LEFT_OUT)
        and not any(path.startswith(f"edgellm/{link}/") for link in SOURCES[1:])
        and (
            not names
            or any((path.removeprefix("edgellm/") + "/").startswith((f"{n}/", f"{n}.py/")) for n in names)
        )
    ]


def sample(root: Path, files: Iterable[str], n: int, seed: int) -> list[Mutant]:
    """`n` mutants, spread over rooms by the lines that can be changed; one a line. The same for the same tree.

    In an order that favours no room, so that the first of them, where a run is cut short, are a fair sample too.
    """
    rooms: dict[str, dict[tuple[str, int], list[Mutant]]] = {}
    for path in files:
        room = rooms.setdefault(str(Path(path).parent), {})
        for mutant in mutants(root, path):
            room.setdefault((path, mutant.line), []).append(mutant)
    total = sum(map(len, rooms.values()))
    chosen: list[Mutant] = []
    exact = {room: n * len(lines) / total for room, lines in rooms.items()} if total else {}
    shares = {room: int(share) for room, share in exact.items()}
    for room in sorted(exact, key=lambda r: shares[r] - exact[r])[: n - sum(shares.values())]:
        shares[room] += 1  # largest remainders
    for room, lines in sorted(rooms.items()):
        draw = random.Random(f"{seed} {room}")
        for line in draw.sample(sorted(lines), min(shares[room], len(lines))):
            there = [m for m in lines[line] if compiles(m.apply((root / m.path).read_bytes()))]
            chosen += [draw.choice(there)] if there else []
    random.Random(seed).shuffle(chosen)
    return chosen


def equivalents(path: Path) -> dict[tuple[str, str, str], str]:
    """(file, line before, line after) -> why nobody could see the change."""
    if not path.exists():
        return {}
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("mutant", [])
    return {(e["file"], e["old"], e["new"]): e["why"] for e in entries}


class Scratch:
    """A copy of the tree, links kept, in which one file at a time is changed."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.folder = folder / "tree", folder
        folder.mkdir(parents=True, exist_ok=True)
        folder.parent.chmod(0o755)  # some tests step down to another user
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=root,
            check=True,
            capture_output=True,
        )
        for name in filter(None, listed.stdout.decode().split("\0")):
            if (root / name).exists():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / name, self.root / name, follow_symlinks=False)

    def _write(self, path: str, source: bytes) -> None:
        """A module and its compiled form: two changes within a second look alike to Python."""
        target = self.root / path
        target.write_bytes(source)
        for stale in (target.parent / "__pycache__").glob(f"{target.stem}.*.pyc"):
            stale.unlink()

    def fate(self, mutant: Mutant, known: mutant_tests.Map) -> tuple[str, str]:
        """Make the mutant, run what may notice, and take it back. A test that fails without it too notices nothing."""
        source = (self.root / mutant.path).read_bytes()
        rounds = mutant_tests.rounds(self.root, known, mutant)
        spared = "survived" if known.of(self.root, mutant) else "unreached"
        while rounds:
            self._write(mutant.path, mutant.apply(source))
            try:
                fate, by = self._run(rounds[0], known)
            finally:
                self._write(mutant.path, source)
            if fate == "timeout":  # of the mutant, or of a machine that has other work
                started = time.monotonic()
                alone = self._run(rounds[0], known)[0]
                quick = alone == "survived" and time.monotonic() - started < self._limit(rounds[0], known) / 2
                return (fate, by) if quick else ("slow", by)
            if fate == "killed" and "::" not in by:
                return fate, by
            if fate == "killed" and self._run([by], known)[0] == "survived":
                return fate, by
            left = [test for test in rounds[0] if test != by] if by in rounds[0] else []
            rounds = [each for each in (left, *rounds[1:]) if each]
        return spared, ""

    @staticmethod
    def _check_there(tests: Sequence[str]) -> None:
        """Raise RuntimeError where the tree that was copied does not have the tests either."""
        command = [sys.executable, "-m", "pytest", "--co", "-q", "-p", "no:cacheprovider", *tests]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode == 4:
            raise RuntimeError(f"the map names tests that are gone; make it anew:\n{done.stderr[-500:]}")

    @staticmethod
    def _limit(tests: Sequence[str], known: mutant_tests.Map) -> float:
        """Seconds after which tests count as hung."""
        return 60 + 5 * sum(known.tests.get(test, 5.0) for test in tests)

    def _run(self, tests: Sequence[str], known: mutant_tests.Map) -> tuple[str, str]:
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider", *tests]
        limit = self._limit(tests, known)
        process = subprocess.Popen(
            command,
            cwd=self.root,
            env=mutant_tests.environment_of(self.root, self.folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            said, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            return "timeout", f"{limit:.0f} s"
        finally:
            _end(process)
            for litter in ("cache", "tmp"):
                shutil.rmtree(self.folder / litter, ignore_errors=True)
        if process.returncode in (0, 5):  # 5: a file whose tests are all skipped or left out here
            return "survived", ""
        if process.returncode == 4 and "not found" in said:
            self._check_there(tests)
            return "killed", "its tests are not even collected"
        failed = [line for line in said.splitlines() if line.startswith(("FAILED", "ERROR"))]
        return "killed", failed[0].split(" ", 1)[1].split(" - ")[
            0
        ] if failed else f"exit {process.returncode}"


def _end(process: subprocess.Popen[str]) -> None:
    """The tests' whole process group: a mutant may leave children behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def examine(
    scratches: Sequence[Scratch],
    chosen: Sequence[Mutant],
    known: mutant_tests.Map,
    excused: dict[tuple[str, str, str], str],
) -> Iterator[Outcome]:
    """What becomes of each, in the order in which it becomes known."""
    free: queue.SimpleQueue[Scratch] = queue.SimpleQueue()
    for scratch in scratches:
        free.put(scratch)

    def one(mutant: Mutant) -> Outcome:
        scratch = free.get()
        try:
            old, new = mutant.diff((scratch.root / mutant.path).read_bytes())
            started = time.monotonic()
            if why := excused.get((mutant.path, old, new)):
                fate, by = "equivalent", why
            else:
                fate, by = scratch.fate(mutant, known)
            seconds = round(time.monotonic() - started, 1)
            return Outcome(mutant.path, mutant.line, mutant.kind, old, new, fate, by, seconds)
        finally:
            free.put(scratch)

    with concurrent.futures.ThreadPoolExecutor(len(scratches)) as pool:
        for done in concurrent.futures.as_completed([pool.submit(one, mutant) for mutant in chosen]):
            yield done.result()


def summary(outcomes: Sequence[Outcome]) -> dict[str, object]:
    """Counts, and the share killed of those that are not equivalent (None: there were none)."""
    fates = [o.fate for o in outcomes]
    judged = [o for o in outcomes if o.fate not in ("equivalent", "slow")]
    killed = sum(o.killed for o in judged)
    return {
        "mutants": len(outcomes),
        "judged": len(judged),
        "killed": killed,
        "timeouts": fates.count("timeout"),
        "equivalent": fates.count("equivalent"),
        "survived": fates.count("survived"),
        "unreached": fates.count("unreached"),
        "slow": fates.count("slow"),
        "share": round(killed / len(judged), 4) if judged else None,
        "seconds": round(sum(o.seconds for o in outcomes), 1),
    }


def show(outcome: Outcome) -> None:
    """Survivors as a diff, the others as a line."""
    mark = {"survived": "SURVIVED", "unreached": "UNREACHED"}.get(outcome.fate, outcome.fate)
    print(f"{mark:9} {outcome.seconds:5.1f} s  {outcome.file}:{outcome.line}  {outcome.kind}  {outcome.by}")
    if not outcome.killed and outcome.fate != "equivalent":
        print(f"    - {outcome.old}\n    + {outcome.new}")
    sys.stdout.flush()


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What was typed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rooms", nargs="+", default=(), metavar="ROOM", help="such as formats, convert/gguf, files"
    )
    parser.add_argument("--n", type=int, default=150, help="mutants [default: 150]")
    parser.add_argument("--seed", type=int, default=1, help="another one draws others [default: 1]")
    parser.add_argument(
        "--jobs", type=int, default=1, help="mutants, or tests of the map, at a time [default: 1]"
    )
    parser.add_argument(
        "--resume", type=Path, metavar="FILE", help="keep outcomes there (JSON lines) and go on from it"
    )
    parser.add_argument(
        "--again", action="store_true", help="of FILE, try those once more that were not killed"
    )
    parser.add_argument(
        "--map",
        type=Path,
        metavar="FILE",
        help="which tests execute which lines; made if absent [default: build/mutants/map.json]",
    )
    return parser.parse_args(arguments)


def resumed(path: Path, *, again: bool) -> list[Outcome]:
    """What an earlier run found out; the last word on a mutant counts."""
    told = [Outcome(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    last = {(o.file, o.old, o.new): o for o in told}
    return [o for o in last.values() if o.killed or o.fate == "equivalent" or not again]


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Run, print, and tell by the exit code whether enough were killed."""
    given = options(arguments)
    chosen = sample(root, source_files(root, given.rooms), given.n, given.seed)
    with tempfile.TemporaryDirectory(prefix="edgellm-mutants-") as folder:
        scratches = [Scratch(root, Path(folder) / str(i)) for i in range(max(given.jobs, 1))]
        path = given.map or root / "build" / "mutants" / "map.json"
        if not path.exists():
            print("running the suite once under coverage", flush=True)
            mutant_tests.measure(scratches[0].root, Path(folder) / "coverage", jobs=given.jobs).save(path)
        known = mutant_tests.load(path)
        done: list[Outcome] = []
        if given.resume and given.resume.exists():
            done = resumed(given.resume, again=given.again)
        before = {(o.file, o.old, o.new) for o in done}
        left = [m for m in chosen if (m.path, *m.diff((root / m.path).read_bytes())) not in before]
        for outcome in examine(
            scratches, left, known, equivalents(root / "tests" / "mutants_equivalent.toml")
        ):
            show(outcome)
            done.append(outcome)
            if given.resume:
                with given.resume.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(vars(outcome)) + "\n")
    return report(done)


def report(done: Sequence[Outcome]) -> int:
    """Survivors once more, together, then the counts."""
    print()
    for outcome in done:
        if not outcome.killed and outcome.fate != "equivalent":
            show(outcome)
    counts = summary(done)
    print(f"{counts['killed']} of {counts['judged']} that are not equivalent were killed")
    print(json.dumps(counts))
    share = counts["share"]
    return 3 if isinstance(share, float) and share < PASS else 0


if __name__ == "__main__":
    raise SystemExit(main())
