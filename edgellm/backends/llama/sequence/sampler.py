"""llama.cpp's sampler chain in the order `Sampling` promises. Knows no session."""

from __future__ import annotations

from typing import Any

from edgellm.backends import checks
from edgellm.session import Sampling


def make_sampler(lib: Any, sampling: Sampling, n_vocab: int) -> Any:
    """The chain, as llama_sampler *; free it with llama_sampler_free. Raises UsageError for a bias of no token."""
    checks.check_bias(sampling, n_vocab)
    chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
    add = lib.llama_sampler_chain_add
    s = sampling
    if s.logit_bias:
        biased = (lib.llama_logit_bias * len(s.logit_bias))(*s.logit_bias)
        add(chain, lib.llama_sampler_init_logit_bias(n_vocab, len(s.logit_bias), biased))
    if s.repeat_penalty != 1.0 or s.frequency_penalty or s.presence_penalty:
        add(
            chain,
            lib.llama_sampler_init_penalties(
                n_vocab, s.repeat_last_n, s.repeat_penalty, s.frequency_penalty, s.presence_penalty
            ),
        )
    if s.temperature <= 0:
        add(chain, lib.llama_sampler_init_greedy())
        return chain
    if s.top_k > 0:
        add(chain, lib.llama_sampler_init_top_k(s.top_k))
    if s.top_p < 1.0:
        add(chain, lib.llama_sampler_init_top_p(s.top_p, 1))
    if s.min_p > 0.0:
        add(chain, lib.llama_sampler_init_min_p(s.min_p, 1))
    add(chain, lib.llama_sampler_init_temp(s.temperature))
    add(chain, lib.llama_sampler_init_dist(checks.seed(s)))
    return chain
