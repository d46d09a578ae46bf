"""The Python API under asyncio: tasks take turns, the event loop stays free, and a cancelled task frees the model."""

import asyncio
import gc
import threading

import pytest

import edgellm
from edgellm.errors import EngineError, UsageError

FRANCE = [{"role": "user", "content": "What is the capital of France?"}]
ENDLESS = {"ignore_eos": True, "max_tokens": 400, "temperature": 0}


@pytest.fixture(scope="module", params=[False, True], ids=["here", "isolated"])
def model(request):
    with edgellm.load("tiny-qwen3", n_ctx=512, n_threads=1, isolated=request.param) as model:
        yield model


@pytest.fixture(scope="module")
def paris(model):
    return model.complete(FRANCE, temperature=0).text


def test_a_stream_gives_the_text_in_pieces_and_its_answer(model, paris):
    async def main():
        stream = model.astream(FRANCE, temperature=0)
        pieces = [piece async for piece in stream]
        return pieces, await stream

    pieces, answer = asyncio.run(main())
    assert len(pieces) > 1 and "".join(pieces) == answer.text == paris


def test_many_tasks_take_turns_in_the_order_they_came(model, paris):
    done = []

    async def ask(number):
        done.append((number, (await model.acomplete(FRANCE, temperature=0)).text))

    async def main():  # more than asyncio's own threads
        await asyncio.gather(*map(ask, range(40)))

    asyncio.run(main())
    assert done == [(number, paris) for number in range(40)]


def test_the_event_loop_runs_on_meanwhile(model):
    async def main():
        answer = asyncio.create_task(model.acomplete("Once", **ENDLESS))
        beats = 0
        while not answer.done():
            beats += 1
            await asyncio.sleep(0)
        return beats, (await answer).usage.n_generated

    beats, n_generated = asyncio.run(main())
    assert beats > n_generated


@pytest.mark.parametrize("pieces", [0, 3], ids=["prompt", "answer"])
def test_a_cancelled_task_stops_the_engine_and_frees_the_model(model, paris, pieces):
    stream = model.astream("word " * 300 if pieces == 0 else "Once", **ENDLESS)

    async def read(begun):
        n = 0
        async for _ in stream:
            n += 1
            if n >= pieces:
                begun.set()

    async def main():
        begun = asyncio.Event()
        task = asyncio.create_task(read(begun))
        await (begun.wait() if pieces else asyncio.sleep(0.005))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # Nothing of this model runs any more: a call that cannot wait for a task gets its turn at once.
        assert model.complete(FRANCE, temperature=0).text == paris
        return await stream

    answer = asyncio.run(main())
    assert answer.finish_reason == "cancelled" and answer.usage.n_generated < 400


def test_a_task_cancelled_while_it_waits_is_not_missed(model, paris):
    async def main():
        async with model.astream("Once", **ENDLESS) as first:
            await anext(first)
            waiting = [asyncio.create_task(model.acomplete(FRANCE, temperature=0)) for _ in range(3)]
            await asyncio.sleep(0)
            waiting[0].cancel()
        return await asyncio.gather(*waiting, return_exceptions=True)

    lost, *texts = asyncio.run(main())
    assert isinstance(lost, asyncio.CancelledError) and [answer.text for answer in texts] == [paris] * 2


def test_a_timeout_leaves_a_chat_with_what_was_said(model):
    chat = model.chat(temperature=0)

    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(chat.aask("Tell me a story.", **ENDLESS), 0.2)
        if chat.messages:  # some of it had been said
            chat.undo()
        return await chat.aask(FRANCE[0]["content"])

    assert "Paris" in asyncio.run(main()).text
    assert [message["role"] for message in chat.messages] == ["user", "assistant"]


def test_leaving_a_stream_open_hinders_nobody(model, paris):
    async def main():
        left = model.astream("Once", **ENDLESS)
        await anext(left)
        text = (await model.acomplete(FRANCE, temperature=0)).text  # the same task: it would wait for itself
        with pytest.raises(UsageError, match="ended this stream"):
            await anext(left)
        async for _ in model.astream("Once", **ENDLESS):
            break
        gc.collect()
        return text, (await asyncio.create_task(model.acomplete(FRANCE, temperature=0))).text

    assert asyncio.run(main()) == (paris, paris)


def test_a_call_that_would_block_the_loop_for_ever_says_so(model):
    async def main():
        stream = model.astream("Once", **ENDLESS)

        async def read():
            return [piece async for piece in stream]

        task = asyncio.create_task(read())
        while "open" not in repr(stream):
            await asyncio.sleep(0.001)
        with pytest.raises(UsageError, match=r"another task of this event loop.*acomplete"):
            model.complete(FRANCE)
        stream.cancel()
        await task

    asyncio.run(main())


def test_threads_and_tasks_wait_for_each_other(model, paris):
    found = []

    def ask():
        found.extend(model.complete(FRANCE, temperature=0).text for _ in range(5))

    async def main():
        thread = threading.Thread(target=ask)
        thread.start()
        texts = [(await model.acomplete(FRANCE, temperature=0)).text for _ in range(5)]
        await asyncio.to_thread(thread.join)
        return texts

    assert asyncio.run(main()) + found == [paris] * 10


def test_errors_come_when_awaited_and_leave_the_model_usable(model, paris):
    async def main():
        with pytest.raises(EngineError, match=r"do not fit the context of 512.* n_ctx"):
            await model.acomplete("word " * 2000)
        with pytest.raises(UsageError, match="did you mean temperature"):
            model.astream("x", temprature=0)
        cancelled = model.astream("x")
        cancelled.cancel()
        with pytest.raises(UsageError, match="before it began"):
            await cancelled
        return (await model.acomplete(FRANCE, temperature=0)).text

    assert asyncio.run(main()) == paris


def test_closing_a_model_ends_what_a_task_left_open():
    async def main():
        with edgellm.load("tiny-llama3", n_ctx=64, n_threads=1) as model:
            stream = model.astream("Once", ignore_eos=True)
            task = asyncio.create_task(anext(stream))
            await task
        with pytest.raises(UsageError, match="ended this stream"):
            await anext(stream)

    asyncio.run(main())
