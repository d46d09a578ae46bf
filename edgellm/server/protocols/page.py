"""The chat page at /: static files and nothing else, under a policy that runs no script but its own."""

from __future__ import annotations

import functools
import hashlib
from importlib import resources

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

OPEN = ("/", "/page/*")  # it holds no secret, and asks for the key itself

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
#: What a model wrote cannot run, be fetched or sent anywhere, even where the page's own code were wrong.
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",  # modules of two versions are never mixed
}


@functools.cache
def _files() -> dict[str, tuple[bytes, str]]:
    """By name, the page's files and their tags. A name from outside is looked up here and nowhere else."""
    folder = resources.files("edgellm.server") / "page"
    contents = {file.name: file.read_bytes() for file in folder.iterdir() if _type(file.name)}
    return {name: (data, f'"{hashlib.sha256(data).hexdigest()[:32]}"') for name, data in contents.items()}


def _type(name: str) -> str | None:
    return _TYPES.get(name.rpartition(".")[2])


def page(request: Request) -> Response:
    """The page, or a file of it."""
    name = request.path_params.get("name", "index.html")
    if name not in _files():
        raise HTTPException(404)
    data, tag = _files()[name]
    headers = {**_HEADERS, "etag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=_type(name), headers=headers)


ROUTES = (Route("/", page, methods=["GET"]), Route("/page/{name}", page, methods=["GET"]))
