"""What llama.cpp hands out after an evaluation, and the batch that asks for it. Knows no session."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from edgellm.backends import checks
from edgellm.errors import EngineError

if TYPE_CHECKING:
    from edgellm.session import EngineInfo, Hidden, Logits

N_STATES = 64  # tokens at once, where hidden states are wanted: llama.cpp computes the logits of each as well


def fill(batch: Any, past: int, tokens: Sequence[int]) -> None:
    """Have `batch` evaluate `tokens` after the first `past` of sequence 0, with an output for each."""
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i], batch.logits[i] = token, past + i, 1
        batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0


def pointer(lib: Any, context: Any, index: int) -> Any:
    """To the logits after the index-th token of the last batch, -1 the last. Raises EngineError."""
    found = lib.llama_get_logits_ith(context, index)
    if not found:
        raise EngineError("llama.cpp has no logits for this position")
    return found


def logits(lib: Any, context: Any, index: int, n_vocab: int) -> Logits:
    """The same as a view [n_vocab]."""
    import numpy as np

    found: Logits = np.ctypeslib.as_array(pointer(lib, context, index), (n_vocab,))
    return found


def check_finite(lib: Any, context: Any, index: int, info: EngineInfo) -> None:
    """Raise EngineError unless those logits can be drawn from. Without numpy, which plain decoding does not need."""
    checks.check_finite_bytes(ctypes.string_at(pointer(lib, context, index), 4 * info.n_vocab), info)


def embedding(lib: Any, context: Any, n_embd: int, index: int) -> Hidden:
    """A view [n_embd] of the hidden state after the index-th token of the last batch. Raises EngineError."""
    import numpy as np

    pointer = lib.llama_get_embeddings_ith(context, index)
    if not pointer:
        raise EngineError("llama.cpp has no hidden state for this position")
    state: Hidden = np.ctypeslib.as_array(pointer, (n_embd,))
    return state


@contextlib.contextmanager
def with_states(lib: Any, context: Any) -> Iterator[None]:
    """Evaluations give hidden states, or what is pooled of them, inside the block; and every token's logits."""
    lib.llama_set_embeddings(context, True)
    try:
        yield
    finally:
        lib.llama_set_embeddings(context, False)


def classified(lib: Any, model: Any, context: Any) -> dict[str, float]:
    """What the classifier of a model that ranks said of the sequence, by its labels. Raises EngineError."""
    outputs = lib.llama_get_embeddings_seq(context, 0)
    if not outputs:
        raise EngineError("llama.cpp has no classifier's output for this sequence")
    labels = (lib.llama_model_cls_label(model, i) for i in range(lib.llama_model_n_cls_out(model)))
    return {(label or b"").decode("utf-8", "replace"): float(outputs[i]) for i, label in enumerate(labels)}
