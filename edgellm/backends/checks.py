"""What every session refuses before its engine is asked: no tokens, too many, unknown ids, any call once closed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgellm.errors import EngineError
from edgellm.session import EngineInfo


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
