"""Guessing ahead against plain decoding, side by side: copy-heavy text, other text, both engines.

    python bench/speculation.py MODEL... [--draft MODEL] [-n 192] [-t 2] [--rounds 3] [--agree 0.8]

MODEL is a GGUF file, an ONNX folder or anything else `edgellm run` takes. Four texts: `rewrite` (a text, then the
text again with every 25th word changed), `fix` (code, then the code with a few names changed), `other` (a text, then
one that shares little with it), and `free` (what the model itself goes on with, greedily).

A model with random weights copies nothing, so in the first three its answer is scripted: a constraint leaves one id
at every place, for plain decoding as well. Every evaluation, draw and draft token is real, and so is what
decides whether to draft; only what the model would say is given. In `free` nothing is scripted, and answers are
compared: where they differ, the lead of the plain id over the other is given in standard deviations of the logits.

With --draft, that model is the drafter. Where the answer is scripted, its draft tokens are too: right at a rate of
--agree, at the cost of its own evaluations. Sides take turns (ABBA); ratios are of neighbours, medians over rounds.
Each side is warmed up once, and keeps its drafter as a chat does. The last line is one JSON object.
"""

import argparse
import json
import random
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from edgellm import backends
from edgellm.calibration import code, text
from edgellm.cli.shared import model_argument
from edgellm.formats.artifact import Artifact
from edgellm.generation import generate
from edgellm.generation.generate import GenerateOptions
from edgellm.generation.speculative import DraftModel, Lookup
from edgellm.session import GREEDY, EngineOptions, Session


class Script:
    """A constraint that leaves no choice, and serves as the grammar that starts it."""

    ended = False
    valid = True

    def __init__(self, ids: Sequence[int]) -> None:
        self.ids, self.at = list(ids), 0

    def start(self, session: Session, n_max: int) -> "Script":
        """A fresh one."""
        return Script(self.ids)

    def apply(self, logits: Any) -> None:
        """Leave the one id."""
        chosen = logits[self.ids[self.at]]
        logits.fill(float("-inf"))
        logits[self.ids[self.at]] = max(chosen, 0.0)

    def take(self, token: int) -> int:
        """Go on."""
        self.at += 1
        return token

    def forced(self) -> Sequence[int]:
        """Nothing, though everything is: drafting is what is measured."""
        return ()


class AgreeingDraft(DraftModel):
    """A draft model that evaluates as any, and then says what the script says, at a given rate."""

    def __init__(self, artifact: Artifact, options: EngineOptions, agree: float) -> None:
        super().__init__(artifact, options)
        self.script: list[int] = []
        self.begins, self._agree, self._rng = 0, agree, random.Random(0)

    def begin(self, session: Session) -> None:
        """Remember where the answer begins."""
        super().begin(session)
        self.begins = len(self._ids)

    def _drawn(self, session: Session, n: int) -> list[int]:
        drawn = super()._drawn(session, n)
        if not self.script:
            return drawn
        at = len(self._ids) - self.begins
        said = self.script[at : at + n]
        return [token if self._rng.random() < self._agree else drawn[0] for token in said]


def texts(n: int) -> dict[str, tuple[str, str]]:
    """Prompt and answer of the scripted cases, long enough for `n` ids."""
    rng = random.Random(3)
    words = text.text(40 * n, seed=11).split(" ")
    passage = words[:n]
    rewritten = [word if (i + 1) % 25 else rng.choice(words) for i, word in enumerate(passage)]
    snippets = "\n".join(code.snippet(rng) for _ in range(max(n // 20, 2)))
    fixed = snippets.replace("return", "yield", 2).replace("self", "this", 3)
    other = text.text(40 * n, seed=97)
    return {
        "rewrite": (f"Rewrite this:\n{' '.join(passage)}\n\n", " ".join(rewritten)),
        "fix": (f"Fix this code:\n{snippets}\n\n", fixed),
        "other": (f"Read this:\n{' '.join(passage)}\n\n", other[len(other) // 2 :]),
    }


def decode(session: Session, prompt: Sequence[int], answer: list[int], n: int, drafter: Any) -> Any:
    """One answer after a prompt that is in the cache but for its last id."""
    if drafter is not None:
        drafter.script = answer
    script: Any = Script(answer) if answer else None
    todo = GenerateOptions(max_tokens=n, sampling=GREEDY, ignore_eos=True, grammar=script, drafter=drafter)
    return generate.stream(session, prompt, todo).completion


def case(
    session: Session, prompt: list[int], answer: list[int], args: argparse.Namespace, make: Callable[[], Any]
) -> dict[str, Any]:
    n, drafter = (min(len(answer), args.gen) if answer else args.gen), make()
    rates: dict[str, list[float]] = {"plain": [], "drafting": []}
    said: dict[str, tuple[int, ...]] = {}
    for turn in range(-1, args.rounds):  # turn -1 warms up
        sides = (("plain", None), ("drafting", drafter))
        for name, side in sides if turn % 2 else sides[::-1]:
            done = decode(session, prompt, answer, n, side)
            said[name] = done.tokens
            if turn >= 0:
                rates[name].append(done.usage.decode_rate)
    ratios = [fast / plain for plain, fast in zip(rates["plain"], rates["drafting"], strict=True)]
    found = {"ids": n, "rates": rates, "ratio": statistics.median(ratios), "ratios": ratios}
    found["median"] = {side: statistics.median(values) for side, values in rates.items()}
    return found | lead(session, prompt, said["plain"], said["drafting"])


def lead(session: Session, prompt: list[int], plain: Sequence[int], fast: Sequence[int]) -> dict[str, Any]:
    """Whether the answers are the same, and how near the tie was where they are not."""
    at = next((i for i, (a, b) in enumerate(zip(plain, fast, strict=True)) if a != b), None)
    if at is None:
        return {"same": True}
    session.rewind(0)
    logits = session.eval([*prompt, *plain[:at]])
    return {
        "same": False,
        "differs_at": at,
        "lead_in_std": float((logits[plain[at]] - logits[fast[at]]) / logits.std()),
    }


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    options = EngineOptions(n_ctx=8 * args.gen + 512, n_threads=args.threads, n_threads_batch=args.threads)
    kinds: dict[str, Callable[[], Any]] = {"lookup": Lookup}
    if args.draft:
        kinds["draft"] = lambda: AgreeingDraft(model_argument.resolve(args.draft), options, args.agree)
    found: dict[str, Any] = {}
    with backends.open_session(model_argument.resolve(name), options) as session:
        for kind, make in kinds.items():
            for label, (before, after) in {**texts(args.gen), "free": texts(args.gen)["rewrite"]}.items():
                prompt = session.tokenize(before, special=False)
                answer = [] if label == "free" else session.tokenize(after, special=False)[: args.gen]
                found[f"{kind} {label}"] = row = case(session, prompt, answer, args, make)
                same = (
                    "same"
                    if row["same"]
                    else f"differs at {row['differs_at']}, lead {row['lead_in_std']:.3f} std"
                )
                print(
                    f"{name.rpartition('/')[2]:28} {kind:7} {label:8} plain {row['median']['plain']:8.1f} tok/s  "
                    f"drafting {row['median']['drafting']:8.1f} tok/s  ratio {row['ratio']:.2f}  {same}",
                    flush=True,
                )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--draft", metavar="MODEL")
    parser.add_argument("--agree", type=float, default=0.8)
    parser.add_argument("-n", "--gen", type=int, default=192)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    results = {name: measure(name, args) for name in args.models}
    print(json.dumps({"gen": args.gen, "threads": args.threads, "draft": args.draft, "models": results}))


if __name__ == "__main__":
    main()
