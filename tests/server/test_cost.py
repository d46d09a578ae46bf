"""What an answer cost, by arithmetic: usage, times, joules."""

import pytest

from edgellm.server import cost
from edgellm.server.metrics import Metrics, page
from edgellm.serving.job import Done


def done(**more):
    given = {"n_prompt": 10, "n_cached": 4, "n_generated": 5, "n_thinking": 2}
    times = {"queue_seconds": 0.5, "prefill_seconds": 0.2, "decode_seconds": 2.0}
    return Done("stop", **{**given, **times, **more})


def test_times_and_rates():
    told = cost.timings(done(n_drafted=8, n_accepted=3))
    assert (told["cache_n"], told["prompt_n"], told["prompt_ms"], told["queue_ms"]) == (4, 6, 200, 500)
    assert told["prompt_per_token_ms"] == pytest.approx(200 / 6, abs=1e-3)
    assert told["prompt_per_second"] == pytest.approx(30)
    assert (told["predicted_n"], told["predicted_ms"]) == (5, 2000)
    assert (told["predicted_per_token_ms"], told["predicted_per_second"]) == (
        500,
        2,
    )  # four times between five
    assert (told["draft_n"], told["draft_n_accepted"]) == (8, 3)
    one = cost.timings(done(n_generated=1, decode_seconds=0.0, prefill_seconds=0.0, n_cached=10))
    assert one["predicted_per_second"] is one["prompt_per_second"] is one["prompt_per_token_ms"] is None
    assert "draft_n" not in one


def test_a_prompt_of_several_answers_counts_once():
    told = cost.usage([done(), done(), done(n_prompt=20, n_cached=0), done(n_prompt=20, n_cached=19)], 2)
    assert (told["prompt_tokens"], told["completion_tokens"], told["total_tokens"]) == (30, 20, 50)
    assert told["prompt_tokens_details"] == {"cached_tokens": 4}
    assert told["completion_tokens_details"] == {"reasoning_tokens": 8}


def test_joules_add_up_or_are_unknown():
    scope = "package, without memory"
    told = cost.energy([done(joules=1.5, energy=scope), done(joules=0.25, energy=scope)])
    assert told == {"joules": 1.75, "scope": scope, "reason": None}
    half = cost.energy([done(joules=1.5, energy=scope), done(energy="the meter stopped")])
    assert half["joules"] is half["scope"] is None
    assert cost.energy([done(energy="no meter")]) == {"joules": None, "scope": None, "reason": "no meter"}


def test_joules_are_counted_where_a_meter_works():
    counted = Metrics()
    for joules in (1.5, None, 2.0):
        counted.answered(done(joules=joules, n_drafted=4, n_accepted=1))
    text = page(counted, {}, {'a"b': 4})
    assert "edgellm:energy_joules_total 3.500000\n" in text
    assert 'edgellm:slots{model="a\\"b"} 4\n' in text
    assert "edgellm:spec_decode_num_draft_tokens_total 12\n" in text
    assert "edgellm:spec_decode_num_accepted_tokens_total 3\n" in text
