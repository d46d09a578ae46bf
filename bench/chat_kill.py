"""kill -9 in the middle of conversations: what is said afterwards must be what would have been said anyway.

    python bench/chat_kill.py [MODEL] [--trials 50] [--seed 0] [--no-state]

A conversation at temperature 0 is held once without disturbance. Then, in every trial, `edgellm chat --save-state`
is killed with SIGKILL at a random moment after its first message is on disk (every tenth time: before), and
continued with `--resume` (an unanswered question is answered with /regen); its answers are compared with the
undisturbed ones. With --no-state the text is read again instead.
The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

QUESTIONS = (
    "My name is Ada.",
    "What is 12 + 30?",
    "Translate to Chinese: The girl drinks water by the river.",
    "What is my name?",
    "What is the capital of France?",
)
NAME = "talk"
COMMON = ("--temp", "0", "-n", "100", "--ignore-eos", "-t", "1", "-c", "2048", "--no-stats")


class Chat:
    """One data folder, and the conversation in it."""

    def __init__(self, model: str, folder: Path, *, state: bool) -> None:
        self._model, self._folder, self._state = model, folder, state
        self._file = folder / "chats" / f"{NAME}.json"

    @property
    def messages(self) -> list[dict[str, object]]:
        """What is on disk; unreadable JSON would raise, and end the bench."""
        if not self._file.exists():
            return []
        found: list[dict[str, object]] = json.loads(self._file.read_text(encoding="utf-8"))["messages"]
        return found

    def start(self) -> subprocess.Popen[bytes]:
        """Say all that is not said yet; the process is running when this returns."""
        said = self.messages
        lines = list(QUESTIONS[(len(said) + 1) // 2 :])
        if said:
            resume = ["--resume", NAME]
            lines = ["/regen", *lines] if len(said) % 2 else lines
        else:
            resume, lines = [], [f"/save -f {NAME}", *lines]
        state = ["--save-state"] if self._state else []
        command = [sys.executable, "-m", "edgellm", "chat", self._model, *COMMON, *state, *resume]
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=os.environ | {"EDGELLM_DATA": str(self._folder)},
        )
        assert child.stdin
        child.stdin.write("".join(f"{line}\n" for line in lines).encode())
        child.stdin.close()
        return child

    def wait_for_file(self, child: subprocess.Popen[bytes]) -> None:
        """Return when the first message is on disk, or the process is gone."""
        while child.poll() is None and not self._file.exists():
            time.sleep(0.002)

    def finish(self) -> tuple[float, str]:
        """Say the rest undisturbed; the seconds it took from the first message on, and standard error."""
        child = self.start()
        self.wait_for_file(child)
        begin = time.monotonic()
        assert child.stderr
        errors = child.stderr.read().decode()
        if child.wait():
            raise SystemExit(f"edgellm chat failed: {errors}")
        return time.monotonic() - begin, errors


def trial(model: str, seconds: float, *, begun: bool, state: bool) -> dict[str, object]:
    """Kill, go on, and say what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        chat = Chat(model, Path(folder), state=state)
        child = chat.start()
        if begun:
            chat.wait_for_file(child)
        time.sleep(seconds)
        child.kill()
        child.wait()
        n_before = len(chat.messages)
        _, errors = chat.finish()
        answers = [message["content"] for message in chat.messages]
        left = [path.name for path in Path(folder).rglob(".edgellm-tmp-*")]
        return {
            "n_before": n_before,
            "answers": answers,
            "restored": "its state is back" in errors,
            "refused": "the text is read again" in errors,
            "leftovers": len(left),
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="tiny-qwen3")
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-state", action="store_true")
    args = parser.parse_args()
    chance = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        undisturbed = Chat(args.model, Path(folder), state=not args.no_state)
        seconds, _ = undisturbed.finish()
        expected = [message["content"] for message in undisturbed.messages]
    found = []
    for i in range(args.trials):
        moment = chance.uniform(0, seconds)
        found.append(trial(args.model, moment, begun=i % 10 > 0, state=not args.no_state))
        same = "same" if found[-1]["answers"] == expected else "DIFFERENT"
        print(f"{i + 1}: killed with {found[-1]['n_before']} messages on disk, {same}", file=sys.stderr)
    result = {
        "bench": "chat_kill",
        "model": args.model,
        "state": not args.no_state,
        "trials": args.trials,
        "same": sum(trial["answers"] == expected for trial in found),
        "killed_within_the_conversation": sum(
            0 < int(str(t["n_before"])) < 2 * len(QUESTIONS) for t in found
        ),
        "state_restored": sum(bool(trial["restored"]) for trial in found),
        "state_refused": sum(bool(trial["refused"]) for trial in found),
        "leftovers": sum(int(str(trial["leftovers"])) for trial in found),
    }
    print(json.dumps(result))
    sys.exit(result["same"] != args.trials)


if __name__ == "__main__":
    main()
