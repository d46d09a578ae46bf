"""The seam between engines and everything that uses one: `Session` and the options it is opened with.

A session is one sequence of token ids and the engine state (KV cache) that goes with it. It knows tokens
and logits; it knows nothing about chat, stop strings, time or energy. The caller times it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from edgellm.errors import CancelledError
from edgellm.formats.gguf.lora import Lora

if TYPE_CHECKING:
    import mmap

    import numpy as np
    import numpy.typing as npt

    from edgellm.formats.artifact import Artifact

    Logits = npt.NDArray[np.float32]
    Hidden = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn from logits.

    The order is llama.cpp's: bias, penalties, top-k, top-p, min-p, temperature. `temperature` 0 means greedy: the
    first of the largest logits. `seed` None draws a fresh one.
    """

    temperature: float = 0.8
    top_k: int = 40  # 0: all
    top_p: float = 0.95  # 1.0: off
    min_p: float = 0.05  # 0.0: off
    repeat_penalty: float = 1.0  # 1.0: off
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repeat_last_n: int = 64  # tokens the penalties look back on
    seed: int | None = None
    logit_bias: tuple[
        tuple[int, float], ...
    ] = ()  # what is added to the logits of some ids; -inf forbids one


GREEDY = Sampling(temperature=0.0)


@dataclass(frozen=True)
class EngineOptions:
    """What an engine is opened with. None means: choose by looking at this machine and model."""

    n_ctx: int | None = None  # tokens of context to reserve
    n_threads: int | None = None  # decode threads
    n_threads_batch: int | None = None  # prefill threads
    n_batch: int | None = None  # tokens per logical batch
    n_ubatch: int | None = None  # tokens per physical batch
    n_gpu_layers: int | None = None  # layers on the device, the output layer counting as one
    flash_attn: str = "auto"  # auto | on | off
    type_k: str | None = None  # KV cache types: f32 f16 bf16 q8_0 q4_0 ...
    type_v: str | None = None
    use_mmap: bool | None = None
    repack: bool | None = None  # CPU weight repacking (extra buffer types); None: on unless found broken
    device: str = "auto"  # auto, cpu, cuda, metal, vulkan, ... or the engine's own name of one (devices.py)
    spin_us: int | None = None  # idle threads wait this long for work before they sleep (ONNX Runtime)
    n_checkpoints: int | None = None  # states kept to go back to, of a model whose cache cannot be cut
    mtp: bool = False  # load the block that drafts for its own model, where a GGUF file has one
    lora: tuple[Lora, ...] = ()  # adapters on the weights, added up (llama.cpp)
    tuned: bool = False  # fill what is open with what was found faster on this machine (tuning)


@dataclass(frozen=True)
class Buffers:
    """What an engine sets aside, in bytes: by its own log or accounting, or as predicted before."""

    weights: int  # as mapped from the file or read from it
    repacked: int  # the copy of weights its kernels want in another order
    kv: int  # and recurrent states
    compute: int  # the graph's scratch memory and the logits; pages it never touches are not resident
    source: str  # "engine log" | "own accounting" | "prediction"
    checkpoints: int = 0  # at most: recurrent states kept to go back to

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.repacked + self.kv + self.compute + self.checkpoints


@dataclass(frozen=True)
class Place:
    """What one device holds of a model that lies on several, in bytes by the engine's own log."""

    device: str  # the engine's name, host:port for a server
    layers: tuple[int, ...] = ()  # by number; the output counts as one more layer
    weights: int = 0  # repacked copies included
    kv: int = 0
    compute: int = 0


@dataclass(frozen=True)
class EngineInfo:
    """What an open engine says of itself."""

    backend: str  # "llamacpp" | "onnxruntime"
    version: str  # of the engine's library
    system: str  # CPU features and build flags the library reports
    options: EngineOptions  # as resolved: no None left
    n_ctx: int
    n_vocab: int
    eos_ids: frozenset[int]
    add_bos: bool
    closing_id: int | None = None  # what the tokenizer puts after a whole text, never after a prompt
    notes: tuple[str, ...] = field(default=())  # one line each, for the user: fallbacks and why
    device: str = "cpu"  # what it runs on, by the engine's own name: "cpu", "CUDA0 (NVIDIA ...)"
    kv_bytes_per_token: float | None = None
    buffers: Buffers | None = None  # what the engine says it set aside in the host's memory
    places: tuple[Place, ...] = ()  # where the model lies, if on more than one device


class Cancel:
    """The wish that a stream end, from any thread, signal handler or finalizer. It serves one generation.

    Engines look at `memory` between evaluations and, where they can, while they compute: as a C string, it is
    empty until the wish is there. While they read a prompt they say with each look how far they are, `n_tokens`.
    """

    def __init__(self, memory: bytearray | mmap.mmap | None = None) -> None:
        self.memory = bytearray(2) if memory is None else memory
        self.n_tokens = (
            0  # in the cache at the last look; 0 where an engine does not say (in a child process)
        )
        self._copy: mmap.mmap | None = None
        self._lock = threading.RLock()  # a signal handler may come while its own thread holds it

    @property
    def is_set(self) -> bool:
        """Whether the stream is to end."""
        return self.memory[0] != 0

    def set(self) -> None:
        """Have the stream end: after the id it is at, or while the prompt is evaluated."""
        with self._lock:
            self.memory[0] = 1
            if self._copy is not None:
                self._copy[0] = 1

    def check(self, n_tokens: int = 0) -> None:
        """Raise CancelledError where the stream is to end. `n_tokens` are in the cache by now."""
        self.n_tokens = n_tokens
        if self.is_set:
            raise CancelledError

    @contextlib.contextmanager
    def shared(self, memory: mmap.mmap) -> Iterator[None]:
        """Tell the process that sees `memory`, too, for the block."""
        with self._lock:
            memory[0], self._copy = self.memory[0], memory
        try:
            yield
        finally:
            with self._lock:
                self._copy = None


class Constraint(Protocol):
    """Says which ids may come next. It serves one generation and moves on with every id. Knows ids, no engine."""

    def apply(self, logits: Logits) -> None:
        """Write -inf into `logits` [n_vocab], in place, for every id that may not come next."""
        ...

    def take(self, token: int) -> int:
        """Move past `token`, drawn from logits that `apply` saw.

        Returns the id to use: another one only where the room left for the answer forces its ending now.
        """
        ...

    def forced(self) -> Sequence[int]:
        """Ids about which there will be no choice, possibly none: draft tokens worth evaluating at once."""
        ...

    def follow(self, token: int) -> None:
        """Move past an id that another copy of this constraint has taken."""
        ...

    def recipe(self) -> Callable[[Session], Constraint]:
        """A function that can be pickled, and makes a fresh copy for another session of the same model."""
        ...


class Drafter(Protocol):
    """Drafts what comes next, so that an engine evaluates several ids at once. Serves one session at a time."""

    def begin(self, session: Session) -> None:
        """A generation starts after `session.tokens`, the prompt included."""
        ...

    def take(self, token: int) -> None:
        """`token` was drawn."""
        ...

    def draft(self, room: int) -> Sequence[int]:
        """At most `room` draft tokens of what follows the last id taken. Called before an evaluation, or `skip` is."""
        ...

    def skip(self) -> None:
        """The next evaluation has other draft tokens than this drafter's: what it takes tells nothing of them."""
        ...

    def recipe(self) -> Callable[[], Drafter]:
        """A function that can be pickled, and makes a drafter of the same kind in another process."""
        ...


class DraftHead(Protocol):
    """A model's own block that foretells an id more, where its session has one (`draft_head`)."""

    def draft(self, token: int) -> int | None:
        """The id expected after `token`, which was drawn after the sequence; None where nothing is known."""
        ...


class Session(Protocol):
    """One sequence in one engine. Not thread-safe; close it, or use it as a context manager."""

    @property
    def artifact(self) -> Artifact:
        """The model this session runs."""
        ...

    @property
    def info(self) -> EngineInfo:
        """Facts fixed at opening."""
        ...

    @property
    def tokens(self) -> Sequence[int]:
        """The ids in the KV cache, first to last. Do not modify."""
        ...

    def tokenize(self, text: str, *, special: bool = True, add_bos: bool = False) -> list[int]:
        """Token ids of `text`; with `special`, control tokens written out in the text become their ids."""
        ...

    def piece(self, token: int) -> bytes:
        """The bytes a token stands for (empty for control tokens). Bytes, for a character may span tokens."""
        ...

    def eval(self, tokens: Sequence[int]) -> Logits:
        """Append tokens; return logits [n_vocab] after the last one. The array is valid until the next call.

        Raises EngineError when the context is full or a token id is out of range.
        """
        ...

    def eval_all(self, tokens: Sequence[int]) -> Logits:
        """Append tokens; return logits [len(tokens), n_vocab], a copy."""
        ...

    def hidden(self, tokens: Sequence[int]) -> Hidden:
        """Append tokens; return their hidden states after the final norm, [len(tokens), n_embd], a copy.

        Raises EngineError where a model's file has no way to give them.
        """
        ...

    def classify(self, tokens: Sequence[int]) -> dict[str, float]:
        """Append tokens; return what the file's own classifier says after the last one, by its labels.

        Raises EngineError where the file has none.
        """
        ...

    def stream(
        self,
        tokens: Sequence[int],
        sampling: Sampling,
        *,
        constraint: Constraint | None = None,
        drafter: Drafter | None = None,
        cancel: Cancel | None = None,
    ) -> Iterator[int]:
        """Append tokens, then yield sampled ids one by one until the caller stops or the context is full.

        Each yielded id is appended to the sequence only when the next one is asked for. EOS ids are yielded
        like any other: ending is the caller's decision. `constraint` narrows what is drawn. `drafter` changes
        how fast ids come, not which: every id is drawn from the engine's own logits by the same sampler.
        Raises CancelledError from an evaluation that `cancel` ends; `tokens` stays true.
        """
        ...

    def rewind(self, n: int) -> None:
        """Keep the first `n` tokens of the sequence and forget the rest. 0 <= n <= len(tokens).

        A model that keeps a recurrent state may have to evaluate some of them again, from `reusable(n)` on.
        """
        ...

    def reusable(self, n: int) -> int:
        """The most of the first `n` tokens that `rewind` keeps without evaluating any again; `n` for most models."""
        ...

    def save_state(self) -> bytes:
        """The sequence's engine state, restorable in a session of the same model and options."""
        ...

    def restore_state(self, state: bytes, tokens: Sequence[int]) -> None:
        """Put back what `save_state` gave when `tokens` were in the cache."""
        ...

    def close(self) -> None:
        """Free the engine. Idempotent."""
        ...

    def __enter__(self) -> Session: ...

    def __exit__(self, *exc: object) -> None: ...


#: Opens a session on a converted model. Conversion gets one passed in to check its own output, so that
#: `convert` and the runtime need not import each other.
SessionOpener = Callable[["Artifact", EngineOptions], Session]


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many ids both begin with."""
    n = min(len(one), len(other))
    one, other = list(one[:n]), list(other[:n])
    if one == other:
        return n
    low, high = 0, n  # they agree on the first `low`, not on the first `high`
    while high - low > 1:
        middle = (low + high) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle
    return low


def reuse_prefix(session: Session, prompt: Sequence[int]) -> int:
    """Cut the cache back to what it shares with `prompt` and return its length then.

    At least one token is left to evaluate, for its logits are needed; more where the model cannot go back to
    every place.
    """
    shared = session.reusable(common(session.tokens, prompt[:-1]))
    session.rewind(shared)
    return shared
