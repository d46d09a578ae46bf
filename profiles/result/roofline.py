"""What the machine's measured ceilings allow a run: the bytes and operations of a token against them.

S. Williams, A. Waterman, D. Patterson, "Roofline", CACM 52, 2009. Decoding reads every weight once a token, so
memory bandwidth bounds it; a prompt multiplies many tokens with each weight read, so arithmetic does. Attention's
own operations are left out: a limit is never stated lower than it is. No claim is made for a model that the
processor's caches may hold, for then its weights do not come from memory.
"""

from __future__ import annotations

from edgellm.profiles.result.bounds import Ceiling, Limits
from edgellm.profiles.result.result import ModelRecord
from edgellm.profiles.result.settings import Workload

#: A model smaller than this many last-level caches may be served from them.
CACHE_MULTIPLE = 4


def cache_resident(model: ModelRecord, last_level_cache_bytes: int | None) -> bool | None:
    """Whether the caches may hold a good part of the model; None where the cache is not known."""
    size = model.weight_bytes_per_token or model.tensor_bytes or model.size_bytes
    return None if last_level_cache_bytes is None else size < CACHE_MULTIPLE * last_level_cache_bytes


def limits(
    model: ModelRecord, workload: Workload, ceiling: Ceiling | None, kv_bytes_per_token: float | None
) -> Limits:
    """The limits of a run, each None where something it needs is not known."""
    n_bytes = _bytes_per_token(model, workload, kv_bytes_per_token)
    n_operations = _operations_per_token(model, workload)
    reason = _no_claim(model, ceiling)
    if ceiling is None or reason is not None:
        return Limits(None, None, n_bytes, n_operations, reason)
    bandwidth = ceiling.read_bytes_per_second
    rate = max((ceiling.operations_per_second or {}).values(), default=None)
    return Limits(
        decode_tokens_per_second=bandwidth / n_bytes if bandwidth and n_bytes else None,
        prefill_tokens_per_second=rate / n_operations if rate and n_operations else None,
        bytes_per_token=n_bytes,
        operations_per_token=n_operations,
        reason=None if n_bytes and n_operations else "the header does not tell what a token reads",
    )


def _no_claim(model: ModelRecord, ceiling: Ceiling | None) -> str | None:
    if ceiling is None:
        return "the machine's ceilings were not measured"
    if ceiling.reason is not None:
        return ceiling.reason
    if model.cache_resident is None:
        return "this system does not tell the size of its last-level cache"
    if model.cache_resident:
        return f"smaller than {CACHE_MULTIPLE} last-level caches: its weights may not come from memory"
    return None


def _bytes_per_token(model: ModelRecord, workload: Workload, kv: float | None) -> float | None:
    """Weights once, and the keys and values of all tokens before: their number in the middle of the answer."""
    if model.weight_bytes_per_token is None or kv is None:
        return None
    return model.weight_bytes_per_token + kv * (workload.n_depth + workload.n_prompt + workload.n_gen / 2)


def _operations_per_token(model: ModelRecord, workload: Workload) -> float | None:
    """A multiplication and an addition for each active parameter; the head only for the prompt's last token."""
    if model.n_params_active is None:
        return None
    return 2 * (model.n_params_active + (model.n_params_head or 0) / workload.n_prompt)
