"""Requests as they may come: JSON within bounds, known fields, values in range. What is wrong is named."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, ClassVar, Generic, TypeVar

import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from edgellm.errors import CancelledError
from edgellm.server.errors import RequestError

_Model = TypeVar("_Model", bound="Strict")

MAX_TEXT = 4 * 2**20  # characters of one text
MAX_ITEMS = 4096  # of a list

Text = Annotated[str, Field(max_length=MAX_TEXT)]
Name = Annotated[str, Field(min_length=1, max_length=512)]
Token = Annotated[int, Field(ge=0, lt=2**31)]
#: Which model; the first where it is left out or empty.
Model = Annotated[str, Field(max_length=512)] | None


def _whole(value: Any) -> Any:
    if isinstance(value, list) and any(isinstance(one, float) for one in value):
        return list(map(_whole, value))
    return int(value) if isinstance(value, float) and value.is_integer() else value


def with_ignored(schema: dict[str, Any], model: type[Any]) -> None:
    """Add to a model's JSON schema what it accepts and does not heed."""
    for name in sorted(model.IGNORED):
        schema.setdefault("properties", {})[name] = {"description": "accepted; means nothing here"}


class Strict(BaseModel):
    """A request. A field that it does not have is refused, but for those of `IGNORED`, which mean nothing here."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, json_schema_extra=with_ignored)

    IGNORED: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _prepared(cls, given: Any) -> Any:
        """Without what is ignored; and 3.0 is a whole number, as JSON Schema has it."""
        if not isinstance(given, dict):
            return given
        return {name: _whole(value) for name, value in given.items() if name not in cls.IGNORED}


class Asked(Route, Generic[_Model]):
    """A route that takes JSON of a known form: the endpoint gets the request and what was asked."""

    def __init__(
        self,
        path: str,
        endpoint: Callable[[Request, _Model], Awaitable[Response]],
        model: type[_Model],
        *,
        streams: bool = False,
    ) -> None:
        async def serve(request: Request) -> Response:
            return await endpoint(request, await read(request, model))

        super().__init__(path, serve, methods=["POST"], name=endpoint.__name__)
        self.model, self.streams, self.says = model, streams, endpoint.__doc__ or ""


async def read(request: Request, model: type[_Model]) -> _Model:
    """The request's body as `model`. Raises RequestError naming the first thing wrong."""
    kind, _, parameters = request.headers.get("content-type", "").partition(";")
    if kind.strip().lower() != "application/json" or not _is_utf8(parameters):
        raise RequestError("the body has to be JSON: send content-type: application/json", status=415)
    try:
        body = await request.body()
    except ClientDisconnect:
        raise CancelledError("the client went away") from None
    try:
        given = pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise RequestError(f"the body is not JSON: {error}", code="invalid_json") from None
    return parsed(given, model)


def parsed(given: Any, model: type[_Model]) -> _Model:
    """Parsed JSON as `model`. Raises RequestError."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise _refused(error, model) from None


def _is_utf8(parameters: str) -> bool:
    name, _, value = parameters.strip().partition("=")
    return name.strip().lower() != "charset" or value.strip(' "').lower() in ("utf-8", "utf8")


def _refused(error: ValidationError, model: type[Strict]) -> RequestError:
    """The first thing wrong, the field's name before what the library says of it."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = _path(first["loc"])
    if first["type"] == "extra_forbidden":
        known = ", ".join(sorted(model.model_fields)) if len(first["loc"]) == 1 else ""
        there = f"; there are: {known}" if known else ""
        return RequestError(f"there is no field {place!r} here{there}", code="unknown_field", param=place)
    what = first["msg"].removeprefix("Value error, ")
    what = what[:1].lower() + what[1:]
    return RequestError(f"{place}: {what}" if place else what, code="invalid_value", param=place or None)


def _path(parts: Sequence[str | int]) -> str:
    """messages[0].content, as people write it; which of several forms was tried (`<so>`) is left out."""
    text = ""
    for part in parts:
        if isinstance(part, str) and part.startswith("<"):
            continue
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text[:200]
