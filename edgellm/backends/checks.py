"""What every session refuses: no tokens, too many, unknown ids, any call once closed, and numbers that are none."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgellm.errors import EngineError
from edgellm.session import EngineInfo, Sampling

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
            f"shorten the prompt or raise -c"
        )
    check_ids(tokens, info)


def check_ids(tokens: Sequence[int], info: EngineInfo) -> None:
    """Raise EngineError when an id is outside the vocabulary."""
    for bad in (min(tokens), max(tokens)):
        if not 0 <= bad < info.n_vocab:
            raise EngineError(f"token id {bad} is outside the vocabulary of {info.n_vocab}")


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
