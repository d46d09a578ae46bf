"""Prompt lookup and forced tokens on real weights and real prompts, beside plain decoding.

    python bench/lookup.py MODEL... [-n 160] [-t 2] [--rounds 3] [--temp 0] [--cases rewrite,fix,...]

MODEL is a trained model with a chat template, as `edgellm run` takes it. The prompts are those of
speculation_prompts.toml, through the model's template: answers that copy what was given, answers in the model's own
words, and answers shaped by a JSON schema. Nothing of an answer is given: each side writes its own, with the same
seed, and where they differ it is said at which token. Rates are tokens a second after the first, so that answers of
different lengths compare.

`plain` decodes one token at a time, `lookup` drafts by a fresh `Lookup` for every answer, as the first answer of a
chat has it: what evaluations take is learned within the answer. Shaped answers have a third side: `forced` evaluates
the tokens that the schema leaves no choice about in one batch, which is what edgellm always does; `plain` here does
not. Sides take turns (ABBA) after a warm-up of each; a ratio is of neighbours, and the median over rounds is told.
Tokens per call are tokens drawn over evaluations. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgellm import backends, toml
from edgellm.chat.conversation import Conversation
from edgellm.cli.shared import model_argument, open_model
from edgellm.generation.constraints import Grammar
from edgellm.generation.generate import Completion, GenerateOptions
from edgellm.generation.speculative import Lookup
from edgellm.session import EngineOptions, Sampling, Session

PROMPTS = Path(__file__).with_name("speculation_prompts.toml")
_SEED = 7


class Counted(Lookup):
    """Prompt lookup that counts evaluations and draft tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.n_evaluations = self.n_drafted = 0

    def draft(self, room: int) -> Sequence[int]:
        """As it does."""
        found = super().draft(room)
        self.n_evaluations += 1
        self.n_drafted += len(found)
        return found


class Shape:
    """A grammar whose forced tokens are drafted or not; counts them, and in a warm-up the ids without a choice."""

    def __init__(self, schema: str, *, forced: bool, counting: bool = False) -> None:
        self._grammar, self._forced, self._counting = Grammar.json_schema(schema), forced, counting
        self.n_forced = self.n_single = self.n_calls = 0
        self._constraint: Any = None

    def start(self, session: Session, n_max: int) -> Shape:
        """Begin an answer."""
        self._constraint = self._grammar.start(session, n_max)
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._constraint, name)

    def apply(self, logits: Any) -> None:
        """As it does; a warm-up counts what is left."""
        self._constraint.apply(logits)
        if self._counting:
            self.n_single += int(np.isfinite(logits).sum() == 1)

    def forced(self) -> Sequence[int]:
        """What the schema leaves no choice about, or nothing."""
        self.n_calls += 1
        found: Sequence[int] = self._constraint.forced() if self._forced else ()
        self.n_forced += len(found)
        return found


def answer(
    session: Session, template: Any, prompt: str, args: argparse.Namespace, drafter: Any, shape: Any
) -> Completion:
    """One answer to one message; the prompt but for its last token is in the cache after the first time."""
    options = GenerateOptions(
        max_tokens=args.gen,
        sampling=Sampling(temperature=args.temp, seed=_SEED),
        drafter=drafter,
        grammar=shape,
    )
    return Conversation(session, template, options=options).ask(prompt).completion


def case(session: Session, template: Any, todo: dict[str, str], args: argparse.Namespace) -> dict[str, Any]:
    """All sides of one prompt, in turns."""
    shaped = "schema" in todo
    sides = ("plain", "forced", "lookup") if shaped else ("plain", "lookup")
    rates: dict[str, list[float]] = {side: [] for side in sides}
    said: dict[str, tuple[int, ...]] = {}
    calls: dict[str, float] = {}
    found: dict[str, Any] = {"kind": todo["kind"]}
    for turn in range(-1, args.rounds):  # turn -1 warms up
        for side in sides[:: 1 if turn % 2 else -1]:
            drafter = Counted() if side == "lookup" else None
            shape = None
            if shaped:
                shape = Shape(todo["schema"], forced=side != "plain", counting=turn < 0)
            done = answer(session, template, todo["prompt"], args, drafter, shape)
            n = len(done.tokens)
            said[side] = done.tokens
            if turn >= 0:
                rates[side].append(done.usage.decode_rate or 0.0)
            elif shape is not None and side == "forced":
                found |= {"n_forced": shape.n_forced, "n_single": shape.n_single}
            n_calls = shape.n_calls if shape is not None else drafter.n_evaluations if drafter else n
            calls[side] = n / max(n_calls, 1)
    found |= {"n": len(said["plain"]), "rates": rates, "tokens_per_call": calls}
    found["median"] = {side: statistics.median(rates[side]) for side in sides}
    for side in sides[1:]:
        ratios = [fast / plain for plain, fast in zip(rates["plain"], rates[side], strict=True)]
        pairs = zip(said["plain"], said[side], strict=False)
        found[side] = {
            "ratio": statistics.median(ratios),
            "ratios": ratios,
            "differs_at": next((i for i, (a, b) in enumerate(pairs) if a != b), None),
        }
    return found


def line(name: str, row: dict[str, Any]) -> str:
    """A case for people."""
    text = f"  {name:9} {row['kind']:10} {row['n']:4} tokens  plain {row['median']['plain']:6.1f} tok/s"
    for side in ("forced", "lookup"):
        if side in row:
            at = row[side]["differs_at"]
            same = "same" if at is None else f"differs at {at}"
            ratio, calls = row[side]["ratio"], row["tokens_per_call"][side]
            text += f"  {side} {ratio:5.2f} ({calls:4.2f} a call, {same})"
    return text + (f"  forced {row['n_forced']}, single {row['n_single']}" if "n_forced" in row else "")


def measure(name: str, cases: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """All cases on one model."""
    options = EngineOptions(n_ctx=2048, n_threads=args.threads, n_threads_batch=args.threads)
    artifact = model_argument.resolve(name)
    template = open_model.template(artifact)
    if template is None:
        sys.exit(f"{name} has no chat template")
    print(artifact.path.name, flush=True)
    rows: dict[str, Any] = {}
    with backends.open_session(artifact, options) as session:
        for label, todo in cases.items():
            rows[label] = case(session, template, todo, args)
            print(line(label, rows[label]), flush=True)
    return rows


def main() -> None:
    """Measure, print a line for each case, end with JSON."""
    cases = toml.loads(PROMPTS.read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("-n", "--gen", type=int, default=160)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--temp", type=float, default=0.0)
    parser.add_argument("--cases", default=",".join(cases), help="which of: %(default)s")
    args = parser.parse_args()
    chosen = {name: cases[name] for name in args.cases.split(",")}
    results = {Path(name).name: measure(name, chosen, args) for name in args.models}
    print(
        json.dumps(
            {
                "bench": "lookup",
                "gen": args.gen,
                "threads": args.threads,
                "temp": args.temp,
                "models": results,
            }
        )
    )


if __name__ == "__main__":
    main()
