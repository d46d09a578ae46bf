"""A model's own draft head in llama.cpp: the extra block (multi-token prediction, MTP) that says the id after the next.

The block reads pairs: the model's hidden state at one position and the id drawn after it. It runs in a context of its
own on the same weights, whose KV cache is of keys and values alone and can be cut. One draft token at a time: for a
second, the block's own hidden state would be needed, which this library's C API does not hand out (llama.h; it is
there in src/llama-ext.h, as C++ that may change). Pairs as in common/speculative.cpp (draft-mtp). Knows one context.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgellm.backends import checks
from edgellm.backends.llama.sequence import outputs

if TYPE_CHECKING:
    from edgellm.session import Hidden

N_BATCH = 64  # pairs at once: the block lags behind by a prompt's end, or by what was drawn without it
PROMPT = 32  # ids of a prompt's end whose hidden states it sees: each costs a row of the model's head


class DraftHead:
    """Drafts for `context`, in `own`, a context of the MTP kind. Owns the latter."""

    def __init__(self, lib: Any, context: Any, own: Any, n_embd: int) -> None:
        self._lib, self._context, self._own, self._n_embd = lib, context, own, n_embd
        self._memory = lib.llama_get_memory(own)
        self._batch = lib.llama_batch_ext_init(own)
        self._sampler = lib.llama_sampler_init_greedy()
        self._tokens: Sequence[int] = ()  # the sequence, as it grows
        self._states: dict[int, Hidden] = {}  # by position
        self._fed = -1  # the last position whose pair is in its cache for good

    def begin(self, tokens: Sequence[int]) -> None:
        """Another sequence, `tokens`, which grows while it is drafted for: forget all."""
        self._lib.llama_memory_seq_rm(self._memory, 0, -1, -1)
        self._tokens, self._states, self._fed = tokens, {}, -1

    def put(self, past: int, states: Hidden) -> None:
        """Hidden states [n, n_embd] of the ids after the first `past`."""
        self._states |= {past + i: state for i, state in enumerate(states)}

    def saw(self, past: int, n: int) -> None:
        """`context` has evaluated `n` ids after the first `past`, with an output for each."""
        for i in range(n):
            state = outputs.embedding(self._lib, self._context, self._n_embd, i)
            self._states[past + i] = state.copy()

    def draft(self, token: int) -> int | None:
        """The id expected after `token`, which was drawn after the sequence; None where too little was seen."""
        tokens, end = self._tokens, len(self._tokens)
        start = end
        while start - 1 in self._states and start - 1 >= self._fed:
            start -= 1
        if start == end:
            return None
        if start != self._fed:  # there is a gap, so what came before it goes
            self._lib.llama_memory_seq_rm(self._memory, 0, -1, -1)
        ids = [*tokens[start + 1 : end], token]
        for at in range(0, len(ids), N_BATCH):
            if not self._feed(start + 1 + at, ids[at : at + N_BATCH]):
                self.begin(tokens)
                return None
        self._states = {end - 1: self._states[end - 1]}
        self._fed = end
        drawn: int = self._lib.llama_sampler_sample(self._sampler, self._own, -1)
        return drawn

    def _feed(self, position: int, ids: Sequence[int]) -> bool:
        """Evaluate the pairs of `ids`, the first of which stands at `position`."""
        lib, batch = self._lib, self._batch
        lib.llama_batch_ext_clear(batch)
        for i, token in enumerate(ids):
            state = self._states[position + i - 1]
            data = state.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
            lib.llama_batch_ext_add_token(batch, 0, token)
            lib.llama_batch_ext_set_embd_token(batch, i, lib.llama_embd(data, 1, self._n_embd))
            lib.llama_batch_ext_set_pos(batch, i, ctypes.byref(ctypes.c_int32(position + i)))
            lib.llama_batch_ext_set_output_logits(batch, i, i == len(ids) - 1)
        return bool(lib.llama_process(self._own, lib.LLAMA_PROCESS_TYPE_DECODE, batch) == 0)

    def close(self) -> None:
        """Free the context. Idempotent."""
        if self._own is not None:
            self._lib.llama_sampler_free(self._sampler)
            self._lib.llama_batch_ext_free(self._batch)
            self._lib.llama_free(self._own)
            self._own, self._lib = None, checks.CLOSED
