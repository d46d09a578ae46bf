"""The faults this product promises to withstand, and how many trials each is given: docs/reliability.md's table."""

import os

#: By number: what happens, how it is made to happen, trials promised, what is required.
ROWS = {
    1: (
        "a conversion over an existing output is killed",
        "SIGKILL at random moments",
        200,
        "old or new, whole",
    ),
    2: (
        "the disk is full or fails",
        "every call in turn; a small tmpfs",
        100,
        "old file, no litter, one line",
    ),
    3: ("a hostile GGUF file", "structured and random mutants", 1040, "parent alive, bounded work"),
    4: ("hostile safetensors", "header mutants", 1000, "nothing the official library rejects"),
    5: ("corrupt weights", "bit flips against hashes; NaN, infinity", 500, "all detected"),
    6: ("code in a repository", "pickle, auto_map, jinja", 60, "nothing runs; 2 s, 256 MB"),
    7: (
        "paths that lead out",
        "shards, ONNX, hub names, links, chats",
        80,
        "nothing read or written outside",
    ),
    8: (
        "a download is cut, or its server lies",
        "a server on this machine",
        200,
        "the right bytes or refused; resumes",
    ),
    9: ("writers of one output at the same time", "four processes", 50, "one whole file, the others say why"),
    10: (
        "clients vanish within their answers",
        "a reset at a random event",
        300,
        "slot free within 1 s, nothing grows",
    ),
    11: (
        "more clients than slots, one of them slow",
        "slots + 8 clients at once; 1 B/s reader",
        20,
        "429 or queue, /health in 200 ms, no cross-talk",
    ),
    12: ("text in pieces", "forced tokens, stop strings", 2000, "stream = whole = bytes"),
    13: (
        "requests that nobody means",
        "schemathesis on the server's own OpenAPI",
        2000,
        "4xx, never 5xx; the server lives",
    ),
    14: (
        "damaged or foreign saved states",
        "cut, flipped, wrong model, wrong contents",
        300,
        "refused, alive",
    ),
    15: (
        "the engine's process dies",
        "SIGKILL in the middle of an answer",
        50,
        "clear error, next one served",
    ),
    16: ("numbers and tokens differ from the reference", "NMSE per type; random strings", 10_000, "none"),
    17: (
        "a batch is ended",
        "SIGKILL, SIGTERM, SIGINT after a random row",
        40,
        "resumed: every row once, the answers of one session",
    ),
    18: (
        "a node of a batch is killed, or its driver",
        "SIGKILL to all of a node; another one added",
        2000,
        "every row once, the answers of one session",
    ),
}

FULL = os.environ.get("EDGELLM_FAULTS") == "full"


def trials(full: int, fast: int) -> int:
    """How many: all in `make faults`, a few in every test run."""
    return full if FULL else fast


def table(counts: dict[int, int], failed: dict[int, int]) -> str:
    """Rows as Markdown, those that were run."""
    lines = ["| # | fault | how | required | trials (promised) | failed |", "|---|---|---|---|---:|---:|"]
    for number, (fault, how, promised, required) in ROWS.items():
        if number in counts or number in failed:
            done = f"{counts.get(number, 0):,} ({promised:,})"
            lines.append(f"| {number} | {fault} | {how} | {required} | {done} | {failed.get(number, 0)} |")
    return "\n".join(lines)
