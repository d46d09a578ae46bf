"""What official clients see when an engine dies in the midst of their stream, and that the next request is served."""

import signal

import anthropic
import httpx2
import openai
import psutil
import pytest
import serving

pytest.importorskip("llguidance")
pytestmark = pytest.mark.usefixtures("loopback_alone")

LONG = {"type": "array", "minItems": 500, "maxItems": 500, "items": {"type": "integer", "maximum": 9}}
FRANCE = "What is the capital of France?"
LIMITS = {"max_retries": 0, "timeout": 60}


@pytest.fixture(scope="module")
def server():
    with serving.served("tiny-qwen3") as running:
        yield running


@pytest.fixture
def kill(server):
    """Ends the engine's process as a crash would."""

    def now():
        engines = [one for one in psutil.Process().children(recursive=True) if one.pid not in before]
        assert engines
        for one in engines:
            one.send_signal(signal.SIGKILL)

    with httpx2.Client(trust_env=False) as http:
        http.post(f"{server.url}/models/unload", json={"model": "tiny-qwen3"}, timeout=60).raise_for_status()
    before = {one.pid for one in psutil.Process().children(recursive=True)}
    return now


def test_anthropics_stream_ends_with_an_error(server, kill):
    with (
        httpx2.Client(trust_env=False) as http,
        anthropic.Anthropic(base_url=server.url, api_key="none", http_client=http, **LIMITS) as client,
    ):
        asked = {"model": "tiny-qwen3", "messages": [{"role": "user", "content": FRANCE}]}
        form = {"format": {"type": "json_schema", "schema": LONG}}
        stream = client.messages.create(max_tokens=900, stream=True, output_config=form, **asked)
        with pytest.raises(anthropic.APIStatusError, match="died") as caught:
            for event in stream:
                if event.type == "content_block_delta" and kill:
                    kill, _ = None, kill()
        assert caught.value.body["error"]["type"] == "overloaded_error"
        again = client.messages.create(max_tokens=20, extra_body={"temperature": 0}, **asked)
        assert again.content[0].text == "The capital of France is Paris."


def test_a_response_that_cannot_go_on_has_failed(server, kill):
    with (
        httpx2.Client(trust_env=False) as http,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", http_client=http, **LIMITS) as client,
    ):
        form = {"format": {"type": "json_schema", "name": "long", "schema": LONG}}
        stream = client.responses.create(model="tiny-qwen3", input=FRANCE, stream=True, text=form)
        events = []
        for event in stream:
            events.append(event)
            if event.type == "response.output_text.delta" and kill:
                kill, _ = None, kill()
        assert [event.sequence_number for event in events] == list(range(len(events)))
        last = events[-1]
        assert (last.type, last.response.status, last.response.error.code) == (
            "response.failed",
            "failed",
            "server_error",
        )
        assert last.response.output[0].content[0].text, "what was said until then is kept"
        again = client.responses.create(model="tiny-qwen3", input=FRANCE, temperature=0)
        assert again.output_text == "The capital of France is Paris."
