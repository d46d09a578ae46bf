"""What an answer cost and how sure it was, as clients are told: usage, llama-server's timings, joules, logprobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgellm.serving.job import Done, TokenLogprob


def usage(dones: Sequence[Done], n_per_prompt: int = 1) -> dict[str, Any]:
    """Tokens of a request's answers; `n_per_prompt` of them in a row have their prompt in common."""
    first = dones[::n_per_prompt]
    n_prompt = sum(done.n_prompt for done in first)
    n_generated = sum(done.n_generated for done in dones)
    return {
        "prompt_tokens": n_prompt,
        "completion_tokens": n_generated,
        "total_tokens": n_prompt + n_generated,
        "prompt_tokens_details": {"cached_tokens": sum(done.n_cached for done in first)},
        "completion_tokens_details": {"reasoning_tokens": sum(done.n_thinking for done in dones)},
    }


def timings(done: Done) -> dict[str, Any]:
    """Milliseconds and rates by llama-server's names; of the prompt, what was evaluated."""
    n, ms = done.n_prompt - done.n_cached, done.prefill_seconds * 1000
    n_out, ms_out = done.n_generated, done.decode_seconds * 1000
    told = {
        "cache_n": done.n_cached,
        "prompt_n": n,
        "prompt_ms": round(ms, 3),
        "prompt_per_token_ms": _ratio(ms, n),
        "prompt_per_second": _ratio(n * 1000, ms),
        "predicted_n": n_out,
        "predicted_ms": round(ms_out, 3),
        "predicted_per_token_ms": _ratio(ms_out, n_out - 1),
        "predicted_per_second": _ratio((n_out - 1) * 1000, ms_out),
        "queue_ms": round(done.queue_seconds * 1000, 3),
    }
    return told | ({"draft_n": done.n_drafted, "draft_n_accepted": done.n_accepted} if done.n_drafted else {})


def energy(dones: Sequence[Done]) -> dict[str, Any]:
    """Joules of a request's answers and what the meter covers; null with the reason where nothing was measured."""
    counted = [done.joules for done in dones]
    known = [joules for joules in counted if joules is not None]
    said = next((done.energy for done in dones if done.energy), "")
    if not known or len(known) < len(counted):
        return {"joules": None, "scope": None, "reason": said or "no meter works here"}
    return {"joules": round(sum(known), 6), "scope": said, "reason": None}


def whole(dones: Sequence[Done], n_per_prompt: int) -> dict[str, Any]:
    """Of all answers of a request; times are told where there is one."""
    told = {"usage": usage(dones, n_per_prompt), "energy": energy(dones)}
    return {**told, "timings": timings(dones[0])} if len(dones) == 1 else told


def ended(done: Done) -> dict[str, Any]:
    """Of one answer, beside its end."""
    return {"timings": timings(done), "energy": energy([done])}


def logprobs(tokens: Sequence[TokenLogprob]) -> list[dict[str, Any]]:
    """Tokens with their logarithms of probability, as OpenAI's chat and responses tell them."""
    return [
        {**_token(one.data, one.logprob), "top_logprobs": [_token(data, value) for _, data, value in one.top]}
        for one in tokens
    ]


def _token(data: bytes, logprob: float) -> dict[str, Any]:
    return {"token": data.decode("utf-8", "replace"), "logprob": max(logprob, -9999.0), "bytes": list(data)}


def _ratio(over: float, under: float) -> float | None:
    return round(over / under, 3) if under > 0 else None
