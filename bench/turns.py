"""Tokens evaluated before each answer of a ten-turn chat: edgellm beside llama-cpp-python's create_chat_completion.

    python bench/turns.py MODEL.gguf [--turns 10] [--answer 48]

Counted at llama_decode, which both call: everything evaluated between a turn's beginning and its first draw. Three
chats, of the same messages on both sides: `whole`, where history is what was said; `thoughts dropped`, where an answer
stays in history without its first two thirds, as templates drop a model's thoughts; `edited`, where every third message
takes the place of the one before. `new` is what no cache can hold: the prompt less what it shares with the sequence
before. Counts, not times, so a busy machine changes nothing. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import edgellm
from edgellm.backends.llama import lib as llama_lib
from edgellm.session import EngineOptions

N_CTX = 2048
QUESTION = "Number {}: tell me about rivers, bread, a small robot and the weather in the year it was built."
CHATS = ("whole", "thoughts dropped", "edited")

Messages = list[dict[str, str]]
Ask = Callable[[Messages], str]


@dataclass
class Counter:
    """Tokens given to llama_decode; how many before the first draw after `begin`."""

    evaluated: int = 0
    before_draw: int | None = None

    def begin(self) -> None:
        """A turn begins."""
        self.evaluated, self.before_draw = 0, None

    @contextmanager
    def counting(self) -> Iterator[None]:
        """While the block runs, both libraries' calls are seen."""
        lib = llama_lib.load()
        decode, sample = lib.llama_decode, lib.llama_sampler_sample

        def counted(context: Any, batch: Any) -> Any:
            self.evaluated += batch.n_tokens
            return decode(context, batch)

        def drawn(*args: Any) -> Any:
            if self.before_draw is None:
                self.before_draw = self.evaluated
            return sample(*args)

        lib.llama_decode, lib.llama_sampler_sample = counted, drawn
        try:
            yield
        finally:
            lib.llama_decode, lib.llama_sampler_sample = decode, sample


@dataclass
class Chat:
    """One side's conversation."""

    ask: Ask
    kind: str
    n_turns: int
    counter: Counter
    prefilled: list[int] = field(default_factory=list)
    messages: Messages = field(default_factory=list)

    def run(self) -> list[int]:
        """Tokens evaluated before each answer."""
        for turn in range(1, self.n_turns + 1):
            if self.kind == "edited" and turn % 3 == 0:
                del self.messages[-2:]
            self.messages.append({"role": "user", "content": QUESTION.format(turn)})
            self.counter.begin()
            with self.counter.counting():
                answer = self.ask(self.messages)
            self.prefilled.append(self.counter.before_draw or 0)
            kept = answer[2 * len(answer) // 3 :] if self.kind == "thoughts dropped" else answer
            self.messages.append({"role": "assistant", "content": kept})
        return self.prefilled


def ask_edgellm(path: str, n_answer: int, new: list[int]) -> tuple[Ask, Callable[[], None]]:
    """Through the Python API; `new` takes what each prompt has that the sequence before had not."""
    options = EngineOptions(n_ctx=N_CTX, n_threads=1, device="cpu")
    model = edgellm.load(path, options=options)
    before: list[int] = []

    def ask(messages: Messages) -> str:
        nonlocal before
        stream = model.stream(messages, max_tokens=n_answer, temperature=0.0, ignore_eos=True)
        answer = "".join(stream)
        after, n_prompt = list(model.session.tokens), stream.answer.usage.n_prompt
        pairs = zip(before, after[:n_prompt], strict=False)
        shared = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(before), n_prompt))
        new.append(n_prompt - shared)
        before = after
        return answer

    return ask, model.close


def ask_peer(path: str, n_answer: int) -> tuple[Ask, Callable[[], None]]:
    """llama-cpp-python's high level."""
    from llama_cpp import Llama

    llama = Llama(path, n_ctx=N_CTX, n_threads=1, n_threads_batch=1, verbose=False)

    def ask(messages: Messages) -> str:
        answer: Any = llama.create_chat_completion(messages, max_tokens=n_answer, temperature=0.0)
        return str(answer["choices"][0]["message"]["content"])

    return ask, llama.close


def main() -> None:
    """Run all chats, print a table of each, end with the sums."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--answer", type=int, default=48, help="tokens an answer")
    args = parser.parse_args()
    sums: dict[str, dict[str, int]] = {}
    for kind in CHATS:
        new: list[int] = []
        rows: dict[str, list[int]] = {"new": new}
        for name, (ask, close) in {
            "edgellm": ask_edgellm(args.model, args.answer, new),
            "llama-cpp-python": ask_peer(args.model, args.answer),
        }.items():
            rows[name] = Chat(ask, kind, args.turns, Counter()).run()
            close()
        print(f"\n{kind}\n{'turn':18}" + "".join(f"{turn:6}" for turn in range(1, args.turns + 1)) + "   sum")
        for name, counts in rows.items():
            print(f"{name:18}" + "".join(f"{count:6}" for count in counts) + f"{sum(counts):6}")
        sums[kind] = {name: sum(counts) for name, counts in rows.items()}
    print(json.dumps({"turns": args.turns, "evaluated": sums}))


if __name__ == "__main__":
    main()
