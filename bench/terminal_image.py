"""A terminal session as a picture: commands typed into a real shell, the screen at the end drawn as SVG.

    python bench/terminal_image.py [-o docs/images/session.svg] [--columns 84]

Needs tmux, which is the terminal. Nothing in the picture is written by hand but what is typed; models and caches are
those of a fresh folder, prepared beforehand so that no first use is told. The SVG names no font that would be fetched.
The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
import unicodedata
from html import escape
from pathlib import Path

#: What is typed, and what must stand on the screen before the next is.
SESSION = (
    ("edgellm chat", r">>>\s*$"),
    ("What is the capital of France?", r"% full\s+>>>\s*$"),
    ("你好！你是谁？", r"% full\s+>>>\s*$"),
    ("/set ctx 1k", r"ctx is 1,024\)\s+>>>\s*$"),
    ("And of Japan?", r"% full\s+>>>\s*$"),
    ("/stats", r"memory .*\s+>>>\s*$"),
    ("/bye", r"\$\s*$"),
    ("edgellm chats", r"3 turns.*\s+\$\s*$"),
    ("edgellm convert tiny-qwen3", r"edgellm convert tiny-qwen3 --quant \S+\s+\$\s*$"),
)
COLOURS = ("#3b4252", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#d8dee9")
PAPER, INK, DIM = "#1e222a", "#d8dee9", "#7f8896"
WIDE, HIGH, SIZE, EDGE = 8.4, 19.0, 14, 18  # of a cell, of letters, of the margin: pixels
_WORDS = re.compile(r"\S+(?: \S+)*")  # what one blank parts stays together: of several, pictures keep one
_SGR = re.compile(r"\x1b\[([\d;]*)m")


class Terminal:
    """A shell in tmux."""

    def __init__(self, columns: int, rows: int, folder: Path) -> None:
        self._tmux = ["tmux", "-L", f"edgellm{os.getpid()}", "-f", os.devnull]
        python = Path(sys.executable).parent
        environment = {
            **{f"EDGELLM_{name}": str(folder / name.lower()) for name in ("CACHE", "DATA")},
            **{
                "EDGELLM_NO_TUNE": "1",
                "LC_ALL": "C.UTF-8",
                "PS1": "$ ",
                "HISTFILE": os.devnull,
                "TERM": "screen-256color",
            },
            "PATH": f"{python}:{os.environ['PATH']}",
            "HOME": str(folder),
        }
        words = [f"{name}={value}" for name, value in environment.items()]
        shell = shlex.join(["env", "-i", *words, "bash", "--norc", "--noprofile"])
        size = ["-x", f"{columns}", "-y", f"{rows}"]
        self._run("new-session", "-d", "-s", "picture", *size, "-c", str(folder), shell)
        self.wait(r"\$\s*$")

    def type(self, text: str) -> None:
        """A line, and Enter."""
        self._run("send-keys", "-t", "picture", "-l", text)
        self._run("send-keys", "-t", "picture", "Enter")

    def wait(self, pattern: str, seconds: float = 300) -> None:
        """Return when the screen shows it; exits when it does not come."""
        end = time.monotonic() + seconds
        while not re.search(pattern, self.screen(styled=False)):
            if time.monotonic() > end:
                sys.exit(f"{pattern!r} did not come; there is:\n{self.screen(styled=False)}")
            time.sleep(0.1)

    def screen(self, *, styled: bool = True) -> str:
        """All lines so far, with their styles as SGR sequences."""
        return self._run(
            "capture-pane", "-p", "-t", "picture", "-S", "-500", *(["-e"] if styled else [])
        ).rstrip()

    def close(self) -> None:
        """End it."""
        self._run("kill-server")

    def _run(self, *arguments: str) -> str:
        return subprocess.run([*self._tmux, *arguments], check=True, capture_output=True, text=True).stdout


def main() -> None:
    """Hold the session, draw it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/images/session.svg"))
    parser.add_argument("--columns", type=int, default=84)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        terminal = Terminal(options.columns, 50, Path(name))
        try:
            terminal.type(
                "edgellm run tiny-qwen3 hello --no-stats; edgellm convert tiny-qwen3 >/dev/null 2>&1; clear"
            )
            terminal.wait(r"(?m)^\$\s*\Z")
            for text, shown in SESSION:
                terminal.type(text)
                terminal.wait(shown)
            lines = terminal.screen().split("\n")
        finally:
            terminal.close()
    first = next(i for i, line in enumerate(lines) if line.rstrip().endswith(f"$ {SESSION[0][0]}"))
    lines = lines[first:-1]  # without the last, empty prompt
    options.output.write_text(svg(lines, options.columns), encoding="utf-8")
    print(json.dumps({"bench": "terminal_image", "file": str(options.output), "lines": len(lines)}))


def svg(lines: list[str], columns: int) -> str:
    """Lines with SGR sequences as a picture. Each run of one style is set to its cells' width, whatever the font."""
    width, height = columns * WIDE + 2 * EDGE, len(lines) * HIGH + 2 * EDGE
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="A session of edgellm in a terminal">',
        f'<rect width="100%" height="100%" rx="8" fill="{PAPER}"/>',
        f'<g font-family="ui-monospace, Menlo, Consolas, \'DejaVu Sans Mono\', monospace" font-size="{SIZE}" '
        f'fill="{INK}">',
    ]
    state: set[int] = set()
    for row, line in enumerate(lines):
        column = 0
        for text, codes in runs(line, state):
            for words in _WORDS.finditer(text):
                x = EDGE + WIDE * (column + cells_of(text[: words.start()]))
                place = f'x="{x:.1f}" y="{EDGE + row * HIGH + SIZE:.1f}"'
                length = f'textLength="{WIDE * cells_of(words[0]):.1f}" lengthAdjust="spacingAndGlyphs"'
                out.append(f"<text {place} {length}{style(codes)}>{escape(words[0])}</text>")
            column += cells_of(text)
    return "\n".join([*out, "</g>", "</svg>", ""])


def runs(line: str, state: set[int]) -> list[tuple[str, frozenset[int]]]:
    """(text, SGR parameters in force) one after the other; `state` carries over to the next line."""
    found = []
    parts = _SGR.split(line)
    for i, part in enumerate(parts):
        if i % 2:
            for code in (int(number or 0) for number in part.split(";")):
                if code == 0:
                    state.clear()
                elif code in (22, 23, 39, 49):
                    state -= {22: {1, 2}, 23: {3}, 39: set(range(30, 38)), 49: set(range(40, 48))}[code]
                else:
                    state.add(code)
        elif part:
            found.append((part, frozenset(state)))
    return found


def style(codes: frozenset[int]) -> str:
    """Attributes of a text."""
    colour = next((COLOURS[code - 30] for code in codes if 30 <= code < 38), DIM if 2 in codes else "")
    found = f' fill="{colour}"' if colour else ""
    return (
        found + (' font-weight="bold"' if 1 in codes else "") + (' font-style="italic"' if 3 in codes else "")
    )


def cells_of(text: str) -> int:
    """Columns of the terminal that a text takes."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.category(char)[0] == "M" for char in text)


if __name__ == "__main__":
    main()
