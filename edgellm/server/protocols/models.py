"""The models that are offered, and loading and unloading them: /v1/models, /models/load, /models/unload."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edgellm.server import running, sse
from edgellm.server.errors import RequestError
from edgellm.server.schema import Asked, Name, Strict

if TYPE_CHECKING:
    from edgellm.serving.pool import Offered


class ModelRequest(Strict):
    """Which model."""

    model: Name


async def every(request: Request) -> Response:
    """All that are offered, by OpenAI's form and what edgellm knows of them."""
    data = [_told(offered) for offered in running.pool_of(request).names()]
    return JSONResponse({"object": "list", "data": data})


async def one(request: Request) -> Response:
    """One of them."""
    name = request.path_params["name"]
    for offered in running.pool_of(request).names():
        if name == offered.name or name in offered.aliases:
            return JSONResponse({**_told(offered), "id": name})
    raise RequestError(
        f"there is no model {name[:120]!r} here", status=404, code="model_not_found", param="model"
    )


async def load(request: Request, asked: ModelRequest) -> Response:
    """Open a model before it is asked something."""
    await sse.while_connected(request, running.pool_of(request).load(asked.model))
    return JSONResponse({"success": True})


async def unload(request: Request, asked: ModelRequest) -> Response:
    """Close a model, once it has answered what it was asked."""
    await running.pool_of(request).unload(asked.model)
    return JSONResponse({"success": True})


def _told(offered: Offered) -> dict[str, Any]:
    return {
        "id": offered.name,
        "object": "model",
        "created": 0,
        "owned_by": "edgellm",
        "aliases": list(offered.aliases),
        "status": {"value": offered.state},
        "meta": {"size": offered.n_bytes, "quantization": offered.quantization},
        "capabilities": [name for name, can in _abilities(offered) if can],
    }


def _abilities(offered: Offered) -> tuple[tuple[str, bool], ...]:
    chats = offered.chats, offered.embeds, offered.ranks
    return tuple(zip(("chat", "embedding", "rerank"), chats, strict=True))


ROUTES = (
    Route("/v1/models", every, methods=["GET"]),
    Route("/v1/models/{name:path}", one, methods=["GET"]),
    Route("/models", every, methods=["GET"]),
    Asked("/models/load", load, ModelRequest),
    Asked("/models/unload", unload, ModelRequest),
)
