"""How good a model is at a text, and how far from a reference: perplexity, bits per byte, divergence.

Any `Session` will do, so figures of two engines compare. Memory stays bounded: log-probabilities come in blocks
(edgellm/generation/scoring.py), and only a few numbers a position are kept. Names as in llama-perplexity (llama.cpp,
tools/perplexity). Bits per byte (-log2 of the probability of the text over its UTF-8 bytes) compares models whose
tokens differ, where perplexity does not.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edgellm.errors import UsageError
from edgellm.generation.scoring import Block, Chunk, blocks, target_log_probs
from edgellm.profiles.quality.reference_logits import CompactReference, Comparison, Source
from edgellm.profiles.result import quality_stats
from edgellm.profiles.result.quality_stats import Blocks, Estimate, Floats
from edgellm.session import Session

_LN2 = math.log(2)


class Reference(Protocol):
    """What a model is held against."""

    def compare(self, block: Block) -> Comparison:
        """The reference at the positions of `block`; blocks come in order."""
        ...


class Sink(Protocol):
    """Takes what the model said, block by block."""

    def add(self, block: Block) -> None:
        """Keep one block."""
        ...


@dataclass(frozen=True)
class Divergence:
    """A model against a reference. KLD in nats, of the model from the reference; delta_p as probabilities."""

    perplexity: Estimate  # of the reference
    perplexity_ratio: Estimate  # the model's over the reference's
    kld_mean: Estimate
    kld_median: Estimate
    kld_99: Estimate
    kld_999: Estimate
    kld_max: float  # of this text: a longer one has a larger
    kld_max_error: float | None  # its spread over resampled blocks; the largest of them all is never exceeded
    same_top: Estimate  # share of positions whose likeliest token is the same
    delta_p_mean: Estimate  # probability of the token that came: the model's less the reference's
    delta_p_rms: Estimate


@dataclass(frozen=True)
class Quality:
    """A model on a text."""

    n_chunks: int
    n_tokens: int  # scored
    n_bytes: int  # that these tokens stand for; control tokens stand for none
    perplexity: Estimate
    bits_per_byte: Estimate | None  # None: the scored tokens stand for no text
    divergence: Divergence | None
    chunk_bits: tuple[float, ...] = ()  # of each chunk's scored text
    chunk_bytes: tuple[int, ...] = ()


class LiveReference:
    """Another session, evaluated in step: exact, at the price of two models in memory."""

    def __init__(self, session: Session, chunks: Sequence[Chunk]) -> None:
        self._session, self._chunks = session, chunks
        self._blocks: Iterator[Block] = iter(())

    def compare(self, block: Block) -> Comparison:
        """The divergence in full."""
        if block.start == 0:
            self._blocks = blocks(self._session, self._chunks[block.chunk], block.chunk)
        own = next(self._blocks)
        log_p, log_q = own.log_probs, block.log_probs
        return Comparison(
            (np.exp(log_p) * (log_p - log_q)).sum(axis=1),
            log_p.argmax(axis=1) == log_q.argmax(axis=1),
            target_log_probs(own),
        )


def live_reference(reference: Session, model: Session, chunks: Sequence[Chunk]) -> LiveReference:
    """A reference session for `model`'s chunks. Raises UsageError when their tokens do not mean the same."""
    _check_vocabularies(
        model, chunks, reference.info.n_vocab, tokenizer_sha256(reference, chunks), reference.artifact.name
    )
    return LiveReference(reference, chunks)


def compact_reference(reference: CompactReference, model: Session) -> CompactReference:
    """A reference file for `model`. Raises UsageError when their tokens do not mean the same."""
    source = reference.source
    _check_vocabularies(model, reference.chunks, source.n_vocab, source.tokenizer_sha256, source.model)
    return reference


def source_of(session: Session, chunks: Sequence[Chunk], text: str) -> Source:
    """What a reference file made from `session` says of itself."""
    artifact = session.artifact
    return Source(
        artifact.name,
        artifact.quantization,
        artifact.sha256,
        text,
        tokenizer_sha256(session, chunks),
        session.info.n_vocab,
    )


def tokenizer_sha256(session: Session, chunks: Sequence[Chunk]) -> str:
    """Over the ids in `chunks` and the bytes they stand for: equal where the chunks mean the same text."""
    digest = hashlib.sha256()
    n_vocab = session.info.n_vocab
    for token in sorted({token for chunk in chunks for token in chunk.tokens}):
        piece = session.piece(token) if token < n_vocab else b"?"
        digest.update(b"%d %d " % (token, len(piece)) + piece)
    return digest.hexdigest()


def evaluate(
    session: Session,
    chunks: Sequence[Chunk],
    *,
    reference: Reference | None = None,
    sink: Sink | None = None,
    report: Callable[[int], None] | None = None,
) -> Quality:
    """Evaluate `chunks`; `report` gets the number done after each. Raises EngineError, UsageError."""
    if not sum(chunk.n_scored for chunk in chunks):
        raise UsageError("the text has no token to score; give a longer one")
    log_q: list[Floats] = []
    compared: list[Comparison] = []
    for index, chunk in enumerate(chunks):
        for block in blocks(session, chunk, index):
            log_q.append(target_log_probs(block))
            if reference:
                compared.append(reference.compare(block))
            if sink:
                sink.add(block)
        if report:
            report(index + 1)
    return _summarize(session, chunks, np.concatenate(log_q), compared)


def _summarize(
    session: Session, chunks: Sequence[Chunk], log_q: Floats, compared: Sequence[Comparison]
) -> Quality:
    ids = quality_stats.block_ids([chunk.n_scored for chunk in chunks])
    n_bytes = np.array(
        [len(session.piece(token)) for chunk in chunks for token in chunk.tokens[chunk.first :]], dtype=float
    )
    of_chunk = np.repeat(np.arange(len(chunks)), [chunk.n_scored for chunk in chunks])
    bits = quality_stats.ratio(-log_q / _LN2, n_bytes, ids) if n_bytes.any() else None
    return Quality(
        n_chunks=len(chunks),
        n_tokens=len(log_q),
        n_bytes=int(n_bytes.sum()),
        perplexity=quality_stats.exponential(quality_stats.mean(-log_q, ids)),
        bits_per_byte=bits,
        chunk_bits=tuple(np.bincount(of_chunk, -log_q / _LN2, len(chunks)).tolist()),
        chunk_bytes=tuple(np.bincount(of_chunk, n_bytes, len(chunks)).astype(int).tolist()),
        divergence=_diverge(log_q, compared, ids) if compared else None,
    )


def _diverge(log_q: Floats, compared: Sequence[Comparison], ids: Blocks) -> Divergence:
    kld = np.concatenate([each.kld for each in compared])
    same = np.concatenate([each.same_top for each in compared]).astype(float)
    log_p = np.concatenate([each.log_p_target for each in compared])
    delta = np.exp(log_q) - np.exp(log_p)
    median, percentile_99, percentile_999, largest = quality_stats.quantiles(
        kld, [0.5, 0.99, 0.999, 1.0], ids
    )
    return Divergence(
        perplexity=quality_stats.exponential(quality_stats.mean(-log_p, ids)),
        perplexity_ratio=quality_stats.exponential(quality_stats.mean(log_p - log_q, ids)),
        kld_mean=quality_stats.mean(kld, ids),
        kld_median=median,
        kld_99=percentile_99,
        kld_999=percentile_999,
        kld_max=largest.value,
        kld_max_error=largest.error,
        same_top=quality_stats.mean(same, ids),
        delta_p_mean=quality_stats.mean(delta, ids),
        delta_p_rms=quality_stats.root(quality_stats.mean(np.square(delta), ids)),
    )


def _check_vocabularies(
    model: Session, chunks: Sequence[Chunk], n_vocab: int, tokenizer: str, name: str
) -> None:
    own = model.artifact.name
    if model.info.n_vocab != n_vocab:
        raise UsageError(
            f"{own} has {model.info.n_vocab} tokens and {name} has {n_vocab}: there is no divergence between "
            f"different vocabularies; compare their bits per byte instead"
        )
    if tokenizer_sha256(model, chunks) != tokenizer:
        raise UsageError(
            f"the tokens of {own} and {name} stand for different texts: there is no divergence between them; "
            f"compare their bits per byte instead"
        )
