"""Means with honest errors: neighbouring tokens of a text are not independent, so blocks of them are the samples.

Knows numbers and where blocks begin; knows no model.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Blocks = npt.NDArray[np.int64]  # the block each position belongs to, [n], counted from 0

#: Positions in a block. Errors at neighbouring tokens are correlated over words, hardly over sentences.
BLOCK_POSITIONS = 32
_REPLICATES = 200
_Z95 = 1.959964


@dataclass(frozen=True)
class Estimate:
    """A figure and its standard error; None where none can be given (one block, or a maximum)."""

    value: float
    error: float | None

    def scaled(self, factor: float) -> Estimate:
        """The same in other units."""
        return Estimate(self.value * factor, None if self.error is None else self.error * abs(factor))


@dataclass(frozen=True)
class Share:
    """k of n, with Wilson's 95% score interval (E. B. Wilson, JASA 22, 1927)."""

    k: int
    n: int

    @property
    def value(self) -> float:
        """k / n; NaN of nothing."""
        return self.k / self.n if self.n else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Never outside [0, 1], and right for shares near 0 and 1, where the usual formula gives no width."""
        if not self.n:
            return 0.0, 1.0
        z2 = _Z95**2
        centre = (self.k + z2 / 2) / (self.n + z2)
        half = _Z95 / (self.n + z2) * math.sqrt(self.k * (self.n - self.k) / self.n + z2 / 4)
        return max(0.0, centre - half), min(1.0, centre + half)


def block_ids(lengths: list[int]) -> Blocks:
    """Cut chunks of the given numbers of positions into blocks of nearly equal size, none across two chunks."""
    ids: list[Blocks] = []
    first = 0
    for length in lengths:
        n_blocks = max(1, round(length / BLOCK_POSITIONS))
        ids.append(first + np.arange(length, dtype=np.int64) * n_blocks // max(1, length))
        first += n_blocks
    return np.concatenate(ids) if ids else np.zeros(0, np.int64)


def mean(values: Floats, blocks: Blocks) -> Estimate:
    """The mean over positions, its error between blocks."""
    return ratio(values, np.ones_like(values), blocks)


def ratio(numerator: Floats, denominator: Floats, blocks: Blocks) -> Estimate:
    """sum(numerator) / sum(denominator) with the linearised error of a ratio of block totals.

    W. G. Cochran, Sampling Techniques, 3rd ed. 1977, chapter 6; with denominator 1 it is the clustered standard
    error of a mean.
    """
    top, bottom = (np.bincount(blocks, each) for each in (numerator, denominator))
    total = float(bottom.sum())
    value = float(top.sum()) / total
    n_blocks = len(top)
    if n_blocks < 2:
        return Estimate(value, None)
    residuals = top - value * bottom
    variance = n_blocks / (n_blocks - 1) * float(residuals @ residuals)
    return Estimate(value, math.sqrt(variance) / total)


def exponential(estimate: Estimate) -> Estimate:
    """exp of an estimate, its error to first order."""
    value = math.exp(estimate.value)
    return Estimate(value, None if estimate.error is None else value * estimate.error)


def root(estimate: Estimate) -> Estimate:
    """The square root of an estimate, its error to first order."""
    value = math.sqrt(max(0.0, estimate.value))
    return Estimate(value, estimate.error / (2 * value) if estimate.error is not None and value else None)


def quantiles(values: Floats, shares: list[float], blocks: Blocks, seed: int = 0) -> list[Estimate]:
    """Quantiles, each with the spread of its bootstrap over blocks.

    B. Efron, R. Tibshirani, An Introduction to the Bootstrap, 1993; blocks: H. R. Künsch, Annals of Statistics
    17, 1989. `seed` makes the replicates repeatable.
    """
    found = np.quantile(values, shares)
    n_blocks = int(blocks[-1]) + 1
    if n_blocks < 2:
        return [Estimate(float(value), None) for value in found]
    starts = np.searchsorted(blocks, np.arange(n_blocks + 1))
    pieces = [values[a:b] for a, b in itertools.pairwise(starts)]
    rng = np.random.default_rng(seed)
    replicates: npt.NDArray[Any] = np.array(
        [
            np.quantile(np.concatenate([pieces[i] for i in rng.integers(0, n_blocks, n_blocks)]), shares)
            for _ in range(_REPLICATES)
        ]
    )
    errors = replicates.std(axis=0, ddof=1)
    return [Estimate(float(value), float(error)) for value, error in zip(found, errors, strict=True)]
