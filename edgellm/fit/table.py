"""The one table that `fit` shows and `recommend` chooses from: a line for each type of a model, at one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgellm.fit import memory, quality, record, speed
from edgellm.fit.memory import Memory
from edgellm.fit.model import Build, Subject
from edgellm.fit.places import Place
from edgellm.fit.quality import Loss
from edgellm.fit.record import Track
from edgellm.fit.speed import Speed

DEFAULT_CTX = 4096
PROMPT, ANSWER = 512, 128  # what speeds are told of
_LOADED_CTX = 256
#: Kernels are timed on models that no cache holds; one that a cache holds was seen to be up to 1.9 times as fast.
SPREAD_CACHED = 0.9


@dataclass(frozen=True)
class Row:
    """One type."""

    build: Build
    loaded: Memory  # next to nothing in its context
    full: Memory  # with the context asked for
    longest: int  # tokens of context that fit, 0 for none
    fits: bool
    speed: Speed | None
    speed_reason: str | None  # why there is none
    loss: Loss | None
    joules_per_token: float | None  # to decode; None: not measured

    @property
    def type(self) -> str:
        """As --quant has it."""
        return self.build.type


@dataclass(frozen=True)
class Table:
    """All types that were asked for."""

    name: str
    place: Place
    ram: int
    n_ctx: int
    rows: tuple[Row, ...]
    refused: Mapping[str, str]
    tracks: Mapping[str, Track]


def make(subject: Subject, place: Place, *, n_ctx: int | None = None, ram: int | None = None) -> Table:
    """What each type of `subject` costs at `place`."""
    tracks = record.tracks(record.read()) if place.name == "this machine" else {}
    first = next(iter(subject.types.values()), None)
    window = first.numbers.n_ctx_train if first else 0
    n_ctx = min(n_ctx or DEFAULT_CTX, window or DEFAULT_CTX)
    ram = ram or place.ram
    rows = tuple(_row(build, place, n_ctx, ram, tracks) for build in subject.types.values())
    return Table(subject.name, place, ram, n_ctx, rows, subject.refused, tracks)


def _row(build: Build, place: Place, n_ctx: int, ram: int, tracks: Mapping[str, Track]) -> Row:
    own = place.figures.get(build.engine)
    runtime = own.beside.runtime_bytes if own and own.beside else None
    full = memory.predict(build, n_ctx, runtime)
    fast, why = None, "its kernels were not timed"
    if own is not None:
        depth = max(0, min(PROMPT, n_ctx - ANSWER))
        fast = speed.predict(
            build, own, n_prompt=max(depth, 1), n_gen=ANSWER, spread=_spread(build, place, tracks)
        )
        if fast is None and (unknown := speed.missing(build, own)):
            why = f"no figures of {', '.join(sorted(unknown))}"
    cost = place.joules_per_byte
    return Row(
        build,
        memory.predict(build, min(_LOADED_CTX, n_ctx), runtime),
        full,
        memory.longest_context(build, ram, runtime),
        full.peak <= ram,
        fast,
        None if fast else why,
        quality.expected(build),
        None if cost is None else cost * build.bytes_per_token,
    )


def _spread(build: Build, place: Place, tracks: Mapping[str, Track]) -> float:
    """The interval: what the record says where it is long enough; wide where the caches may hold the model."""
    if build.weight_bytes < place.cache_bytes:
        return SPREAD_CACHED
    own = [tracks[name] for name in ("decode", "prefill") if name in tracks]
    if own and all(len(track.errors) >= record.MIN_RUNS for track in own):
        return max(track.within() for track in own)
    return place.spread
