"""The page for Prometheus: its form, and that its numbers are those that answers told."""

import re

import pytest
import serving

_SAMPLE = re.compile(
    r'(edgellm:[a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\\n]|\\["\\n])*",?)+)\})? (-?[0-9.]+(?:e[+-]?[0-9]+)?)'
)
_HEAD = re.compile(r"# (HELP (edgellm:[a-z_]+) [^\n]+|TYPE (edgellm:[a-z_]+) (counter|gauge|histogram))")


def parsed(page):
    """Samples by name and labels, and the kind of each name; every line has to be one that the format knows."""
    samples, kinds = {}, {}
    for line in page.splitlines():
        if line.startswith("#"):
            head = _HEAD.fullmatch(line)
            assert head, line
            if head[3]:
                kinds[head[3]] = head[4]
            continue
        sample = _SAMPLE.fullmatch(line)
        assert sample, line
        assert (sample[1], sample[2]) not in samples, line
        samples[sample[1], sample[2]] = float(sample[3])
    return samples, kinds


def test_the_page_counts_what_answers_told():
    with serving.served("tiny-qwen3") as server:
        usages, timings = [], []
        for i in range(4):
            said = server.post(
                "/v1/completions", prompt="Once upon a time", max_tokens=5 + i, ignore_eos=True
            ).json
            usages.append(said["usage"])
            timings.append(said["timings"])
        server.post("/v1/completions", prompt="x", grammar="root ::= (")
        server.ask("GET", "/nothing")
        said = server.ask("GET", "/metrics")
    assert said.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples, kinds = parsed(said.body.decode())

    def value(name, labels=None):
        return samples[f"edgellm:{name}", labels]

    cached = sum(one["prompt_tokens_details"]["cached_tokens"] for one in usages)
    assert value("prompt_tokens_cached_total") == cached > 0
    assert value("prompt_tokens_total") == sum(one["prompt_tokens"] for one in usages) - cached
    generated = sum(one["completion_tokens"] for one in usages)
    assert value("tokens_predicted_total") == generated == 26
    prefill, decode = (sum(one[name] for one in timings) / 1000 for name in ("prompt_ms", "predicted_ms"))
    assert value("prompt_seconds_total") == pytest.approx(prefill, abs=1e-4)
    assert value("tokens_predicted_seconds_total") == pytest.approx(decode, abs=1e-4)
    assert value("predicted_tokens_seconds") == pytest.approx(generated / decode, rel=0.01)
    assert value("prompt_tokens_seconds") == pytest.approx(value("prompt_tokens_total") / prefill, rel=0.01)
    assert (value("answers_total"), value("answers_failed_total")) == (4, 1)
    statuses = {labels: n for (name, labels), n in samples.items() if name == "edgellm:http_requests_total"}
    assert statuses == {'status="200"': 4, 'status="400"': 1, 'status="404"': 1}
    assert value("kv_cache_size_tokens", 'model="tiny-qwen3"') >= serving.ENGINE.n_ctx
    assert value("slots", 'model="tiny-qwen3"') == 4
    assert value("requests_processing", 'model="tiny-qwen3"') == 0
    assert value("engine_resident_bytes", 'model="tiny-qwen3"') > 10**7
    for name in ("time_to_first_token_seconds", "time_per_output_token_seconds"):
        assert kinds[f"edgellm:{name}"] == "histogram"
        buckets = [n for (one, _), n in samples.items() if one == f"edgellm:{name}_bucket"]
        assert buckets == sorted(buckets) and buckets[-1] == value(f"{name}_count") == 4
    waited = sum(one["queue_ms"] + one["prompt_ms"] for one in timings) / 1000
    assert value("time_to_first_token_seconds_sum") == pytest.approx(waited, abs=1e-4)
    within = value("time_to_first_token_seconds_bucket", 'le="0.25"')
    assert within == sum(one["queue_ms"] + one["prompt_ms"] <= 250 for one in timings)


def test_before_the_first_answer_everything_is_nought():
    with serving.served("tiny-qwen3") as server:
        samples, kinds = parsed(server.ask("GET", "/metrics").body.decode())
    assert samples["edgellm:prompt_tokens_seconds", None] == 0
    plain = {re.sub("_(bucket|sum|count)$", "", name) for name, _ in samples}
    assert plain <= set(kinds) and "edgellm:http_requests_total" in kinds
    assert set(samples.values()) == {0} and kinds["edgellm:prompt_tokens_total"] == "counter"
    assert ("edgellm:energy_joules_total", None) not in samples  # nothing was measured
