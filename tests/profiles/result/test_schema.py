"""The published JSON Schema is that of the classes, and results keep to it - as the jsonschema package sees it."""

import json

import profile_samples as samples
import pytest
from places import ROOT

from edgellm.profiles.result import schema
from edgellm.profiles.result.caveats import Caveat
from edgellm.profiles.result.result import to_json

jsonschema = pytest.importorskip("jsonschema")
PUBLISHED = ROOT / "docs" / "profile.schema.json"


@pytest.fixture(scope="module")
def validator():
    plain = json.loads(PUBLISHED.read_text())
    jsonschema.Draft202012Validator.check_schema(plain)
    return jsonschema.Draft202012Validator(plain)


def test_the_published_schema_is_that_of_the_classes():
    told = "the classes changed; write it anew: python -m edgellm.profiles.result.schema > docs/profile.schema.json"
    assert PUBLISHED.read_text() == schema.text(), told


@pytest.mark.parametrize(
    "report",
    [
        samples.report(),
        samples.report(samples.run(launches=(samples.launch(record=samples.energy()),))),
        samples.report(
            samples.run("bad", launches=()),
            caveats=(Caveat("foreign-load", "bad", {"share": 0.12, "count": 1, "n": 2}),),
            complete=False,
        ),
    ],
    ids=["plain", "energy", "failed"],
)
def test_results_keep_to_it(validator, report):
    validator.validate(json.loads(to_json(report)))


@pytest.mark.parametrize(
    "damage",
    [
        lambda p: p.pop("machine"),
        lambda p: p.update(schema="edgellm.profile/1"),
        lambda p: p["runs"][0]["launches"][0].update(load_ns="fast"),
        lambda p: p["runs"][0]["measurements"][0]["summary"].update(mean=None),
        lambda p: p["machine"].update(cpu_flags="avx2"),
    ],
)
def test_what_is_no_result_does_not(validator, damage):
    plain = json.loads(to_json(samples.report()))
    damage(plain)
    assert not validator.is_valid(plain)


def test_what_a_newer_edgellm_added_does(validator):
    plain = json.loads(to_json(samples.report()))
    plain["extra"] = plain["runs"][0]["extra"] = 1
    validator.validate(plain)


def test_fields_say_what_they_are():
    fields = json.loads(PUBLISHED.read_text())["$defs"]["Run"]["properties"]
    assert fields["model"] == {"$ref": "#/$defs/ModelRecord"}
    repetition = json.loads(PUBLISHED.read_text())["$defs"]["Repetition"]["properties"]
    assert "first token in hand" in repetition["prefill_ns"]["description"]
    assert repetition["gaps_ns"]["type"] == "array"
