"""What is edgellm's own, by llama-server's names where it has the same: tokens, templates, health, metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from edgellm.server import metrics, openapi, running, sse
from edgellm.server.conversation import Conversation
from edgellm.server.errors import RequestError
from edgellm.server.schema import Asked, Model, Strict, Text, Token
from edgellm.version import __version__

if TYPE_CHECKING:
    from edgellm.serving.pool import Offered

OPEN = ("/health", "/v1/health")


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
    """The text of token ids; control tokens have none."""
    async with running.engine_of(request, asked.model) as engine:
        n_vocab = engine.facts.n_vocab
        if bad := [token for token in asked.tokens if token >= n_vocab]:
            raise RequestError(f"token id {bad[0]} is outside the vocabulary of {n_vocab}", param="tokens")
        data = await engine.detokenize(asked.tokens)
    return JSONResponse({"content": data.decode("utf-8", "replace")})


async def apply_template(request: Request, asked: TemplateRequest) -> Response:
    """The prompt that a conversation becomes."""
    async with running.engine_of(request, asked.model) as engine:
        prompt, tokens = await engine.render(asked.job())
    return JSONResponse({"prompt": prompt, "tokens": len(tokens)})


async def health(request: Request) -> Response:
    """That it lives; and of its models, where nobody needs a key."""
    told: dict[str, Any] = {"status": "ok", "version": __version__}
    if running.settings_of(request).api_key is None:
        told["models"] = [_model(offered) for offered in running.pool_of(request).names()]
    return JSONResponse(told)


async def counters(request: Request) -> Response:
    """What was served, for Prometheus."""
    pool = running.pool_of(request)
    slots = {offered.name: offered.facts.n_slots for offered in pool.names() if offered.facts}
    text = metrics.page(running.metrics_of(request), await pool.states(), slots)
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4")


async def description(request: Request) -> Response:
    """This interface, as OpenAPI has it."""
    state = request.app.state
    if not hasattr(state, "description"):
        state.description = sse.dumps(openapi.document(request.app.routes)).encode()
    return Response(state.description, media_type="application/json")


def _model(offered: Offered) -> dict[str, Any]:
    """Of a model that is loaded, what it runs on and whether answers are decoded together."""
    told: dict[str, Any] = {"name": offered.name, "state": offered.state}
    if (facts := offered.facts) is not None:
        engine = {"backend": facts.backend, "device": facts.device, "notes": list(facts.notes)}
        told |= {"n_ctx": facts.n_ctx, "slots": facts.n_slots, "batching": facts.batching, **engine}
    return told


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
