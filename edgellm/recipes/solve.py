"""The mix of types of least predicted divergence under limits on bytes and time. Pure: numbers in, choices out.

Each matrix has candidates (divergence, bytes, seconds); one is chosen for each. The relaxation is Lagrange's: with
prices on bytes and seconds every matrix takes its cheapest candidate by itself, and prices are searched for that
just keep the limits; what is left over is then spent greedily.
H. Everett, Generalized Lagrange Multiplier Method, Operations Research 11 (1963).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgellm.errors import CheckFailedError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Choice = npt.NDArray[np.int64]

_PRICES = 48  # prices of a second tried, over twelve orders of magnitude
_HALVINGS = 60


@dataclass(frozen=True)
class Problem:
    """What each matrix (row) costs in each type (column). A type that a matrix cannot have is infinitely bad."""

    kld: Floats
    nbytes: Floats
    seconds: Floats
    max_bytes: float = float("inf")
    max_seconds: float = float("inf")

    def totals(self, choice: Choice) -> tuple[float, float, float]:
        """Divergence, bytes and seconds of a choice [n_matrices]."""
        rows = range(len(choice))
        return tuple(float(each[rows, choice].sum()) for each in (self.kld, self.nbytes, self.seconds))  # type: ignore[return-value]

    def fits(self, choice: Choice) -> bool:
        """Whether it keeps both limits."""
        _, nbytes, seconds = self.totals(choice)
        return nbytes <= self.max_bytes and seconds <= self.max_seconds


def together(problem: Problem, units: Sequence[int]) -> Problem:
    """The same with one row a unit: matrices that must have one type."""
    import numpy as np

    def summed(values: Floats) -> Floats:
        found = np.zeros((max(units) + 1, values.shape[1]))
        np.add.at(found, np.array(units), values)
        return found

    return replace(
        problem,
        kld=summed(problem.kld),
        nbytes=summed(problem.nbytes),
        seconds=summed(problem.seconds),
    )


def solve(problem: Problem) -> Choice:
    """The best choice found [n_matrices]. Raises CheckFailedError when nothing keeps the limits."""
    import numpy as np

    scale = problem.kld[np.isfinite(problem.kld)].sum() / max(problem.seconds.sum(), 1e-30)
    prices = [0.0, *(scale * 10.0**power for power in np.linspace(-6, 6, _PRICES))]
    found = [choice for price in prices if (choice := _by_bytes(problem, price)) is not None]
    if not found:
        least = problem.nbytes.min(axis=1, where=np.isfinite(problem.kld), initial=np.inf).sum()
        quickest = problem.seconds.min(axis=1, where=np.isfinite(problem.kld), initial=np.inf).sum()
        raise CheckFailedError(
            f"no mix of types keeps to {problem.max_bytes / 1e6:.1f} MB and {1e3 * problem.max_seconds:.2f} ms a "
            f"token; the smallest takes {least / 1e6:.1f} MB and the fastest {1e3 * quickest:.2f} ms"
        )
    best = min(found, key=lambda choice: problem.totals(choice)[0])
    return _spend(problem, best)


def _by_bytes(problem: Problem, per_second: float) -> Choice | None:
    """With a price on seconds, the least price on bytes that keeps the limit; None when none keeps both."""
    import numpy as np

    base = problem.kld + per_second * problem.seconds

    def at(per_byte: float) -> Choice:
        return np.asarray((base + per_byte * problem.nbytes).argmin(axis=1), np.int64)

    free = at(0.0)
    if problem.fits(free):
        return free
    low, high = 0.0, 1.0
    if not problem.fits(at(high)):
        return None
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5 if low else high / 1e3
        low, high = (low, middle) if problem.fits(at(middle)) else (middle, high)
        if low and high / low < 1.001:
            break
    return at(high)


def _spend(problem: Problem, choice: Choice) -> Choice:
    """Single changes that lower the divergence and keep the limits, the largest first."""
    import numpy as np

    choice = choice.copy()
    rows = np.arange(len(choice))
    while True:
        _, nbytes, seconds = problem.totals(choice)
        gain = problem.kld[rows, choice][:, None] - problem.kld
        fits = nbytes + problem.nbytes - problem.nbytes[rows, choice][:, None] <= problem.max_bytes
        fits &= seconds + problem.seconds - problem.seconds[rows, choice][:, None] <= problem.max_seconds
        gain = np.where(fits, gain, -np.inf)
        row, column = np.unravel_index(int(gain.argmax()), gain.shape)
        if gain[row, column] <= 0:
            return choice
        choice[row] = column


def as_rules(roles: Sequence[str], layers: Sequence[int], types: Sequence[str]) -> list[tuple[str, str]]:
    """Choices as a recipe's lines: for each role its exceptions by layer, then what the others have."""
    lines = []
    for role in dict.fromkeys(roles):
        own = [(layer, type_) for r, layer, type_ in zip(roles, layers, types, strict=True) if r == role]
        usual = max(sorted({type_ for _, type_ in own}), key=lambda t: sum(type_ == t for _, type_ in own))
        for other in sorted({type_ for _, type_ in own} - {usual}):
            lines.append((f"{role} {_ranges([layer for layer, type_ in own if type_ == other])}", other))
        lines.append((role, usual))
    return lines


def _ranges(layers: Sequence[int]) -> str:
    """E.g. `0-2,5`."""
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)
