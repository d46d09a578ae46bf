"""Snippets of program text and data for the calibration text: shapes filled with drawn names and numbers."""

from __future__ import annotations

import random

from edgellm.calibration.words import ACTIONS, IDENTIFIERS, NAMES

_SHAPES = (
    '''def {action}_{a}({a}s: list[int], {b}: int = {n}) -> dict[str, float]:
    """Return the {b} of every {a} above {m}."""
    found = {{}}
    for {i}, {a} in enumerate({a}s):
        if {a} % {small} == 0 or {a} > {b} * {m}:
            continue
        found[f"{a}_{{{i}}}"] = {a} / ({b} + 1e-{small})
    return found''',
    """class {C}:
    def __init__(self, {a}, *, {b}=None):
        self.{a} = {a}
        self._{b} = {b} or []

    def {action}(self, {c}):
        try:
            return self._{b}[{c}] ** {small}
        except IndexError as error:
            raise ValueError(f"no {b} at {{{c}}}, there are {{len(self._{b})}}") from error""",
    """#include <stdio.h>

static int {action}_{a}(const float *{b}, size_t n_{b}, float *out) {{
    for (size_t {i} = 0; {i} < n_{b}; ++{i}) {{
        out[{i}] = {b}[{i}] * {n}.0f - 0x{n:02x};
    }}
    return n_{b} > {m} ? -1 : 0;  /* {a} is full */
}}""",
    """async function {action}{C}({a}, {b} = {n}) {{
  const response = await fetch(`/api/{a}s/${{{a}.id}}?{b}=${{{b}}}`);
  if (!response.ok) throw new Error("{action} failed: " + response.status);
  return (await response.json()).filter(({c}) => {c}.{b} !== null && {c}.size >= {m});
}}""",
    """SELECT {a}.id, COUNT({b}.id) AS n_{b}, AVG({b}.{c}) FROM {a}
LEFT JOIN {b} ON {b}.{a}_id = {a}.id
WHERE {b}.created >= '20{small}4-0{small}-1{small}' AND {c} IN ({n}, {m})
GROUP BY {a}.id HAVING COUNT({b}.id) > {small} ORDER BY 2 DESC LIMIT {n};""",
    """{{"{a}": {{"id": {n}, "{b}": [{m}, {small}, null, true], "name": "{name}"}},
 "{c}": "{action}/{a}-{n}.json", "ratio": 0.{m}, "tags": ["{a}", "{b}"]}}""",
    """$ {action} --{a} {n} --{b}={m} ./{c}/*.txt | sort -k{small} | uniq -c > {a}.log
{a}.log: {n} lines, {m} errors
$ if [ -f "{b}.sh" ]; then chmod +x "{b}.sh" && ./{b}.sh; fi""",
    """## {C}

| {a} | {b} | {c} |
|---|---:|---:|
| {action} | {n} | {m}.{small} |
| {name} | {m} | 0.{n} |

- [x] {action} the {a}
- [ ] see `{b}.{c}()` and <https://example.org/{a}/{n}>""",
    """x_{small} = {n} * y + {m};  y^2 - {small}y + {m} = 0  =>  y = ({small} ± sqrt({n})) / 2
{n} / {small} = {quotient:.4f}    {n} × {m} = {product}    {n} - {m} = {difference}""",
    """fn {action}_{a}({b}: &[u32], {c}: usize) -> Option<u64> {{
    let mut {a} = {n}u64;
    for ({i}, value) in {b}.iter().enumerate().skip({c}) {{
        {a} = {a}.wrapping_mul({m}).checked_add(u64::from(*value) << ({i} % {small}))?;
    }}
    Some({a})
}}""",
)


def snippet(rng: random.Random) -> str:
    """One snippet, of Python, C, JavaScript, SQL, JSON, shell, Markdown, mathematics or Rust."""
    a, b, c = rng.sample(IDENTIFIERS, 3)
    n, m, small = rng.randint(2, 255), rng.randint(2, 99), rng.randint(1, 9)
    return rng.choice(_SHAPES).format(
        a=a,
        b=b,
        c=c,
        C=rng.choice(IDENTIFIERS).capitalize() + rng.choice(IDENTIFIERS).capitalize(),
        i=rng.choice("ijk"),
        action=rng.choice(ACTIONS),
        name=rng.choice(NAMES),
        n=n,
        m=m,
        small=small,
        quotient=n / small,
        product=n * m,
        difference=n - m,
    )
