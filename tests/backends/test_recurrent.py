"""Hybrid models in llama.cpp: going back without evaluating all again, drafts, evaluations that ended early, saves."""

import types

import gguf
import numpy as np
import pytest
import sequences
import tiny_hybrid
from tiny_hybrid import Hybrid

from edgellm import backends
from edgellm.backends import checkpoints, worker
from edgellm.backends.llama.observe import Observer
from edgellm.backends.llama.sequence import state as llama_state
from edgellm.backends.llama.session import LlamaCppSession
from edgellm.chat import state as chat_state
from edgellm.chat.conversation import Conversation
from edgellm.errors import CancelledError, EngineError
from edgellm.formats.artifact import Artifact
from edgellm.formats.gguf import adapter
from edgellm.generation import generate
from edgellm.generation.constraints import Grammar
from edgellm.generation.draft_length import DraftLength
from edgellm.generation.generate import GenerateOptions
from edgellm.generation.speculative import DraftModel, Lookup
from edgellm.prompt.template import ChatTemplate
from edgellm.session import GREEDY, Cancel, EngineOptions

OPTIONS = EngineOptions(n_ctx=1024, n_threads=1, device="cpu")
PROMPT = [(7 * i) % 250 for i in range(400)]
FAMILIES = {
    "qwen35": Hybrid(),
    "qwen35moe": Hybrid("qwen35moe", n_expert_used=4),
    "qwen3next": Hybrid("qwen3next", n_expert_used=4),
}


class Eager(DraftLength):
    """Draft tokens whenever there is something to draft, as timing on a busy machine may not."""

    def step(self, available: int, match: int, *, growing: bool = True) -> int:
        return max((n for n in (0, 1, 3, 7, 15) if n <= available), default=0)


@pytest.fixture(scope="module", params=FAMILIES)
def artifact(request, tmp_path_factory) -> Artifact:
    path = tmp_path_factory.mktemp("hybrid") / "m.gguf"
    return Artifact.open(tiny_hybrid.write(path, FAMILIES[request.param]))


@pytest.fixture(scope="module")
def dense(tmp_path_factory) -> Artifact:
    return Artifact.open(tiny_hybrid.write(tmp_path_factory.mktemp("dense") / "m.gguf"))


def answer(session, n_prompt: int = 60, **options) -> tuple[int, ...]:
    session.rewind(0)
    todo = GenerateOptions(**{"sampling": GREEDY, "max_tokens": 150, "ignore_eos": True, **options})
    return generate.stream(session, PROMPT[:n_prompt], todo).completion.tokens


def same(session, artifact: Artifact, ids: list[int]) -> bool:
    """Whether the logits after one more id are a fresh session's."""
    assert list(session.tokens) == ids
    with backends.open_session(artifact, OPTIONS) as fresh:
        expected = fresh.eval([*ids, 9])
        return sequences.difference(session.eval([9]), expected) < 1e-5


@pytest.mark.parametrize("kind", ["lookup", "draft"])
@pytest.mark.parametrize("isolated", [False, True], ids=["here", "worker"])
def test_greedy_answers_with_draft_tokens_are_those_of_plain_decoding(artifact, kind, isolated):
    drafter = Lookup(Eager()) if kind == "lookup" else DraftModel(artifact, OPTIONS, Eager())
    with (worker.open_isolated if isolated else backends.open_session)(artifact, OPTIONS) as session:
        for n_prompt in (1, 9, 60, 300):
            plain = answer(session, n_prompt)
            drafted = answer(session, n_prompt, drafter=drafter)
            assert len(session.tokens) == n_prompt + 149
            assert drafted == plain or sequences.near_tie(artifact, PROMPT[:n_prompt], plain, drafted)


def test_a_grammar_whose_forced_ids_are_evaluated_ahead(dense):
    grammar = Grammar.json_schema(
        {
            "type": "object",
            "properties": {"first name": {"type": "string", "maxLength": 4}, "n": {"type": "integer"}},
            "required": ["first name", "n"],
        }
    )
    with backends.open_session(dense, OPTIONS) as session:
        done = generate.stream(
            session, PROMPT[:40], GenerateOptions(grammar=grammar, max_tokens=200, sampling=GREEDY)
        ).completion
        assert done.valid and done.text.replace(" ", "").startswith('{"firstname":')
        assert same(session, dense, list(session.tokens))


def test_a_turn_evaluates_what_is_new_and_little_again(dense):
    """Ten turns whose history has answers without their beginnings, as where a template drops thoughts."""
    with backends.open_session(dense, OPTIONS) as session:
        history, before = list[int](), list[int]()
        for turn in range(10):
            prompt = [*history, *((11 * turn + i) % 250 for i in range(45))]
            done = generate.stream(
                session, prompt, GenerateOptions(max_tokens=40, sampling=GREEDY, ignore_eos=True)
            ).completion
            shared = next(
                (i for i, (a, b) in enumerate(zip(before, prompt, strict=False)) if a != b), len(before)
            )
            again = done.usage.n_prompt - done.usage.n_cached - (len(prompt) - shared)
            assert 0 <= again <= (checkpoints.BEFORE_END if turn else 0), turn
            before = list(session.tokens)
            history = [*prompt, *done.tokens[25:]]
        assert same(session, dense, before)


def test_an_answer_drawn_anew_evaluates_the_end_of_its_prompt_alone(dense, monkeypatch):
    evaluated = []

    def counted(context, batch):
        evaluated.append(batch.n_tokens)
        return lib.llama_decode(context, batch)

    with backends.open_session(dense, OPTIONS) as session:
        todo = GenerateOptions(max_tokens=30, sampling=GREEDY, ignore_eos=True)
        first = generate.stream(session, PROMPT[:300], todo).completion
        lib, own = session._lib, types.ModuleType("counting")
        vars(own).update(vars(lib), llama_decode=counted)
        monkeypatch.setattr(session, "_lib", own)
        again = generate.stream(session, PROMPT[:300], todo).completion
    assert again.tokens == first.tokens
    assert again.usage.n_prompt - again.usage.n_cached == checkpoints.BEFORE_END
    assert evaluated == [checkpoints.BEFORE_END, *[1] * 29]  # by the library's own count


def test_an_evaluation_ended_within_a_batch_leaves_no_half_state(dense):
    """The library's cache names a position for it; the layers are at different tokens."""
    options = EngineOptions(n_ctx=1024, n_threads=1, n_batch=64, n_ubatch=64, device="cpu")
    with backends.open_session(dense, options) as plain:
        settled = plain.info.options
    for n_products in (1, 30, 40, 100, 200):
        cancel, seen = Cancel(), []

        def wanted(product, cancel=cancel, seen=seen, n=n_products) -> bool:
            seen.append(product.weight)
            if len(seen) == n:
                cancel.set()
            return False

        with LlamaCppSession(dense, settled, Observer(wanted, lambda *_: None)) as session:
            with pytest.raises(CancelledError):
                next(session.stream(PROMPT, GREEDY, cancel=cancel))
            n_kept = len(session.tokens)
            assert list(session.tokens) == PROMPT[:n_kept] and n_kept < len(PROMPT)
            assert same(session, dense, PROMPT[:n_kept])


def test_a_failed_evaluation_leaves_the_last_kept_state(dense, monkeypatch):
    with backends.open_session(dense, OPTIONS) as session:
        ids = session.stream(PROMPT[:100], GREEDY)
        drawn = [next(ids) for _ in range(5)]
        lib = session._lib

        class Failing:
            def __getattr__(self, name):
                return getattr(lib, name)

            def llama_decode(self, context, batch):
                lib.llama_decode(context, batch)
                return -3

        monkeypatch.setattr(session, "_lib", Failing())
        with pytest.raises(EngineError, match="position 92"):
            next(ids)
        monkeypatch.undo()
        assert list(session.tokens) == [*PROMPT[:100], *drawn][:92]
        assert same(session, dense, PROMPT[:92])


def test_a_wish_ends_an_answer_between_two_ids_and_costs_nothing(dense):
    with backends.open_session(dense, OPTIONS) as session:
        for drafter in (None, Lookup(Eager())):
            session.rewind(0)
            cancel = Cancel()
            ids = session.stream(PROMPT[:100], GREEDY, cancel=cancel, drafter=drafter)
            drawn = [next(ids) for _ in range(6)]
            cancel.set()
            with pytest.raises(CancelledError):
                list(ids)
            assert list(session.tokens)[:105] == [*PROMPT[:100], *drawn[:5]]
            assert same(session, dense, list(session.tokens))


def test_a_saved_state_names_its_version_and_brings_the_way_back(dense):
    with backends.open_session(dense, OPTIONS) as session:
        answer(session, 200)
        state, ids = session.save_state(), list(session.tokens)
        version = session.info.version
    with backends.open_session(dense, OPTIONS) as other:
        other.restore_state(state, ids)
        assert other.reusable(199) == 192
        other.rewind(199)
        assert same(other, dense, ids[:199])
        for changed, why in (
            (
                llama_state.pack("llama-cpp-python 1.0.0", *llama_state.unpack(version, state)),
                "1.0.0, this is",
            ),
            (b"nonsense" + state, "no saved state"),
            (state[:3], "cut off"),
        ):
            with pytest.raises(EngineError, match=why):
                other.restore_state(changed, ids)
        assert same(other, dense, [*ids[:199], 9])
        with pytest.raises(EngineError, match="does not fit"):
            other.restore_state(state, ids[:-1])
        assert list(other.tokens) == []
        assert same(other, dense, [])


def test_a_conversation_taken_up_again_evaluates_little(dense, tmp_path):
    template = ChatTemplate(tiny_hybrid.TEMPLATE)
    todo = GenerateOptions(max_tokens=40, sampling=GREEDY, ignore_eos=True)
    with backends.open_session(dense, OPTIONS) as session:
        chat = Conversation(session, template, options=todo)
        "".join(chat.ask("Tell me of rivers and bread and a small robot in the rain."))
        chat_state.write(tmp_path / "chat.state", session, chat.spans)
        history = chat.history
    with backends.open_session(dense, OPTIONS) as session:
        chat = Conversation(session, template, options=todo)
        chat.restore(history)
        chat_state.restore(tmp_path / "chat.state", session, chat.spans)
        usage = chat.regenerate().completion.usage
        assert usage.n_prompt - usage.n_cached == checkpoints.BEFORE_END


def test_a_lengthened_state_is_gone_back_to_without_evaluating(dense):
    with backends.open_session(dense, OPTIONS) as session:
        session.eval(PROMPT[:8])
        session.stretch(600)
        assert len(session.tokens) == 600 and np.isfinite(session.eval([5])).all()
        assert session.reusable(600) == 600
        session.rewind(600)
        assert np.isfinite(session.eval([5])).all() and len(session.tokens) == 601


def test_where_one_went_back_to_one_goes_back_again(dense):
    with backends.open_session(dense, OPTIONS) as session:
        session.eval(PROMPT[:100])
        session.eval(PROMPT[100:200])
        assert session.reusable(150) == 0
        session.rewind(150)
        session.eval(PROMPT[150:300])
        assert session.reusable(150) == session.reusable(160) == 150


def test_states_of_a_branch_that_was_left_are_not_those_of_the_next(dense):
    options = EngineOptions(n_ctx=1024, n_threads=1, n_batch=64, n_ubatch=64, device="cpu")
    with backends.open_session(dense, options) as session:
        session.eval(PROMPT)
        assert session.reusable(300) == 256
        session.rewind(20)
        other = [(13 * i + 5) % 250 for i in range(300)]
        session.eval(other)
        session.rewind(270)
        assert same(session, dense, [*PROMPT[:20], *other[:250]])


@pytest.mark.parametrize("n_checkpoints", [0, 2])
def test_few_kept_states_cost_time_and_nothing_else(dense, n_checkpoints):
    options = EngineOptions(n_ctx=1024, n_threads=1, n_checkpoints=n_checkpoints, device="cpu")
    with backends.open_session(dense, options) as session:
        session.eval(PROMPT)
        session.rewind(390)
        assert same(session, dense, PROMPT[:390])


def test_sequences_with_an_adapter_on_the_weights(dense, tmp_path):
    path, rng = tmp_path / "lora.gguf", np.random.default_rng(3)
    writer = gguf.GGUFWriter(path, "qwen35")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 8.0)
    for name, n_out, n_in in (
        ("blk.0.ssm_out", 64, 64),
        ("blk.1.attn_q", 256, 64),
        ("blk.2.attn_qkv", 128, 64),
    ):
        writer.add_tensor(f"{name}.weight.lora_a", rng.standard_normal((4, n_in), np.float32) / 4)
        writer.add_tensor(f"{name}.weight.lora_b", rng.standard_normal((n_out, 4), np.float32) / 4)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    lora = (adapter.parse(str(path)),)
    with_it = EngineOptions(n_ctx=512, n_threads=1, device="cpu", lora=lora)
    with backends.open_session(dense, with_it) as one, backends.open_session(dense, OPTIONS) as other:
        assert sequences.difference(one.eval(PROMPT), other.eval(PROMPT)) > 1e-3
    for seed in range(3):
        sequences.run(dense, with_it, seed)
