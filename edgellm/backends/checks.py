"""What every session refuses: no tokens, too many, unknown ids, any call once closed, and numbers that are none."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgellm.errors import EngineError, UsageError, option
from edgellm.machine import hardware
from edgellm.session import EngineInfo, EngineOptions, Sampling
from edgellm.units import count

if TYPE_CHECKING:
    from edgellm.session import Logits

_ANY_SEED = 0xFFFFFFFF  # LLAMA_DEFAULT_SEED (llama.h): to llama.cpp it means "draw a fresh one"


class _Closed:
    """Stands where a closed session had its engine: whatever is asked of it is an error, not a crash."""

    def __getattr__(self, name: str) -> Any:
        raise EngineError("this session is closed; open the model again")


CLOSED: Any = _Closed()


def check_tokens(tokens: Sequence[int], n_past: int, info: EngineInfo) -> None:
    """Raise EngineError unless `tokens` can follow the `n_past` that are in the cache."""
    if not tokens:
        raise EngineError("there are no tokens to evaluate; the prompt is empty")
    if n_past + len(tokens) > info.n_ctx:
        raise EngineError(
            f"{n_past} + {len(tokens)} tokens do not fit the context of {info.n_ctx}; "
            f"shorten the prompt or raise {option('n_ctx')}"
        )
    check_ids(tokens, info)


def check_ids(tokens: Sequence[int], info: EngineInfo) -> None:
    """Raise EngineError when an id is outside the vocabulary."""
    for bad in (min(tokens), max(tokens)):
        if not 0 <= bad < info.n_vocab:
            raise EngineError(f"token id {bad} is outside the vocabulary of {info.n_vocab}")


def check_bias(sampling: Sampling, n_vocab: int) -> None:
    """Raise UsageError where a bias is for an id outside the vocabulary."""
    for token, _ in sampling.logit_bias:
        if not 0 <= token < n_vocab:
            raise UsageError(f"logit_bias names token {token}; this model has 0 to {n_vocab - 1}")


def check_rewind(n: int, n_past: int) -> None:
    """Raise EngineError when a sequence of `n_past` tokens cannot be cut to `n`."""
    if not 0 <= n <= n_past:
        raise EngineError(f"cannot rewind to {n}: the sequence has {n_past} tokens")


def check_finite(values: Logits, info: EngineInfo) -> None:
    """Raise EngineError when an engine's numbers hold a NaN or an infinity. 14 us for 152,000 logits."""
    import numpy as np

    if not np.isfinite(values).all():
        raise _not_finite(info)


def check_finite_bytes(data: bytes, info: EngineInfo) -> None:
    """The same for float32 as the engine has them, without numpy, which would take longer to import than to start.

    NaN and infinities have all bits of the exponent set, so their top byte is 0x7f or 0xff. So has a number over
    2^127, for which all are looked at. 0.1 ms for 152,000 logits.
    """
    top = data[3::4] if sys.byteorder == "little" else data[::4]
    if (b"\x7f" in top or b"\xff" in top) and not all(map(math.isfinite, memoryview(data).cast("f"))):
        raise _not_finite(info)


def with_threads(options: EngineOptions, notes: list[str]) -> EngineOptions:
    """`options` with both numbers of threads settled, and a note where they are fewer than asked."""
    n_threads = hardware.threads(options.n_threads)
    n_batch = hardware.threads(options.n_threads_batch or n_threads)
    asked = max(options.n_threads or 0, options.n_threads_batch or 0)
    if asked > max(n_threads, n_batch):
        notes.append(
            f"{count(asked, 'thread')} reduced to {max(n_threads, n_batch)}: there are no more processors"
        )
    return replace(options, n_threads=n_threads, n_threads_batch=n_batch)


def note_window(n_ctx: int, n_ctx_train: int, notes: list[str]) -> None:
    """Say so when a context is larger than the texts the model has seen; 0: not known."""
    if 0 < n_ctx_train < n_ctx:
        notes.append(
            f"the context of {n_ctx:,} tokens is above the {n_ctx_train:,} this model was trained with: beyond "
            f"them expect nonsense; take a smaller {option('n_ctx')}"
        )


def _not_finite(info: EngineInfo) -> EngineError:
    return EngineError(
        f"the model's numbers are NaN or infinite ({info.backend} on {info.device}): its file is damaged or was "
        "overwritten while open; convert or download it again, or see: edgellm doctor"
    )


def seed(sampling: Sampling) -> int:
    """What a sampler is seeded with, for every engine: a fresh one where none is given.

    Seeds count modulo 2^32 - 1, so that each repeats; that number itself, llama.cpp would take for no seed.
    """
    drawn = random.SystemRandom().getrandbits(31)
    return drawn if sampling.seed is None else sampling.seed % _ANY_SEED
