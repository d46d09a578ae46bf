"""What a request holds that means nothing here: passed over, and named in a header and once in the log."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pydantic import ConfigDict
from starlette.requests import Request

from edgellm.server.schema import Strict
from edgellm.terminal import note

HEADER = "x-edgellm-skipped"
_UNFIT = re.compile(r"[^A-Za-z0-9_.:/-]+")


class Lenient(Strict):
    """A request of agents, which learn new fields every week: one that is not known here is skipped, not refused."""

    model_config = ConfigDict(extra="allow")

    def unknown(self) -> list[str]:
        """The fields that are not known."""
        return sorted(self.model_extra or {})


class Part(Strict):
    """A part of such a request; what it has beside these fields means nothing."""

    model_config = ConfigDict(extra="ignore")


def headers(request: Request, names: Iterable[str]) -> dict[str, str]:
    """The header that names what was skipped; none where nothing was. Each name is logged once in a server's life."""
    named = list(dict.fromkeys(_UNFIT.sub("_", name)[:64] for name in names))[:32]
    state: Any = request.app.state
    logged: set[str] = getattr(state, "skipped", set())
    if fresh := [name for name in named if name not in logged]:
        note(f"{request.url.path}: not supported, so passed over: {', '.join(fresh)}")
        state.skipped = logged | set(fresh) if len(logged) < 1000 else set(fresh)
    return {HEADER: ", ".join(named)} if named else {}
