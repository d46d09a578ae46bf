"""An engine in its own process, as a server sees it. What is written is held against the Python API's session."""

import asyncio
import dataclasses
import json
import os
import signal
import time

import pytest

import edgellm
from edgellm.catalog import first_use
from edgellm.errors import EngineError, UsageError
from edgellm.formats.artifact import Artifact
from edgellm.serving.job import Done, Failed, Job, Piece, ServingOptions, Started
from edgellm.serving.remote import Engine
from edgellm.session import EngineOptions

OPTIONS = EngineOptions(n_ctx=1024, n_threads=1)
GREEDY = {"temperature": 0.0, "max_tokens": 24}
LONG = {"temperature": 0.0, "max_tokens": 900, "ignore_eos": True}
#: A template with a place for tools, as Qwen's has; the bundled models' own have none.
TOOLS = (
    "{% if tools %}<|im_start|>system\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}"
    "Call one as <tool_call>JSON</tool_call><|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def asked(text: str, **more) -> Job:
    settings = {**GREEDY, **more.pop("settings", {})}
    return Job(messages=({"role": "user", "content": text},), settings=settings, **more)


def with_engine(test, name="tiny-qwen3", serving=ServingOptions(), options=OPTIONS):  # noqa: B008 - frozen
    """Run `test(engine)`, 120 seconds at most."""

    async def run():
        artifact = name if isinstance(name, Artifact) else first_use.resolve(name)
        engine = await Engine.open(artifact, options, serving)
        try:
            return await asyncio.wait_for(test(engine), 120)
        finally:
            await engine.close(0)

    return asyncio.run(run())


async def events_of(engine, job):
    return [event async for event in engine.run(job)]


def text_of(events, kind="text"):
    return "".join(event.text for event in events if isinstance(event, Piece) and event.kind == kind)


@pytest.mark.parametrize("name", ["tiny-qwen3", "tiny-llama3:onnx-int8"])
def test_answers_are_those_of_the_api(name):
    questions = [f"What is {i} plus 20?" for i in range(10, 16)]

    async def test(engine):
        return await asyncio.gather(
            *(events_of(engine, asked(text, settings={"exact": True})) for text in questions)
        )

    answers = with_engine(test, name)
    with edgellm.load(name, n_ctx=1024, n_threads=1) as model:
        for text, events in zip(questions, answers, strict=True):
            want = model.complete([{"role": "user", "content": text}], exact=True, **GREEDY)
            done = events[-1]
            assert text_of(events) == want.text
            assert isinstance(events[0], Started)
            assert isinstance(done, Done)
            assert done.finish_reason == want.finish_reason
            assert (done.n_prompt, done.n_generated) == (want.usage.n_prompt, want.usage.n_generated)
            assert done.joules is None or done.joules > 0
            assert done.energy


def test_text_is_continued():
    async def test(engine):
        ids = await engine.tokenize("The capital of France is", add_bos=True)
        told = [
            await events_of(engine, Job(prompt=one, settings=GREEDY))
            for one in ("The capital of France is", (*ids,))
        ]
        return [text_of(events) for events in told]

    by_text, by_ids = with_engine(test)
    with edgellm.load("tiny-qwen3", n_ctx=1024, n_threads=1) as model:
        assert by_text == by_ids == model.complete("The capital of France is", **GREEDY).text


def test_the_next_turn_finds_the_ids_that_were_drawn():
    """An answer taken apart by the tokenizer again is other ids; yet the whole conversation is found in the cache."""

    async def test(engine):
        said, cached = [], []
        for text in ("Please write the word xylophonist.", "Again, and zyzzyva.", "Thank you!"):
            said.append({"role": "user", "content": text})
            settings = {**GREEDY, "temperature": 1.5, "seed": 4, "top_k": 0, "top_p": 1.0, "max_tokens": 40}
            events = await events_of(engine, Job(messages=tuple(said), settings=settings))
            done = events[-1]
            cached.append((done.n_cached, done.n_prompt))
            said.append({"role": "assistant", "content": text_of(events)})
            await asyncio.sleep(0)
        return cached

    (_, first), (second_cached, second), (third_cached, _) = with_engine(test)
    assert second_cached >= first
    assert third_cached >= second


def test_logprobs_cover_the_text():
    async def test(engine):
        plain = await events_of(engine, asked("请用中文写一句话。 Say it in English too 🙂", n_logprobs=2))
        stopped = await events_of(
            engine, asked("What is 10 plus 20?", n_logprobs=0, settings={"stop": ("0",)})
        )
        return plain, stopped

    plain, stopped = with_engine(test)
    for events in (plain, stopped):
        told = [one for event in events if isinstance(event, (Piece, Done)) for one in event.logprobs]
        data = b"".join(one.data for one in told)
        assert data.decode("utf-8", "replace").startswith(text_of(events))
        assert all(one.logprob <= 0 for one in told)
    assert [len(one.top) for event in plain if isinstance(event, Piece) for one in event.logprobs][:1] == [2]
    assert stopped[-1].stop == "0"
    assert "0" not in text_of(stopped)


def test_a_call_is_told_as_it_is_written():
    async def test(engine):
        return await events_of(
            engine,
            asked(
                "What is the weather in Paris?",
                tools=(WEATHER,),
                tool_choice="required",
                settings={"max_tokens": 90},
            ),
        )

    events = with_engine(test, dataclasses.replace(first_use.resolve("tiny-qwen3"), chat_template=TOOLS))
    calls = [event for event in events if isinstance(event, Piece) and event.kind == "call"]
    assert sum(event.kind == "arguments" for event in events if isinstance(event, Piece)) > 1
    assert [call.call[2] for call in calls] == ["get_weather"]
    assert isinstance(json.loads(text_of(events, "arguments"))["city"], str)
    assert events[-1].finish_reason == "tool_calls"
    assert text_of(events) == ""


def test_the_last_of_several_ids_of_an_evaluation_is_told():
    """What a grammar forces is evaluated at once: the text ends with the id that ends it, not when it is foreseen."""
    city = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]}
    settings = {"json_schema": {**city, "additionalProperties": False}, "temperature": 0.8, "max_tokens": 200}

    async def test(engine):
        jobs = [asked("Which city?", settings={**settings, "seed": seed}) for seed in range(24)]
        return await asyncio.gather(*(events_of(engine, job) for job in jobs))

    for events in with_engine(test):
        assert json.loads(text_of(events))["city"] in ("Paris", "Rome")
        assert events[-1].finish_reason == "stop" and events[-1].valid


def test_what_cannot_be_done_is_said():
    async def test(engine):
        wrong = [
            asked("hi", settings={"json_schema": '{"type": "nonsense"}'}),
            asked("hi", settings={"logit_bias": {10**7: 1.0}}),
            asked("hi", settings={"temperature": "hot"}),
            asked("x " * 5000),
            Job(messages=({"role": "user"},)),
            Job(messages=()),
            Job(prompt=""),
            Job(prompt=(10**7,)),
            Job(),
        ]
        failures = [(await events_of(engine, job))[-1] for job in wrong]
        good = await events_of(engine, asked("What is 1 plus 1?"))
        return failures, good

    failures, good = with_engine(test)
    assert all(
        isinstance(one, Failed) and one.kind == "request" and "\n" not in one.message for one in failures
    ), failures
    assert isinstance(good[-1], Done)


def test_a_model_that_was_not_made_to_chat_says_so():
    async def test(engine):
        return (await events_of(engine, asked("hi")))[-1]

    failure = with_engine(test, dataclasses.replace(first_use.resolve("tiny-qwen3"), chat_template=None))
    assert isinstance(failure, Failed)
    assert (failure.kind, "no chat template" in failure.message) == ("request", True)


def test_a_closed_stream_frees_its_slot_at_once():
    async def test(engine):
        running = engine.run(asked("Tell me all.", settings=LONG))
        async for event in running:
            if isinstance(event, Piece):
                break
        await running.aclose()
        start = time.monotonic()
        while (await engine.state()).n_running:
            await asyncio.sleep(0.01)
        freed = time.monotonic() - start
        # One that has not begun yet, and one whose prompt is being evaluated:
        pending = [asyncio.create_task(events_of(engine, asked("x " * n, settings=LONG))) for n in (1, 300)]
        await asyncio.sleep(0.02)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        good = await events_of(engine, asked("What is 1 plus 1?"))
        return freed, (await engine.state()).n_running, engine.n_jobs, good[-1]

    freed, n_running, n_jobs, done = with_engine(test)
    assert freed < 1
    assert n_running == n_jobs == 0
    assert isinstance(done, Done)


def test_a_full_queue_says_so():
    async def test(engine):
        running = [engine.run(asked("Go on.", settings=LONG)) for _ in range(3)]
        first = [await anext(one) for one in running[:1]]
        tasks = [asyncio.ensure_future(anext(one)) for one in running[1:]]
        await asyncio.sleep(0)
        refused = await events_of(engine, asked("And I?"))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for one in running:
            await one.aclose()
        return first, refused

    first, refused = with_engine(test, serving=ServingOptions(n_slots=2, max_queue=1))
    assert isinstance(first[0], Started)
    assert [type(event) for event in refused] == [Failed]
    assert refused[0].kind == "busy"


def test_time_is_bounded():
    async def test(engine):
        return await events_of(engine, asked("Go on.", settings=LONG)), await engine.state()

    events, state = with_engine(test, serving=ServingOptions(timeout_seconds=0.2))
    assert isinstance(events[-1], Failed)
    assert events[-1].kind == "timeout"
    assert state.n_running == 0


def test_an_engine_that_dies_is_replaced():
    async def test(engine):
        pid = engine.pid
        running = [asyncio.create_task(events_of(engine, asked("Go on.", settings=LONG))) for _ in range(2)]
        while (await engine.state()).n_running < 2:
            await asyncio.sleep(0.01)
        os.kill(pid, signal.SIGKILL)
        failures = [events[-1] for events in await asyncio.gather(*running)]
        start = time.monotonic()
        good = await events_of(engine, asked("What is 1 plus 1?"))
        return failures, good[-1], time.monotonic() - start, pid != engine.pid

    failures, done, seconds, other = with_engine(test)
    assert all(one.kind == "crash" and "SIGKILL" in one.message for one in failures)
    assert isinstance(done, Done)
    assert other
    assert seconds < 5


def test_what_is_asked_beside_answers():
    async def test(engine):
        job = asked("What is 1 plus 1?")
        text, ids = await engine.render(job)
        data = await engine.detokenize(await engine.tokenize("hello 世界", special=False))
        vectors, lengths = await engine.embed(["one text", "another"], dimensions=8)
        state = await engine.state()
        with pytest.raises(UsageError):
            await engine.render(Job(messages=()))
        with pytest.raises(UsageError):
            await engine.rerank("q", ["d"])
        with pytest.raises(EngineError):
            await engine.pieces([10**6])
        return text, ids, data, vectors, lengths, state, (await events_of(engine, job))[-1]

    text, ids, data, vectors, lengths, state, done = with_engine(test)
    assert "What is 1 plus 1?" in text
    assert done.n_prompt == len(ids)
    assert data.decode() == "hello 世界"
    assert [len(vector) for vector in vectors] == [8, 8]
    assert all(n > 0 for n in lengths)
    assert state.resident_bytes > 1 << 20
    with edgellm.load("tiny-qwen3", n_ctx=1024) as model:
        assert vectors[0] == pytest.approx(model.embed("one text", dimensions=8)[0].tolist(), abs=1e-3)


@pytest.mark.parametrize("serving", [ServingOptions(lookup=True), "draft"])
def test_draft_tokens(serving):
    if serving == "draft":
        serving = ServingOptions(draft=first_use.resolve("tiny-qwen3"))
    said = asked("Repeat: a b c d a b c d a b c d", settings={"max_tokens": 60, "ignore_eos": True})

    async def test(engine):
        return await asyncio.gather(*(events_of(engine, said) for _ in range(3)))

    plain = with_engine(test)
    drafted = with_engine(test, serving=serving)
    assert [text_of(events) for events in drafted] == [text_of(events) for events in plain]
    assert sum(events[-1].n_drafted for events in drafted) > 0


def test_refused_models_are_refused(tmp_path):
    artifact = dataclasses.replace(first_use.resolve("tiny-qwen3"), path=tmp_path / "gone.gguf")
    with pytest.raises(edgellm.EdgellmError):
        asyncio.run(Engine.open(artifact, OPTIONS))
