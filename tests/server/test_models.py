"""Models of other kinds and engines behind the same paths, loading and unloading, streams that have to wait."""

import time

import embedders
import numpy as np
import pytest
import serving

import edgellm

CHAT = "/v1/chat/completions"
FRANCE = [{"role": "user", "content": "What is the capital of France?"}]


def states(server):
    return {one["id"]: one["status"]["value"] for one in server.ask("GET", "/v1/models").json["data"]}


def test_models_are_loaded_and_unloaded_when_asked():
    with serving.served("tiny-qwen3", "tiny-llama3") as server:
        assert states(server) == {"tiny-qwen3": "unloaded", "tiny-llama3": "unloaded"}
        assert server.ask("GET", "/metrics").status == 200
        assert server.post("/models/load", model="tiny-llama3").json == {"success": True}
        assert states(server) == {"tiny-qwen3": "unloaded", "tiny-llama3": "loaded"}
        (_, health) = server.ask("GET", "/health").json["models"]
        assert health["batching"] == "continuous" and health["n_ctx"] == serving.ENGINE.n_ctx
        assert server.post("/models/unload", model="tiny-llama3").json == {"success": True}
        assert set(states(server).values()) == {"unloaded"}
        assert "Paris" in server.post(CHAT, messages=FRANCE, model="tiny-llama3", temperature=0).body.decode()
        one = server.ask("GET", "/v1/models/tiny-llama3").json
        assert one["id"] == "tiny-llama3" and one["status"]["value"] == "loaded"


def test_being_watched_keeps_no_model_loaded():
    """Prometheus asks every few seconds, a page every second: that is no use of a model."""
    with serving.served("tiny-qwen3", keep_seconds=0.5) as server:
        server.post("/models/load", model="tiny-qwen3")
        deadline = time.monotonic() + serving.SECONDS
        while states(server)["tiny-qwen3"] == "loaded":
            for path in ("/metrics", "/health"):
                assert server.ask("GET", path).status == 200
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_an_onnx_model_answers_too():
    with serving.served("tiny-qwen3:onnx-int8") as server:
        said = server.post(CHAT, messages=FRANCE, temperature=0, max_tokens=12)
        assert said.json["choices"][0]["message"]["content"] == "The capital of France is Paris."
        (health,) = server.ask("GET", "/health").json["models"]
        assert health["backend"] == "onnxruntime" and health["batching"]


def test_a_hybrid_model_answers_too():
    with serving.served("tiny-qwen35") as server:
        for _ in range(2):
            said = server.post(CHAT, messages=FRANCE, temperature=0, max_tokens=12).json
            assert "Paris" in said["choices"][0]["message"]["content"]


def test_a_reranker_ranks(tmp_path):
    folder = embedders.write_reranker(tmp_path / "ranker")
    documents = ["In bamboo forests.", "They eat bamboo.", "2 + 2 = 4", "", "竹子"]
    with edgellm.load(str(folder), n_ctx=1024, n_threads=1) as model:
        expected = model.rerank("Where do pandas live?", documents)
    with serving.served(folder) as server:
        for path in ("/v1/rerank", "/rerank"):
            said = server.post(path, query="Where do pandas live?", documents=documents, top_n=3)
            assert said.status == 200, said.body
            ranked = said.json["results"]
            assert [one["index"] for one in ranked] == [one.index for one in expected][:3]
            scores = [one["relevance_score"] for one in ranked]
            assert scores == pytest.approx([one.score for one in expected][:3], abs=1e-4)
            assert said.json["usage"]["prompt_tokens"] > 0 and "document" not in ranked[0]
        said = server.post("/rerank", query="x", documents=[{"text": "a"}], return_documents=True).json
        assert said["results"][0]["document"] == {"text": "a"}
        assert "rerank" in server.ask("GET", "/v1/models").json["data"][0]["capabilities"]


def test_a_model_made_to_embed_embeds(tmp_path):
    folder = embedders.write(tmp_path / "embedder")
    texts = ["The cat sleeps.", "A dog runs.", "你好"]
    with edgellm.load(str(folder)) as model:
        plain, asked = model.embed(texts), model.embed(texts, instruct="Find the animal.")
    with serving.served(folder) as server:
        for expected, more in ((plain, {}), (asked, {"instruct": "Find the animal."})):
            data = server.post("/v1/embeddings", input=texts, **more).json["data"]
            assert np.abs(np.array([one["embedding"] for one in data]) - expected).max() < 1e-4


def test_a_stream_that_has_to_wait_says_that_it_lives():
    """The model is loaded first, which is longer than the silence allowed here."""
    with serving.served("tiny-qwen3", quiet_seconds=0.02) as server:
        said = server.post(CHAT, messages=FRANCE, stream=True, temperature=0)
        assert said.status == 200 and said.body.startswith(b": working\n\n: working\n\n")
        assert said.events[-1] == "[DONE]"
        text = "".join(c["delta"].get("content", "") for e in said.events[:-1] for c in e["choices"])
        assert text == "The capital of France is Paris."
        server.post("/models/unload", model="tiny-qwen3")
        said = server.post(CHAT, messages=FRANCE, stream=True, tool_choice="required")
        (event,) = said.events  # what is wrong comes too late for a status of its own
        assert said.status == 200 and event["error"]["type"] == "invalid_request_error"


def test_texts_are_logged_where_that_is_asked_for(capfd):
    with serving.served("tiny-qwen3", log_text=True) as server:
        server.post(CHAT, messages=FRANCE, temperature=0)
    log = capfd.readouterr().err
    assert "capital of France?" in log and "is Paris." in log and "\n" not in log.strip().partition("POST")[2]
