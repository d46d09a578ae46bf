"""Cutting texts into chunks and scoring them, on a session whose logits are known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from fakes import N_VOCAB, ScriptedSession

from edgellm.errors import UsageError
from edgellm.generation import scoring
from edgellm.generation.scoring import Chunk


def collect(session, chunk):
    return [target for block in scoring.blocks(session, chunk) for target in block.targets.tolist()]


def test_chunks_are_whole_and_their_second_half_is_scored():
    chunks = scoring.text_chunks(ScriptedSession(), "abcdefghij", 4)
    assert [bytes(chunk.tokens) for chunk in chunks] == [b"abcd", b"efgh"]
    assert [chunk.first for chunk in chunks] == [3, 3]  # llama-perplexity scores positions n/2 to n-2
    assert chunks[0].n_scored == 1


def test_bos_takes_the_place_of_each_first_token():
    session = ScriptedSession()
    session.info = dataclasses.replace(session.info, add_bos=True)
    session.tokenize = lambda text, special=True, add_bos=False: [7] * add_bos + list(text.encode())
    chunks = scoring.text_chunks(session, "abcdefghij", 4)
    assert [chunk.tokens for chunk in chunks] == [(7, 97, 98, 99), (7, 101, 102, 103)]


def test_a_long_text_is_scored_in_windows_with_one_bos_each():
    """Each token once; the first of a later window gives way to the BOS token, and half a window is read before."""
    session = ScriptedSession(n_ctx=8)
    session.info = dataclasses.replace(session.info, add_bos=True)
    session.tokenize = lambda text, special=True, add_bos=False: [7] * add_bos + list(text.encode())
    found = scoring.score(session, "efghijklmn", after="abcd")
    assert len(found.log_probs) == 10 and None not in found.log_probs and found.n_bytes == 10
    assert [bytes(run) for run in session.evaluated] == [b"\x07abcdefg", b"\x07efghijk", b"\x07ijklmn"]


def test_a_text_too_short_is_refused():
    with pytest.raises(UsageError, match="3 tokens, fewer than one chunk of 4"):
        scoring.text_chunks(ScriptedSession(), "abc", 4)


@pytest.mark.parametrize("call_bytes", [1 << 20, 16 * 4 * N_VOCAB, 20 * 4 * N_VOCAB])
@pytest.mark.parametrize("block_bytes", [1 << 20, 8 * N_VOCAB, 24 * N_VOCAB])
def test_every_target_is_scored_once_however_it_is_cut(monkeypatch, call_bytes, block_bytes):
    monkeypatch.setattr(scoring, "CALL_BYTES", call_bytes)
    monkeypatch.setattr(scoring, "BLOCK_BYTES", block_bytes)
    session = ScriptedSession()
    chunk = Chunk(tuple(range(50)), 9)
    assert collect(session, chunk) == list(range(9, 50))
    assert collect(session, chunk) == list(range(9, 50))  # the cache is emptied first
    starts = [block.start for block in scoring.blocks(session, chunk)]
    assert starts[0] == 0 and sorted(starts) == starts


def test_equal_logits_give_the_uniform_distribution():
    (block,) = scoring.blocks(ScriptedSession(), Chunk((1, 2, 3), 1))
    np.testing.assert_allclose(scoring.target_log_probs(block), -np.log(N_VOCAB), rtol=1e-12)


def test_log_softmax_is_exact_for_large_and_small_logits():
    logits = np.array([[1000, 1000 + np.log(3), -1e30]], np.float32)
    np.testing.assert_allclose(np.exp(scoring.log_softmax(logits)), [[0.25, 0.75, 0]], atol=1e-4)
