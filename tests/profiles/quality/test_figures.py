"""Quality figures on sessions whose probabilities are known."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from fakes import EOS, N_VOCAB, ScriptedSession

from edgellm.errors import UsageError
from edgellm.generation import scoring
from edgellm.generation.scoring import Chunk
from edgellm.profiles.quality import dialogues, quality, reference_logits
from edgellm.profiles.quality.reference_logits import CompactReference


class Biased(ScriptedSession):
    """Prefers each token's successor by `strength`, plus noise that depends on the token alone."""

    def __init__(self, strength: float, noise: float = 0.0, seed: int = 0) -> None:
        super().__init__()
        self.strength = strength
        self.noise = noise * np.random.default_rng(seed).normal(0, 1, (N_VOCAB, N_VOCAB)).astype(np.float32)

    def eval_all(self, tokens):
        logits = super().eval_all(tokens)
        for row, token in enumerate(tokens):
            logits[row] += self.noise[token]
            logits[row, (token + 1) % N_VOCAB] += self.strength
        return logits


TEXT = bytes(range(97, 123)) * 8
CHUNKS = [Chunk(tuple(TEXT[i : i + 26]), 1) for i in range(0, len(TEXT), 26)]


def test_a_model_that_knows_nothing():
    found = quality.evaluate(ScriptedSession(), CHUNKS)
    assert found.perplexity.value == pytest.approx(N_VOCAB)
    assert found.perplexity.error == pytest.approx(0, abs=1e-9)
    assert found.bits_per_byte.value == pytest.approx(math.log2(N_VOCAB))
    assert (found.n_chunks, found.n_tokens, found.n_bytes) == (8, 200, 200)
    assert found.divergence is None


def test_a_model_that_knows_the_alphabet():
    p = math.e**3 / (math.e**3 + N_VOCAB - 1)
    assert quality.evaluate(Biased(3), CHUNKS).perplexity.value == pytest.approx(1 / p, rel=1e-6)


def test_bits_per_byte_do_not_depend_on_the_tokens():
    """Two letters a token, with the square of one letter's probability: another perplexity, the same bits."""

    class Pairs(ScriptedSession):
        def piece(self, token: int) -> bytes:
            return b"xy"

        def eval_all(self, tokens):
            logits = np.full((len(tokens), N_VOCAB), -100.0, np.float32)
            logits[:, :256] = np.log(1 / 16)  # each of 16 pairs
            logits[:, 16:] = -100
            return logits

    class Letters(Pairs):
        def piece(self, token: int) -> bytes:
            return b"x"

        def eval_all(self, tokens):
            logits = super().eval_all(tokens)
            logits[:, 4:] = -100
            return logits

    pairs = quality.evaluate(Pairs(), [Chunk((1, 2, 3, 4, 5), 1)])
    letters = quality.evaluate(Letters(), [Chunk((1, 2, 3, 1, 2, 3, 1, 2, 3), 1)])
    assert pairs.perplexity.value == pytest.approx(16) and letters.perplexity.value == pytest.approx(4)
    assert pairs.bits_per_byte.value == pytest.approx(2) == letters.bits_per_byte.value


def test_control_tokens_cost_bits_and_stand_for_no_bytes():
    found = quality.evaluate(ScriptedSession(), [Chunk((97, 98, EOS), 1)])
    assert found.n_tokens == 2 and found.n_bytes == 1
    assert found.bits_per_byte.value == pytest.approx(2 * math.log2(N_VOCAB))
    assert quality.evaluate(ScriptedSession(), [Chunk((97, EOS), 1)]).bits_per_byte is None


def test_divergence_by_hand():
    model, other = Biased(2, 0.5, seed=1), Biased(4)
    found = quality.evaluate(model, CHUNKS, reference=quality.live_reference(other, model, CHUNKS)).divergence
    log_p = scoring.log_softmax(np.concatenate([Biased(4).eval_all(chunk.tokens[:-1]) for chunk in CHUNKS]))
    log_q = scoring.log_softmax(
        np.concatenate([Biased(2, 0.5, seed=1).eval_all(chunk.tokens[:-1]) for chunk in CHUNKS])
    )
    targets = np.concatenate([chunk.tokens[1:] for chunk in CHUNKS])
    kld = (np.exp(log_p) * (log_p - log_q)).sum(axis=1)
    rows = np.arange(len(targets))
    delta = np.exp(log_q[rows, targets]) - np.exp(log_p[rows, targets])
    assert found.kld_mean.value == pytest.approx(kld.mean())
    assert found.kld_median.value == pytest.approx(np.median(kld))
    assert found.kld_99.value == pytest.approx(np.quantile(kld, 0.99))
    assert found.kld_999.value == pytest.approx(np.quantile(kld, 0.999))
    assert found.kld_max == pytest.approx(kld.max())
    assert found.kld_max_error is not None and 0 <= found.kld_max_error < kld.max()
    assert found.same_top.value == np.mean(log_p.argmax(axis=1) == log_q.argmax(axis=1))
    assert found.delta_p_mean.value == pytest.approx(delta.mean())
    assert found.delta_p_rms.value == pytest.approx(np.sqrt(np.mean(delta**2)))
    nll = -log_q[rows, targets] + log_p[rows, targets]
    assert found.perplexity_ratio.value == pytest.approx(np.exp(nll.mean()))


def test_a_model_is_no_distance_from_itself():
    model = Biased(2, 1.0)
    found = quality.evaluate(model, CHUNKS, reference=quality.live_reference(Biased(2, 1.0), model, CHUNKS))
    assert found.divergence.kld_max == pytest.approx(0, abs=1e-12)
    assert found.divergence.same_top.value == 1 and found.divergence.perplexity_ratio.value == 1


def test_a_file_and_a_live_reference_agree(tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "BLOCK_BYTES", 7 * 8 * N_VOCAB)
    monkeypatch.setattr(scoring, "CALL_BYTES", 17 * 4 * N_VOCAB)
    other, model = Biased(4, 0.3), Biased(4, 0.4, seed=2)
    other.artifact = dataclasses.replace(other.artifact, path=tmp_path / "model.gguf")
    other.artifact.path.write_bytes(b"x")
    path = tmp_path / "ref"
    with reference_logits.create(path, CHUNKS, quality.source_of(other, CHUNKS, "letters")) as sink:
        quality.evaluate(other, CHUNKS, sink=sink)
    reference = quality.compact_reference(CompactReference(path), model)
    compact = quality.evaluate(model, reference.chunks, reference=reference).divergence
    live = quality.evaluate(model, CHUNKS, reference=quality.live_reference(other, model, CHUNKS)).divergence
    assert compact.kld_mean.value == pytest.approx(live.kld_mean.value, rel=0.01)
    assert compact.same_top == live.same_top
    assert compact.delta_p_mean.value == pytest.approx(live.delta_p_mean.value, abs=1e-6)
    assert reference.source.text == "letters" and len(reference.source.model_sha256) == 64


def test_different_tokens_are_refused():
    model, other = ScriptedSession(), ScriptedSession()
    other.piece = lambda token: b"?"
    with pytest.raises(UsageError, match=r"stand for different texts.*bits per byte"):
        quality.live_reference(other, model, CHUNKS)
    other = ScriptedSession()
    other.info = dataclasses.replace(other.info, n_vocab=300)
    with pytest.raises(UsageError, match="257 tokens and scripted has 300"):
        quality.live_reference(other, model, CHUNKS)


def test_nothing_to_score_is_refused():
    with pytest.raises(UsageError, match="no token to score"):
        quality.evaluate(ScriptedSession(), [Chunk((1,), 1)])


def test_dialogues_take_turns_and_fit_the_context():
    session = ScriptedSession(n_ctx=150)
    found = dialogues.chunks(session, lambda messages: str(len(messages)) + messages[-1]["content"], 50)
    assert all(2 <= len(chunk.tokens) <= 150 and chunk.first == 1 for chunk in found)
    names = [item.task for item in dialogues._by_turns()[:14]]
    assert len(set(names[:7])) == 7 and names[:7] == names[7:]
    plain = dialogues.chunks(ScriptedSession(), None, 1)[0]
    assert bytes(plain.tokens).startswith(b"User: ") and b"\nAssistant: " in bytes(plain.tokens)
    with pytest.raises(UsageError, match="no dialogue fits"):
        dialogues.chunks(ScriptedSession(n_ctx=5), None)
