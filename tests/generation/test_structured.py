"""Answers of a given shape, on both engines: always valid where there is room, and a clear ending where not."""

import datetime
import json
import random
import re
import runpy

import jsonschema
import pytest
from click.testing import CliRunner
from places import ROOT

from edgellm import backends
from edgellm.backends import worker
from edgellm.cli import run
from edgellm.cli.shared import model_argument
from edgellm.errors import UsageError
from edgellm.formats.artifact import Artifact
from edgellm.generation import generate, json_schema
from edgellm.generation.constraints import Grammar
from edgellm.generation.generate import GenerateOptions
from edgellm.session import EngineOptions, Sampling

pytest.importorskip("llguidance")
_FILE = ROOT / "bench" / "schemas.py"
schemas = runpy.run_path(str(_FILE))["schemas"]

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 10},
        "tags": {"type": "array", "minItems": 2, "items": {"enum": ["alpha", "beta"]}},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
OPTIONS = EngineOptions(n_ctx=1024, n_threads=1)
QUESTION = "<|im_start|>user\nTell me about 東京 🗼.<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module", params=["tiny-qwen3", "tiny-qwen3:onnx-int4"])
def artifact(request, tmp_path_factory) -> Artifact:
    return model_argument.resolve(request.param)


@pytest.fixture(scope="module")
def session(artifact):
    with backends.open_session(artifact, OPTIONS) as session:
        yield session


def answer(session, grammar: Grammar, seed: int = 0, **options) -> generate.Completion:
    sampling = Sampling(seed=seed, temperature=(0.0, 0.8, 2.0)[seed % 3])
    prompt = session.tokenize(QUESTION)
    return generate.stream(
        session, prompt, GenerateOptions(sampling=sampling, grammar=grammar, **options)
    ).completion


def check(completion: generate.Completion, schema) -> None:
    jsonschema.validate(json.loads(completion.text), schema)
    assert completion.valid


def test_answers_of_many_schemas_are_valid_at_any_length(session):
    rng = random.Random(1)
    for seed, schema in enumerate(schemas()):
        grammar = Grammar.json_schema(schema)
        shortest = grammar.start(session, 256).shortest
        assert shortest is not None, schema
        check(answer(session, grammar, seed, max_tokens=shortest + rng.choice((0, 1, 5, 60))), schema)


def test_too_little_room_is_a_clear_length(session):
    grammar = Grammar.json_schema(PERSON)
    done = answer(session, grammar, max_tokens=4)
    assert (done.finish_reason, done.valid) == ("length", False)


def test_a_full_window_closes_the_answer_too(artifact):
    with backends.open_session(artifact, EngineOptions(n_ctx=256, n_threads=1)) as session:
        room = session.info.n_ctx
        filler = session.tokenize(QUESTION) * 20
        prompt = filler[: room - 60]
        options = GenerateOptions(
            grammar=Grammar.json_schema(PERSON), sampling=Sampling(seed=5, temperature=2.0)
        )
        check(generate.stream(session, prompt, options).completion, PERSON)


def test_the_end_needs_no_eos_and_a_stop_string_ends_sooner(session):
    grammar = Grammar.json_schema({"type": "array", "items": {"enum": ["a"]}, "minItems": 3, "maxItems": 3})
    done = answer(session, grammar)
    assert done.finish_reason == "stop" and json.loads(done.text) == ["a"] * 3
    assert not session.info.eos_ids & set(done.tokens)
    cut = answer(session, grammar, stop=(",",))
    assert (cut.finish_reason, cut.valid) == ("stop", False) and "," not in cut.text


def test_ignoring_eos_does_not_run_past_the_end(session):
    grammar = Grammar.grammar('root ::= "yes" | "yes, indeed"\n')
    done = answer(session, grammar, ignore_eos=True)
    assert done.text in ("yes", "yes, indeed") and done.valid


@pytest.mark.parametrize("text", ['root ::= "ja" | "nein"\n', 'start: "ja" | "nein"\n'])
def test_gbnf_and_lark(session, text):
    assert {answer(session, Grammar.grammar(text), seed).text for seed in range(6)} <= {"ja", "nein"}


def test_characters_of_several_tokens_stay_whole(session):
    grammar = Grammar.json_schema({"type": "string", "enum": ["👩‍👩‍👧‍👦𠀀", "东京塔"]})
    prompt = session.tokenize(QUESTION)
    pieces = list(
        generate.stream(session, prompt, GenerateOptions(grammar=grammar, sampling=Sampling(seed=2)))
    )
    assert all("\ufffd" not in piece for piece in pieces)
    assert json.loads("".join(pieces)) in ("👩‍👩‍👧‍👦𠀀", "东京塔")


def test_a_worker_gives_the_same_answer(artifact, session):
    grammar = Grammar.json_schema(PERSON)
    session.rewind(0)  # a prompt found in the cache was evaluated in other chunks, which rounds otherwise
    with worker.open_isolated(artifact, OPTIONS) as isolated:
        there, here = (answer(s, grammar, 4, max_tokens=40) for s in (isolated, session))
    check(there, PERSON)
    assert there.text == here.text


def test_dates_are_days_of_the_calendar():
    days = [
        f"{y:04}-{m:02}-{d:02}"
        for y in (999, 1000, 1900, 2000, 2023, 2024)
        for m in range(14)
        for d in range(33)
    ]
    for day in days:
        try:
            right = datetime.date.fromisoformat(day).year >= 1000
        except ValueError:
            right = False
        assert bool(re.match(json_schema.DAYS["date"], day)) == right, day
        assert bool(re.match(json_schema.DAYS["date-time"], f"{day}T23:59:59.25+01:00")) == right, day


@pytest.mark.parametrize("schema", ["{", '"x"', '{"type": "objec"}', '{"$ref": "#/nowhere"}'])
def test_a_schema_that_cannot_be_followed_is_refused(schema):
    with pytest.raises(UsageError, match="schema"):
        Grammar.json_schema(schema)


def test_a_grammar_that_cannot_be_read_is_refused():
    with pytest.raises(UsageError, match="grammar"):
        Grammar.grammar("root ::= (\n")


def test_run_takes_a_schema_from_a_file_or_the_line(tmp_path):
    file = tmp_path / "person.json"
    file.write_text(json.dumps(PERSON))
    for given in (str(file), json.dumps(PERSON)):
        line = ["tiny-qwen3", "--json-schema", given, "-s", "1", "-n", "60", "--no-stats", "-t", "1"]
        result = CliRunner().invoke(run.command, line, input="Lisbon", standalone_mode=False)
        assert result.exception is None
        jsonschema.validate(json.loads(result.stdout), PERSON)


def test_run_refuses_two_shapes_and_a_file_that_is_not_there(tmp_path):
    file = tmp_path / "g.gbnf"
    file.write_text('root ::= "a"\n')
    for line in (["--json-schema", "{}", "--grammar", str(file)], ["--json-schema", "nowhere.json"]):
        result = CliRunner().invoke(run.command, ["tiny-qwen3", "-p", "x", *line], standalone_mode=False)
        assert isinstance(result.exception, UsageError)


@pytest.mark.slow
def test_a_thousand_answers_are_valid(session):
    rng = random.Random(2)
    shapes = [(schema, Grammar.json_schema(schema)) for schema in schemas()]
    for seed in range(1000):
        schema, grammar = shapes[seed % len(shapes)]
        least = grammar.start(session, 256).shortest
        check(answer(session, grammar, seed, max_tokens=least + rng.choice((0, 1, 5, 60))), schema)
