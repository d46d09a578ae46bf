"""Text completions, embeddings, reranking, tokens and templates over sockets."""

import base64
import json

import numpy as np
import pytest
import serving
import tokenizers
from places import ROOT

import edgellm

PROMPT = "The capital of France is"
PATH = "/v1/completions"


@pytest.fixture(scope="module")
def server():
    with serving.served("tiny-qwen3") as running:
        yield running


@pytest.fixture(scope="module")
def model():
    with edgellm.load("tiny-qwen3", n_threads=1) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizers.Tokenizer.from_file(
        str(ROOT / "edgellm" / "models" / "bundled" / "tiny-qwen3" / "tokenizer.json")
    )


def ask(server, prompt=PROMPT, **more):
    said = server.post(PATH, prompt=prompt, **{"temperature": 0, **more})
    assert said.status == 200, said.body
    return said.json


def texts(answer):
    return [choice["text"] for choice in answer["choices"]]


def test_a_text_is_continued_as_it_is(server, model):
    answer = ask(server)
    assert texts(answer) == [model.complete(PROMPT, temperature=0).text] == [" Paris."]
    assert answer["object"] == "text_completion" and answer["choices"][0]["finish_reason"] == "stop"


def test_prompts_may_be_several_and_token_ids(server, tokenizer):
    other = "The capital of Japan is"
    ids = [tokenizer.encode(text).ids for text in (PROMPT, other)]
    one_by_one = [texts(ask(server, text))[0] for text in (PROMPT, other)]
    assert texts(ask(server, [PROMPT, other])) == texts(ask(server, ids)) == one_by_one
    assert texts(ask(server, ids[0])) == one_by_one[:1]
    answer = ask(server, [PROMPT, other], n=2)
    assert len(answer["choices"]) == 4 and answer["usage"]["prompt_tokens"] == sum(map(len, ids))


def test_control_tokens_of_a_prompt_are_read(server):
    chat = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    assert texts(ask(server, chat)) == ["The capital of France is Paris."]


def test_a_stream_is_the_whole_in_pieces(server):
    for more in ({}, {"echo": True}, {"n": 2}):
        said = server.post(PATH, prompt=PROMPT, temperature=0, stream=True, **more)
        *chunks, end = said.events
        assert end == "[DONE]"
        got = [""] * more.get("n", 1)
        for chunk in chunks:
            for choice in chunk["choices"]:
                got[choice["index"]] += choice["text"]
        assert got == texts(ask(server, **more))
        ends = [chunk for chunk in chunks if chunk["choices"][0]["finish_reason"]]
        assert len(ends) == more.get("n", 1) and all(end["timings"]["predicted_n"] == 3 for end in ends)


def test_echo_gives_the_prompt_back(server):
    assert texts(ask(server, echo=True)) == [PROMPT + " Paris."]


def test_log_probabilities_in_the_older_form(server):
    answer = ask(server, logprobs=3, max_tokens=3)
    told = answer["choices"][0]["logprobs"]
    assert "".join(told["tokens"]) == texts(answer)[0]
    assert told["text_offset"] == [len("".join(told["tokens"][:i])) for i in range(len(told["tokens"]))]
    for token, logprob, top in zip(
        *(told[n] for n in ("tokens", "token_logprobs", "top_logprobs")), strict=True
    ):
        assert len(top) <= 3 and max(top.values()) == logprob == top[token]


@pytest.mark.parametrize(
    "more",
    [
        {"suffix": "x"},
        {"best_of": 3},
        {"echo": True, "logprobs": 1},
        {"echo": True, "prompt": [1, 2]},
        {"prompt": [2**31]},
        {"prompt": [10**6]},
        {"prompt": []},
        {"prompt": ""},
        {"prompt": [[1], "x", 2.5]},
        {"prompt": None},
        {"prompt": ["x"] * 100},
    ],
    ids=lambda more: json.dumps(more)[:30],
)
def test_what_is_not_done_is_refused(server, more):
    said = server.post(PATH, **{"prompt": PROMPT, **more})
    assert said.status == 400 and "\n" not in said.json["error"]["message"]


def test_embeddings_are_the_models(server, model):
    given = ["The cat sleeps.", "17 + 25 = 42"]
    answer = server.post("/v1/embeddings", input=given).json
    rows = np.array([one["embedding"] for one in answer["data"]], np.float32)
    assert np.abs(rows - model.embed(given)).max() < 1e-5
    packed = server.post("/v1/embeddings", input=given, encoding_format="base64").json
    decoded = [np.frombuffer(base64.b64decode(one["embedding"]), "<f4") for one in packed["data"]]
    assert np.abs(np.array(decoded) - rows).max() < 1e-6
    assert [one["index"] for one in answer["data"]] == [0, 1]
    one = server.post("/v1/embeddings", input=given[0], dimensions=8).json["data"]
    assert len(one) == 1 and len(one[0]["embedding"]) == 8
    assert np.linalg.norm(one[0]["embedding"]) == pytest.approx(1, abs=1e-5)
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 2


@pytest.mark.parametrize(
    "more",
    [{"input": [1, 2]}, {"input": [[1]]}, {"input": []}, {"input": ""}, {"input": "x", "dimensions": 9999}],
)
def test_embeddings_that_cannot_be_made(server, more):
    assert server.post("/v1/embeddings", **more).status == 400


def test_a_model_that_ranks_nothing_says_so(server):
    said = server.post("/v1/rerank", query="x", documents=["a", {"text": "b"}])
    assert said.status == 400 and "reranker" in said.json["error"]["message"]


def test_tokens_are_the_tokenizers(server, tokenizer):
    for text in ("Hello wörld 😀", "你好，世界", "<|im_start|>user", "\u00e1 \t\n"):
        ids = server.post("/tokenize", content=text).json["tokens"]
        assert ids == tokenizer.encode(text, add_special_tokens=False).ids
        assert server.post("/detokenize", tokens=ids).json["content"] == text.removeprefix("<|im_start|>")
    plain = server.post("/tokenize", content="<|im_start|>", parse_special=False).json["tokens"]
    assert len(plain) > 1
    pieces = server.post("/tokenize", content="é😀", with_pieces=True).json["tokens"]
    data = b"".join(
        one["piece"].encode() if isinstance(one["piece"], str) else bytes(one["piece"]) for one in pieces
    )
    assert data.decode() == "é😀"


def test_a_conversation_as_a_prompt(server):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "<|im_end|> hi"}]
    said = server.post("/apply-template", messages=messages).json
    assert said["prompt"].startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n")
    assert said["prompt"].endswith("<|im_start|>assistant\n") and said["tokens"] > 10


def test_ids_out_of_the_vocabulary(server):
    n_vocab = 4096
    assert server.post("/detokenize", tokens=[n_vocab - 1]).status == 200
    for token in (n_vocab, 10**6):
        assert server.post("/detokenize", tokens=[token]).status == 400
