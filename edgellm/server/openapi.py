"""The interface as OpenAPI 3.1 describes it, made from the routes and what they take."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic.json_schema import models_json_schema
from starlette.routing import BaseRoute, Route

from edgellm.server.schema import Asked
from edgellm.version import __version__

_PLACE = re.compile(r"\{(\w+)(?::\w+)?\}")


def document(routes: Sequence[BaseRoute]) -> dict[str, Any]:
    """The description of these routes."""
    models = {route.model for route in routes if isinstance(route, Asked)}
    named = sorted(models, key=lambda model: str(model.__name__))
    _, shared = models_json_schema(
        [(model, "validation") for model in named], ref_template="#/components/schemas/{model}"
    )
    paths = {
        _PLACE.sub(r"{\1}", route.path): _operations(route) for route in routes if isinstance(route, Route)
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "edgellm", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": shared.get("$defs", {}),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"bearer": []}],
    }


def _operations(route: Route) -> dict[str, Any]:
    places = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PLACE.findall(route.path)
    ]
    doc = route.says if isinstance(route, Asked) else route.endpoint.__doc__ or ""
    told: dict[str, Any] = {
        "summary": doc.strip().partition("\n")[0],
        "responses": {"200": _answers(route), "4XX": _failed(), "5XX": _failed()},
    }
    if places:
        told["parameters"] = places
    if isinstance(route, Asked):
        reference = {"$ref": f"#/components/schemas/{route.model.__name__}"}
        told["requestBody"] = {"required": True, "content": {"application/json": {"schema": reference}}}
    methods = sorted((route.methods or set()) - {"HEAD", "OPTIONS"})
    return {method.lower(): told for method in methods}


def _answers(route: Route) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if isinstance(route, Asked) and route.streams:
        content["text/event-stream"] = {}
    if not isinstance(route, Asked):
        content |= {"text/plain": {"schema": {"type": "string"}}, "text/html": {"schema": {"type": "string"}}}
    return {"description": "what was asked for", "content": content}


def _failed() -> dict[str, Any]:
    content = {"application/json": {"schema": {"type": "object"}}}
    return {"description": "why not, in one line", "content": content}
