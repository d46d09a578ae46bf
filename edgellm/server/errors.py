"""From an error to a status and a body that a client understands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.responses import JSONResponse

from edgellm.errors import EdgellmError, EngineCrashError, MissingExtraError, UsageError
from edgellm.serving.job import Failed
from edgellm.serving.pool import UnknownModelError


class RequestError(UsageError):
    """A request that is refused, with the status that says so and the field it is about."""

    def __init__(
        self, message: str, *, status: int = 400, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param


class JobError(EdgellmError):
    """An answer that an engine gave up, or did not begin."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.message)
        self.kind = failed.kind


@dataclass(frozen=True)
class Told:
    """An error as clients see it."""

    status: int
    message: str  # one line
    type: str  # OpenAI's word for the kind: invalid_request_error, ...
    code: str | None = None
    param: str | None = None  # the field of the request


#: How a protocol writes an error.
ErrorBody = Callable[[Told], Mapping[str, Any]]

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "unavailable_error",
    504: "timeout_error",
}
_KINDS = {"request": 400, "busy": 429, "timeout": 504, "crash": 503, "engine": 500}
_RETRY_SECONDS = {429: "1", 503: "2"}


def told(error: Exception) -> Told:
    """What is said of an error. One that was not raised on purpose says nothing of itself."""
    if not isinstance(error, EdgellmError):
        return Told(500, "the server failed; its log says where", _TYPES[500])
    message = " ".join(str(error).split())
    if isinstance(error, RequestError):
        return Told(error.status, message, type_of(error.status), error.code, error.param)
    if isinstance(error, UnknownModelError):
        return Told(404, message, _TYPES[404], "model_not_found", "model")
    status = status_of(error)
    return Told(status, message, type_of(status))


def status_of(error: EdgellmError) -> int:
    """The status of an error that carries none."""
    if isinstance(error, JobError):
        return _KINDS.get(error.kind, 500)
    if isinstance(error, UsageError):
        return 400
    if isinstance(error, EngineCrashError):
        return 503
    return 501 if isinstance(error, MissingExtraError) else 500


def type_of(status: int) -> str:
    """OpenAI's word for errors of a status."""
    return _TYPES.get(status, _TYPES[400] if status < 500 else _TYPES[500])


def openai_body(told: Told) -> dict[str, Any]:
    """OpenAI's form, which is everybody's but Anthropic's."""
    error = {"message": told.message, "type": told.type, "param": told.param, "code": told.code}
    return {"error": error}


def response(error: Told, body: ErrorBody) -> JSONResponse:
    """The response of an error in a protocol's form."""
    retry = _RETRY_SECONDS.get(error.status)
    headers = {"retry-after": retry} if retry else {}
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(body(error), error.status, headers)
