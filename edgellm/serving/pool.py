"""Several models by name: opened when first asked for, closed when idle for long or when memory is short."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from edgellm.backends.batching.opening import needed_bytes
from edgellm.errors import EngineError, UsageError
from edgellm.formats.artifact import Artifact
from edgellm.machine import hardware
from edgellm.serving.job import Facts, ServingOptions, State
from edgellm.serving.remote import Engine
from edgellm.session import EngineOptions
from edgellm.units import count, format_size

_SHARE = 0.9  # of available memory, at most


class UnknownModelError(UsageError):
    """No model of that name is offered."""


@dataclass(frozen=True)
class Offer:
    """A model to serve, and how."""

    name: str
    artifact: Artifact
    aliases: tuple[str, ...] = ()
    options: EngineOptions = field(default_factory=EngineOptions)
    serving: ServingOptions = field(default_factory=ServingOptions)


@dataclass(frozen=True)
class Offered:
    """What is told of a model that is offered."""

    name: str
    aliases: tuple[str, ...]
    n_bytes: int
    quantization: str
    state: str  # "unloaded" | "loading" | "loaded"
    chats: bool
    embeds: bool
    ranks: bool
    facts: Facts | None = None  # while it is loaded


class Pool:
    """The models of one server. Used from one event loop."""

    def __init__(
        self, offers: Sequence[Offer], *, keep_seconds: float | None = None, max_loaded: int | None = None
    ) -> None:
        """`keep_seconds`: an idle model is closed after so long, None: never for that reason. Raises UsageError."""
        self._places = [_Place(offer) for offer in offers]
        self._keep, self._most = keep_seconds, max_loaded
        self._sweeping: asyncio.Task[None] | None = None
        names = [name for offer in offers for name in (offer.name, *offer.aliases)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UsageError(
                f"two models would be called {twice[0]!r}; name one of them otherwise with --alias"
            )

    def names(self) -> list[Offered]:
        """All models, as they were given."""
        return [place.offered() for place in self._places]

    @contextlib.asynccontextmanager
    async def use(self, name: str | None) -> AsyncIterator[Engine]:
        """The engine of a model by its name or an alias, opened where it is not; None: of the first model.

        It stays open inside the block. Raises UnknownModelError, EngineError where it cannot be loaded.
        """
        place = self._place(name)
        place.n_users += 1
        try:
            yield await self._opened(place)
        finally:
            place.n_users -= 1
            place.used = asyncio.get_running_loop().time()

    async def states(self) -> dict[str, State]:
        """What the engines that are open are doing, by their models' names. Asking keeps none of them open."""
        found: dict[str, State] = {}
        for place in self._places:
            if (engine := place.engine) is not None:
                with contextlib.suppress(EngineError):  # it is ending, or being started anew
                    found[place.offer.name] = await engine.state()
        return found

    async def load(self, name: str) -> None:
        """Open a model. Raises as `use` does."""
        async with self.use(name):
            pass

    async def unload(self, name: str) -> None:
        """Close a model once those who use it are done. Raises UnknownModelError."""
        place = self._place(name)
        while place.n_users:
            await asyncio.sleep(0.05)
        await place.close(0.0)

    async def close(self, grace_seconds: float) -> None:
        """Close all; answers that are being written get so many seconds."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        await asyncio.gather(*(place.close(grace_seconds) for place in self._places))

    def _place(self, name: str | None) -> _Place:
        if name is None:
            return self._places[0]
        for place in self._places:
            if name in (place.offer.name, *place.offer.aliases):
                return place
        there = ", ".join(place.offer.name for place in self._places)
        raise UnknownModelError(f"there is no model {name[:120]!r} here; there are: {there}")

    async def _opened(self, place: _Place) -> Engine:
        async with place.lock:
            if place.engine is None:
                await self._make_room(place)
                place.loading = True
                try:
                    offer = place.offer
                    place.engine = await Engine.open(offer.artifact, offer.options, offer.serving)
                finally:
                    place.loading = False
                if self._keep is not None and self._sweeping is None:
                    self._sweeping = asyncio.create_task(self._sweep(self._keep))
            return place.engine

    async def _make_room(self, place: _Place) -> None:
        """Close what has been idle longest until the model fits. Raises EngineError where it does not."""
        offer = place.offer
        needed = needed_bytes(offer.artifact, offer.options, offer.serving.n_slots)
        while True:
            loaded = [other for other in self._places if other.engine is not None]
            short = needed > _SHARE * hardware.available_bytes()
            if not loaded or not (short or (self._most is not None and len(loaded) >= self._most)):
                return  # alone, it is opened with what there is: the engine itself fits its context to it
            idle = [other for other in loaded if not other.n_users]
            if not idle:
                raise EngineError(
                    f"{offer.name} needs {format_size(needed)} beside {count(len(loaded), 'model')} still answering; "
                    "ask again later, or serve with more memory"
                )
            await min(idle, key=lambda other: other.used).close(0.0)

    async def _sweep(self, keep_seconds: float) -> None:
        """Close what has been idle for long."""
        while True:
            await asyncio.sleep(min(keep_seconds / 4 + 0.05, 5.0))
            now = asyncio.get_running_loop().time()
            for place in self._places:
                if place.engine is not None and not place.n_users and now - place.used > keep_seconds:
                    await place.close(0.0)


class _Place:
    """One model, its engine while it is open."""

    def __init__(self, offer: Offer) -> None:
        self.offer = offer
        self.engine: Engine | None = None
        self.loading = False
        self.lock = asyncio.Lock()
        self.n_users = 0
        self.used = 0.0  # when it was last used, by the loop's clock

    def offered(self) -> Offered:
        """What is told of it."""
        from edgellm.formats import purpose

        offer, made_for = self.offer, purpose.other_than_text(self.offer.artifact)
        return Offered(
            offer.name,
            offer.aliases,
            offer.artifact.size_bytes,
            offer.artifact.quantization,
            "loading" if self.loading else "loaded" if self.engine is not None else "unloaded",
            bool(offer.artifact.chat_template) and not made_for,
            made_for == "embedding",
            made_for == "reranking",
            None if self.engine is None else self.engine.facts,
        )

    async def close(self, grace_seconds: float) -> None:
        """Close its engine, if it is open; one that is just being opened is waited for."""
        async with self.lock:
            engine, self.engine = self.engine, None
        if engine is not None:
            await engine.close(grace_seconds)
