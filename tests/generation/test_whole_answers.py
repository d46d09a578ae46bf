"""A token limit ends an answer of a given shape; it does not cut it, whatever way the shape's end has to be found.

Authority: Python's `re` says whether a text is whole; the same patterns go in as JSON schemas and as grammars.
"""

import json
import re

import pytest
from click.testing import CliRunner

from edgellm import backends
from edgellm.catalog import first_use
from edgellm.cli import run
from edgellm.generation import generate
from edgellm.generation.constraints import Grammar
from edgellm.generation.generate import GenerateOptions
from edgellm.session import EngineOptions, Sampling

pytest.importorskip("llguidance")

PATTERNS = [
    "[0-9]+ kg",
    "([0-9][a-z])+ kg",  # a repetition of two
    "[a-z]{3,}@[a-z]+\\.com",
    ".*END",  # where the same may follow, whatever was written
    "[^x]*x[^x]*x",
    "[0-9]{40}",  # a repetition that must not be left
    "(a|b)*abb",
    "x*y{30}",
    "([a-z]+ )*[A-Z]{3}",
    "(0|[1-9][0-9]*)(\\.[0-9]+)?",  # whole at one id, not at the next
]
SCHEMA = {"type": "string", "pattern": "^[0-9]+ kg$"}


@pytest.fixture(scope="module", params=["tiny-qwen3", "tiny-qwen3:onnx-int4"])
def session(request):
    with backends.open_session(
        first_use.resolve(request.param), EngineOptions(n_ctx=512, n_threads=1)
    ) as session:
        yield session


def whole(pattern: str, done: generate.Completion, kind: str) -> bool:
    try:
        text = json.loads(done.text) if kind == "schema" else done.text
    except ValueError:
        return False
    return re.fullmatch(pattern, text, re.DOTALL) is not None


@pytest.mark.parametrize("kind", ["schema", "grammar"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_limit_that_holds_a_whole_answer_gives_one(session, pattern, kind):
    grammar = (
        Grammar.json_schema({"type": "string", "pattern": f"^({pattern})$"})
        if kind == "schema"
        else Grammar.grammar(f"start: /{pattern}/")
    )
    prompt = session.tokenize("How heavy is it? ")
    shortest = grammar.start(session, 256).shortest
    assert shortest
    for seed in range(6):
        limit = shortest * (1, 2, 4)[seed % 3] + seed
        sampling = Sampling(seed=seed, temperature=(0.8, 2.0)[seed % 2])
        options = GenerateOptions(max_tokens=limit, grammar=grammar, sampling=sampling)
        done = generate.stream(session, prompt, options).completion
        assert done.valid and whole(pattern, done, kind), (limit, done)


def test_a_limit_below_every_whole_answer_is_known_at_the_start(session):
    """Of `[0-9]+ kg`, three ids are the least: a digit, a blank with or without its k, the rest."""
    grammar = Grammar.grammar('root ::= [0-9]+ " kg"\n')
    constraint = grammar.start(session, 1)
    assert constraint.shortest == min(1 + len(session.tokenize(" kg")), 3) > 1
    done = generate.stream(
        session, session.tokenize("Heavy: "), GenerateOptions(max_tokens=1, grammar=grammar)
    )
    assert (done.completion.finish_reason, done.completion.valid) == ("length", False)


def test_a_shape_without_an_end_is_said_to_have_none(session):
    grammar = Grammar.grammar('root ::= ("a" | "b") root\n')
    assert grammar.start(session, 50).shortest is None
    done = generate.stream(
        session, session.tokenize("a"), GenerateOptions(max_tokens=9, grammar=grammar)
    ).completion
    assert (done.finish_reason, done.valid, done.shortest) == ("length", False, None)


def invoke(*line: str):
    """What `edgellm run` prints on both channels, and its exit code."""
    base = ["tiny-qwen3", "-p", "How heavy?", "--no-stats", "-t", "1", "-s", "1"]
    result = CliRunner().invoke(run.command, [*base, *line], standalone_mode=False)
    assert result.exception is None, result.exception
    return result.stdout, result.stderr, result.return_value


def test_run_says_what_is_not_whole_and_ends_with_3():
    schema = json.dumps(SCHEMA)
    text, said, code = invoke("--json-schema", schema, "-n", "20")
    assert (said, code) == ("", 0) and re.fullmatch(SCHEMA["pattern"], json.loads(text))
    _, said, code = invoke("--json-schema", schema, "-n", "2")
    assert code == 3
    before, after = said.splitlines()
    assert (
        "no whole answer fits" in before and "raise -n" in before and "the answer is cut: 2 tokens" in after
    )
    _, said, code = invoke("--json-schema", schema, "-n", "20", "--stop", "k")
    assert code == 3 and "a stop string ended it" in said


@pytest.mark.parametrize(("limit", "valid", "code"), [("20", True, 0), ("2", False, 3)])
def test_run_as_json_has_the_verdict(limit, valid, code):
    text, _, got = invoke("--json-schema", json.dumps(SCHEMA), "-n", limit, "--json")
    assert (json.loads(text)["valid"], got) == (valid, code)
    plain, _, got = invoke("-n", "2", "--json")
    assert json.loads(plain)["valid"] is None and got == 0
