"""Several models behind one server: opened when asked for, closed when idle or when memory is short."""

import asyncio

import psutil
import pytest

from edgellm.catalog import first_use
from edgellm.errors import UsageError
from edgellm.machine import hardware
from edgellm.serving.job import Done, Job
from edgellm.serving.pool import Offer, Pool, UnknownModelError
from edgellm.session import EngineOptions

NAMES = ("tiny-qwen3", "tiny-llama3")
JOB = Job(prompt="Once", settings={"max_tokens": 2, "ignore_eos": True})


def pool(**how) -> Pool:
    offers = [
        Offer(name, first_use.resolve(name), (f"{name}-alias",), EngineOptions(n_ctx=256, n_threads=1))
        for name in NAMES
    ]
    return Pool(offers, **how)


def with_pool(test, **how):
    async def run():
        models = pool(**how)
        try:
            return await asyncio.wait_for(test(models), 120)
        finally:
            await models.close(0)

    return asyncio.run(run())


def states(models: Pool) -> list[str]:
    return [offered.state for offered in models.names()]


async def answer(models: Pool, name: str | None) -> Done:
    async with models.use(name) as engine:
        events = [event async for event in engine.run(JOB)]
    assert isinstance(events[-1], Done)
    return events[-1]


def test_opened_when_first_asked_for():
    async def test(models):
        seen = [states(models)]
        for name in (None, "tiny-llama3-alias"):
            await answer(models, name)
            seen.append(states(models))
        async with models.use("tiny-qwen3") as one, models.use(None) as same:
            assert one is same
        return seen

    assert with_pool(test) == [["unloaded"] * 2, ["loaded", "unloaded"], ["loaded"] * 2]


def test_asked_at_once_it_is_opened_once():
    async def test(models):
        await asyncio.gather(*(answer(models, None) for _ in range(4)))
        return len(psutil.Process().children(recursive=False)), states(models)

    n_before = len(psutil.Process().children(recursive=False))
    n_children, found = with_pool(test)
    assert n_children - n_before <= 2  # the engine, and what keeps templates
    assert found == ["loaded", "unloaded"]


def test_idle_models_are_closed():
    async def test(models):
        await answer(models, None)
        async with models.use("tiny-llama3") as engine:
            pid = engine.pid
            await asyncio.sleep(1.5)
            during = states(models)
        for _ in range(100):
            if states(models) == ["unloaded"] * 2 and not psutil.pid_exists(pid):
                break
            await asyncio.sleep(0.1)
        return during, states(models), psutil.pid_exists(pid)

    assert with_pool(test, keep_seconds=0.5) == (["unloaded", "loaded"], ["unloaded"] * 2, False)


def test_only_so_many_at_once():
    async def test(models):
        for name in NAMES:
            await answer(models, name)
        return states(models)

    assert with_pool(test, max_loaded=1) == ["unloaded", "loaded"]


def test_room_is_made_for_the_next(monkeypatch):
    async def test(models):
        await answer(models, NAMES[0])
        monkeypatch.setattr(hardware, "available_bytes", lambda: 1000)
        await models._make_room(models._place(NAMES[1]))
        return states(models)

    assert with_pool(test) == ["unloaded"] * 2


def test_who_goes_away_while_a_model_is_loaded_leaves_no_process_behind():
    async def test(models):
        before = {child.pid for child in psutil.Process().children()}
        asking = asyncio.create_task(answer(models, None))
        while {child.pid for child in psutil.Process().children()} <= before:
            await asyncio.sleep(0.005)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        for _ in range(200):
            left = [child for child in psutil.Process().children() if child.pid not in before]
            left = [child for child in left if "edgellm.serving.child" in " ".join(child.cmdline())]
            if not left:
                break
            await asyncio.sleep(0.05)
        return left, states(models), (await answer(models, None)).n_generated

    assert with_pool(test) == ([], ["unloaded"] * 2, 2)


def test_unloaded_on_request():
    async def test(models):
        await models.load(NAMES[0])
        running = asyncio.create_task(answer(models, NAMES[0]))
        await asyncio.sleep(0)
        await models.unload(NAMES[0])
        return (await running).n_generated, states(models)

    assert with_pool(test) == (2, ["unloaded"] * 2)


def test_unknown_names():
    async def test(models):
        async with models.use("gpt-4"):
            pass

    with pytest.raises(UnknownModelError, match="tiny-qwen3"):
        with_pool(test)


def test_a_name_is_given_once():
    offer = Offer("a", first_use.resolve("tiny-qwen3"))
    with pytest.raises(UsageError, match="'a'"):
        Pool([offer, Offer("b", offer.artifact, ("a",))])
