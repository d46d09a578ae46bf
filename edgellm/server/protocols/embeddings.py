"""OpenAI's embeddings: /v1/embeddings."""

from __future__ import annotations

import array
import base64
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edgellm.server import running, sse
from edgellm.server.schema import MAX_TEXT, Asked, Model, Name, Strict, Text

_MAX_TEXTS = 2048


def _texts(value: Any) -> Any:
    if isinstance(value, list) and value and isinstance(value[0], int | list):
        raise ValueError("token ids are of another tokenizer, maybe: send text")
    return [value] if isinstance(value, str) else value


_TEXT = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}
Texts = Annotated[
    list[Annotated[Text, Field(min_length=1)]],
    Field(min_length=1, max_length=_MAX_TEXTS),
    BeforeValidator(_texts),
    WithJsonSchema(
        {"anyOf": [_TEXT, {"type": "array", "minItems": 1, "maxItems": _MAX_TEXTS, "items": _TEXT}]}
    ),
]


class EmbeddingRequest(Strict):
    """What is asked of /v1/embeddings. What OpenAI's has not is of edgellm: how the model is asked."""

    IGNORED = frozenset({"user", "input_type"})

    input: Texts
    model: Model = None
    dimensions: Annotated[int, Field(ge=1, le=2**16)] | None = None
    encoding_format: Literal["float", "base64"] | None = None
    prompt_name: Name | None = None
    instruct: Text | None = None
    truncate: bool | None = None
    normalize: bool | None = None


async def embed(request: Request, asked: EmbeddingRequest) -> Response:
    """Texts as vectors."""
    names = ("dimensions", "prompt_name", "instruct", "truncate", "normalize")
    manner = {name: value for name in names if (value := getattr(asked, name)) is not None}
    async with running.engine_of(request, asked.model) as engine:
        vectors, tokens = await sse.while_connected(request, engine.embed(asked.input, **manner))
    written = _base64 if asked.encoding_format == "base64" else list
    data = [{"object": "embedding", "index": i, "embedding": written(row)} for i, row in enumerate(vectors)]
    n_tokens = sum(tokens)
    record = running.record_of(request)
    record.n_prompt += n_tokens
    usage = {"prompt_tokens": n_tokens, "total_tokens": n_tokens}
    return JSONResponse(
        {"object": "list", "data": data, "model": asked.model or record.model, "usage": usage}
    )


def _base64(row: Sequence[float]) -> str:
    """float32, little-endian."""
    numbers = array.array("f", row)
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode()


ROUTES = (Asked("/v1/embeddings", embed, EmbeddingRequest),)
