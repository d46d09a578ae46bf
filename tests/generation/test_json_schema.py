"""`oneOf` whose alternatives exclude each other is followed; what is refused says what to change.

Authority: jsonschema says which values are valid by which schema.
"""

import itertools
import json

import jsonschema
import pytest

from edgellm import backends
from edgellm.catalog import first_use
from edgellm.errors import UsageError
from edgellm.generation import generate
from edgellm.generation.constraints import Grammar
from edgellm.generation.generate import GenerateOptions
from edgellm.generation.json_schema import disjoint
from edgellm.session import EngineOptions, Sampling

pytest.importorskip("llguidance")


def shape(kind, required=("kind",), **more):
    properties = {"kind": {"const": kind}, "n": {"type": "integer"}, **more}
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


CIRCLE, SQUARE = shape("circle", ("kind", "n")), shape("square", ("kind", "n"))
ROOT = {"$defs": {"circle": CIRCLE, "square": SQUARE, "loop": {"$ref": "#/$defs/loop"}}}
SCHEMAS = [
    CIRCLE, SQUARE, shape("circle", ()), shape("square", ()), shape(1), shape(True), shape(1.0),
    {"$ref": "#/$defs/circle"}, {"$ref": "#/$defs/square"}, {"$ref": "#/$defs/loop"}, {"$ref": "#/nowhere"},
    {"type": "object", "required": ["m"]}, {"type": "object", "patternProperties": {"^m": {}},
     "additionalProperties": False, "required": ["m"]}, {"type": "object"},
    {"type": "object", "properties": {"m": False}}, {"type": "object", "properties": {"m": {"type": "string"}}},
    {"type": "string"}, {"type": "string", "minLength": 3}, {"type": "string", "maxLength": 2}, {"minLength": 3},
    {"type": "integer"}, {"type": "number"}, {"type": ["integer", "null"]}, {"type": "integer", "maximum": 3},
    {"type": "number", "minimum": 3.5}, {"type": "number", "exclusiveMinimum": 3}, {"exclusiveMaximum": 3},
    {"const": 1}, {"const": True}, {"const": 1.5}, {"enum": [1, "a"]}, {"enum": ["a", None]}, {"enum": [[True]]},
    {"const": {"kind": "circle", "n": 1}}, {"type": "array", "minItems": 2}, {"type": "array", "maxItems": 1},
    {"anyOf": [{"type": "string"}, {"type": "integer"}]}, {"oneOf": [{"type": "null"}, CIRCLE]},
    {"allOf": [{"type": "string"}, {"minLength": 3}]}, True, False, {}, {"not": {"type": "string"}},
]  # fmt: skip
VALUES = [
    None, True, False, 0, 1, 1.0, 1.5, 2, 3, 3.5, 4, "", "a", "ab", "abc", [], [1], [True], [1, 2], {},
    {"kind": "circle"}, {"kind": "square"}, {"kind": "circle", "n": 1}, {"kind": "square", "n": 1}, {"kind": 1},
    {"kind": True}, {"n": 1}, {"m": 1}, {"m": "a"}, {"kind": "circle", "n": 1, "m": 1}, {"mm": 1, "m": 2},
]  # fmt: skip


def valid(schema, value) -> bool:
    whole = schema if isinstance(schema, bool) else {**ROOT, **schema}
    return jsonschema.Draft202012Validator(whole).is_valid(value)


def checkable(schema) -> bool:
    return "loop" not in str(schema) and "nowhere" not in str(schema)


@pytest.mark.parametrize("one", SCHEMAS, ids=str)
def test_what_is_called_disjoint_has_no_value_in_common(one):
    for other in SCHEMAS:
        if disjoint(one, other, ROOT) and checkable([one, other]):
            both = [value for value in VALUES if valid(one, value) and valid(other, value)]
            assert not both, (other, both)


PAIRS = [
    (CIRCLE, SQUARE),
    (shape("circle"), shape("square", ())),
    ({"$ref": "#/$defs/circle"}, {"$ref": "#/$defs/square"}),
    ({"type": "string"}, {"type": "integer"}),
    ({"type": "string", "minLength": 3}, {"type": "string", "maxLength": 2}),
    ({"type": "integer", "maximum": 3}, {"type": "number", "minimum": 3.5}),
    ({"type": "array", "minItems": 2}, {"type": "array", "maxItems": 1}),
    ({"const": "a"}, {"enum": ["b", None]}),
    ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, {"type": "null"}),
    ({"type": "object", "required": ["m"]}, CIRCLE),
]


@pytest.fixture(scope="module", params=["tiny-qwen3", "tiny-qwen3:onnx-int4"])
def session(request):
    with backends.open_session(
        first_use.resolve(request.param), EngineOptions(n_ctx=512, n_threads=1)
    ) as session:
        yield session


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_one_of_disjoint_alternatives_is_followed(session, pair):
    schema = {**ROOT, "oneOf": list(pair)}
    grammar, prompt = Grammar.json_schema(schema), session.tokenize("A value:")
    for seed in range(4):
        sampling = Sampling(seed=seed, temperature=2.0)
        options = GenerateOptions(grammar=grammar, max_tokens=40, sampling=sampling)
        done = generate.stream(session, prompt, options).completion
        jsonschema.validate(json.loads(done.text), schema)
        assert done.valid


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"oneOf": [{"type": "string"}, {"type": "null"}, {"minLength": 3}]}, "alternatives 1 and 3 of #/oneOf"),
        ({"properties": {"a": {"oneOf": [{"type": "number"}, {"const": 1}]}}}, "1 and 2 of #/properties/a/oneOf"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems.*leave them out"),
        ({"type": "string", "format": "regex"}, "regex; leave the format out, or give a pattern"),
        ({"type": "string", "pattern": "(?=a)b"}, "write the pattern without"),
        ({"$ref": "https://example.com/x"}, "put the definition into"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, r"minimum \(5\) is greater.*change what contradicts"),
        ({"oneOf": [{"minLength": "x"}, {"maxLength": 3}]}, "minLength"),
        ({"oneOf": 3}, "oneOf"),
    ],
)  # fmt: skip
def test_a_refusal_names_what_can_be_changed(schema, said):
    with pytest.raises(UsageError, match=said) as raised:
        Grammar.json_schema(schema)
    assert "\n" not in str(raised.value) and "coerce_one_of" not in str(raised.value)


def test_most_pairs_that_have_nothing_in_common_are_told_apart():
    """Certainty costs some: of the pairs above that share no value of those above, how many are seen to be apart."""
    apart = [
        (a, b)
        for a, b in itertools.combinations(filter(checkable, SCHEMAS), 2)
        if not any(valid(a, value) and valid(b, value) for value in VALUES)
    ]
    seen = sum(disjoint(a, b, ROOT) for a, b in apart)
    assert seen >= 0.9 * len(apart), (
        seen,
        len(apart),
        [pair for pair in apart if not disjoint(*pair, ROOT)][:5],
    )
