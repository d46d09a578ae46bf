"""The few seconds that a model's first use may go into looking for faster settings; light until they do."""

from __future__ import annotations

import contextlib
import threading

from edgellm.backends import tuned
from edgellm.errors import EdgellmError, EngineError
from edgellm.formats.artifact import Artifact
from edgellm.session import EngineOptions

#: A first use pays for itself where decoding is slow enough to notice and loading fast enough not to.
WORTH_BYTES = (100 << 20, 2 << 30)
_SEARCH_SECONDS = 2.5  # of searching
_DEADLINE_SECONDS = 5.0  # of everything, loading included
_DEPTH = 1024
_VISIT_SECONDS = {"decode": 0.1, "short prefill": 0.2}
_TOO_BUSY = 0.3  # of the processors used by others: another time, then


def due(artifact: Artifact, options: EngineOptions) -> bool:
    """Whether `look` should run before `artifact` is opened with `options` for the first time."""
    smallest, largest = WORTH_BYTES
    if not (options.tuned and tuned.enabled() and smallest <= artifact.size_bytes <= largest):
        return False
    if artifact.foreign:  # how its cache grows is not known
        return False
    from edgellm import backends
    from edgellm.tuning import space

    knobs = space.quick(artifact.format)
    settings = {name: None for knob in knobs for choice in knob.choices for name in choice}
    if len(tuned.open_settings(options, settings)) < len(settings) or not settings:
        return False
    if tuned.read(artifact, backends.build(artifact.format)) or not backends.on_cpu(artifact.format, options):
        return False
    from edgellm.machine import others

    if others.load() > 1:  # more than we alone make: known without a wait, which every start would have
        return False
    return (others.busy_share() or 0.0) < _TOO_BUSY


def look(artifact: Artifact) -> tuned.Record:
    """A search of a few seconds, bounded by the clock; what it finds, nothing included, is remembered.

    Raises EngineError when the model cannot be opened.
    """
    from edgellm import backends
    from edgellm.tuning import probe, search, space, tune

    start, depths = space.start(artifact.format), tune.fitting(artifact, (_DEPTH,))
    request = search.Request(space.quick(artifact.format), start, depths, _SEARCH_SECONDS)
    best, how, late = start, "quick", threading.Event()
    with probe.Probe(artifact, depths, _VISIT_SECONDS) as bench:

        def stop() -> None:
            late.set()
            bench.stop()

        watch = threading.Timer(_DEADLINE_SECONDS, stop)
        watch.start()
        try:
            best = search.Search(bench, request).run().options
        except EngineError:
            if not late.is_set():
                raise
            how = "given up: this model is too slow for a quick look"
        finally:
            watch.cancel()
    record = tune.record_of(artifact, start, best, how, depths, ())
    with contextlib.suppress(OSError, EdgellmError):
        tuned.write(artifact, backends.build(artifact.format), record)
    return record
