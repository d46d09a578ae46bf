"""The compact reference file: how near its divergence is to the exact one, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgellm.errors import ArtifactError, OutputExistsError
from edgellm.generation.scoring import Block, Chunk, log_softmax
from edgellm.profiles.quality import reference_logits
from edgellm.profiles.quality.reference_logits import CompactReference, Source, create, is_reference

LARGE = 151_936  # Qwen2.5's vocabulary


def source(n_vocab: int) -> Source:
    return Source("m", "F16", "0" * 64, "text", "1" * 64, n_vocab)


def peaked(n: int, n_vocab: int, rng: np.random.Generator) -> np.ndarray:
    """Logits as language models have them: a wide bulk, and up to 200 likely tokens that stand out, or hardly do.

    Entropies go from under 0.1 to about 10 nats, so the mass outside the 256 likeliest from 1e-5 to 0.6.
    """
    logits = rng.normal(0, 2.2, (n, n_vocab))
    for row in logits:
        likely = rng.choice(n_vocab, rng.integers(1, min(200, n_vocab // 2)), replace=False)
        row[likely] = rng.uniform(12, 24) - rng.exponential(3, len(likely))
    return logits.astype(np.float32)


def divergences(path: Path, p: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Exact and compact divergence of each position of logits `q` from `p`."""
    n, n_vocab = p.shape
    chunk = Chunk((0, *range(1, n + 1)), 1)
    log_p, log_q = log_softmax(p), log_softmax(q)
    with create(path, [chunk], source(n_vocab), force=True) as writer:
        for start in range(0, n, 16):
            writer.add(
                Block(0, start, np.arange(start + 1, min(n, start + 16) + 1), log_p[start : start + 16])
            )
    reference = CompactReference(path)
    targets = np.arange(1, n + 1)
    found = reference.compare(Block(0, 0, targets, log_q))
    np.testing.assert_array_equal(found.same_top, log_p.argmax(axis=1) == log_q.argmax(axis=1))
    np.testing.assert_allclose(found.log_p_target, log_p[np.arange(n), targets], rtol=1e-6)
    return (np.exp(log_p) * (log_p - log_q)).sum(axis=1), found.kld


@pytest.mark.parametrize("noise", [0.02, 0.2, 1.0])  # mean KLD 2e-4, 2e-2, 0.5: as Q8_0, Q4_0, Q2_K
def test_within_two_percent_at_a_large_vocabulary_in_under_two_percent_of_the_size(noise, tmp_path):
    rng = np.random.default_rng(0)
    p = peaked(32, LARGE, rng)
    q = p + noise * rng.normal(0, 1, p.shape).astype(np.float32)
    exact, compact = divergences(tmp_path / "ref", p, q)
    assert compact.mean() == pytest.approx(exact.mean(), rel=0.02)
    assert np.median(compact) == pytest.approx(np.median(exact), rel=0.04)
    assert (tmp_path / "ref").stat().st_size <= 0.02 * reference_logits.full_bytes(32, LARGE)


def test_the_tails_estimate_has_no_bias(monkeypatch, tmp_path):
    """With hardly anything in the top, everything hangs on the drawn tokens."""
    monkeypatch.setattr(reference_logits, "TOP", 4)
    rng = np.random.default_rng(1)
    p = np.repeat(rng.normal(0, 2, (1, 3000)), 2000, axis=0).astype(np.float32)
    q = p + np.repeat(rng.normal(0, 0.7, (1, 3000)), 2000, axis=0).astype(np.float32)
    exact, compact = divergences(tmp_path / "ref", p, q)
    error = compact.std() / np.sqrt(len(compact))
    assert compact.mean() == pytest.approx(exact.mean(), abs=4 * error)
    assert error < 0.01 * exact.mean()


def test_without_the_tails_part_it_would_be_too_low(monkeypatch, tmp_path):
    """The file's first two terms alone are a lower bound, and for flat distributions a poor one."""
    rng = np.random.default_rng(2)
    p = rng.normal(0, 1, (16, 20_000)).astype(np.float32)
    q = p + 0.5 * rng.normal(0, 1, p.shape).astype(np.float32)
    exact, compact = divergences(tmp_path / "ref", p, q)
    monkeypatch.setattr(np, "expm1", lambda x: x)  # r - 1 - ln r becomes 0
    bound = divergences(tmp_path / "ref", p, q)[1]
    assert (bound < compact).all() and bound.mean() < 0.5 * exact.mean()
    assert compact.mean() == pytest.approx(exact.mean(), rel=0.1)


def test_a_small_vocabulary_is_kept_whole(tmp_path):
    rng = np.random.default_rng(3)
    p = rng.normal(0, 3, (40, 200)).astype(np.float32)
    q = p + 0.1 * rng.normal(0, 1, p.shape).astype(np.float32)
    exact, compact = divergences(tmp_path / "ref", p, q)
    np.testing.assert_allclose(compact, exact, rtol=0.02, atol=1e-6)


@pytest.mark.parametrize("n_vocab", [1 << 16, (1 << 16) + 1, 128_256])
def test_token_ids_beyond_sixteen_bits_are_kept_whole(n_vocab, tmp_path):
    """Llama 3's vocabulary: a likeliest token of an id that would fit no sixteen bits is the likeliest still."""
    p = np.random.default_rng(1).normal(0, 1, (4, n_vocab)).astype(np.float32)
    p[:, n_vocab - 1] = 20
    q = p.copy()
    q[2:, n_vocab - 1] = -20
    exact, compact = divergences(tmp_path / "ref", p, q)
    assert compact == pytest.approx(exact, rel=0.02, abs=1e-6) and compact[3] > 10


def test_a_model_does_not_diverge_from_itself(tmp_path):
    p = peaked(64, 5000, np.random.default_rng(4))
    exact, compact = divergences(tmp_path / "ref", p, p)
    assert exact.max() < 1e-12
    assert (compact >= 0).all() and compact.max() < 1e-6


def test_a_tail_of_no_mass_adds_nothing(tmp_path):
    p = np.full((2, 1000), -200, np.float32)
    p[:, 7] = 0
    exact, compact = divergences(tmp_path / "ref", p, p + np.float32(1))
    np.testing.assert_allclose(compact, exact, atol=1e-9)


def test_it_keeps_the_chunks_and_where_it_comes_from(tmp_path):
    chunks = [Chunk((5, 1, 2, 3), 2), Chunk((5, 4, 0), 1)]
    logits = np.random.default_rng(5).normal(0, 1, (4, 300)).astype(np.float32)
    with create(tmp_path / "ref", chunks, source(300)) as writer:
        writer.add(Block(1, 0, np.array([4, 0]), log_softmax(logits[2:])))
        writer.add(Block(0, 0, np.array([2, 3]), log_softmax(logits[:2])))
    reference = CompactReference(tmp_path / "ref")
    assert reference.chunks == chunks and reference.source == source(300)
    same = reference.compare(Block(1, 0, np.array([4, 0]), log_softmax(logits[2:])))
    assert same.kld.max() < 1e-6 and same.same_top.all()


def test_safetensors_reads_it(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    divergences(tmp_path / "ref", *2 * [peaked(8, 5000, np.random.default_rng(6))])
    arrays = safetensors.load_file(tmp_path / "ref")
    assert arrays["top_ids"].shape == (8, reference_logits.TOP)
    assert arrays["tail_ids"].shape == (8, reference_logits.TAIL)


def test_nothing_is_left_when_making_it_fails_and_nothing_is_replaced_unasked(tmp_path):
    with pytest.raises(ZeroDivisionError), create(tmp_path / "ref", [Chunk((1, 2), 1)], source(300)):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "ref").write_text("mine")
    with pytest.raises(OutputExistsError), create(tmp_path / "ref", [Chunk((1, 2), 1)], source(300)):
        pass
    assert (tmp_path / "ref").read_text() == "mine"


def damage(data: bytes, what: str) -> bytes:
    return {
        "cut": data[:-1],
        "empty": b"",
        "not json": data[:8] + b"x" + data[9:],
        "huge header": b"\xff" * 8 + data[8:],
        "other kind": data.replace(b"reference logits 1", b"reference logits 9"),
        "other shape": data.replace(b'"shape": [8, 256]', b'"shape": [9, 256]', 1),
        "other type": data.replace(b'"U16"', b'"U32"', 1),
        "no model": data.replace(b'"model_sha256"', b'"modal_sha256"'),
        "other vocabulary": data.replace(b'"n_vocab": "5000"', b'"n_vocab": "70"  '),
        "chunk outside": data.replace(
            np.array([9, 1], np.uint32).tobytes(), np.array([99, 1], np.uint32).tobytes(), 1
        ),
    }[what]


WHAT = ("cut", "empty", "not json", "huge header", "other kind", "other shape", "other type")
MORE = ("no model", "other vocabulary", "chunk outside")


@pytest.mark.parametrize("what", WHAT + MORE)
def test_a_damaged_file_is_refused_in_one_line(what, tmp_path):
    divergences(tmp_path / "ref", *2 * [peaked(8, 5000, np.random.default_rng(7))])
    whole = (tmp_path / "ref").read_bytes()
    broken = damage(whole, what)
    assert broken != whole
    (tmp_path / "broken").write_bytes(broken)
    with pytest.raises(ArtifactError, match="broken: is") as raised:
        CompactReference(tmp_path / "broken")
    assert "\n" not in str(raised.value)


def test_a_reference_file_is_told_from_a_model(tmp_path):
    divergences(tmp_path / "ref", *2 * [peaked(8, 5000, np.random.default_rng(8))])
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + bytes(300))
    assert is_reference(tmp_path / "ref")
    assert not is_reference(tmp_path / "model.gguf") and not is_reference(tmp_path / "missing")
