"""llama.cpp through its C API: no copy of logits, sampling in C, one Python call per token.

Knows tokens and logits. Does not know chat, stop strings or clocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from edgellm.backends import checks, steps
from edgellm.backends.llama import canary, devices, opening
from edgellm.backends.llama import lib as llama_lib
from edgellm.backends.llama import options as llama_options
from edgellm.backends.llama.sequence import abort, mtp, outputs, recurrent
from edgellm.backends.llama.sequence import state as llama_state
from edgellm.backends.llama.sequence.sampler import make_sampler
from edgellm.backends.llama.sequence.steps import LlamaStepper, Stream, make_stepper
from edgellm.backends.llama.vocabulary import Vocabulary
from edgellm.errors import EngineError
from edgellm.formats.artifact import Artifact
from edgellm.formats.gguf import reader
from edgellm.machine.devices import Offer
from edgellm.session import Cancel, Constraint, Drafter, EngineInfo, EngineOptions, Sampling, Session

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgellm.backends.llama.observe import Observer
    from edgellm.backends.llama.sequence.mtp import DraftHead
    from edgellm.session import Hidden, Logits


def open_session(artifact: Artifact, options: EngineOptions) -> Session:
    """Load `artifact`. Raises EngineError when llama.cpp refuses it."""
    return LlamaCppSession(artifact, options)


def prepare() -> None:
    """Load the library, and run its canary if this machine has not seen it."""
    llama_lib.load()
    canary.verdict()


def build() -> str:
    """Identifies the installed library."""
    return canary.library_key()


def offer() -> Offer:
    """The devices it can run on."""
    return devices.offer()


class LlamaCppSession:
    """One sequence in llama.cpp. Not thread-safe. `observer` sees the graph being computed (_llama_observe)."""

    def __init__(
        self,
        artifact: Artifact,
        options: EngineOptions,
        observer: Observer | None = None,
        weights_of: opening.Weights | None = None,
    ) -> None:
        self.model = self._context = None
        self.draft_head: DraftHead | None = None  # the model's own
        self._tokens: list[int] = []
        self._artifact, self._observer, self._weights_of = artifact, observer, weights_of
        self._stepper: LlamaStepper | None = None  # of the stream that last ran ahead
        self._cancel: Cancel | None = None  # of the stream that runs
        self._flag: object = None  # its memory, which llama.cpp looks at
        self._lib = lib = llama_lib.load()
        notes: list[str] = []
        options, device = llama_options.resolve(artifact, options, notes)
        try:
            load = opening.load_model
            self.model = weights_of.model if weights_of else load(lib, artifact, options, device)
            self._context = opening.new_context(lib, self.model, artifact, options, observer)
            opening.apply_adapters(lib, self.model, self._context, options.lora)
            self.draft_head = opening.draft_head(lib, self.model, self._context, artifact, options)
        except BaseException:
            self.close()
            raise
        vocab = lib.llama_model_get_vocab(self.model)
        self._vocabulary = Vocabulary(lib, vocab, artifact.path, artifact.metadata, foreign=artifact.foreign)
        self._memory = lib.llama_get_memory(self._context)
        self._way = recurrent.way_back(lib, self.model, self._context, options.n_checkpoints or 0)
        self._recurrent = self._way if isinstance(self._way, recurrent.Recurrent) else None
        # The library's word: it cuts batches to the context asked for, and aborts on a longer one.
        self._n_batch = min(lib.llama_n_batch(self._context), lib.llama_n_ubatch(self._context))
        self._buffer = (lib.llama_token * max(self._n_batch, 1))()
        self._info = opening.describe(lib, self._context, self._vocabulary, artifact, options, device, notes)
        reader.forget()

    def sibling(self, options: EngineOptions) -> LlamaCppSession:
        """Another session on the weights this one has loaded; close it first. Raises EngineError.

        What concerns the weights (device, layers on it, mmap, repacking) is this session's.
        """
        mine = self._info.options
        names = ("device", "n_gpu_layers", "use_mmap", "repack")
        shared = {name: getattr(mine, name) for name in names}
        return LlamaCppSession(
            self._artifact, replace(options, **shared), weights_of=self._weights_of or self
        )

    def stretch(self, n: int) -> None:
        """Lengthen the sequence by repeating what is cached: nonsense, for measuring. Raises EngineError."""
        self._settle()
        kept = list(self.tokens)
        state = llama_state.stretch(llama_state.read(self._lib, self._context), n)
        self.rewind(0)
        self._write_state(state, (kept * (-(-n // len(kept))))[:n])
        if self._recurrent is not None:
            self._recurrent.keep(n)

    @property
    def artifact(self) -> Artifact:
        """The model this session runs."""
        return self._artifact

    @property
    def info(self) -> EngineInfo:
        """Facts fixed at opening."""
        return self._info

    @property
    def tokens(self) -> Sequence[int]:
        """The ids in the KV cache. The cache's own word counts, so that an interrupt leaves it true."""
        if self._recurrent is not None:
            self._recurrent.mend(self._tokens)
            return self._tokens
        n = self._lib.llama_memory_seq_pos_max(self._memory, 0) + 1
        if n != len(self._tokens):
            del self._tokens[n:]
        return self._tokens

    def tokenize(self, text: str, *, special: bool = True, add_bos: bool = False) -> list[int]:
        """Token ids of `text`; with `special`, control tokens written out become their ids."""
        return self._vocabulary.tokenize(text, special=special, add_bos=add_bos)

    def piece(self, token: int) -> bytes:
        """The bytes of a token, empty for control tokens."""
        checks.check_ids((token,), self._info)
        return self._vocabulary.piece(token)

    def eval(self, tokens: Sequence[int]) -> Logits:
        """Append tokens; logits [n_vocab] after the last, a view valid until the next call."""
        self._append(tokens)
        logits = self._logits(-1)
        checks.check_finite(logits, self._info)
        return logits

    def eval_all(self, tokens: Sequence[int]) -> Logits:
        """Append tokens; logits [len(tokens), n_vocab], a copy."""
        return self._rows(tokens, self._logits, self._info.n_vocab, self._n_batch)

    def hidden(self, tokens: Sequence[int]) -> Hidden:
        """Append tokens; hidden states after the final norm [len(tokens), n_embd], a copy."""
        with outputs.with_states(self._lib, self._context):
            return self._states(tokens)

    def _states(self, tokens: Sequence[int]) -> Hidden:
        n_embd = self._lib.llama_model_n_embd(self.model)
        row = partial(outputs.embedding, self._lib, self._context, n_embd)
        return self._rows(tokens, row, n_embd, min(self._n_batch, outputs.N_STATES))

    def classify(self, tokens: Sequence[int]) -> dict[str, float]:
        """Append tokens; the classifier's outputs after the last, by label."""
        if len(tokens) > 1:
            self._append(tokens[:-1])
        with outputs.with_states(self._lib, self._context):
            self._append(tokens[-1:])
            return outputs.classified(self._lib, self.model, self._context)

    def stream(
        self,
        tokens: Sequence[int],
        sampling: Sampling,
        *,
        constraint: Constraint | None = None,
        drafter: Drafter | None = None,
        cancel: Cancel | None = None,
    ) -> Iterator[int]:
        """Append tokens, then yield sampled ids until the caller stops or the context is full."""
        self._heed(cancel)
        try:
            if constraint is not None or drafter is not None:
                yield from self._stream_steps(tokens, sampling, constraint, drafter)
            else:
                yield from self._stream_plain(tokens, sampling)
        finally:
            if self._cancel is cancel:  # no later stream has begun
                self._heed(None)

    def _heed(self, cancel: Cancel | None) -> None:
        if self._context is not None and self._cancel is not cancel:
            self._flag, self._cancel = abort.heed(self._lib, self._context, cancel), cancel

    def _stream_plain(self, tokens: Sequence[int], sampling: Sampling) -> Iterator[int]:
        self._append(tokens, turn=True)
        sampler = make_sampler(self._lib, sampling, self._info.n_vocab)
        lib, context, room = self._lib, self._context, self._info.n_ctx - len(self.tokens)
        sample, decode, one = lib.llama_sampler_sample, lib.llama_decode, self._buffer
        batch = lib.llama_batch_get_one(one, 1)
        try:
            self._check_logits()
            for _ in range(room):
                token = sample(sampler, context, -1)
                yield token
                if self._context is None:
                    self._check_stream()
                one[0] = token
                if self._recurrent is not None:
                    self._step(batch, token)
                else:
                    self._tokens.append(token)
                    if code := decode(context, batch):
                        raise abort.failure(code, f"at position {len(self._tokens)}")
                self._check_logits()
            yield sample(sampler, context, -1)
        finally:
            lib.llama_sampler_free(sampler)

    def _stream_steps(
        self,
        tokens: Sequence[int],
        sampling: Sampling,
        constraint: Constraint | None,
        drafter: Drafter | None,
    ) -> Iterator[int]:
        head = self.draft_head if getattr(drafter, "wants_head", False) else None
        try:
            self._read(tokens, head)
            sampler = make_sampler(self._lib, sampling, self._info.n_vocab)
            mine = (self._lib, self._context, sampler, self._tokens, self._info, self._n_batch)
            self._stepper = make_stepper(Stream(*mine, self._check_stream, head), self._recurrent)
            with self._stepper:
                room = self._info.n_ctx - len(self._tokens)
                yield from steps.draw(self._stepper, self, room, constraint, drafter)
        finally:
            if head is not None and self._context is not None:
                self._lib.llama_set_embeddings(self._context, False)

    def _read(self, tokens: Sequence[int], head: DraftHead | None) -> None:
        """Evaluate a prompt; the draft head sees the hidden states of its end, and of what follows."""
        last = tokens[-mtp.PROMPT :] if head is not None else ()
        if len(last) < len(tokens) or not last:
            self._append(tokens[: len(tokens) - len(last)], turn=True)
        if head is not None and last:
            head.begin(self._tokens)
            self._lib.llama_set_embeddings(self._context, True)
            head.put(len(self.tokens), self._states(last))

    def _settle(self) -> None:
        """Cut the cache back to the sequence, where a stream was left running ahead."""
        if self._stepper is not None:
            self._stepper.settle()
            self._stepper = None

    def rewind(self, n: int) -> None:
        """Keep the first `n` tokens."""
        self._settle()
        checks.check_rewind(n, len(self.tokens))
        if n < len(self._tokens):
            position = self._way.back(n)
            again = self._tokens[position:n]
            del self._tokens[position:]
            if again:
                self._append(again)
                self._way.returned(position, n)

    def reusable(self, n: int) -> int:
        """How many of the first `n` tokens a rewind keeps as they are."""
        self._settle()
        return n if n >= len(self.tokens) else self._way.reusable(n)

    def save_state(self) -> bytes:
        """The sequence's state as llama.cpp serialises it, and which version of it did."""
        self._settle()
        state = llama_state.read(self._lib, self._context)
        saved = self._recurrent.saved() if self._recurrent is not None else ()
        return llama_state.pack(self._info.version, state, saved)

    def restore_state(self, state: bytes, tokens: Sequence[int]) -> None:
        """Put back what `save_state` gave. Only for bytes known to be intact: llama.cpp trusts them."""
        state, saved = llama_state.unpack(self._info.version, state)
        self._write_state(state, tokens)
        if self._recurrent is not None:
            self._recurrent.restore(saved)

    def _write_state(self, state: bytes, tokens: Sequence[int]) -> None:
        self._settle()
        self._tokens = []
        llama_state.write(self._lib, self._context, state, len(tokens))
        self._tokens = list(tokens)

    def close(self) -> None:
        """Free the engine. Idempotent."""
        if self._context is not None:
            self._settle()
            if self.draft_head is not None:
                self.draft_head.close()
            self._lib.llama_free(self._context)
            self._context = None
        if self.model is not None:
            if self._weights_of is None:
                self._lib.llama_model_free(self.model)
            self.model = None
        self._lib = self._vocabulary = checks.CLOSED

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def _append(self, tokens: Sequence[int], *, turn: bool = False) -> None:
        """Evaluate `tokens`; with `turn`, an answer follows, which the sequence may go back behind."""
        self._settle()
        checks.check_tokens(tokens, len(self.tokens), self._info)
        lib, buffer = self._lib, self._buffer
        for chunk in self._chunks(tokens, self._n_batch, turn=turn):
            self._check_stream()  # not every device asks while it computes
            buffer[: len(chunk)] = chunk
            self._decode(lib.llama_batch_get_one(buffer, len(chunk)), chunk)
        if turn and self._recurrent is not None:
            abort.heed(lib, self._context, None)  # a state does not survive being ended half-way

    def _check_stream(self) -> None:
        if self._context is None:
            raise EngineError("this session was closed while it answered; open the model again")
        if self._cancel is not None:
            self._cancel.check(len(self._tokens))

    def _chunks(self, tokens: Sequence[int], n_batch: int, *, turn: bool = False) -> Iterator[Sequence[int]]:
        """`tokens` in batches; between them, a recurrent state is kept where it is due."""
        if self._recurrent is not None:
            yield from self._recurrent.chunks(tokens, len(self._tokens), n_batch, turn=turn)
        else:
            yield from (tokens[start : start + n_batch] for start in range(0, len(tokens), n_batch))

    def _step(self, batch: Any, token: int) -> None:
        """Evaluate a drawn token of a recurrent model."""
        assert self._recurrent is not None
        self._check_stream()
        self._decode(batch, (token,))
        self._recurrent.grown(len(self._tokens))

    def _decode(self, batch: Any, chunk: Sequence[int]) -> None:
        if self._recurrent is not None:
            self._recurrent.begin(len(self._tokens))
        self._tokens.extend(chunk)
        code = self._lib.llama_decode(self._context, batch)
        if self._recurrent is not None and not code:
            self._recurrent.done()
        if self._observer is not None:
            self._observer.check()
        if code:
            done = len(self.tokens)  # the cache's word: drops what was not decoded
            why = "the KV cache is full" if code == 1 else f"code {code}"
            raise abort.failure(code, f"{len(chunk)} tokens at position {done}: {why}")

    def _rows(
        self, tokens: Sequence[int], row: Callable[[int], Logits], width: int, n_batch: int
    ) -> npt.NDArray[np.float32]:
        """Append tokens, with an output for every one; `row(i)` views the i-th of the last batch."""
        import numpy as np

        self._settle()
        checks.check_tokens(tokens, len(self.tokens), self._info)
        out = np.empty((len(tokens), width), np.float32)
        batch = self._lib.llama_batch_init(n_batch, 0, 1)
        try:
            start = 0
            for chunk in self._chunks(tokens, n_batch):
                outputs.fill(batch, len(self.tokens), chunk)
                self._decode(batch, chunk)
                for i in range(len(chunk)):
                    out[start + i] = row(i)
                checks.check_finite(out[start : start + len(chunk)], self._info)
                start += len(chunk)
        finally:
            self._lib.llama_batch_free(batch)
        return out

    def _logits(self, index: int) -> Logits:
        return outputs.logits(self._lib, self._context, index, self._info.n_vocab)

    def _check_logits(self) -> None:
        """Raise EngineError unless the last logits can be drawn from."""
        outputs.check_finite(self._lib, self._context, -1, self._info)
