"""What is edgellm's own, by llama-server's names where it has the same: tokens, templates, health, metrics."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from edgellm.server import metrics, openapi, running
from edgellm.server.conversation import Conversation
from edgellm.server.schema import Asked, Strict, Text, Token
from edgellm.version import __version__

OPEN = ("/health", "/v1/health")

Model = Annotated[str, Field(max_length=512)] | None


class TokenizeRequest(Strict):
    """A text; control tokens in it are read unless `parse_special` is false."""

    content: Text
    model: Model = None
    add_special: bool | None = None
    parse_special: bool | None = None
    with_pieces: bool | None = None


class DetokenizeRequest(Strict):
    """Token ids."""

    tokens: Annotated[list[Token], Field(max_length=2**20)]
    model: Model = None


class TemplateRequest(Conversation):
    """Messages, and what else the chat template is told."""

    model: Model = None


async def tokenize(request: Request, asked: TokenizeRequest) -> Response:
    """Token ids of a text."""
    async with running.engine_of(request, asked.model) as engine:
        special, bos = asked.parse_special is not False, bool(asked.add_special)
        tokens = await engine.tokenize(asked.content, special=special, add_bos=bos)
        if not asked.with_pieces:
            return JSONResponse({"tokens": tokens})
        pieces = await engine.pieces(tokens)
    told = [{"id": token, "piece": _readable(piece)} for token, piece in zip(tokens, pieces, strict=True)]
    return JSONResponse({"tokens": told})


async def detokenize(request: Request, asked: DetokenizeRequest) -> Response:
    """The text of token ids."""
    async with running.engine_of(request, asked.model) as engine:
        data = await engine.detokenize(asked.tokens)
    return JSONResponse({"content": data.decode("utf-8", "replace")})


async def apply_template(request: Request, asked: TemplateRequest) -> Response:
    """The prompt that a conversation becomes."""
    async with running.engine_of(request, asked.model) as engine:
        prompt, tokens = await engine.render(asked.job())
    return JSONResponse({"prompt": prompt, "tokens": len(tokens)})


async def health(request: Request) -> Response:
    """That it lives, to anybody who may ask."""
    return JSONResponse({"status": "ok", "version": __version__})


async def counters(request: Request) -> Response:
    """What was served, for Prometheus."""
    states = await running.pool_of(request).states()
    text = metrics.page(running.metrics_of(request), states)
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4")


async def description(request: Request) -> Response:
    """This interface, as OpenAPI has it."""
    return JSONResponse(openapi.document(request.app.routes))


def _readable(piece: bytes) -> str | list[int]:
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return list(piece)


ROUTES: tuple[Any, ...] = (
    Asked("/tokenize", tokenize, TokenizeRequest),
    Asked("/detokenize", detokenize, DetokenizeRequest),
    Asked("/apply-template", apply_template, TemplateRequest),
    Route("/health", health, methods=["GET"]),
    Route("/v1/health", health, methods=["GET"]),
    Route("/metrics", counters, methods=["GET"]),
    Route("/openapi.json", description, methods=["GET"]),
)
