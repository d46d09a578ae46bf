"""A recorded terminal session as a picture that plays: python bench/session_svg.py [IMAGE.svg]

Runs the commands below in a real terminal of 96 columns (a pty), keeps what they write and when, and draws it as one
SVG whose lines appear as they came; waiting is cut to a second. Readers who ask for less motion, and programs that
play nothing, see the whole. Needs the extra `dev` (pexpect). Ends with one JSON line.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import time
from html import escape
from pathlib import Path

import pexpect

COLUMNS, LINE, SIZE, EDGE = 96, 20, 14, 16
WIDTH_OF_A_CELL = 8.43  # of a monospaced character of 14 pixels
LONGEST_WAIT = 1.0
CITY = '{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}'
SESSION = (
    'edgellm run tiny-qwen3 "What is the capital of France?"',
    "edgellm convert tiny-qwen3 --quant Q4_K_M -o tiny.gguf",
    'edgellm run tiny.gguf "Translate to Chinese: The girl drinks water by the river." --temp 0',
    f"edgellm run tiny.gguf \"Where is the Colosseum?\" --json-schema '{CITY}'",
    "edgellm inspect tiny.gguf | head -8",
)
_SGR = re.compile(r"\x1b\[([\d;]*)m")
_OTHER = re.compile(r"\x1b\[[\d;?]*[A-Za-ln-z]|\x1b[=>]|\x1b\][^\x07]*\x07")
_STYLES = {"1": "b", "2": "d", "31": "r", "32": "g", "33": "y", "36": "c"}


def recorded(command: str, folder: Path) -> list[tuple[float, str]]:
    """The lines a command writes, each with the second it was finished in; overwritten ones as they stayed."""
    program = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{program}:{os.environ['PATH']}", "TERM": "xterm-256color"}
    environment["EDGELLM_CACHE"] = str(folder / "cache")
    child = pexpect.spawn(
        "/bin/sh",
        ["-c", command],
        cwd=folder,
        env=environment,
        dimensions=(40, COLUMNS),
        encoding="utf-8",
        timeout=300,
    )
    start, lines = time.monotonic(), []
    while True:
        found = child.expect(["\r\n", pexpect.EOF])
        text = _OTHER.sub("", child.before).rsplit("\r", 1)[-1]
        if text or found == 0:
            lines.append((time.monotonic() - start, text))
        if found == 1:
            child.close()
            if child.exitstatus not in (0, None):
                sys.exit(f"{command} ended with {child.exitstatus}: {lines}")
            return lines


def styled(text: str) -> str:
    """SGR codes as tspans with classes."""
    out, classes = [], ""
    for i, part in enumerate(_SGR.split(text)):
        if i % 2:
            classes = " ".join(filter(None, (_STYLES.get(code) for code in part.split(";"))))
        elif part:
            out.append(f'<tspan class="{classes}">{escape(part)}</tspan>' if classes else escape(part))
    return "".join(out)


def drawn(rows: list[tuple[float, str]]) -> str:
    """The SVG of rows, each with when it appears."""
    width, height = round(COLUMNS * WIDTH_OF_A_CELL + 2 * EDGE), len(rows) * LINE + 2 * EDGE
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    style = (
        "text{font:14px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#d6deeb;white-space:pre;"
        "animation:a .01s both}.b{font-weight:bold}.d{fill:#8a97a8}.r{fill:#ff7b72}.g{fill:#7ee787}.y{fill:#e3b341}"
        ".c{fill:#79c0ff}@keyframes a{from{opacity:0}}@media(prefers-reduced-motion){text{animation:none}}"
    )
    texts = [
        f'<text x="{EDGE}" y="{EDGE + i * LINE + SIZE}" style="animation-delay:{when:.2f}s">{text}</text>'
        for i, (when, text) in enumerate(rows)
    ]
    frame = f'<rect width="{width}" height="{height}" rx="8" fill="#0d1726"/>'
    return "\n".join([head, f"<style>{style}</style>", frame, *texts, "</svg>", ""])


def main(image: Path) -> None:
    rows, now = [], 0.5
    with tempfile.TemporaryDirectory() as folder:
        for command in SESSION:
            rows.append((now, f'<tspan class="g">$</tspan> <tspan class="b">{escape(command)}</tspan>'))
            now, before = now + 0.6, 0.0
            for when, text in recorded(command, Path(folder)):
                now, before = now + min(when - before, LONGEST_WAIT), when
                rows.append((now, styled(text)))
            now += 0.6
    image.write_text(drawn(rows), encoding="utf-8")
    print(json.dumps({"image": str(image), "lines": len(rows), "seconds": round(now, 1)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("docs/images/session.svg"))
