"""Many sequences on one engine; the authority for what is drawn is the same model in a plain session, alone."""

import contextlib
import json
import threading

import pytest

from edgellm import backends
from edgellm.backends.batching import scheduler
from edgellm.backends.batching.engine import Drawn, Engine, Request
from edgellm.backends.batching.opening import open_engine
from edgellm.backends.llama.batch import LlamaBatch
from edgellm.catalog import first_use
from edgellm.errors import CancelledError, EngineError, UsageError
from edgellm.generation.constraints import Grammar
from edgellm.generation.logprobs import Logprobs
from edgellm.generation.speculative import Lookup
from edgellm.session import GREEDY, EngineOptions, Sampling, common, reuse_prefix

OPTIONS = EngineOptions(n_ctx=512, n_threads=1)
TEXTS = (
    "The capital of France is",
    "Once upon a time there was a",
    "What is 12 plus 30?\n",
    "Hello! " * 40,
    "The capital of France is Paris and the capital of Germany is",
    "one two three " * 30,
)
N = 24


@pytest.fixture(scope="module", params=["tiny-qwen3", "tiny-llama3", "tiny-qwen35", "tiny-qwen3:onnx-int8"])
def artifact(request):
    return first_use.resolve(request.param)


@pytest.fixture(scope="module")
def opened(artifact):
    with contextlib.closing(open_engine(artifact, OPTIONS, 4)) as engine:
        yield engine


@pytest.fixture(scope="module")
def alone(artifact):
    with backends.open_session(artifact, OPTIONS) as session:
        yield session


@pytest.fixture
def engine(opened) -> Engine:
    assert not opened.load().n_running
    return opened


def ids(engine: Engine, text: str) -> list[int]:
    return engine.tokenizer.tokenize(text, add_bos=engine.tokenizer.info.add_bos)


def run(engine: Engine, requests: list[Request], n: int = N) -> list[list[int]]:
    """What is drawn for each, `n` ids at most."""
    drawn: dict[Request, list[int]] = {request: [] for request in requests}
    for request in requests:
        engine.add(request)
    while engine.load().n_running or engine.load().n_waiting:
        for one in engine.step():
            take(engine, one, drawn[one.request], n)
    return list(drawn.values())


def take(engine: Engine, one: Drawn, into: list[int], n: int) -> None:
    assert one.error is None
    if one.token is not None and len(into) < n:
        into.append(one.token)
        if len(into) == n:
            engine.end(one.request)


def plain(session, tokens: list[int], n: int = N, sampling: Sampling = GREEDY) -> list[int]:
    session.rewind(0)
    stream = session.stream(tokens, sampling)
    found = [next(stream) for _ in range(n)]
    stream.close()
    return found


def test_more_requests_than_slots_get_what_they_would_get_alone(engine, alone):
    prompts = [ids(engine, text) for text in TEXTS]
    found = run(engine, [Request(prompt, GREEDY, exact=True) for prompt in prompts])
    assert found == [plain(alone, prompt) for prompt in prompts]


def test_a_seed_means_what_it_means_alone(engine, alone):
    sampling = Sampling(temperature=0.7, seed=11)
    prompts = [ids(engine, text) for text in TEXTS[:3]]
    found = run(engine, [Request(prompt, sampling, exact=True) for prompt in prompts], 8)
    assert found == [plain(alone, prompt, 8, sampling) for prompt in prompts]


def test_a_prompt_that_goes_on_with_a_sequence_finds_it_cached(engine, alone):
    first = ids(engine, TEXTS[3])
    (answer,) = run(engine, [Request(first, GREEDY)])
    second = [*first, *answer[:-1], *ids(engine, " And then?")]
    request = Request(second, GREEDY)
    (found,) = run(engine, [request])
    assert request.n_cached is not None and request.n_cached > len(first) // 2
    alone.rewind(0)
    assert found == plain(alone, second)


def test_who_waits_first_is_served_first(engine):
    requests = [Request(ids(engine, f"{i} " * 5), GREEDY) for i in range(7)]
    begun: list[Request] = []
    for request in requests:
        engine.add(request)
    n_drawn = dict.fromkeys(requests, 0)
    while engine.load().n_running or engine.load().n_waiting:
        for one in engine.step():
            if not n_drawn[one.request]:
                begun.append(one.request)
            n_drawn[one.request] += 1
            if n_drawn[one.request] == 3:
                engine.end(one.request)
    assert begun == requests


def test_a_full_context_ends_a_request_and_no_other(engine):
    n_ctx = engine.tokenizer.info.n_ctx
    long, short = Request([5] * (n_ctx - 3), GREEDY), Request(ids(engine, TEXTS[0]), GREEDY)
    engine.add(long)
    engine.add(short)
    counts, over = {long: 0, short: 0}, []
    while engine.load().n_running or engine.load().n_waiting:
        for one in engine.step():
            if one.token is None:
                over.append(one.request)
                assert one.error is None
            elif counts[one.request] < 20:
                counts[one.request] += 1
                if one.request is short and counts[short] == 20:
                    engine.end(short)
    assert over == [long]
    assert counts == {long: 4, short: 20}


def test_what_cannot_be_evaluated_is_refused_alone(engine):
    n = engine.tokenizer.info.n_ctx
    wrong = [Request([1] * (n + 1), GREEDY), Request([10**6], GREEDY), Request([], GREEDY)]
    biased = Request([1, 2], Sampling(logit_bias=((10**6, 1.0),)))
    good = Request(ids(engine, TEXTS[0]), GREEDY)
    errors = {}
    for request in (*wrong, biased, good):
        engine.add(request)
    n_good = 0
    while engine.load().n_running or engine.load().n_waiting:
        for one in engine.step():
            if one.token is None:
                errors[one.request] = one.error
            elif (n_good := n_good + 1) == 4:
                engine.end(good)
    assert all(isinstance(errors[request], EngineError) for request in wrong)
    assert isinstance(errors[biased], UsageError)
    assert good not in errors


def test_a_cancelled_request_ends(engine):
    waiting, running = Request(ids(engine, TEXTS[0]), GREEDY), Request(ids(engine, TEXTS[1]), GREEDY)
    waiting.cancel.set()
    engine.add(running)
    engine.add(waiting)
    ended = []
    for _ in range(200):
        for one in engine.step():
            if one.token is None:
                ended.append((one.request, one.error is None or isinstance(one.error, CancelledError)))
            elif one.request is running:
                running.cancel.set()
        if len(ended) == 2:
            break
    assert sorted(map(id, (request for request, _ in ended))) == sorted(map(id, (running, waiting)))
    assert all(good for _, good in ended)


def test_a_grammar_holds_for_one_of_several(engine):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    constraint = Grammar.json_schema(schema).start(engine.tokenizer, 40)
    shaped, free = Request(ids(engine, TEXTS[2]), GREEDY, constraint), Request(ids(engine, TEXTS[0]), GREEDY)
    text, n_shaped, n_free = b"", 0, 0
    engine.add(shaped)
    engine.add(free)
    while engine.load().n_running or engine.load().n_waiting:
        for one in engine.step():
            if one.request is free:
                if (n_free := n_free + 1) == 10:
                    engine.end(free)
            elif n_shaped == 0 or not constraint.ended(n_shaped):
                n_shaped += 1
                text += engine.tokenizer.piece(one.token)
                if constraint.ended(n_shaped):
                    engine.end(shaped)
    assert isinstance(json.loads(text)["n"], int)


def test_logprobs_are_those_of_the_logits(engine, alone):
    import numpy as np

    prompt, other = ids(engine, TEXTS[0]), ids(engine, TEXTS[1])
    watched = Logprobs(3)
    found = run(engine, [Request(prompt, GREEDY, watched, exact=True), Request(other, GREEDY, exact=True)], 4)
    alone.rewind(0)
    rows = alone.eval_all([*prompt, *found[0][:-1]])[len(prompt) - 1 :].astype(np.float64)
    for row, token, told in zip(rows, found[0], watched.taken, strict=False):
        log_softmax = row - row.max() - np.log(np.exp(row - row.max()).sum())
        assert told.token == token == told.top[0][0]
        assert told.logprob == pytest.approx(log_softmax[token], abs=2e-2)
        assert [i for i, _ in told.top] == list(np.argsort(-row, kind="stable")[:3])


def test_a_bias_forbids_and_forces(engine):
    prompt = ids(engine, TEXTS[0])
    ((usual,),) = run(engine, [Request(prompt, GREEDY)], 1)
    ((other,),) = run(engine, [Request(prompt, Sampling(temperature=0.0, logit_bias=((usual, -100.0),)))], 1)
    ((forced,),) = run(engine, [Request(prompt, Sampling(temperature=0.0, logit_bias=((7, 1000.0),)))], 1)
    assert other != usual
    assert forced == 7


def test_a_session_on_the_same_weights_beside_it(engine, alone):
    import numpy as np

    tokens = ids(engine, TEXTS[1])
    with engine.alone() as session:
        states = session.hidden(tokens)
    alone.rewind(0)
    assert np.allclose(states, alone.hidden(tokens), atol=1e-3)
    assert run(engine, [Request(tokens, GREEDY, exact=True)]) == [plain(alone, tokens)]


# What only an engine of several sequences does:


@pytest.fixture
def several(engine):
    if engine.batching != "continuous":
        pytest.skip(engine.batching)
    return engine


def test_one_that_takes_one_at_a_time_says_why(engine):
    assert engine.batching == "continuous" or (
        engine.n_slots == 1 and "one sequence at a time" in engine.batching
    )


def test_a_long_prompt_does_not_stop_answers(several, monkeypatch):
    talker = Request(ids(several, TEXTS[0]), GREEDY)
    several.add(talker)
    several.step()
    monkeypatch.setattr(scheduler, "STALL_SECONDS", 1e-6)  # as if this machine were slow
    reader = Request([9] * 500, GREEDY, exact=True)
    several.add(reader)
    n_between = 0
    while True:
        drawn = several.step()
        n_between += sum(one.request is talker for one in drawn)
        if any(one.request is reader for one in drawn):
            break
    several.end(talker)
    several.end(reader)
    assert n_between > 10


def test_a_prompt_begun_alike_is_not_evaluated_twice(several, alone):
    """The first to come is still being answered: what both begin with is copied from its cache."""
    if several.tokenizer.artifact.architecture == "qwen35":
        pytest.skip("its state is kept before a prompt's end, where these part")
    system = ids(several, "You are a helpful assistant. " * 12)
    prompts = [[*system, *ids(several, f"Question {i}: what is {i} plus {i}?")] for i in range(4)]
    requests = [Request(prompt, GREEDY) for prompt in prompts]
    several.add(Request([3] * 4, GREEDY))  # another's sequence, in the slot that would be found first
    for one in several.step():
        several.end(one.request)
    found = run(several, requests, 8)
    assert [request.n_cached >= len(system) - 1 for request in requests] == [False, True, True, True], [
        len(system),
        [r.n_cached for r in requests],
    ]
    assert found == [plain(alone, prompt, 8) for prompt in prompts]


def test_a_hybrid_takes_over_kept_states(several, alone):
    """Where a state cannot be cut, the copy goes on from a state that was kept."""
    if several.tokenizer.artifact.architecture != "qwen35":
        pytest.skip("it keeps no states")
    first = ids(several, "Tell me about the city of Paris and its long history. " * 8)
    (answer,) = run(several, [Request(first, GREEDY)])
    parted = [*first[:-1], *ids(several, " in short")]
    holder, copier = Request([*first, *answer[:4]], GREEDY), Request(parted, GREEDY)
    found = run(several, [holder, copier], 8)
    assert copier.n_cached
    assert found[1] == plain(alone, parted, 8)


def test_draft_tokens_change_nothing_but_the_number_of_steps(several):
    prompt = ids(several, "a b c d a b c d a b c d a b c d a b c")
    plain_request, drafted = Request(prompt, GREEDY), Request(prompt, GREEDY, drafter=Lookup())
    beside = Request(ids(several, TEXTS[1]), GREEDY)
    want, _ = run(several, [plain_request, beside], 40)
    found, other = run(several, [drafted, Request(beside.prompt, GREEDY)], 40)
    assert found == want
    assert len(other) == 40
    if several.tokenizer.artifact.architecture != "qwen35":  # whose state cannot be cut behind draft tokens
        assert drafted.n_drafted >= drafted.n_accepted > 0
    assert plain_request.n_drafted == 0


class _Interrupting:
    """llama.cpp, and a client that goes away, on another thread, when an evaluation begins."""

    def __init__(self, engine, request, library):
        self._engine, self._request, self._library = engine, request, library

    def __getattr__(self, name):
        return getattr(self._library, name)

    def llama_decode(self, *args):
        def wish():
            self._request.cancel.set()
            self._engine.cancelled()

        thread = threading.Thread(target=wish)
        thread.start()
        thread.join()
        return self._library.llama_decode(*args)


def test_an_evaluation_that_nobody_wants_is_stopped(several, alone, monkeypatch):
    """The wish comes from another thread while a prompt is evaluated; another sequence in the cache stays."""
    kept = ids(several, TEXTS[3])
    run(several, [Request(kept, GREEDY)], 2)
    request = Request([9] * 500, GREEDY, exact=True)
    several.add(request)
    decode = several._evaluator._lib.llama_decode
    monkeypatch.setattr(several._evaluator, "_lib", _Interrupting(several, request, several._evaluator._lib))
    drawn = several.step()
    monkeypatch.undo()
    assert [(one.request, one.token, type(one.error)) for one in drawn] == [(request, None, CancelledError)]
    assert several._evaluator._lib.llama_decode is decode
    again = Request(kept, GREEDY)
    assert run(several, [again], 8) == [plain(alone, kept, 8)]
    assert again.n_cached


def test_an_evaluation_that_fails_ends_those_in_it_and_the_engine_goes_on(several, alone, monkeypatch):
    prompt = ids(several, TEXTS[0])
    requests = [Request(prompt, GREEDY), Request(ids(several, TEXTS[1]), GREEDY)]
    for request in requests:
        several.add(request)
    several.step()
    with monkeypatch.context() as patch:
        patch.setattr(LlamaBatch, "evaluate", lambda *_: (_ for _ in ()).throw(EngineError("no memory")))
        failed = several.step()
    assert [(one.request, one.token, str(one.error)) for one in failed] == [
        (request, None, "no memory") for request in requests
    ]
    assert several.load().kv_used == 0
    assert run(several, [Request(prompt, GREEDY)]) == [plain(alone, prompt)]


def test_a_rerun_shares_with_generation_how_much_is_cached(several, alone):
    """As many tokens are found as a plain session finds."""
    prompt = ids(several, TEXTS[3])
    run(several, [Request(prompt, GREEDY, exact=True)], 2)
    again = Request(prompt, GREEDY)
    run(several, [again], 2)
    plain(alone, prompt, 2)
    assert again.n_cached == reuse_prefix(alone, prompt)


def test_common():
    for one, other in (
        ([], []),
        ([1], []),
        ([1, 2, 3], [1, 2, 3]),
        ([1, 2, 3], [1, 2, 4]),
        ([1] * 99, [1] * 50 + [2]),
    ):
        want = next(
            (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
        )
        assert common(one, other) == want
