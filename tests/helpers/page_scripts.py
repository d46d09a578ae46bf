"""The chat page's modules run by themselves: under node where there is one, else in a browser."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from places import ROOT, TESTS

PAGE = ROOT / "edgellm" / "server" / "page"
CHECKS = TESTS / "server" / "page_checks.js"
NAMES = re.findall(r"^  async (\w+)\(", CHECKS.read_text(encoding="utf-8"), re.MULTILINE)
SECONDS = 120.0

_NODE = """
const { checks } = await import(process.argv[1]);
let input = "";
for await (const piece of process.stdin) input += piece;
const [name, ...given] = JSON.parse(input);
const load = (module) => import(process.argv[2] + module);
console.log(JSON.stringify((await checks[name](load, ...given)) ?? null));
"""


def run(name: str, *given: Any) -> Any:
    """What a check returns; a check that throws fails the test."""
    node = shutil.which("node")
    if node is None:
        return _in_browser(name, given)
    command = [node, "--input-type=module", "--eval", _NODE, CHECKS.as_uri(), f"{PAGE.as_uri()}/"]
    done = subprocess.run(
        command, input=json.dumps([name, *given]), capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def _in_browser(name: str, given: tuple[Any, ...]) -> Any:
    source = CHECKS.read_text(encoding="utf-8").replace("export const checks", "const checks")
    script = f"""async ([name, given]) => {{
        {source}
        return (await checks[name]((module) => import("/page/" + module), ...given)) ?? null;
    }}"""
    import serving

    with serving.served() as server, browser() as opened:
        page = opened.new_page()
        page.goto(server.url)
        return page.evaluate(script, [name, list(given)])


def chromium() -> str | None:
    """Where Chromium is: as EDGELLM_CHROMIUM says, or on the PATH."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return os.environ.get("EDGELLM_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """A headless Chromium, driven by Playwright; the test is skipped where either is missing."""
    api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
    path = chromium()
    if path is None:
        pytest.skip("needs Chromium on the PATH, or EDGELLM_CHROMIUM")
    with api.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=path, args=_arguments())
        try:
            yield opened
        finally:
            opened.close()


def _arguments() -> list[str]:
    """As root, which containers are, Chromium has no sandbox."""
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    return ["--no-sandbox", "--disable-dev-shm-usage"] if root else ["--disable-dev-shm-usage"]


def sources() -> dict[str, str]:
    """The page's modules by name."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(Path(PAGE).glob("*.js"))}
