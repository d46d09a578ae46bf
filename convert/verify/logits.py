"""How far a converted model's logits are from the original's on a short text, and how far they may be.

The original is the oracle in models/reference/. Knows arrays and types, no files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgellm.errors import CheckFailedError

if TYPE_CHECKING:
    from edgellm.convert.verify.original import Original
    from edgellm.models.base import TensorSpec
    from edgellm.session import Logits

#: A little of everything a model sees, so that many rows of the embedding take part.
TEXT = (
    "The quick brown fox said: 'It's 12:45, 5°C.' 你好，世界！def f(x): return x**2 # Здравствуй 🙂\n"
    "In 1923 a small group of engineers left the harbour and walked along the coast for three days, because the "
    "old bridge (built of stone) had been closed. 昨天下午，老师问学生们，为什么水在零度的时候会结冰。\n"
    "for i in range(10):\n    total += values[i] * 0.5\nMost of them agreed with her; one didn't, and said so."
)
N_TOKENS = 100  # a share of them is told in percent; each costs the oracle and the engine a row of logits

#: Relative mean square error that a type brings into a matrix product: rounding of the weights (measured on
#: normal weights) and of the inputs, which the engine converts as well.
ROUNDING: dict[str, float] = {
    "F32": 1e-13,
    "F16": 4e-8,
    "BF16": 2e-6,
    "Q8_0": 6e-5,
    "Q6_K": 3.5e-4,
    "Q5_K": 1.4e-3,
    "Q5_0": 1.9e-3,
    "Q5_1": 1.5e-3,
    "Q4_K": 5.2e-3,
    "Q4_0": 7.5e-3,
    "Q4_1": 6.2e-3,
    "IQ4_NL": 5.9e-3,
    "IQ4_XS": 6.0e-3,
    "MXFP4": 1.3e-2,
    "Q3_K": 2.3e-2,
    "IQ3_S": 2.8e-2,
    "IQ3_XXS": 4.6e-2,
    "IQ2_S": 7.1e-2,
    "Q2_K": 8.8e-2,
    "IQ2_XS": 9.1e-2,
    "IQ2_XXS": 0.12,
    "IQ1_S": 0.24,
    "IQ1_M": 0.34,
    "TQ1_0": 0.65,
    "TQ2_0": 0.65,
}


ORDINARY, ORDINARY_MOST = 20.0, 0.1  # times the rounding of a type: no further question below it
MARGIN = 4.0  # times what the oracle says of this model


@dataclass(frozen=True)
class Floor:
    """What may be called verified at all, however well rounding explains it."""

    rounding: float  # of the coarsest types this floor is for
    nmse: float  # at most
    same_top: float  # at least, a share of the positions


#: NMSE 1 is what no answer at all scores (all logits 0), and the same top token is what one sees at temperature 0.
#: People take 6 bits and more for the original itself, 4 and 5 for nearly it, 2 and 3 for a worse one; below
#: that a model is only asked to be better than none. Measured on ordinary models, tiny ones included: 8 bits
#: NMSE 0.002 and 96% at worst, 4 bits 0.06 and 61%, 3 bits 0.2 and 32%, 2 bits 0.4 and 29%.
FLOORS = (
    Floor(1e-3, 0.25, 0.5),
    Floor(2e-2, 0.5, 0.25),
    Floor(0.13, 0.75, 0.1),
    Floor(float("inf"), 1.0, 0.0),
)


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


def expected_nmse(
    original: Original, tokens: Sequence[int], expected: Logits, rounding: Callable[[TensorSpec], float]
) -> float:
    """The NMSE that rounding alone brings about in this model: the oracle again, its inputs shaken that much.

    `rounding` gives the relative mean square error of the product with a tensor. Noise on a product's inputs
    does what the same relative noise on its weights would. Seeded, so the same for the same model. Held against
    the engine on eight models and thirteen types, the truth is 0.06 to 2.3 times this.
    """
    import numpy as np

    from edgellm.models.base import Role

    rng = np.random.default_rng(0)

    def shake(role: Role, layer: int | None, expert: int | None, inputs: Logits) -> None:
        tensor = original.spec.tensor(role, layer) or original.spec.tensor(Role.TOKEN_EMBD)  # a tied head
        assert tensor is not None
        size = np.float32(rounding(tensor) ** 0.5)
        inputs *= 1 + size * rng.standard_normal(inputs.shape, dtype=np.float32)

    return compare(expected, original.logits(tokens, watch=shake)).nmse


def check(
    fidelity: Fidelity, rounding: float, expected: Callable[[], float], culprit: Callable[[], str]
) -> str | None:
    """Raise CheckFailedError when the logits are farther off than rounding explains; `culprit` says why.

    `rounding` is that of the coarsest type. An ordinary model multiplies it by 10 or so; when this one seems to
    do more, `expected` is asked what it really does. Gives a remark when that is so much that logits prove
    little, else None.
    """
    remark = None
    if not fidelity.nmse <= min(ORDINARY * rounding, ORDINARY_MOST):
        explained = expected()
        if not fidelity.nmse <= MARGIN * explained:
            raise CheckFailedError(
                f"the check of the logits failed: NMSE {fidelity.nmse:.3g} against the original, where rounding "
                f"explains {explained:.2g}; {culprit()}"
            )
        if MARGIN * explained >= 1.0:
            remark = (
                f"rounding alone gives NMSE {explained:.2g} in this model, so that its logits prove little"
            )
    check_floor(fidelity, rounding)
    return remark


def check_floor(fidelity: Fidelity, rounding: float) -> None:
    """Raise CheckFailedError for a model that is too far from its original for its type, whatever the reason."""
    floor = next(floor for floor in FLOORS if rounding <= floor.rounding)
    if not fidelity.nmse < floor.nmse or fidelity.same_top < floor.same_top:
        raise CheckFailedError(
            f"the check of the logits failed: {fidelity.text}, where a type of this size is verified below NMSE "
            f"{floor.nmse:g} with the same top at {100 * floor.same_top:.0f}% or more: rounding ruins this model, "
            "choose a type of more bits"
        )
