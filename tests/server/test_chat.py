"""OpenAI's chat over sockets, held against the engine asked in this process, jsonschema and the tokenizer."""

import json
import math
import time

import jsonschema
import numpy as np
import pytest
import serving

import edgellm

pytest.importorskip("llguidance")

FRANCE = [{"role": "user", "content": "What is the capital of France?"}]
STORY = [{"role": "user", "content": "Tell me a story about a cat."}]
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "n": {"type": "integer", "minimum": 3}},
    "required": ["city", "n"],
    "additionalProperties": False,
}
PATH = "/v1/chat/completions"
LLAMA_SERVER = {
    "cache_n",
    "prompt_n",
    "prompt_ms",
    "prompt_per_token_ms",
    "prompt_per_second",
    "predicted_n",
    "predicted_ms",
    "predicted_per_token_ms",
    "predicted_per_second",
}


@pytest.fixture(scope="module")
def server():
    with serving.served("tiny-qwen3", "tiny-llama3") as running:
        yield running


@pytest.fixture(scope="module")
def model():
    with edgellm.load("tiny-qwen3", n_threads=1) as loaded:
        yield loaded


def ask(server, messages=FRANCE, **more):
    said = server.post(PATH, messages=messages, **more)
    assert said.status == 200, said.body
    return said.json


def text_of(answer, place=0):
    return answer["choices"][place]["message"]["content"]


def streamed(server, messages=FRANCE, **more):
    """The chunks of a stream, its end taken off."""
    said = server.post(PATH, messages=messages, stream=True, **more)
    assert said.status == 200 and said.headers["content-type"].startswith("text/event-stream")
    assert said.events[-1] == "[DONE]"
    return said.events[:-1]


def joined(chunks, place=0, field="content"):
    deltas = [c["delta"] for chunk in chunks for c in chunk["choices"] if c["index"] == place]
    return "".join(delta.get(field) or "" for delta in deltas)


def test_the_answer_is_the_engines(server, model):
    answer = ask(server, temperature=0)
    direct = model.complete(FRANCE, temperature=0)
    assert text_of(answer) == direct.text == "The capital of France is Paris."
    assert answer["choices"][0]["finish_reason"] == "stop" and answer["object"] == "chat.completion"
    assert answer["usage"]["prompt_tokens"] == direct.usage.n_prompt
    assert answer["usage"]["completion_tokens"] == direct.usage.n_generated
    assert answer["usage"]["total_tokens"] == direct.usage.n_prompt + direct.usage.n_generated


def test_a_stream_is_the_whole_in_pieces(server):
    for messages in (FRANCE, STORY, [{"role": "user", "content": "中国的首都是哪里？"}]):
        whole = ask(server, messages, temperature=0, max_tokens=60)
        chunks = streamed(server, messages, temperature=0, max_tokens=60)
        assert joined(chunks) == text_of(whole)
        assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
        ends = [c["finish_reason"] for chunk in chunks for c in chunk["choices"] if c["finish_reason"]]
        assert ends == [whole["choices"][0]["finish_reason"]]
        assert len({chunk["id"] for chunk in chunks}) == 1
        assert all(chunk["object"] == "chat.completion.chunk" for chunk in chunks)
        assert not any(chunk.get("usage") for chunk in chunks)


def test_usage_comes_last_where_it_is_asked_for(server):
    *_, last = streamed(server, temperature=0, stream_options={"include_usage": True})
    whole = ask(server, temperature=0)
    assert last["choices"] == []
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert last["usage"][name] == whole["usage"][name]


def test_text_in_parts_is_that_text(server):
    parts = [{"type": "text", "text": "What is the "}, {"type": "text", "text": "capital of France?"}]
    system = {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]}
    told = server.post("/apply-template", messages=[system, {"role": "user", "content": parts}]).json
    plain = [{"role": "system", "content": "Be brief."}, *FRANCE]
    assert told == server.post("/apply-template", messages=plain).json
    said = server.post(PATH, messages=[{"role": "user", "content": [{"type": "text", "text": 5}]}])
    assert said.status == 400 and said.json["error"]["param"] == "messages[0].content"


def test_models_are_told_apart_by_name(server):
    answer = ask(server, model="tiny-llama3", temperature=0)
    assert answer["model"] == "tiny-llama3" and "Paris" in text_of(answer)
    said = server.post(PATH, messages=FRANCE, model="gpt-4o")
    assert (said.status, said.code) == (404, "model_not_found") and "tiny-qwen3" in said.body.decode()


def test_what_the_prompt_shares_is_not_evaluated_again(server):
    system = {"role": "system", "content": "You are a helpful assistant that answers in one short sentence."}
    ask(server, [system, *FRANCE], temperature=0)
    second = ask(server, [system, *FRANCE], temperature=0)
    cached = second["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert 0 < cached < second["usage"]["prompt_tokens"]
    assert second["timings"]["cache_n"] == cached
    assert second["timings"]["prompt_n"] == second["usage"]["prompt_tokens"] - cached


def test_times_have_llama_servers_names(server):
    answer = ask(server, STORY, max_tokens=30, temperature=0, ignore_eos=True)
    timings = answer["timings"]
    assert set(timings) >= LLAMA_SERVER
    assert timings["predicted_n"] == answer["usage"]["completion_tokens"] == 30
    assert timings["predicted_per_second"] == pytest.approx(29_000 / timings["predicted_ms"], rel=0.01)
    last = streamed(server, STORY, max_tokens=30, temperature=0)[-1]
    assert set(last["timings"]) >= LLAMA_SERVER


def test_joules_are_a_number_with_its_scope_or_null_with_the_reason(server):
    energy = ask(server)["energy"]
    assert (energy["joules"] is None) == (energy["scope"] is None) == bool(energy["reason"])


def test_a_limit_ends_the_answer(server):
    for name in ("max_tokens", "max_completion_tokens", "n_predict"):
        answer = ask(server, STORY, temperature=0, **{name: 5})
        assert answer["choices"][0]["finish_reason"] == "length"
        assert answer["usage"]["completion_tokens"] == 5
    empty = ask(server, STORY, max_tokens=0)  # has the prompt evaluated, and no more
    assert text_of(empty) == "" and empty["choices"][0]["finish_reason"] == "length"
    assert empty["usage"]["completion_tokens"] == 0 and empty["timings"]["predicted_ms"] == 0
    assert [c["finish_reason"] for e in streamed(server, max_tokens=0) for c in e["choices"]] == [
        None,
        "length",
    ]
    assert ask(server, max_tokens=-1, temperature=0)["choices"][0]["finish_reason"] == "stop"


def test_a_stop_string_ends_the_answer_and_is_not_in_it(server):
    for stop in (" of", ["nothing", "France"]):
        answer = ask(server, temperature=0, stop=stop)
        chunks = streamed(server, temperature=0, stop=stop)
        expected = "The capital of France is Paris.".partition(stop if isinstance(stop, str) else stop[1])[0]
        assert text_of(answer) == joined(chunks) == expected
        assert answer["choices"][0]["finish_reason"] == "stop"


def test_a_seed_repeats_an_answer_and_others_give_others(server):
    def drawn(seed):
        return text_of(ask(server, STORY, temperature=1.5, top_k=0, top_p=1.0, seed=seed, max_tokens=30))

    assert drawn(7) == drawn(7) == drawn(7)
    assert len({drawn(seed) for seed in (7, 8, -1, 2**40)}) > 1


def test_several_answers_to_one_question(server):
    asked = {"temperature": 1.5, "top_k": 0, "top_p": 1.0, "max_tokens": 30, "seed": 11}
    answer = ask(server, STORY, n=3, **asked)
    texts = [text_of(answer, place) for place in range(3)]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2] and len(set(texts)) > 1
    assert texts == [text_of(ask(server, STORY, **{**asked, "seed": 11 + i})) for i in range(3)]
    one = ask(server, STORY, **asked)
    assert answer["usage"]["prompt_tokens"] == one["usage"]["prompt_tokens"]
    chunks = streamed(server, STORY, n=3, **asked)
    assert [joined(chunks, place) for place in range(3)] == texts


def test_log_probabilities_are_the_models(server, model):
    answer = ask(server, temperature=0, logprobs=True, top_logprobs=4, max_tokens=6)
    told = answer["choices"][0]["logprobs"]["content"]
    assert b"".join(bytes(one["bytes"]) for one in told).decode() == text_of(answer)
    assert len(told) == 6
    prompt = server.post("/apply-template", messages=FRANCE).json["prompt"]
    ids = server.post("/tokenize", content=prompt).json["tokens"]
    model.session.rewind(0)
    logits = model.session.eval(ids).astype(np.float64)
    expected = logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()
    first = told[0]
    assert first["logprob"] == pytest.approx(expected.max(), abs=2e-2)
    tops = [one["logprob"] for one in first["top_logprobs"]]
    assert tops == pytest.approx(sorted(expected, reverse=True)[:4], abs=2e-2)
    assert first["top_logprobs"][0]["token"] == first["token"]
    for one in told:
        assert len(one["top_logprobs"]) == 4
        assert sum(math.exp(top["logprob"]) for top in one["top_logprobs"]) < 1.001
        assert bytes(one["bytes"]).decode("utf-8", "replace") == one["token"]


def test_log_probabilities_stream_with_their_text(server):
    chunks = streamed(server, temperature=0, logprobs=True, max_tokens=6)
    whole = ask(server, temperature=0, logprobs=True, max_tokens=6)
    told = [
        one
        for chunk in chunks
        for choice in chunk["choices"]
        if choice["logprobs"]
        for one in choice["logprobs"]["content"]
    ]
    assert [one["bytes"] for one in told] == [
        one["bytes"] for one in whole["choices"][0]["logprobs"]["content"]
    ]
    assert all(one["top_logprobs"] == [] for one in told)


def test_a_bias_forbids_and_forces_tokens(server):
    ids = {word: server.post("/tokenize", content=word).json["tokens"] for word in ("The", " cat")}
    free = text_of(ask(server, temperature=0))
    forbidden = text_of(ask(server, temperature=0, logit_bias={str(ids["The"][0]): -100}))
    assert free.startswith("The") and not forbidden.startswith("The")
    forced = ask(server, temperature=0, max_tokens=4, logit_bias=[[ids[" cat"][0], 100]])
    piece = server.post("/detokenize", tokens=ids[" cat"][:1]).json["content"]
    assert text_of(forced) == piece * 4


def test_penalties_are_the_engines(server, model):
    asked = {"temperature": 0, "max_tokens": 60}
    free = text_of(ask(server, STORY, **asked))
    for penalty in ({"repeat_penalty": 1.8}, {"presence_penalty": 2.0}, {"frequency_penalty": 2.0}):
        text = text_of(ask(server, STORY, **asked, repeat_last_n=200, **penalty))
        assert text == model.complete(STORY, **asked, repeat_last_n=200, **penalty).text != free, penalty


def test_sampling_limits_make_an_answer_greedy(server):
    greedy = text_of(ask(server, STORY, temperature=0, max_tokens=20))
    for limit in ({"top_k": 1}, {"top_p": 0.0}, {"min_p": 1.0}):
        assert text_of(ask(server, STORY, temperature=2.0, seed=3, max_tokens=20, **limit)) == greedy, limit


@pytest.mark.parametrize("schema", [CITY, {"type": "array", "items": {"enum": ["a", "中"]}, "maxItems": 3}])
def test_answers_of_a_schema_are_valid(server, schema):
    for seed in range(3):
        form = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}
        asked = {"temperature": 1.2, "seed": seed, "max_tokens": 80}
        answer = ask(server, response_format=form, **asked)
        jsonschema.validate(json.loads(text_of(answer)), schema)
        assert text_of(ask(server, json_schema=schema, **asked)) == text_of(answer)
        assert joined(streamed(server, response_format=form, **asked)) == text_of(answer)


def test_any_json_object(server):
    answer = ask(server, response_format={"type": "json_object"}, max_tokens=60, temperature=0)
    assert isinstance(json.loads(text_of(answer)), dict)


def test_answers_of_a_grammar(server):
    assert text_of(ask(server, grammar='root ::= "yes" | "no"', temperature=1.0)) in ("yes", "no")


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 1000}, "n"),
        ({"n": True}, "n"),
        ({"stop": [""]}, "stop[0]"),
        ({"stop": ["x"] * 100}, "stop"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"1": 200}}, "logit_bias[1]"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"top_logprobs": 30, "logprobs": True}, "top_logprobs"),
        ({"max_tokens": -2}, "max_tokens"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": "hello"}, "messages"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"modalities": ["audio"]}, "modalities[0]"),
        ({"stream_options": {"wat": 1}}, "stream_options.wat"),
    ],
)
def test_a_value_that_is_none_is_named(server, more, param):
    for stream in (False, True):
        said = server.post(PATH, **{"messages": FRANCE, "stream": stream, **more})
        assert said.status == 400 and said.json["error"]["param"] == param, said.body
        assert "\n" not in said.json["error"]["message"]


@pytest.mark.parametrize(
    "more",
    [
        {"json_schema": {"type": "wat"}},
        {"grammar": "root ::= ("},
        {"grammar": 'root ::= "a"', "json_schema": {}},
        {"response_format": {"type": "json_object"}, "json_schema": {}},
        {"tool_choice": "required"},
        {"messages": [{"role": "system", "content": "only"}]},
        {"messages": [{"role": "user", "content": "word " * 30_000}]},
    ],
    ids=["schema", "grammar", "both", "twice", "no tools", "no question", "too long"],
)
def test_what_cannot_be_done_is_said_with_a_status(server, more):
    """In a stream, too: nothing has been sent by then."""
    for stream in (False, True):
        said = server.post(PATH, **{"messages": FRANCE, "stream": stream, **more})
        assert said.status == 400 and said.json["error"]["type"] == "invalid_request_error", said.body


def test_a_client_that_leaves_frees_its_place(server, capfd):
    """Streaming and not: what it asked for would take minutes. It is no fault of the server's."""
    endless = {"messages": STORY, "ignore_eos": True, "max_tokens": -1, "temperature": 0, "n": 4}
    for stream in (True, False):
        body = json.dumps({**endless, "stream": stream}).encode()
        head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        with server.connect() as connection:
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            wait_for(server, lambda n: n > 0)
            if stream:
                assert connection.recv(12) == b"HTTP/1.1 200"
        wait_for(server, lambda n: n == 0)
    assert "fault" not in capfd.readouterr().err


def wait_for(server, holds):
    """Until the number of answers being written is such."""
    deadline = time.monotonic() + 10
    while True:
        page = server.ask("GET", "/metrics").body.decode()
        lines = [line for line in page.splitlines() if line.startswith("edgellm:requests_processing{")]
        if holds(sum(int(line.rpartition(" ")[2]) for line in lines)):
            return
        assert time.monotonic() < deadline, page
        time.sleep(0.02)
