"""llama.cpp through its C API: no copy of logits, sampling in C, one Python call per token.

Knows tokens and logits. Does not know chat, stop strings or clocks.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgellm.backends import checks, steps
from edgellm.backends.llama import abort, canary, devices, opening
from edgellm.backends.llama import lib as llama_lib
from edgellm.backends.llama import options as llama_options
from edgellm.backends.llama import state as llama_state
from edgellm.backends.llama.sampler import make_sampler
from edgellm.backends.llama.steps import LlamaStepper
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
    from edgellm.session import Hidden, Logits

FORMAT = "gguf"

_HIDDEN_BATCH = (
    64  # tokens at once for hidden states: llama.cpp computes and keeps the logits of each as well
)


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
        weights_of: LlamaCppSession | None = None,
    ) -> None:
        self._model = self._context = None
        self._tokens: list[int] = []
        self._artifact, self._observer, self._weights_of = artifact, observer, weights_of
        self._stepper: LlamaStepper | None = None  # of the stream that last ran ahead
        self._cancel: Cancel | None = None  # of the stream that runs
        self._flag: object = None  # its memory, which llama.cpp looks at
        self._lib = lib = llama_lib.load()
        notes: list[str] = []
        options, device = llama_options.resolve(artifact, options, notes)
        try:
            self._model = (
                weights_of._model if weights_of else opening.load_model(lib, artifact, options, device)
            )
            self._context = opening.new_context(lib, self._model, artifact, options, observer)
            opening.apply_adapters(lib, self._model, self._context, options.lora)
        except BaseException:
            self.close()
            raise
        vocab = lib.llama_model_get_vocab(self._model)
        self._vocabulary = Vocabulary(lib, vocab, artifact.path, artifact.metadata, foreign=artifact.foreign)
        self._memory = lib.llama_get_memory(self._context)
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
        """Lengthen the sequence to `n` tokens by repeating what is cached: nonsense, for measuring alone.

        Raises EngineError where the library keeps its state in a layout that is not known here.
        """
        if self._recurrent:
            raise EngineError(
                "a recurrent state has one size, however long the text: it cannot be lengthened"
            )
        kept = list(self.tokens)
        state = llama_state.stretch(self.save_state(), n)
        self.rewind(0)
        self.restore_state(state, (kept * (-(-n // len(kept))))[:n])

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
        n_embd = self._lib.llama_model_n_embd(self._model)
        self._lib.llama_set_embeddings(self._context, True)
        try:
            return self._rows(tokens, self._embedding, n_embd, min(self._n_batch, _HIDDEN_BATCH))
        finally:
            self._lib.llama_set_embeddings(self._context, False)

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
        self._append(tokens)
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
                    raise EngineError("this session was closed while it answered; open the model again")
                one[0] = token
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
        self._append(tokens)
        sampler = make_sampler(self._lib, sampling, self._info.n_vocab)
        ahead = 1 if self._recurrent else self._n_batch  # what was drafted in vain could not be cut
        self._stepper = LlamaStepper(self._lib, self._context, sampler, self._tokens, self._info, ahead)
        with self._stepper:
            room = self._info.n_ctx - len(self._tokens)
            yield from steps.draw(self._stepper, self, room, constraint, drafter)

    def _settle(self) -> None:
        """Cut the cache back to the sequence, where a stream was left running ahead."""
        if self._stepper is not None:
            self._stepper.settle()
            self._stepper = None

    def rewind(self, n: int) -> None:
        """Keep the first `n` tokens."""
        self._settle()
        checks.check_rewind(n, len(self.tokens))
        if n == len(self._tokens):
            return
        if n and self._recurrent:
            return self._reread(n)
        if not self._lib.llama_memory_seq_rm(self._memory, 0, n, -1):
            raise EngineError(f"this model's cache cannot be cut at position {n}")
        del self._tokens[n:]

    @property
    def _recurrent(self) -> bool:
        """Whether part of the state sums up all tokens: the library cannot cut that, though it may say it did."""
        return opening.is_recurrent(self._lib, self._model)

    def _reread(self, n: int) -> None:
        """Evaluate the first `n` tokens again."""
        kept = self._tokens[:n]
        self._lib.llama_memory_clear(self._memory, False)
        self._tokens.clear()
        self._append(kept)

    def save_state(self) -> bytes:
        """The sequence's KV state as llama.cpp serialises it."""
        self._settle()
        size = self._lib.llama_state_seq_get_size(self._context, 0)
        data = (ctypes.c_uint8 * size)()
        written = self._lib.llama_state_seq_get_data(self._context, data, size, 0)
        return bytes(memoryview(data)[:written])

    def restore_state(self, state: bytes, tokens: Sequence[int]) -> None:
        """Put back what `save_state` gave. Only for bytes known to be intact: llama.cpp trusts them."""
        self._settle()
        data = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
        if self._lib.llama_state_seq_set_data(self._context, data, len(state), 0) == 0:
            raise EngineError("the saved state does not fit this model and these options")
        self._tokens = list(tokens)

    def close(self) -> None:
        """Free the engine. Idempotent."""
        if self._context is not None:
            self._settle()
            self._lib.llama_free(self._context)
            self._context = None
        if self._model is not None:
            if self._weights_of is None:
                self._lib.llama_model_free(self._model)
            self._model = None
        self._lib = self._vocabulary = checks.CLOSED

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def _append(self, tokens: Sequence[int]) -> None:
        self._settle()
        checks.check_tokens(tokens, len(self.tokens), self._info)
        lib, buffer = self._lib, self._buffer
        for start in range(0, len(tokens), self._n_batch):
            if self._cancel is not None:
                self._cancel.check()  # not every device asks while it computes
            chunk = tokens[start : start + self._n_batch]
            buffer[: len(chunk)] = chunk
            self._decode(lib.llama_batch_get_one(buffer, len(chunk)), chunk)

    def _decode(self, batch: Any, chunk: Sequence[int]) -> None:
        self._tokens.extend(chunk)
        code = self._lib.llama_decode(self._context, batch)
        if self._observer is not None:
            self._observer.check()
        if code:
            done = len(self.tokens)  # the cache's word: drops what was not decoded
            why = "the KV cache is full" if code == 1 else f"code {code}"
            raise abort.failure(code, f"{len(chunk)} tokens at position {done}: {why}")

    def _fill(self, batch: Any, chunk: Sequence[int]) -> None:
        past = len(self.tokens)
        batch.n_tokens = len(chunk)
        for i, token in enumerate(chunk):
            batch.token[i], batch.pos[i], batch.logits[i] = token, past + i, 1
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0

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
            for start in range(0, len(tokens), n_batch):
                chunk = tokens[start : start + n_batch]
                self._fill(batch, chunk)
                self._decode(batch, chunk)
                for i in range(len(chunk)):
                    out[start + i] = row(i)
                checks.check_finite(out[start : start + len(chunk)], self._info)
        finally:
            self._lib.llama_batch_free(batch)
        return out

    def _embedding(self, index: int) -> Hidden:
        import numpy as np

        pointer = self._lib.llama_get_embeddings_ith(self._context, index)
        if not pointer:
            raise EngineError("llama.cpp has no hidden state for this position")
        state: Hidden = np.ctypeslib.as_array(pointer, (self._lib.llama_model_n_embd(self._model),))
        return state

    def _check_logits(self) -> None:
        """Raise EngineError unless the last logits can be drawn from."""
        pointer = self._lib.llama_get_logits_ith(self._context, -1)
        checks.check_finite_bytes(ctypes.string_at(pointer, 4 * self._info.n_vocab), self._info)

    def _logits(self, index: int) -> Logits:
        import numpy as np

        pointer = self._lib.llama_get_logits_ith(self._context, index)
        if not pointer:
            raise EngineError("llama.cpp has no logits for this position")
        logits: Logits = np.ctypeslib.as_array(pointer, (self._info.n_vocab,))
        return logits
