"""One plan on all nodes at the same time, each alone on its machine; results as they come, one for each node.

Knows nodes by what they are asked and answer (node.py), not how they are reached.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from edgellm.cluster import shelf
from edgellm.errors import EdgellmError, EngineError
from edgellm.profiles.fleet.facts import Facts
from edgellm.profiles.result.codec import from_plain, to_plain
from edgellm.profiles.result.result import Report, from_json, to_json
from edgellm.version import __version__

if TYPE_CHECKING:
    from edgellm.formats.artifact import Artifact
    from edgellm.profiles.study.plan import Grid


class Node(Protocol):
    """A machine that answers."""

    name: str

    def ask(self, what: str, payload: bytes = b"", **values: Any) -> Iterator[dict[str, Any]]:
        """The answers to a request, as they come. Raises EngineError."""
        ...

    def close(self) -> None:
        """End what runs there. Idempotent."""
        ...


#: Makes a connection. Raises EdgellmError.
Opener = Callable[[], Node]


@dataclass(frozen=True)
class Fleet:
    """A plan for many nodes."""

    grid: Grid  # without quality, which is measured once and not on each node
    artifacts: Sequence[Artifact]  # its models, in its order
    command: str  # as typed
    ceilings: bool = True
    begun: Mapping[str, Report] = field(default_factory=dict)  # unfinished results, by node


@dataclass(frozen=True)
class Outcome:
    """What became of a node: its result as far as it came, and why no further."""

    name: str
    report: Report | None
    error: str | None


def facts_of(node: Node) -> Facts:
    """What a node is. Raises EngineError."""
    (answer,) = node.ask("facts")
    return from_plain(Facts, answer["facts"])


def run(
    openers: Mapping[str, Opener],
    fleet: Fleet,
    tell: Callable[[str, str], None],
    save: Callable[[str, Report], None],
) -> list[Outcome]:
    """Run the plan on every node; `tell` gets (node, what it does), `save` each result after each launch.

    A node that fails ends nobody else's work. An interrupt ends all nodes' and is raised again.
    """
    members = [_Member(name, opener, fleet, tell, save) for name, opener in openers.items()]
    with ThreadPoolExecutor(len(members)) as pool:
        working = [pool.submit(member.work) for member in members]
        try:
            return [each.result() for each in working]
        except BaseException:
            for member in members:
                member.end()
            raise


class _Member:
    """One node's part."""

    def __init__(
        self,
        name: str,
        opener: Opener,
        fleet: Fleet,
        tell: Callable[[str, str], None],
        save: Callable[[str, Report], None],
    ) -> None:
        self._name, self._opener, self._fleet, self._tell, self._save = name, opener, fleet, tell, save
        self._report = fleet.begun.get(name)
        self._ended = threading.Event()
        self._node: Node | None = None

    def work(self) -> Outcome:
        try:
            self._node = node = self._opener()
            try:
                self._profile(node)
            finally:
                node.close()
        except EdgellmError as error:
            return Outcome(self._name, self._report, str(error))
        return Outcome(self._name, self._report, None)

    def end(self) -> None:
        """Now, from another thread."""
        self._ended.set()
        if self._node is not None:
            self._node.close()

    def _profile(self, node: Node) -> None:
        self._tell(self._name, "connecting")
        version = facts_of(node).edgellm
        if version != __version__:
            raise EngineError(
                f"edgellm {version} is installed there and {__version__} here; install the same"
            )
        paths = [self._bring(node, artifact) for artifact in self._fleet.artifacts]
        begun = None if self._report is None else to_json(self._report)
        answers = node.ask(
            "profile",
            grid=to_plain(self._fleet.grid),
            paths=paths,
            command=self._fleet.command,
            ceilings=self._fleet.ceilings,
            begun=begun,
        )
        for answer in answers:
            if "progress" in answer:
                self._tell(self._name, answer["progress"])
            else:
                self._report = from_json(answer["report"], self._name)
                self._save(self._name, self._report)

    def _bring(self, node: Node, artifact: Artifact) -> str:
        """The model's path on the node, where it is brought if it is not there. Raises EdgellmError."""
        digest = artifact.fingerprint
        (there,) = node.ask("find", path=str(artifact.path.resolve()), digest=digest)
        if there["path"]:
            return str(there["path"])
        sent = 0
        for name, piece in shelf.pieces(artifact):
            if self._ended.is_set():
                raise EngineError("interrupted")
            list(node.ask("take", piece, digest=digest, name=name, first=sent == 0))
            sent += len(piece)
            self._tell(self._name, f"sending {artifact.path.name}: {sent / max(artifact.size_bytes, 1):.0%}")
        (kept,) = node.ask("keep", digest=digest, name=artifact.path.name)
        return str(kept["path"])


def judged(report: Report, quality: Mapping[str, Any]) -> Report:
    """A node's result with what the models are worth, which is the same on every machine."""
    own = {run.model.name for run in report.runs}
    return replace(report, quality={name: record for name, record in quality.items() if name in own})
