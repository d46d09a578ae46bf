"""Pictures of the chat page, made in headless Chromium on the real server: python bench/page_shots.py [FOLDER]

Needs Chromium and Playwright (`pip install edgellm[dev]`), and fonts for Chinese. The bundled models answer; since
they are tiny and say little, the long answers come from chats that the page imports, as a user would.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

DESKTOP = {"viewport": {"width": 1280, "height": 800}, "locale": "en-US"}
PHONE = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "has_touch": True,
    "is_mobile": True,
}
DARK = {"color_scheme": "dark"}
CHINESE = {"locale": "zh-CN"}

THINKING = """The user wants to know why a cache helps. I should say

1. what is computed again **without** one,
2. what a cache keeps.

A small table makes the memory plain."""

ANSWER = """## How a KV cache speeds up decoding

In **decode**, each new token attends to *all* tokens before it. Without a cache their keys and values would be \
computed again at every step:

1. Prefill evaluates the whole prompt at once.
2. Decode evaluates one token at a time:
   - its query is compared with the cached keys,
   - its own key and value are appended.

```python
def attend(q, k, v, cache):
    \"\"\"One step of decode; q, k and v are [n_heads, head_dim].\"\"\"
    cache.keys.append(k)  # never computed again
    cache.values.append(v)
    scores = softmax(q @ np.stack(cache.keys).T / math.sqrt(128))
    return scores @ np.stack(cache.values)
```

| Model | Layers | KV heads | Bytes a token |
|:--|--:|--:|--:|
| Qwen3-1.7B | 28 | 8 | 114,688 |
| Llama-3.2-1B | 16 | 8 | 32,768 |

> The cache trades memory for time: a step costs $O(n)$ instead of $O(n^2)$.
"""

ANSWER_ZH = """## KV 缓存为什么能加快解码

**要点：**解码时，每个新 token 都要与之前的*所有* token 做注意力计算。有了缓存，之前的键和值不必重新计算。

1. **预填充**一次处理整个提示；
2. **解码**每次只处理一个 token：
   - 查询与缓存中的键比较；
   - 新的键和值追加到缓存。

```python
def merge(a, b):
    \"\"\"合并两个有序列表。\"\"\"
    result = []
    while a and b:
        result.append(a.pop(0) if a[0] <= b[0] else b.pop(0))
    return result + a + b
```

| 模型 | 层数 | 每个 token 的字节数 |
|:--|--:|--:|
| Qwen3-1.7B | 28 | 114,688 |
| Llama-3.2-1B | 16 | 32,768 |

> 缓存用内存换时间。
"""


def long_code() -> str:
    """A thousand lines of code: this repository's own."""
    source = (ROOT / "edgellm" / "generation" / "generate.py").read_text(encoding="utf-8")
    while source.count("\n") < 1000:
        source += source
    return f"Here is the module:\n\n```python\n{source}```\n\nIt has {source.count(chr(10)):,} lines."


def chat(title: str, question: str, answer: str, thinking: str | None = None) -> bytes:
    """A chat as the page exports it."""
    said: dict[str, Any] = {
        "id": "a",
        "parent": "q",
        "role": "assistant",
        "text": answer,
        "began": 1,
        "ended": 2,
    }
    if thinking:
        said |= {"thinking": thinking, "thoughtMs": 4200}
    asked = {"id": "q", "parent": None, "role": "user", "text": question}
    return json.dumps(
        {
            "version": 1,
            "id": "example",
            "title": title,
            "messages": {"q": asked, "a": said},
        }
    ).encode()


@contextlib.contextmanager
def server(*arguments: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """`edgellm serve` on a free port: its address and its process."""
    command = [
        sys.executable,
        "-m",
        "edgellm",
        "serve",
        "tiny-qwen3",
        "tiny-llama3",
        "--port",
        "0",
        *arguments,
    ]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert child.stdout is not None
    try:
        found = re.search(r"http://[\d.]+:\d+", child.stdout.readline().decode())
        assert found, "the server did not start"
        yield found[0], child
    finally:
        child.terminate()
        child.wait(30)


class Camera:
    """A browser that visits the page and takes pictures."""

    def __init__(self, browser: Any, folder: Path) -> None:
        self._browser, self._folder = browser, folder

    @contextlib.contextmanager
    def visit(self, url: str, *traits: dict[str, Any]) -> Iterator[Any]:
        """A first visit with a browser of these traits."""
        together: dict[str, Any] = {}
        for more in (DESKTOP, *traits):
            together |= more
        context = self._browser.new_context(**together)
        page = context.new_page()
        page.goto(url)
        page.wait_for_selector(".model select, .connection .trouble")
        yield page
        context.close()

    def take(self, page: Any, name: str) -> None:
        """One picture."""
        page.wait_for_timeout(400)
        page.screenshot(path=self._folder / f"{name}.png")
        print(self._folder / f"{name}.png")


def show(page: Any, data: bytes) -> None:
    """Import a chat and open it, at its beginning."""
    page.set_input_files(
        "input[type=file]", {"name": "c.json", "mimeType": "application/json", "buffer": data}
    )
    page.locator(".sidebar .chat").filter(has_text=json.loads(data)["title"]).dispatch_event("click")
    page.wait_for_selector("article.assistant")
    page.click(".notice [aria-label]")
    page.evaluate("document.querySelector('main').scrollTop = 0")


def until(page: Any, condition: str) -> None:
    """Wait until a script says so. Playwright's own way to wait evaluates text, which the page's policy forbids."""
    deadline = time.monotonic() + 120
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(50)


def ask(page: Any, text: str) -> None:
    """Ask the model that runs and wait for the answer."""
    page.fill(".composer textarea", text)
    page.click(".composer button.round")
    page.wait_for_selector("article.assistant")
    until(page, "!document.querySelector('article.running')")


def shots(browser: Any, folder: Path) -> None:
    """All of them."""
    camera = Camera(browser, folder)
    example = chat(
        "How a KV cache speeds up decoding", "How does a KV cache speed up decoding?", ANSWER, THINKING
    )
    chinese = chat("KV 缓存为什么能加快解码", "KV 缓存为什么能加快解码？", ANSWER_ZH)
    with server("-c", "1024") as (url, child):
        with camera.visit(url) as page:
            camera.take(page, "first-visit")
            page.click("[aria-label=Settings]")
            camera.take(page, "settings")
            page.keyboard.press("Escape")
            ask(page, "What is the capital of France?")
            page.click(".cost summary")
            camera.take(page, "answer-and-cost")
            show(page, example)
            camera.take(page, "desktop-thinking-folded")
            page.click(".thinking summary")
            camera.take(page, "thinking-unfolded")
            show(page, chat("The whole module", "Show me the module.", long_code()))
            camera.take(page, "long-code")
        with camera.visit(url, DARK) as page:
            show(page, example)
            camera.take(page, "dark")
            page.click("[aria-label=Settings]")
            camera.take(page, "dark-settings")
        with camera.visit(url, CHINESE) as page:
            show(page, chinese)
            camera.take(page, "chinese")
        with camera.visit(url, PHONE, CHINESE) as page:
            camera.take(page, "phone-first-visit")
            ask(page, "法国的首都是哪里？")
            page.tap(".cost summary")
            camera.take(page, "phone-answer")
            show(page, chinese)
            camera.take(page, "phone-chinese")
            page.tap("[aria-label=显示对话列表]")
            page.tap("li.here .more")
            camera.take(page, "phone-list")
        with camera.visit(url, PHONE, DARK) as page:
            show(page, example)
            camera.take(page, "phone-dark")
        with camera.visit(url) as page:
            ask(page, "What is the capital of France?")
            child.terminate()
            child.wait(30)
            ask(page, "And of Spain?")
            camera.take(page, "error-server-gone")
    with server("-c", "256", "--api-key", "open-sesame") as (url, _), camera.visit(url, DARK) as page:
        page.fill(".connection input", "wrong")
        camera.take(page, "error-key")
        page.fill(".connection input", "open-sesame")
        page.click(".connection [type=submit]")
        page.wait_for_selector(".model select")
        ask(page, "Please read this: " + "word " * 400)
        camera.take(page, "error-context-full")


def main() -> None:
    """Make the pictures in the folder named, or in build/page."""
    import page_scripts

    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "page"
    folder.mkdir(parents=True, exist_ok=True)
    with page_scripts.browser() as browser:
        shots(browser, folder)


if __name__ == "__main__":
    main()
