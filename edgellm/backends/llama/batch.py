"""Several sequences in one llama.cpp context: the `Evaluator` behind continuous batching.

Each sequence has a stream of the KV cache of its own (`kv_unified` off): attention then looks at no other sequence's
cells. What two sequences begin with alike is copied from one stream to the other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from edgellm.backends import checks
from edgellm.backends.batching.evaluator import MOST_DRAFTED, Part
from edgellm.backends.batching.scheduler import Scheduler
from edgellm.backends.llama import lib as llama_lib
from edgellm.backends.llama import memory, memory_estimate, opening
from edgellm.backends.llama import options as llama_options
from edgellm.backends.llama.sequence import abort, outputs, recurrent
from edgellm.backends.llama.sequence.sampler import make_sampler
from edgellm.backends.llama.session import LlamaCppSession
from edgellm.backends.llama.vocabulary import Vocabulary
from edgellm.errors import EngineError
from edgellm.formats.gguf import reader
from edgellm.machine import devices, hardware
from edgellm.session import Cancel

if TYPE_CHECKING:
    from edgellm.backends.batching.engine import Engine
    from edgellm.formats.artifact import Artifact
    from edgellm.session import EngineOptions, Logits, Sampling, Session


_SHARE = 0.9  # of the memory there is, at most


def open_engine(artifact: Artifact, options: EngineOptions, n_slots: int) -> Engine:
    """Load `artifact` for at most `n_slots` sequences: as many as there is memory for. Raises EngineError."""
    batch = LlamaBatch(artifact, options, n_slots)
    return Scheduler(batch, cast("Session", batch))  # which has a session's vocabulary


class LlamaBatch:
    """Sequences 0 to `n_slots` - 1 of one context. Not thread-safe, but for `tokenize` and `piece`."""

    def __init__(self, artifact: Artifact, options: EngineOptions, n_slots: int) -> None:
        self._batch: Any = None
        self.model = self._context = None
        self.artifact, self._lib = artifact, llama_lib.load()
        notes: list[str] = []
        options, device = llama_options.resolve(artifact, options, notes)
        elsewhere = device.free_bytes or 0 if device is not None and device.kind == devices.RPC else 0
        self.n_slots = _affordable(artifact, options, n_slots, elsewhere, notes)
        lib = self._lib
        try:
            self.model = opening.load_model(lib, artifact, options, device)
            n_rows = self.n_slots * (1 + MOST_DRAFTED)
            self._context = opening.new_context(
                lib, self.model, artifact, options, n_sequences=self.n_slots, n_rows=n_rows
            )
            opening.apply_adapters(lib, self.model, self._context, options.lora)
        except BaseException:
            self.close()
            raise
        vocab = lib.llama_model_get_vocab(self.model)
        self._vocabulary = Vocabulary(lib, vocab, artifact.path, artifact.metadata, foreign=artifact.foreign)
        info = opening.describe(lib, self._context, self._vocabulary, artifact, options, device, notes)
        n_ctx = lib.llama_n_ctx_seq(self._context)
        self.info = replace(info, n_ctx=n_ctx, options=replace(info.options, n_ctx=n_ctx))
        self.n_batch = min(lib.llama_n_batch(self._context), lib.llama_n_ubatch(self._context))
        self._memory = lib.llama_get_memory(self._context)
        most = options.n_checkpoints or 0
        self._ways = [
            recurrent.way_back(lib, self.model, self._context, most, i) for i in range(self.n_slots)
        ]
        self.drafts = all(isinstance(way, recurrent.Cut) for way in self._ways)
        self._batch = lib.llama_batch_init(self.n_batch, 0, 1)
        self._interrupted = Cancel()
        self._flag = abort.heed(lib, self._context, self._interrupted)
        reader.forget()

    def tokenize(self, text: str, *, special: bool = True, add_bos: bool = False) -> list[int]:
        """Token ids of `text`; with `special`, control tokens written out become their ids."""
        return self._vocabulary.tokenize(text, special=special, add_bos=add_bos)

    def piece(self, token: int) -> bytes:
        """The bytes of a token, empty for control tokens."""
        checks.check_ids((token,), self.info)
        return self._vocabulary.piece(token)

    def evaluate(self, parts: Sequence[Part]) -> list[int]:
        """Append to the sequences, in one batch; the places in it of each part's first logits.

        The batch is in the order of slots: llama.cpp computes streams together where each follows the one before.
        """
        batch, n, rows = self._batch, 0, [0] * len(parts)
        for place in sorted(range(len(parts)), key=lambda i: parts[i].slot):
            slot, past, tokens, n_rows = parts[place]
            rows[place] = n + len(tokens) - n_rows
            for i, token in enumerate(tokens):
                batch.token[n], batch.pos[n], batch.n_seq_id[n], batch.seq_id[n][0] = token, past + i, 1, slot
                batch.logits[n] = i >= len(tokens) - n_rows
                n += 1
            if isinstance(way := self._ways[slot], recurrent.Recurrent):
                if n_rows and len(tokens) == 1:
                    way.grown(past)
                way.begin(past)
        batch.n_tokens = n
        self._interrupted.memory[0] = 0
        if code := self._lib.llama_decode(self._context, batch):
            raise abort.failure(code, f"{n} tokens of {len(parts)} sequences")
        for part in parts:
            if isinstance(way := self._ways[part.slot], recurrent.Recurrent):
                way.done()
        return rows

    def interrupt(self) -> None:
        """Stop at the next node of the graph. A wish that comes between two evaluations is forgotten."""
        self._interrupted.set()

    def logits(self, row: int) -> Logits:
        """A view of the engine's own buffer."""
        return outputs.logits(self._lib, self._context, row, self.info.n_vocab)

    def check(self, row: int) -> None:
        """Raise EngineError unless those logits are finite."""
        checks.check_finite(self.logits(row), self.info)

    def sampler(self, sampling: Sampling) -> Any:
        """llama.cpp's chain."""
        return make_sampler(self._lib, sampling, self.info.n_vocab)

    def sample(self, sampler: Any, row: int) -> int:
        """Draw from the logits of `row`."""
        token: int = self._lib.llama_sampler_sample(sampler, self._context, row)
        return token

    def free(self, sampler: Any) -> None:
        """Free the chain."""
        self._lib.llama_sampler_free(sampler)

    def reusable(self, slot: int, n: int) -> int:
        """How many of the first `n` tokens need no evaluation."""
        return self._ways[slot].reusable(n)

    def cut(self, slot: int, n: int) -> None:
        """Keep the first `n` tokens."""
        if self._ways[slot].back(n) != n:
            raise EngineError(f"this model's cache cannot go back to position {n}")

    def share(self, source: int, slot: int, n: int) -> None:
        """Copy the stream of `source` and cut the copy to `n` tokens."""
        lib, memory_ = self._lib, self._memory
        lib.llama_memory_seq_rm(memory_, slot, -1, -1)
        lib.llama_memory_seq_cp(memory_, source, slot, -1, -1)
        mine, theirs = self._ways[slot], self._ways[source]
        if isinstance(mine, recurrent.Recurrent) and isinstance(theirs, recurrent.Recurrent):
            mine.take_over(theirs, n)
        self.cut(slot, n)

    def pieces(self, slot: int, start: int, end: int) -> Iterator[tuple[int, bool]]:
        """All at once, but for the states of a recurrent model that are to be kept."""
        way = self._ways[slot]
        if isinstance(way, recurrent.Recurrent):
            return way.kept.pieces(start, end, end, turn=True)
        return iter([(end, False)])

    def keep(self, slot: int, n: int) -> None:
        """Keep a recurrent state."""
        way = self._ways[slot]
        assert isinstance(way, recurrent.Recurrent)
        way.keep(n)

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """One with a context of its own."""
        with LlamaCppSession(self.artifact, self.info.options, weights_of=self) as session:
            yield session

    def close(self) -> None:
        """Free context and weights. Idempotent."""
        if self._batch is not None:
            self._lib.llama_batch_free(self._batch)
        if self._context is not None:
            self._lib.llama_free(self._context)
        if self.model is not None:
            self._lib.llama_model_free(self.model)
        self.model = self._context = self._batch = None
        self._lib = self._vocabulary = checks.CLOSED


def needed_bytes(artifact: Artifact, options: EngineOptions, n_slots: int) -> float | None:
    """What a process that serves `artifact` so holds, as predicted; None where the header does not tell."""
    options = memory_estimate.with_defaults(
        replace(options, n_ctx=options.n_ctx or memory.default_ctx(artifact))
    )
    one, each = memory.peak_bytes(artifact, options), _slot_bytes(artifact, options)
    return None if one is None or each is None else one + (n_slots - 1) * each


def _slot_bytes(artifact: Artifact, options: EngineOptions) -> float | None:
    """Of one more sequence: its cache, its recurrent state and those kept of it."""
    per_token = memory_estimate.kv_bytes_per_token(artifact, options)
    if per_token is None:
        return None
    state = memory_estimate.state_bytes(artifact) or 0
    return (
        per_token * (options.n_ctx or 0) + state + (memory_estimate.checkpoint_bytes(artifact, options) or 0)
    )


def _affordable(
    artifact: Artifact, options: EngineOptions, n_slots: int, elsewhere: int, notes: list[str]
) -> int:
    """Of `n_slots`, those whose caches fit in memory beside the model: this machine's and `elsewhere`, in bytes."""
    each, one = _slot_bytes(artifact, options), memory.peak_bytes(artifact, options)
    if not each or one is None:
        return n_slots
    fit = 1 + max(0, int((_SHARE * (hardware.available_bytes() + elsewhere) - one) / each))
    if fit < n_slots:
        notes.append(
            f"{fit} of {n_slots} slots: the caches of more do not fit in memory; take a smaller -c for more slots"
        )
    return min(fit, n_slots)
