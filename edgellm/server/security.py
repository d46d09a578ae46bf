"""Who may ask: names in the Host header, pages of other origins, keys, sizes. Then one line of log a request."""

from __future__ import annotations

import hmac
import ipaddress
import time
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgellm.server.errors import RequestError
from edgellm.server.metrics import Metrics
from edgellm.server.running import Record
from edgellm.server.settings import LOOPBACK, WILDCARDS, ServerSettings
from edgellm.terminal import note

_DRAINED = 4  # times the longest body that is taken
_METHODS = "GET, POST"
_HEADERS = "authorization, content-type, x-api-key, anthropic-version, anthropic-beta"
_FIXED = [
    (b"server", b"edgellm"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
]


class Guard:
    """Around the whole application: refuses what may not ask, bounds what comes in, logs what went out.

    `is_open` says of a path that it needs no key, `respond` makes the response of an error.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: ServerSettings,
        metrics: Metrics,
        is_open: Callable[[str], bool],
        respond: Callable[[Scope, Exception], Response],
    ) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics
        self._is_open, self._respond = is_open, respond
        self._hosts = {name.lower() for name in (*LOOPBACK, settings.host, *settings.allow_hosts)}
        self._any_address = settings.host in WILDCARDS
        self._origins = {origin.lower().rstrip("/") for origin in settings.allow_origins}
        self._key = None if settings.api_key is None else settings.api_key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the application's lifespan."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        await _Exchange(self, scope, receive, send).serve()

    def check(self, scope: Scope) -> None:
        """Raise RequestError for a request that may not be made."""
        headers = Headers(scope=scope)
        if len(scope["headers"]) > self._settings.max_headers:
            raise RequestError(f"more than {self._settings.max_headers} headers", status=431)
        self._check_host(scope, headers)
        self._check_origin(headers)
        if scope["method"] != "OPTIONS" and not self._is_open(scope["path"]):
            self._check_key(headers)
        length = headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 15 or int(length) > self._settings.max_body_bytes:
            raise too_long(self._settings)

    def _check_host(self, scope: Scope, headers: Headers) -> None:
        """A page that had its own name resolved to this machine (DNS rebinding) says that name here."""
        given = headers.getlist("host")
        if len(given) != 1 or not self._answers_to(host_name(given[0])):
            shown = ", ".join(given)[:80]
            raise RequestError(
                f"the server does not answer to the name {shown!r}; --allow-host NAME lets it",
                status=403,
                code="host_not_allowed",
            )

    def _answers_to(self, name: str) -> bool:
        """A server on all addresses answers to every address, which nobody can have resolved to another."""
        return name in self._hosts or (self._any_address and is_address(name))

    def _check_origin(self, headers: Headers) -> None:
        origin = headers.get("origin")
        if origin is not None and not self._allows(origin, headers):
            raise RequestError(
                f"pages of {origin[:80]!r} may not ask here; --allow-origin lets them",
                status=403,
                code="origin_not_allowed",
            )

    def _allows(self, origin: str, headers: Headers) -> bool:
        """Its own page's origin is its Host header's; others are those allowed."""
        own = f"http://{headers.get('host', '')}".lower()
        return origin.lower() == own or origin.lower().rstrip("/") in self._origins

    def _check_key(self, headers: Headers) -> None:
        if self._key is None:
            return
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        given = bearer.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        if not hmac.compare_digest(given.encode("latin-1"), self._key):
            raise RequestError(
                "a key is needed: send Authorization: Bearer KEY, or x-api-key: KEY",
                status=401,
                code="invalid_api_key",
            )

    def cross_origin(self, headers: Headers) -> list[tuple[bytes, bytes]]:
        """Headers that let the page of an allowed origin read the response."""
        origin = headers.get("origin")
        vary = (b"vary", b"origin")
        if origin is None or origin.lower().rstrip("/") not in self._origins:
            return [vary]
        return [vary, (b"access-control-allow-origin", origin.encode("latin-1"))]


class _Exchange:
    """One request and its response."""

    def __init__(self, guard: Guard, scope: Scope, receive: Receive, send: Send) -> None:
        self._guard, self._scope, self._receive, self._send = guard, scope, receive, send
        self._settings = guard._settings
        self._n_body, self._more, self._status, self._begin = 0, True, 0, time.monotonic()
        self.record = Record()

    async def serve(self) -> None:
        self._scope.setdefault("state", {})["record"] = self.record
        try:
            self._guard.check(self._scope)
            if self._scope["method"] == "OPTIONS":
                await self._preflight()
            else:
                await self._guard._app(self._scope, self.receive, self.send)
        except Exception as error:
            response = self._guard._respond(self._scope, error)
            if self._status:
                raise
            await self._drain()
            response.headers["connection"] = "close"  # what is left of the body stays unread
            await response(self._scope, self._receive, self.send)
        finally:
            self._log()

    async def receive(self) -> Message:
        """What comes in, counted."""
        message = await self._receive()
        self._n_body += len(message.get("body", b""))
        self._more = message.get("more_body", False)
        if self._n_body > self._settings.max_body_bytes:
            raise too_long(self._settings)
        return message

    async def _drain(self) -> None:
        """Throw away what is still coming, within bounds: a client that is cut off while it sends reads no answer."""
        if "expect" in Headers(scope=self._scope):
            return  # it asks before it sends
        while self._more and self._n_body < _DRAINED * self._settings.max_body_bytes:
            message = await self._receive()
            self._n_body += len(message.get("body", b""))
            self._more = message.get("more_body", False)

    async def send(self, message: Message) -> None:
        """What goes out, with the headers that every response has."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            more = self._guard.cross_origin(Headers(scope=self._scope))
            message = {**message, "headers": [*message.get("headers", ()), *_FIXED, *more]}
        await self._send(message)

    async def _preflight(self) -> None:
        headers = [
            (b"access-control-allow-methods", _METHODS.encode()),
            (b"access-control-allow-headers", _HEADERS.encode()),
            (b"access-control-max-age", b"600"),
        ]
        await self.send({"type": "http.response.start", "status": 204, "headers": headers})
        await self.send({"type": "http.response.body", "body": b""})

    def _log(self) -> None:
        metrics, record = self._guard._metrics, self.record
        status = self._status or 499  # as nginx has it: the client went away before
        metrics.statuses[status] = metrics.statuses.get(status, 0) + 1
        if not self._settings.log:
            return
        seconds = time.monotonic() - self._begin
        what = f"{self._scope['method']} {self._scope['path'][:120]} {status} {seconds:.3f} s"
        if record.model:
            cached = f" ({record.n_cached:,} cached)" if record.n_cached else ""
            tokens = (
                f" {record.n_prompt:,}{cached} + {record.n_generated:,} tokens" if record.n_prompt else ""
            )
            what += f" {record.model}{tokens}"
        if self._settings.log_text and record.texts:
            what += f" {''.join(record.texts)!r}"
        note(what)


def too_long(settings: ServerSettings) -> RequestError:
    """The error of a body over the limit."""
    return RequestError(f"the body is over {settings.max_body_bytes:,} bytes", status=413)


def host_name(host: str) -> str:
    """The name in a Host header, without port and brackets."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def is_address(name: str) -> bool:
    """Whether it is an IP address, not a name."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address to listen on."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def matcher(paths: Iterable[str]) -> Callable[[str], bool]:
    """Says of a path whether it is one of these; those that end in `*` stand for all that begin so."""
    exact = frozenset(path for path in paths if not path.endswith("*"))
    begins = tuple(path[:-1] for path in paths if path.endswith("*"))
    return lambda path: path in exact or (bool(begins) and path.startswith(begins))
