"""The choice of types against every choice there is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgellm.convert.recipes.recipe import parse
from edgellm.convert.recipes.rules import Subject, first_match
from edgellm.errors import CheckFailedError
from edgellm.recipes.solve import Problem, as_rules, solve, together


def best_of_all(problem: Problem) -> float:
    n, k = problem.kld.shape
    every = (np.array(choice) for choice in itertools.product(range(k), repeat=n))
    return min(problem.totals(choice)[0] for choice in every if problem.fits(choice))


@pytest.mark.parametrize("seed", range(6))
def test_near_the_best_of_all_and_within_limits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bits = np.array([3.5, 4.5, 5.5, 8.5])
    size, weight = rng.uniform(0.2, 1, (7, 1)), rng.uniform(0.1, 2, (7, 1))
    kld = weight * 4.0**-bits * rng.uniform(0.7, 1.4, (7, 4))
    problem = Problem(
        kld, size * bits, size * np.array([1.0, 0.7, 2.0, 1.1]), 5.6 * size.sum(), 1.2 * size.sum()
    )
    choice = solve(problem)
    assert problem.fits(choice)
    assert problem.totals(choice)[0] <= 1.25 * best_of_all(problem)


def test_what_cannot_be_is_said_with_what_can() -> None:
    problem = Problem(np.ones((2, 2)), np.array([[2e6, 4e6]] * 2), np.zeros((2, 2)), 3e6)
    with pytest.raises(CheckFailedError, match=r"smallest takes 4\.0 MB"):
        solve(problem)


def test_matrices_of_one_unit_have_one_type() -> None:
    problem = Problem(np.array([[1.0, 5.0], [9.0, 1.0]]), np.ones((2, 2)), np.zeros((2, 2)))
    assert solve(together(problem, [0, 0])).tolist() == [1] and solve(problem).tolist() == [0, 1]


def test_rules_say_again_what_was_chosen() -> None:
    rng = np.random.default_rng(3)
    roles = [role for role in ("ffn_down", "attn_v") for _ in range(9)] + ["output"]
    layers = [*range(9), *range(9), -1]
    types = rng.choice(["Q4_0", "Q8_0", "IQ4_NL"], len(roles)).tolist()
    lines = "\n".join(f'"{pattern}" = "{type_}"' for pattern, type_ in as_rules(roles, layers, types))
    patterns = parse(f'base = "Q4_0"\n[types]\n{lines}', "r").patterns
    for role, layer, type_ in zip(roles, layers, types, strict=True):
        assert first_match(patterns, Subject(f"blk.{layer}.{role}.weight", (role,), layer, 9)) == type_
