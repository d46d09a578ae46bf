"""Documents in the order of their relevance, in the form that rerank servers have: /v1/rerank and /rerank."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edgellm.server import running, sse
from edgellm.server.schema import MAX_TEXT, Asked, Model, Strict, Text

_MAX_DOCUMENTS = 1000


def _document(value: Any) -> Any:
    """A text, or an object with one."""
    return value["text"] if isinstance(value, dict) and set(value) == {"text"} else value


_TEXT = {"type": "string", "maxLength": MAX_TEXT}
Document = Annotated[
    Text,
    BeforeValidator(_document),
    WithJsonSchema(
        {
            "anyOf": [
                _TEXT,
                {
                    "type": "object",
                    "properties": {"text": _TEXT},
                    "required": ["text"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]


class RerankRequest(Strict):
    """What is asked of /v1/rerank."""

    IGNORED = frozenset({"user", "max_chunks_per_doc", "max_tokens_per_doc"})

    query: Text
    documents: Annotated[list[Document], Field(min_length=1, max_length=_MAX_DOCUMENTS)]
    model: Model = None
    top_n: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    return_documents: bool | None = None


async def rerank(request: Request, asked: RerankRequest) -> Response:
    """Score documents by a query, the most relevant first."""
    async with running.engine_of(request, asked.model) as engine:
        ranked, n_tokens = await sse.while_connected(request, engine.rerank(asked.query, asked.documents))
    results = []
    for index, score in ranked[: asked.top_n]:
        result: dict[str, Any] = {"index": index, "relevance_score": score}
        if asked.return_documents:
            result["document"] = {"text": asked.documents[index]}
        results.append(result)
    record = running.record_of(request)
    record.n_prompt += n_tokens
    usage = {"prompt_tokens": n_tokens, "total_tokens": n_tokens}
    head = {"object": "list", "model": asked.model or record.model}
    return JSONResponse({**head, "results": results, "usage": usage})


ROUTES = tuple(
    Asked(path, rerank, RerankRequest) for path in ("/v1/rerank", "/rerank", "/v1/reranking", "/reranking")
)
