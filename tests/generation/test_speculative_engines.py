"""Guessing ahead on real engines: the same greedy answers, and a sequence that is right wherever it is left."""

import pytest
import sequences

from edgellm import backends
from edgellm.backends import worker
from edgellm.backends.llama import canary_child
from edgellm.cli.shared import model_argument
from edgellm.errors import UsageError
from edgellm.formats.artifact import Artifact
from edgellm.generation import generate
from edgellm.generation.constraints import Grammar
from edgellm.generation.draft_length import DraftLength
from edgellm.generation.generate import GenerateOptions
from edgellm.generation.speculative import DraftModel, Lookup
from edgellm.models import bundled
from edgellm.session import GREEDY, EngineOptions, Sampling

OPTIONS = EngineOptions(n_ctx=512, n_threads=1)
QUESTIONS = ("Tell me a story about a fox.", "What is the capital of France?", "介绍一下你自己。")


class Eager(DraftLength):
    """Draft tokens whenever there is something to draft token, as timing on a busy machine may not."""

    def step(self, available: int, match: int, *, growing: bool = True) -> int:
        return max((n for n in (0, 1, 3, 7, 15) if n <= available), default=0)


@pytest.fixture(scope="module", params=[*bundled.names(), "tiny-qwen3:onnx-fp32"])
def session(request):
    with backends.open_session(model_argument.resolve(request.param), OPTIONS) as session:
        yield session


def prompt(session, question: str) -> list[int]:
    return session.tokenize(f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n")


def answer(session, question: str, **options) -> tuple[int, ...]:
    session.rewind(0)
    todo = GenerateOptions(**{"sampling": GREEDY, "max_tokens": 120, "ignore_eos": True, **options})
    return generate.stream(session, prompt(session, question), todo).completion.tokens


def drafter(kind: str):
    if kind == "lookup":
        return Lookup(Eager())
    return DraftModel(model_argument.resolve("tiny-qwen3"), OPTIONS, Eager())


@pytest.mark.parametrize("kind", ["lookup", "draft"])
def test_greedy_answers_are_those_of_plain_decoding(session, kind):
    draft = drafter(kind)
    for question in QUESTIONS:
        drafted, plain = answer(session, question, drafter=draft), answer(session, question)
        if drafted != plain:  # beyond the answer's end these models wander, along ties
            assert sequences.near_tie(session.artifact, prompt(session, question), plain, drafted)
            n_same = next(i for i, (a, b) in enumerate(zip(plain, drafted, strict=True)) if a != b)
            assert not session.info.eos_ids.isdisjoint(plain[:n_same])


def test_a_seed_and_penalties_mean_what_they_mean(session):
    sampling = Sampling(seed=7, temperature=0.5, repeat_penalty=1.1, repeat_last_n=32)
    plain = answer(session, QUESTIONS[0], sampling=sampling, max_tokens=40)
    assert answer(session, QUESTIONS[0], sampling=sampling, max_tokens=40, drafter=Lookup(Eager())) == plain


def test_left_anywhere_the_sequence_and_the_cache_are_right(session):
    ids, plain = prompt(session, QUESTIONS[0]), answer(session, QUESTIONS[0])
    for n in (1, 2, 5, 17, 40, 90):
        session.rewind(0)
        stream = session.stream(ids, GREEDY, drafter=Lookup(Eager()))
        for _ in range(n):
            next(stream)
        assert list(session.tokens) == [*ids, *plain[: n - 1]]
        if n % 2:
            stream.close()
        again = session.stream([plain[n - 1]], GREEDY)  # the cache holds no draft token that failed
        assert [next(again) for _ in range(5)] == list(plain[n : n + 5])
        again.close()


def test_draft_stop_at_the_end_of_the_window(session):
    with backends.open_session(session.artifact, EngineOptions(n_ctx=64, n_threads=1)) as small:
        ids = prompt(small, "Hi.")
        plain = list(small.stream(ids, GREEDY))
        small.rewind(0)
        assert list(small.stream(ids, GREEDY, drafter=Lookup(Eager()))) == plain


def test_together_with_a_schema(session):
    grammar = Grammar.json_schema(
        {"type": "array", "items": {"enum": ["fox", "heron"]}, "minItems": 8, "maxItems": 8}
    )
    plain = answer(session, QUESTIONS[0], grammar=grammar, ignore_eos=False)
    assert answer(session, QUESTIONS[0], grammar=grammar, ignore_eos=False, drafter=Lookup(Eager())) == plain


def test_a_worker_draft_too(session):
    with worker.open_isolated(session.artifact, OPTIONS) as isolated:
        assert answer(isolated, QUESTIONS[1], drafter=Lookup()) == answer(session, QUESTIONS[1])


def test_where_kernels_round_differently_only_a_tie_is_drawn_otherwise():
    """int4 weights: eight bits of every activation, and other sums for several rows than for one."""
    with backends.open_session(model_argument.resolve("tiny-qwen3:onnx-int4"), OPTIONS) as session:
        for question in QUESTIONS:
            plain, fast = answer(session, question), answer(session, question, drafter=Lookup(Eager()))
            first = next((i for i, (a, b) in enumerate(zip(plain, fast, strict=True)) if a != b), None)
            if first is not None:
                session.rewind(0)
                logits = session.eval([*prompt(session, question), *plain[:first]])
                assert logits[plain[first]] - logits[fast[first]] < 0.1 * logits.std()


def test_a_draft_model_of_another_vocabulary_is_refused(session, tmp_path):
    path = tmp_path / "random.gguf"
    canary_child.write_model(path)
    other = Artifact(path, "gguf", "llama", "random", "Q4_0", path.stat().st_size, 128, None)
    with pytest.raises(UsageError, match="vocabularies differ"):
        answer(session, QUESTIONS[0], drafter=DraftModel(other, OPTIONS))
