"""How far a converted model's logits are from the original's on a short text, and how far they may be.

The original is the oracle in models/reference.py. Knows arrays and types, no files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgellm.errors import CheckFailedError

if TYPE_CHECKING:
    from edgellm.session import Logits

#: A little of everything a model sees, so that many rows of the embedding take part.
TEXT = "The quick brown fox said: 'It's 12:45, 5°C.' 你好，世界！def f(x): return x**2 # Здравствуй 🙂"
N_TOKENS = 28

#: Largest normalised mean square error of the logits that a type of matrices explains. Measured on random
#: models of every family, which suffer more than trained ones (docs/gguf.md), times three or more; logits that
#: have nothing to do with the original's give 1 to 2. Types that are not here are so coarse that the figure
#: only informs.
MAX_NMSE: dict[str, float] = {
    "F32": 1e-8,
    "F16": 1e-5,
    "BF16": 5e-4,
    "Q8_0": 2e-2,
    "Q6_K": 0.1,
    "Q5_K": 0.3,
    "Q5_0": 0.3,
    "Q5_1": 0.3,
    "Q4_K": 0.8,
    "Q4_0": 0.8,
    "Q4_1": 0.8,
    "IQ4_NL": 0.8,
    "IQ4_XS": 0.8,
    "MXFP4": 0.8,
}


@dataclass(frozen=True)
class Fidelity:
    """Distance of one model's next-token distributions from another's, over the tokens of a text."""

    nmse: float  # sum (a - b)^2 / sum b^2, b the original's logits
    mean_kld: float  # Kullback-Leibler divergence of the original's distribution to ours, in nats
    same_top: float  # share of positions where both find the same token likeliest
    n_tokens: int

    @property
    def text(self) -> str:
        """One line."""
        return (
            f"NMSE {self.nmse:.2g}, mean KLD {self.mean_kld:.2g}, same top {100 * self.same_top:.0f}% "
            f"over {self.n_tokens} tokens"
        )


def compare(expected: Logits, found: Logits) -> Fidelity:
    """Logits [n_tokens, n_vocab] of the original and of the converted model. NaN counts as infinitely far."""
    import numpy as np

    n_tokens = len(expected)
    if not np.isfinite(found).all():
        return Fidelity(float("inf"), float("inf"), 0.0, n_tokens)
    error = power = divergence = 0.0
    same = 0
    for a, b in zip(found, expected, strict=True):
        ours, original = a.astype(np.float64), b.astype(np.float64)
        error += float(np.sum((ours - original) ** 2))
        power += float(np.sum(original**2))
        log_p, log_q = _log_softmax(original), _log_softmax(ours)
        divergence += float(np.sum(np.exp(log_p) * (log_p - log_q)))
        same += int(np.argmax(ours) == np.argmax(original))
    nmse = error / power if power else float(error > 0)
    return Fidelity(nmse, divergence / n_tokens, same / n_tokens, n_tokens)


def _log_softmax(logits: Any) -> Any:
    import numpy as np

    shifted = logits - logits.max()
    return shifted - np.log(np.sum(np.exp(shifted)))


def check(fidelity: Fidelity, types: Iterable[str], culprit: Callable[[], str]) -> None:
    """Raise CheckFailedError when the logits are farther off than the coarsest of `types` explains.

    `culprit` is then asked what the reason is.
    """
    bounds = {name: MAX_NMSE.get(name) for name in types}
    if None in bounds.values():
        return
    coarsest = max(bounds, key=lambda name: bounds[name] or 0.0)
    if not fidelity.nmse <= MAX_NMSE[coarsest]:
        raise CheckFailedError(
            f"the check of the logits failed: NMSE {fidelity.nmse:.3g} against the original, where {coarsest} "
            f"explains at most {MAX_NMSE[coarsest]:g}; {culprit()}"
        )
