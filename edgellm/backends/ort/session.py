"""ONNX Runtime: bound inputs and outputs, a KV cache updated in place, logits of the positions asked for.

Knows tokens and logits. Does not know chat, stop strings or clocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from edgellm.backends import checks, steps, tuned
from edgellm.backends.checkpoints import GAP
from edgellm.backends.ort import devices as ort_devices
from edgellm.backends.ort import graph as ort_graph
from edgellm.backends.ort import opening
from edgellm.backends.ort.cache import Cache, ConcatCache, InPlaceCache
from edgellm.backends.ort.recurrent import HybridCache
from edgellm.backends.ort.runner import Runner
from edgellm.backends.ort.sampler import Sampler
from edgellm.backends.ort.steps import OrtStepper
from edgellm.backends.ort.tokenizer import Tokenizer
from edgellm.errors import EngineError, UsageError
from edgellm.formats import onnx_folder
from edgellm.formats.artifact import Artifact
from edgellm.machine import devices
from edgellm.machine.devices import Offer
from edgellm.session import Cancel, Constraint, Drafter, EngineInfo, EngineOptions, Sampling, Session

if TYPE_CHECKING:
    from edgellm.session import Hidden, Logits

_SHORT = 16  # new tokens up to which a second graph for prompts is not worth its extra step


def open_session(artifact: Artifact, options: EngineOptions) -> Session:
    """Load `artifact`. Raises EngineError when ONNX Runtime refuses it, UsageError for LoRA adapters."""
    if options.lora:
        raise UsageError(
            "an ONNX model takes no adapter at run time: merge it with edgellm convert MODEL --lora FOLDER --quant "
            f"{artifact.quantization}, or run a GGUF file"
        )
    return OrtSession(artifact, options)


def prepare() -> None:
    """Load the library."""
    ort_graph.library()


def build() -> str:
    """Identifies the installed library."""
    return f"onnxruntime {ort_graph.library().__version__}"


def offer() -> Offer:
    """The devices it can run on."""
    return ort_devices.offer()


class OrtSession:
    """One sequence in ONNX Runtime. Not thread-safe."""

    def __init__(self, artifact: Artifact, options: EngineOptions) -> None:
        self._artifact = artifact
        folder = onnx_folder.read(artifact.path)
        self._tokens: list[int] = []
        self._stepper: OrtStepper | None = None  # of the stream that last ran ahead
        self._cancel: Cancel | None = None  # of the stream that runs
        self._tokenizer = Tokenizer(folder.path, folder.control_ids, folder.bos_id, folder.added)
        self._bos_id = folder.bos_id
        self._pieces: dict[int, bytes] = {}
        opening.trim_heap()  # before the weights are mapped, so that the two peaks do not add up
        notes: list[str] = []
        device = devices.choose(options.device, ort_devices.offer(), notes)
        if device is None:
            options = tuned.apply(artifact, build(), options, notes)
        options = replace(options, device=device.kind if device else devices.CPU)
        options = checks.with_threads(replace(options, n_threads_batch=None), notes)
        graph = opening.load(folder, folder.model, options, device, notes)
        options = opening.resolve(folder, graph, options, notes)
        assert options.n_ctx is not None
        kv = InPlaceCache(graph.slots, options.n_ctx) if folder.in_place else ConcatCache(graph.slots)
        self._cache: Cache = HybridCache(kv, graph.states, options.n_checkpoints or 0) if graph.states else kv
        self._runner = Runner(graph, self._cache, folder.n_vocab, options.n_ctx)
        self._prompts: Runner | None = None
        self._states: Runner | None = None  # for hidden states, once they are asked for
        if folder.prefill:
            second = opening.load(folder, folder.prefill, options, device, notes)
            self._prompts = Runner(second, self._cache, folder.n_vocab, options.n_ctx)
        self._info = opening.describe(folder, graph, options, device, notes)
        assert options.n_batch and options.n_ubatch
        self._n_batch = min(options.n_batch, options.n_ubatch)
        opening.trim_heap()

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
        """The ids in the KV cache."""
        return self._tokens

    def tokenize(self, text: str, *, special: bool = True, add_bos: bool = False) -> list[int]:
        """Token ids of `text`; with `special`, control tokens written out become their ids."""
        ids = self._tokenizer.encode(text, special=special, add_bos=add_bos)
        return ids[1:] if add_bos and ids[1:2] == [self._bos_id] else ids  # the text has its BOS

    def piece(self, token: int) -> bytes:
        """The bytes of a token, empty for control tokens."""
        known = self._pieces.get(token)
        if known is None:
            checks.check_ids((token,), self._info)
            known = self._pieces[token] = self._tokenizer.piece(token)
        return known

    def eval(self, tokens: Sequence[int]) -> Logits:
        """Append tokens; logits [n_vocab] after the last, a view valid until the next call."""
        checks.check_tokens(tokens, len(self._tokens), self._info)
        return self._append(tokens)

    def eval_all(self, tokens: Sequence[int]) -> Logits:
        """Append tokens; logits [len(tokens), n_vocab], a copy."""
        return self._rows(tokens, self._runner)

    def hidden(self, tokens: Sequence[int]) -> Hidden:
        """Append tokens; hidden states after the final norm [len(tokens), n_embd], a copy."""
        if self._states is None:
            self._states = self._runner.for_hidden(self._info.n_ctx)
        return self._rows(tokens, self._states)

    def classify(self, tokens: Sequence[int]) -> dict[str, float]:
        """Refuse: no folder has a classifier beside its logits."""
        raise EngineError(f"{self._artifact.path} has no classifier")

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
        checks.check_bias(sampling, self._info.n_vocab)
        self._cancel = cancel
        try:
            if constraint is not None or drafter is not None:
                yield from self._stream_steps(tokens, sampling, constraint, drafter)
            else:
                yield from self._stream_plain(tokens, sampling)
        finally:
            if self._cancel is cancel:  # no later stream has begun
                self._cancel = None

    def _stream_plain(self, tokens: Sequence[int], sampling: Sampling) -> Iterator[int]:
        sampler = Sampler(sampling)
        checks.check_tokens(tokens, len(self._tokens), self._info)
        logits = self._append(tokens, turn=True)
        for _ in range(self._info.n_ctx - len(self._tokens)):
            token = sampler.draw(logits)
            yield token
            logits = self._append((token,))
        yield sampler.draw(logits)

    def _stream_steps(
        self,
        tokens: Sequence[int],
        sampling: Sampling,
        constraint: Constraint | None,
        drafter: Drafter | None,
    ) -> Iterator[int]:
        checks.check_tokens(tokens, len(self._tokens), self._info)
        first = self._append(tokens, turn=True)
        self._stepper = OrtStepper(
            self._runner,
            self._cache,
            self._tokens,
            Sampler(sampling),
            first,
            self._info,
            self._check_stream,
        )
        with self._stepper:
            room = self._info.n_ctx - len(self._tokens)
            yield from steps.draw(self._stepper, self, room, constraint, drafter)

    def _settle(self) -> None:
        """Cut the cache back to the sequence, where a stream was left running ahead."""
        if self._stepper is not None:
            self._stepper.settle()
            self._stepper = None

    def rewind(self, n: int) -> None:
        """Keep the first `n` tokens; those after the last kept state of a hybrid are evaluated again."""
        self._settle()
        checks.check_rewind(n, len(self._tokens))
        if n < len(self._tokens):
            self._cache.rewind(n)
            del self._tokens[n:]
            again = n - self._cache.length
            self._catch_up()
            if again >= GAP:
                self._cache.mark()  # it may come here once more

    def reusable(self, n: int) -> int:
        """How many of the first `n` tokens a rewind keeps as they are."""
        self._settle()
        return self._cache.reusable(n)

    def stretch(self, n: int) -> None:
        """Lengthen the sequence to `n` tokens by repeating what is cached: nonsense, for measuring alone."""
        kept = list(self._tokens)
        repeated = (kept * (-(-n // len(kept))))[:n]
        self._catch_up()
        if self._cache.stretch(n):
            self._tokens = repeated
        else:
            self._append(repeated[len(kept) :])

    def save_state(self) -> bytes:
        """The caches of the sequence."""
        self._settle()
        self._catch_up()
        return self._cache.save()

    def restore_state(self, state: bytes, tokens: Sequence[int]) -> None:
        """Put back what `save_state` gave."""
        self._settle()
        self._cache.restore(state)
        if (n := self._cache.length) != len(tokens):
            self._cache.rewind(0)
            self._tokens = []
            raise EngineError(f"the saved state holds {n} tokens, not {len(tokens)}")
        self._tokens = list(tokens)

    def close(self) -> None:
        """Free the engine. Idempotent."""
        self._runner = self._cache = checks.CLOSED
        self._prompts = self._states = None

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _rows(self, tokens: Sequence[int], runner: Runner) -> Logits:
        """Append tokens, with an output for every one."""
        self._settle()
        checks.check_tokens(tokens, len(self._tokens), self._info)
        self._catch_up()
        out = np.empty((len(tokens), runner.width), np.float32)
        first = len(self._tokens)
        for stop in self._cache.pieces(first + len(tokens), self._n_batch, turn=False):
            start = self._cache.length
            rows = runner.run(tokens[start - first : stop - first], stop - start)
            checks.check_finite(rows, self._info)
            out[start - first : stop - first] = rows
            self._tokens.extend(tokens[start - first : stop - first])
        return out

    def _append(self, tokens: Sequence[int], *, turn: bool = False) -> Logits:
        """Append tokens, and evaluate before them what the cache lacks of the sequence; logits after the last.

        With `turn` they are a prompt's, and an answer follows.
        """
        self._settle()
        start = self._cache.length
        todo = (*self._tokens[start:], *tokens)
        end = start + len(todo)
        prompts = self._prompts if len(todo) > _SHORT else None
        for stop in self._cache.pieces(end, self._n_batch, turn=turn):
            self._check_stream()
            chunk = todo[self._cache.length - start : stop - start]
            if prompts and (filled := chunk[: -1 if stop == end else None]):
                prompts.fill(filled)
                self._took(filled)
                chunk = chunk[len(filled) :]
            if chunk:
                logits = self._runner.run(chunk)
                self._took(chunk)
        last: Logits = logits[0]
        checks.check_finite(last, self._info)
        return last

    def _took(self, chunk: Sequence[int]) -> None:
        """`chunk` was evaluated: append what of it is new."""
        if (new := self._cache.length - len(self._tokens)) > 0:
            self._tokens.extend(chunk[-new:])

    def _catch_up(self) -> None:
        """Evaluate again what the cache lacks of the sequence, which it may after a rewind."""
        if self._cache.length < len(self._tokens):
            self._append(())

    def _check_stream(self) -> None:
        if self._runner is checks.CLOSED:
            raise EngineError("this session was closed while it answered; open the model again")
        if self._cancel is not None:
            self._cancel.check(len(self._tokens))
