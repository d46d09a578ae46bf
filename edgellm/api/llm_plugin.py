"""Models of this machine for Simon Willison's `llm`: `llm -m edgellm/tiny-qwen3 "hi"`. https://llm.datasette.io

`llm` finds this by the entry point in pyproject.toml; nothing else imports it. Models are the bundled ones, and what
is kept here or was downloaded (`edgellm list`). Any other is an option of the model `edgellm`: a file, a folder, a
hub id.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import llm
from llm.parts import ReasoningPart, StreamEvent, TextPart
from pydantic import Field

from edgellm.api import model as api
from edgellm.chat import settings
from edgellm.errors import UsageError

if TYPE_CHECKING:
    from edgellm.api.answer import Answer
    from edgellm.prompt.markup import Part

_ID = "edgellm"
_HELP = {parameter.field: parameter.help for parameter in settings.PARAMETERS}


class Options(llm.Model.Options):
    """Settings by `-o NAME VALUE`; ranges are checked by edgellm. What is left out is edgellm's usual."""

    temperature: float | None = Field(None, description=_HELP["temperature"])
    top_k: int | None = Field(None, description=_HELP["top_k"])
    top_p: float | None = Field(None, description=_HELP["top_p"])
    min_p: float | None = Field(None, description=_HELP["min_p"])
    repeat_penalty: float | None = Field(None, description=_HELP["repeat_penalty"])
    presence_penalty: float | None = Field(None, description=_HELP["presence_penalty"])
    frequency_penalty: float | None = Field(None, description=_HELP["frequency_penalty"])
    seed: int | None = Field(None, description=_HELP["seed"])
    max_tokens: int | None = Field(None, description=_HELP["max_tokens"])
    stop: str | None = Field(None, description=_HELP["stop"])
    think: bool | None = Field(None, description="Have a reasoning model think first, or not.")
    n_ctx: int | None = Field(None, description="Tokens of context to reserve.")


class AnyOptions(Options):
    """Of the model whose name does not say which it is."""

    model: str | None = Field(None, description="A GGUF file, a folder, a bundled name or a hub id.")


@llm.hookimpl
def register_models(register: Callable[..., None]) -> None:
    """Tell `llm` what is here, without reading any of it."""
    from edgellm.catalog import models

    found = {
        item.name: item.name if item.kind in ("bundled", "download") else str(item.path)
        for item in models.everything()
        if item.kind != "prepared"
    }
    for name, path in {"": "", **found}.items():
        model_id = f"{_ID}/{name}" if name else _ID
        register(Model(model_id, path), AsyncModel(model_id, path))


@lru_cache(maxsize=1)
def _loaded(model: str, n_ctx: int | None) -> api.Model:
    return api.load(model, n_ctx=n_ctx)


class _Asking:
    """One prompt of `llm`'s for one of our models."""

    def __init__(self, path: str, prompt: llm.Prompt) -> None:
        given = {name: value for name, value in prompt.options if value is not None}
        path = path or given.pop("model", None) or ""
        if not path:
            raise UsageError(f"the model {_ID} needs to be told which: -o model FILE, FOLDER or HUB ID")
        self.model = _loaded(path, given.pop("n_ctx", None))
        self.settings: dict[str, Any] = given
        if isinstance(prompt.schema, dict):
            self.settings["json_schema"] = prompt.schema
        self.messages = [_written(message) for message in prompt.messages]


def _written(message: llm.Message) -> dict[str, Any]:
    """A message in OpenAI's form; what a model thought is not shown to it again."""
    texts = []
    for part in message.parts:
        if isinstance(part, TextPart):
            texts.append(part.text)
        elif not isinstance(part, ReasoningPart):
            raise UsageError(f"a {type(part).__name__} cannot be given to this model, only text can")
    return {"role": message.role, "content": "".join(texts)}


def _event(part: Part) -> StreamEvent:
    return StreamEvent(type="reasoning" if part.kind == "thinking" else "text", chunk=part.text)


def _finish(response: Any, answer: Answer) -> None:
    response.set_usage(input=answer.usage.n_prompt, output=answer.usage.n_generated)
    response.response_json = {"finish_reason": answer.finish_reason, "seed": answer.seed}


def _options(path: str) -> Any:
    """What may be asked of one model, or of any."""
    return Options if path else AnyOptions


class Model(llm.Model):
    """A model of this machine."""

    can_stream = True
    supports_schema = True

    def __init__(self, model_id: str, path: str) -> None:
        self.model_id, self._path = model_id, path
        self.Options = _options(path)

    def execute(
        self, prompt: llm.Prompt, stream: bool, response: llm.Response, conversation: llm.Conversation | None
    ) -> Iterator[str | StreamEvent]:
        """The answer, in pieces; when `stream` is false `llm` puts them together."""
        asking = _Asking(self._path, prompt)
        with asking.model.stream(asking.messages, **asking.settings) as answering:
            yield from map(_event, answering.parts())
            _finish(response, answering.answer)


class AsyncModel(llm.AsyncModel):
    """The same for asyncio."""

    can_stream = True
    supports_schema = True

    def __init__(self, model_id: str, path: str) -> None:
        self.model_id, self._path = model_id, path
        self.Options = _options(path)

    async def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.AsyncResponse,
        conversation: llm.AsyncConversation | None,
    ) -> AsyncGenerator[str | StreamEvent, None]:
        """The answer, in pieces."""
        asking = _Asking(self._path, prompt)
        async with asking.model.astream(asking.messages, **asking.settings) as answering:
            async for part in answering.parts():
                yield _event(part)
            _finish(response, await answering)
