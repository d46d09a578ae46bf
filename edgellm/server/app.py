"""The application: every protocol's routes behind one guard, and a pool of models that ends with it."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Scope

from edgellm.errors import CancelledError, EdgellmError
from edgellm.server import errors
from edgellm.server.errors import ErrorBody, RequestError
from edgellm.server.metrics import Metrics
from edgellm.server.security import Guard, matcher
from edgellm.server.settings import ServerSettings
from edgellm.terminal import note

if TYPE_CHECKING:
    from edgellm.serving.pool import Pool

_PROTOCOLS = "edgellm.server.protocols"
_WRONG = {404: "there is nothing at {path}", 405: "{path} is not asked by {method}"}


def application(pool: Pool, settings: ServerSettings) -> Starlette:
    """The server of `pool`, which is closed with it."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await pool.close(settings.grace_seconds)

    found = list(protocols())
    routes = [route for protocol in found for route in protocol.ROUTES]
    open_paths = [path for protocol in found for path in getattr(protocol, "OPEN", ())]
    body_of = _bodies(found)

    def respond(scope: Scope, error: Exception) -> Response:
        if not isinstance(error, EdgellmError | HTTPException):
            _log(error, settings)
        if isinstance(error, CancelledError):
            return Response(status_code=499)  # nobody is there to read it
        response = errors.response(_told(scope, error), body_of(scope["path"]))
        if isinstance(error, HTTPException):
            response.headers.update(error.headers or {})  # which methods there are
        return response

    async def on_error(request: Request, error: Exception) -> Response:
        return respond(request.scope, error)

    metrics = Metrics()
    guard = Middleware(
        Guard, settings=settings, metrics=metrics, is_open=matcher(open_paths), respond=respond
    )
    handlers = {EdgellmError: on_error, HTTPException: on_error}
    app = Starlette(routes=routes, middleware=[guard], exception_handlers=handlers, lifespan=lifespan)
    app.state.pool, app.state.settings, app.state.metrics = pool, settings, metrics
    return app


def protocols() -> Iterator[ModuleType]:
    """Every protocol, by name."""
    package = importlib.import_module(_PROTOCOLS)
    for name in sorted(module.name for module in pkgutil.iter_modules(package.__path__)):
        yield importlib.import_module(f"{_PROTOCOLS}.{name}")


def _bodies(found: list[ModuleType]) -> Callable[[str], ErrorBody]:
    """By path, how errors are written."""
    own: dict[str, ErrorBody] = {}
    for protocol in found:
        for route in protocol.ROUTES:
            if path := _path(route):
                own[path] = getattr(protocol, "error_body", errors.openai_body)
    return lambda path: own.get(path, errors.openai_body)


def _path(route: BaseRoute) -> str | None:
    return route.path if isinstance(route, Route) else None


def _told(scope: Scope, error: Exception) -> errors.Told:
    if not isinstance(error, HTTPException):
        return errors.told(error)
    message = _WRONG.get(error.status_code, error.detail)
    message = message.format(path=scope["path"][:120], method=scope["method"])
    return errors.told(RequestError(message, status=error.status_code))


def _log(error: Exception, settings: ServerSettings) -> None:
    """Where it happened; what it says may hold somebody's text."""
    what = str(error) if settings.log_text else ""
    note(f"a fault of the server: {type(error).__name__} {what}")
    for line in traceback.format_tb(error.__traceback__):
        for part in line.splitlines():
            note(part)
