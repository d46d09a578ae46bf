"""The greedy answers of both engines, against those of transformers (tests/golden/make_greedy.py)."""

from __future__ import annotations

import json

import pytest
from places import GOLDEN

from edgellm import backends
from edgellm.catalog import first_use
from edgellm.generation import generate
from edgellm.generation.generate import GenerateOptions
from edgellm.session import GREEDY, EngineOptions

EXPECTED: dict[str, list[dict[str, list[int]]]] = json.loads((GOLDEN / "greedy.json").read_text())


@pytest.mark.parametrize("kind", ["F16", "onnx-fp32"])
@pytest.mark.parametrize("name", EXPECTED)
def test_fifty_answers_are_those_of_transformers(name: str, kind: str) -> None:
    assert len(EXPECTED[name]) == 50
    differ = []
    with backends.open_session(
        first_use.resolve(f"{name}:{kind}"), EngineOptions(n_ctx=512, n_threads=1)
    ) as session:
        for item in EXPECTED[name]:
            session.rewind(0)
            options = GenerateOptions(sampling=GREEDY, max_tokens=64)
            found = generate.stream(session, item["prompt"], options).completion.tokens
            if list(found) != item["answer"]:
                differ.append((session.detokenize(item["answer"]), session.detokenize(found)))
    assert not differ
