"""The node's end: what the machine that commands may ask for. Over ssh as lines on standard input and output.

A request is a line of JSON, `{"do": NAME, "size": N, ...}`, and N bytes. Answers are lines that begin with MARK,
for a login shell may print, too; the last one of a request has `end` or `error`. When the input ends while a plan
is run, so does this process, and with it what it started.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from edgellm import files
from edgellm.cluster import shelf
from edgellm.errors import EdgellmError, EngineError, UsageError
from edgellm.formats.artifact import Artifact
from edgellm.profiles.fleet import facts
from edgellm.profiles.result.codec import from_plain, to_plain
from edgellm.profiles.result.result import from_json, to_json
from edgellm.profiles.study import resume
from edgellm.profiles.study.plan import Grid
from edgellm.profiles.study.run import ProfileRequest, profile

MARK = "edgellm-node "
#: Takes one answer of several.
Say = Callable[[dict[str, Any]], None]
#: The models that are on the machine: bytes by name.
Models = Callable[[], Mapping[str, int]]


def handle(what: str, values: dict[str, Any], payload: bytes, say: Say, models: Models) -> None:
    """Do what is asked; what went wrong is an answer, too."""
    try:
        if what == "facts":
            say({"facts": to_plain(facts.here(models()))})
        else:
            _DOES[what](say, payload, **values)
        say({"end": True})
    except EdgellmError as error:
        say({"error": str(error)})
    except (KeyError, TypeError, ValueError) as error:
        say(
            {"error": f"{what} was asked in a way that is not understood ({error}); are both of one version?"}
        )


def to_the_end(answers: Iterable[dict[str, Any]]) -> Generator[dict[str, Any], None, bool]:
    """The answers to one request but for the last; whether that came. Raises EngineError where it is an error."""
    for answer in answers:
        if "error" in answer:
            raise EngineError(str(answer["error"]))
        if answer.get("end"):
            return True
        yield answer
    return False


def serve(requests: IO[bytes], answers: IO[str], models: Models) -> None:
    """Answer until the requests end."""

    def say(answer: dict[str, Any]) -> None:
        answers.write(f"{MARK}{json.dumps(answer)}\n")
        answers.flush()

    while line := requests.readline():
        asked = json.loads(line)
        what, payload = asked.pop("do"), requests.read(asked.pop("size"))
        if what == "profile":
            threading.Thread(target=_end_with, args=(requests,), daemon=True).start()
        handle(what, asked, payload, say, models)


def _end_with(requests: IO[bytes]) -> None:
    """Whoever asked is gone: end as if told to."""
    while requests.read(1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _find(say: Say, _payload: bytes, *, path: str, digest: str) -> None:
    place = shelf.find(Path(path), digest)
    say({"path": None if place is None else str(place)})


def _take(_say: Say, payload: bytes, *, digest: str, name: str, first: bool) -> None:
    shelf.take(digest, name, payload, first=first)


def _keep(say: Say, _payload: bytes, *, digest: str, name: str) -> None:
    say({"path": str(shelf.keep(digest, name))})


def _profile(
    say: Say,
    _payload: bytes,
    *,
    grid: dict[str, Any],
    paths: list[str],
    command: str,
    ceilings: bool,
    begun: str | None,
) -> None:
    """Run a plan on models that are here, alone on this machine as far as fleets are concerned."""
    if begun is not None:
        report = from_json(begun)
        request = resume.request(report, report.plan, command, ceilings=ceilings)
    else:
        asked = from_plain(Grid, grid)
        artifacts = [Artifact.open(path) for path in paths]
        request = ProfileRequest(asked.specs(artifacts), asked.plan(), command, ceilings=ceilings)
    waiting = "another fleet's plan is running there; waiting for its end"
    with files.turn("a fleet's plan", lambda: say({"progress": waiting})):
        profile(request, lambda text: say({"progress": text}), lambda done: say({"report": to_json(done)}))


_DOES: dict[str, Callable[..., None]] = {
    "find": _find,
    "take": _take,
    "keep": _keep,
    "profile": _profile,
}


def main(models: Models) -> None:
    """Serve on standard input and output; whatever else is printed goes to standard error."""
    if sys.stdin.isatty():
        raise UsageError(
            "this end of a fleet is started by the other one, over ssh: see edgellm fleet --help"
        )
    answers = sys.stdout
    sys.stdout = sys.stderr
    serve(sys.stdin.buffer, answers, models)
