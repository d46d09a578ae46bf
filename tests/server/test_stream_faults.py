"""Whatever a model draws, a stream of server-sent events is the whole answer, and both are the bytes of its tokens."""

import codecs
import concurrent.futures
import json
import random

import pytest
import serving
from fault_rows import trials

from edgellm.serving.job import ServingOptions

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
ALPHABET = [
    "a", "b", "ab", "\n", " ", '"', "\\", "é", "ß", "中", "文", "𠀀", "𪚥", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇫🇷",
    "e\u0301", "\u200d", "ﷺ", "ಠ", "\u2028", "\x85",
]  # fmt: skip
N_CLIENTS = 4


@pytest.fixture(scope="module")
def server():
    with serving.served("tiny-qwen3", serving=ServingOptions(n_slots=N_CLIENTS)) as running:
        running.post(TEXT, prompt="x", max_tokens=1)
        yield running


def both(server, path, body):
    """Text and finish reason of a stream, of a whole answer, and the logprobs of either."""
    streamed, whole = server.post(path, stream=True, **body), server.post(path, **body)
    assert streamed.status == whole.status == 200, (streamed.body[:300], whole.body[:300])
    events = streamed.events
    assert events[-1] == "[DONE]"
    choices = [event["choices"][0] for event in events[:-1] if event["choices"]]
    (choice,) = whole.json["choices"]
    if path == TEXT:
        said = "".join(one["text"] for one in choices), choice["text"]
    else:
        said = (
            "".join(one["delta"].get("content") or "" for one in choices),
            choice["message"]["content"] or "",
        )
    told = [one.get("logprobs") for one in (*choices, choice)]
    reasons = {one["finish_reason"] for one in choices if one["finish_reason"]}
    assert reasons == {choice["finish_reason"]}
    return (*said, choice["finish_reason"], told[:-1], told[-1])


def as_bytes(told):
    """The bytes of the tokens that chat's logprobs tell of."""
    return b"".join(bytes(token["bytes"]) for one in told if one for token in one["content"])


def cut(text, stops):
    """`text` up to the stop string that is complete first, the longest of those; Python's own search."""
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    return text[: min(ends)[1]] if ends else text


def forced(server, seed):
    """A grammar forces a text, of which a stop string or a limit may leave a part."""
    rng = random.Random(seed)
    text = "".join(rng.choices(ALPHABET, k=rng.randrange(1, 30)))
    stops = ["".join(rng.choices(ALPHABET, k=rng.randrange(1, 3))) for _ in range(rng.randrange(3))]
    limit = rng.choice([None, None, rng.randrange(1, 40)])
    path = rng.choice([CHAT, TEXT])
    body = {"grammar": f"start: {json.dumps(text)}", "temperature": 0}
    body |= {"stop": stops} if stops else {}
    body |= {"max_tokens": limit} if limit else {}
    body |= {"logprobs": True} if path == CHAT else {}
    body |= {"messages": [{"role": "user", "content": "x"}]} if path == CHAT else {"prompt": "x"}
    streamed, whole, reason, told, told_whole = both(server, path, body)
    assert streamed == whole
    if reason == "stop":
        assert whole == cut(text, stops), (text, stops)
    else:  # the limit came before a stop string was whole
        assert limit and text.startswith(whole.rstrip("�")), (text, stops, limit)
        assert cut(whole, stops) == whole
    if path == CHAT:
        assert as_bytes(told) == as_bytes([told_whole])
        check_bytes(whole, as_bytes(told), text.encode(), stopped=whole != text and reason == "stop")


def check_bytes(said, drawn, possible, *, stopped):
    """The tokens told of are a beginning of what was possible, and `said` is their text - up to a stop string."""
    assert possible.startswith(drawn)
    if stopped:
        assert drawn.startswith(said.encode())
    else:
        assert drawn.decode("utf-8", "replace") == said


def wild(server, seed):
    """Any token may come: halves of characters, bytes that are none."""
    rng = random.Random(seed)
    body = {
        "messages": [{"role": "user", "content": "x"}],
        "temperature": 100,
        "top_k": 0,
        "top_p": 1,
        "min_p": 0,
        "seed": seed,
        "max_tokens": rng.randrange(1, 40),
        "ignore_eos": True,
        "logprobs": True,
    }
    streamed, whole, _, told, told_whole = both(server, CHAT, body)
    assert streamed == whole
    assert as_bytes(told) == as_bytes([told_whole])
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    assert whole == decoder.decode(as_bytes(told), final=True)


@pytest.mark.fault(12, 0)
def test_a_stream_is_the_whole_answer_and_both_are_the_bytes_drawn(server, request):
    """Row 12 through the server, as many clients at once as there are slots: no stream gets another's bytes."""
    count = trials(2000, 24)
    with concurrent.futures.ThreadPoolExecutor(N_CLIENTS) as pool:
        kinds = [wild if seed % 4 == 0 else forced for seed in range(count)]
        for _ in pool.map(lambda kind, seed: kind(server, seed), kinds, range(count)):
            pass
    request.node.user_properties.append(("fault", (12, count)))
