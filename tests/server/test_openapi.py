"""Requests made from the server's own description, right ones and wrong ones: schemathesis is the authority.

Nothing it makes up may end in a status of 500 or above, in a response that is not as described, or with the server
gone; what is wrong by the description is refused.
"""

import hypothesis
import pytest
import schemathesis
import serving
from fault_rows import trials
from schemathesis.specs.openapi import checks

from edgellm.session import EngineOptions

CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
]
N = trials(full=120, fast=15)  # examples for each operation and mode
MODES = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)


@pytest.fixture(scope="module")
def server():
    """Answers are short for the context is: what is made up asks for millions of tokens."""
    with serving.served(
        "tiny-qwen3", engine=EngineOptions(n_ctx=256, n_threads=1, n_threads_batch=1)
    ) as running:
        yield running


@pytest.fixture(scope="module")
def schema(server):
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


def operations(schema):
    return {f"{one.method.upper()} {one.path}": one for one in (r.ok() for r in schema.get_all_operations())}


def test_every_path_is_described(server, schema):
    assert {"POST /v1/chat/completions", "GET /v1/models", "POST /tokenize"} <= set(operations(schema))


@pytest.mark.wide
@pytest.mark.fault(13, N * 10)
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
def test_whatever_is_made_up_is_answered_or_refused(server, schema, mode, capfd):
    answered = set()
    for name, operation in operations(schema).items():
        if mode == schemathesis.GenerationMode.NEGATIVE and not name.startswith("POST"):
            continue  # there is nothing to get wrong
        if any(status < 400 for status in asked(operation, mode)):
            answered.add(name)
        assert server.ask("GET", "/health").status == 200
    assert server.post("/v1/completions", prompt="The capital of France is", temperature=0).status == 200
    expected = {"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/tokenize", "/apply-template"}
    if mode == schemathesis.GenerationMode.POSITIVE:
        assert answered >= {f"POST {path}" for path in expected}
    else:
        assert not answered
    assert "fault of the server" not in capfd.readouterr().err


def asked(operation, mode):
    """The statuses of requests made up for one operation."""
    statuses = []

    @hypothesis.settings(
        max_examples=N, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def ask(case):
        optional = isinstance(case.body, dict) and not operation.path.startswith("/models")
        if optional and mode == schemathesis.GenerationMode.POSITIVE:
            case.body.pop("model", None)  # a made-up name would end it at that
        response = case.call(timeout=serving.SECONDS)
        statuses.append(response.status_code)
        case.validate_response(response, checks=CHECKS)

    ask()
    return statuses
