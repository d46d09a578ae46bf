"""What came of a row, in the form of OpenAI's batch output."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgellm.batch.rows import Refusal, Row, dumps

#: A row that may be answered another time: a run that goes on asks it again.
CRASHED = "engine_crashed"


@dataclass(frozen=True)
class Answer:
    """One row of the output: a response of the server, whatever its status, or the reason why there is none."""

    id: str
    custom_id: str
    status: int = 0  # of the response
    request_id: str = ""
    body: Mapping[str, Any] | None = None
    error: Refusal | None = None

    @property
    def is_answered(self) -> bool:
        """Whether it holds what was asked for."""
        return self.error is None and self.status == 200

    @property
    def problem(self) -> str:
        """Why it is an error row, in one line."""
        if self.error is not None:
            return self.error.message
        error = (self.body or {}).get("error")
        said = error.get("message") if isinstance(error, Mapping) else None
        return str(said or f"status {self.status}")

    def tokens(self) -> tuple[int, int]:
        """Of the prompt and of the answer, by whichever names its protocol has."""
        usage = (self.body or {}).get("usage") or {}
        read = usage.get("prompt_tokens", usage.get("input_tokens", 0))
        return read, usage.get("completion_tokens", usage.get("output_tokens", 0))

    def line(self) -> bytes:
        """As it is written."""
        response = None
        if self.error is None:
            response = {"status_code": self.status, "request_id": self.request_id, "body": self.body}
        error = None if self.error is None else asdict(self.error)
        return (
            dumps({"id": self.id, "custom_id": self.custom_id, "response": response, "error": error}) + b"\n"
        )


def responded(row: Row, status: int, body: bytes) -> Answer:
    """The server's word on a row."""
    return Answer(row.id, row.custom_id, status, f"req_{secrets.token_hex(12)}", json.loads(body))


def refused(row: Row, why: Refusal) -> Answer:
    """A row that the server was not asked, or that it cannot answer."""
    return Answer(row.id, row.custom_id, error=why)
