"""What is edgellm's own, by llama-server's names where it has the same: health."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edgellm.server.running import pool_of
from edgellm.version import __version__

OPEN = ("/health",)


async def health(request: Request) -> Response:
    """That it lives; says no more than that to somebody without a key."""
    models = {offered.name: offered.state for offered in pool_of(request).names()}
    return JSONResponse({"status": "ok", "version": __version__, "models": models})


ROUTES = (Route("/health", health, methods=["GET"]),)
