"""The chat page in headless Chromium, on the real server and its engine."""

import contextlib
import dataclasses
import json
import os
import re
import signal
import time

import page_scripts
import pytest
import serving
import thinker

pytest.importorskip("llguidance")

SECONDS = 40
MS = SECONDS * 1000
ROOMY = dataclasses.replace(serving.ENGINE, n_ctx=16384)  # an endless answer is written for long
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def chromium():
    with page_scripts.browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def server():
    with serving.served("tiny-qwen3", "tiny-llama3", engine=ROOMY) as running:
        yield running


@pytest.fixture(scope="module")
def thinking_server(tmp_path_factory):
    with serving.served(thinker.made(tmp_path_factory.mktemp("models"))) as running:
        yield running


@contextlib.contextmanager
def visit(chromium, server, **traits):
    """A first visit. What the page logs as an error, a failed request apart, fails the test."""
    context = chromium.new_context(**{"locale": "en-US", **traits})
    page = context.new_page()
    context.set_default_timeout(MS)
    faults = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
    page.on(
        "request",
        lambda request: (
            faults.append(request.url) if not request.url.startswith((server.url, "blob:")) else None
        ),
    )
    try:
        page.goto(server.url)
        page.wait_for_selector(".composer textarea")
        yield page
        assert [fault for fault in faults if "Failed to load resource" not in fault] == []
    finally:
        context.close()


@pytest.fixture
def page(chromium, server):
    with visit(chromium, server) as opened:
        opened.wait_for_selector(".model select")
        yield opened


def until(page, condition, arg=None):
    """Wait until a script says so. Playwright's own way to wait evaluates text, which the page's policy forbids."""
    deadline = time.monotonic() + SECONDS
    while not page.evaluate(condition, arg):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(50)


def settle(page):
    until(page, "!document.querySelector('article.running')")


def send(page, text):
    page.fill(".composer textarea", text)
    page.locator(".composer textarea").press("Enter")


def ask(page, text):
    """Send a question, wait for the whole answer and return it."""
    before = page.locator("article.assistant").count()
    send(page, text)
    until(page, "n => document.querySelectorAll('article.assistant').length > n", arg=before)
    settle(page)
    return answer(page)


def answer(page):
    return page.locator("article.assistant").last.locator("> .body > .prose").inner_text()


def set_numbers(page, **values):
    """By the names of settings.js."""
    page.click("[aria-label=Settings]")
    for name, value in values.items():
        page.fill(f"#set-{name}", str(value))
    page.click("dialog [type=submit]")
    page.wait_for_selector("dialog", state="detached")


def endless(page):
    """Answers from now on end where the context is full: the server is told to, which the page has no field for."""

    def longer(route):
        route.continue_(post_data=json.dumps({**route.request.post_data_json, "ignore_eos": True}))

    page.route("**/v1/chat/completions", longer)


WRITTEN = "document.querySelector('article.running > .body > .prose')?.textContent.length ?? 0"


def grown(page, characters):
    """Wait until so much of an answer is written."""
    until(page, f"({WRITTEN}) > {characters}")


def stored(page):
    """The chats in the browser's storage."""
    return page.evaluate(
        "Object.keys(localStorage).filter(k => k.startsWith('edgellm.chat.')).map(k => JSON.parse(localStorage[k]))"
    )


def test_headers_let_nothing_run_but_the_page(server):
    said = server.ask("GET", "/")
    policy = said.headers["content-security-policy"]
    assert said.status == 200 and said.headers["content-type"].startswith("text/html")
    assert (
        "default-src 'none'" in policy
        and "unsafe" not in policy
        and "*" not in policy
        and "http" not in policy
    )
    assert said.headers["x-content-type-options"] == "nosniff"
    tag = said.headers["etag"]
    assert server.ask("GET", "/", headers={"if-none-match": tag}).status == 304
    assert server.ask("GET", "/page/main.js").headers["content-type"].startswith("text/javascript")
    for path in (
        "/page/",
        "/page/../app.py",
        "/page/%2e%2e%2fapp.py",
        "/page/__init__.py",
        "/page/nothing.js",
    ):
        assert server.ask("GET", path).status == 404, path
    assert server.ask("POST", "/").status == 405


def test_an_answer_is_the_servers_and_says_what_it_cost(page, server):
    set_numbers(page, temperature=0)
    text = ask(page, "What is the capital of France?")
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    want = server.post("/v1/chat/completions", messages=messages, temperature=0).json
    assert text == want["choices"][0]["message"]["content"].strip()
    page.click(".cost summary")
    rows = dict(
        zip(
            page.locator(".cost dt").all_inner_texts(),
            page.locator(".cost dd").all_inner_texts(),
            strict=True,
        )
    )
    assert rows["Model"] == "tiny-qwen3"
    assert rows["Answer"].startswith(f"{want['usage']['completion_tokens']} tokens")
    assert rows["Prompt"].startswith(f"{want['usage']['prompt_tokens']} tokens")
    assert "tok/s" in rows["Prefill"] and re.search(r"\d m?s", rows["TTFT"])
    energy = want["energy"]
    assert energy["joules"] is not None or rows["Energy"].count("not measured: ") == 1
    assert energy["joules"] is not None or rows["Energy"].endswith(
        energy["reason"].removeprefix("not measured: ")
    )
    ask(page, "And of Spain?")
    assert page.locator(".cost").count() == 2


def test_an_answer_grows_while_it_comes_and_stops_at_once(page, server):
    endless(page)
    send(page, "Tell me a story about a cat.")
    grown(page, 40)
    page.keyboard.press("Escape")
    settle(page)
    assert page.locator("article.assistant .status").inner_text() == "Stopped by you."
    kept = answer(page)
    assert len(kept) > 30
    deadline = time.monotonic() + 10
    while (
        "edgellm_requests_running 0" not in (told := server.ask("GET", "/metrics").body.decode())
        and "running" in told
    ):
        assert time.monotonic() < deadline, "the slot is still held"
        time.sleep(0.1)
    page.reload()
    page.wait_for_selector("article.assistant")
    assert answer(page) == kept


def test_editing_begins_a_branch_and_the_old_one_stays(page):
    set_numbers(page, temperature=0)
    first = ask(page, "What is 2 + 3?")
    ask(page, "Thank you.")
    page.locator("article.user").first.locator("[aria-label=Edit]").click()
    page.fill(".editor textarea", "What is the capital of Spain?")
    page.locator(".editor textarea").press("Enter")
    until(page, "document.querySelectorAll('article').length === 2")
    settle(page)
    second = answer(page)
    assert page.locator(".branches span").inner_text() == "2/2"
    page.click("[aria-label='Earlier version']")
    assert page.locator("article").count() == 4
    assert page.locator("article.assistant").first.locator(".prose").last.inner_text() == first != second
    page.reload()
    page.wait_for_selector("article.assistant")
    assert page.locator("article").count() == 4  # the branch that was chosen


def test_answering_again_keeps_both_answers(page):
    endless(page)
    set_numbers(page, maxTokens=12)
    ask(page, "Tell me a story.")
    page.click("[aria-label='Answer again']")
    page.wait_for_selector(".branches")
    settle(page)
    assert page.locator(".branches span").inner_text() == "2/2"
    assert page.locator(".status:visible").inner_text().startswith("The answer was cut off")
    (chat,) = stored(page)
    assert len([m for m in chat["messages"].values() if m["role"] == "assistant"]) == 2


def test_settings_reach_the_server_and_the_next_chat(page):
    set_numbers(page, temperature=0, maxTokens=5, seed=7, topP=0.5, system="Be brief.")
    page.select_option(".composer .think", "off")
    with page.expect_request("**/v1/chat/completions") as sent:
        ask(page, "Hello")
    body = sent.value.post_data_json
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    told = {
        name: body[name]
        for name in ("temperature", "max_tokens", "seed", "top_p", "model", "chat_template_kwargs")
    }
    assert told == {
        "temperature": 0,
        "max_tokens": 5,
        "seed": 7,
        "top_p": 0.5,
        "model": "tiny-qwen3",
        "chat_template_kwargs": {"enable_thinking": False},
    }
    page.keyboard.press("Control+k")
    page.wait_for_selector(".welcome")
    page.click("[aria-label=Settings]")
    assert page.input_value("#set-seed") == "7" and page.input_value("#set-system") == "Be brief."
    page.fill("#set-temperature", "-1")
    page.click("dialog [type=submit]")
    assert page.locator("dialog").count() == 1  # refused by the form


def test_another_model_is_loaded_when_it_is_first_asked(page):
    page.select_option(".model select", "tiny-llama3")
    set_numbers(page, temperature=0)
    assert ask(page, "What is the capital of France?")
    page.click(".cost summary")
    assert "tiny-llama3" in page.locator(".cost dd").all_inner_texts()


HOSTILE = """# <img src=x onerror=alert(1)>

<script>window.broken = 1</script> <b onclick=alert(1)>bold</b>

[a](javascript:alert(1)) [b](data:text/html,<script>alert(1)</script>) ![c](https://example.invalid/pixel.png) [d](https://example.invalid/ok)

| <img src=x onerror=alert(1)> | `</code><script>` |
|--|--|
| [e](JAVASCRIPT:alert(1)) | <svg/onload=alert(1)> |

```html"><script>alert(1)</script>
<script>alert(1)</script>
```
"""


def imported(page, *texts, thinking=None):
    """Show a chat of these answers, as a file brings it in. What the file says is a stranger's too."""
    messages, parent = {}, None
    for i, text in enumerate(texts):
        question = {"id": f"q{i}", "parent": parent, "role": "user", "text": f"Question {i}"}
        said = {
            "id": f"a{i}",
            "parent": f"q{i}",
            "role": "assistant",
            "text": text,
            "began": 1,
            "ended": 2,
            "thinking": thinking,
        }
        messages |= {question["id"]: question, said["id"]: {k: v for k, v in said.items() if v is not None}}
        parent = said["id"]
    chat = {"version": 1, "id": "from-a-file", "title": "From a file", "messages": messages}
    page.set_input_files(
        "input[type=file]",
        {"name": "chats.json", "mimeType": "application/json", "buffer": json.dumps(chat).encode()},
    )
    page.get_by_text("From a file").click()
    page.wait_for_selector("article.assistant")


def test_a_strangers_text_is_text(page):
    imported(page, HOSTILE)
    body = page.locator("article.assistant > .body")
    assert (
        body.locator("script, img, b, svg:not(.icon), [onclick], [onerror], [onload], [style]").count() == 0
    )
    assert body.locator("a").evaluate_all("all => all.map(a => [a.href, a.rel])") == [
        ["https://example.invalid/pixel.png", "noopener noreferrer nofollow"],
        ["https://example.invalid/ok", "noopener noreferrer nofollow"],
    ]
    shown = body.inner_text()
    for text in (
        "<script>window.broken = 1</script>",
        "<img src=x onerror=alert(1)>",
        "a (javascript:alert(1))",
    ):
        assert text in shown
    assert page.evaluate("window.broken") is None


def test_the_policy_would_stop_what_the_code_let_through(chromium, server):
    with pytest.raises(AssertionError, match="TrustedHTML"), visit(chromium, server) as page:
        page.evaluate("() => { try { document.body.innerHTML = '<img src=x onerror=alert(1)>' } catch {} }")
        assert page.locator("img").count() == 0
        assert page.locator(".composer").count() == 1


def test_markdown_becomes_elements_and_code_is_copied_as_it_was(chromium, server):
    with visit(chromium, server, permissions=["clipboard-read", "clipboard-write"]) as page:
        code = 'def f(x):\n\t"""Doc."""\n    return x < 1 & 2  # über 中文\n'
        imported(
            page,
            "## Title\n\n- one\n  - two\n\n| a | b |\n|--|--:|\n| 1 | 2 |\n\n"
            f"```python\n{code}```\n\n> quote **bold**\n\n- [x] done",
        )
        body = page.locator("article.assistant > .body")
        for selector in (
            "h4",
            "ul ul li",
            "td.right",
            "pre code .c-comment",
            "blockquote strong",
            "li.task.checked",
        ):
            assert body.locator(selector).count() == 1, selector
        assert body.locator("pre code").evaluate("e => e.textContent") == code.rstrip("\n")
        body.locator("[data-copy=code]").click()
        until(page, "navigator.clipboard.readText().then(text => text.includes('def f'))")
        assert page.evaluate("navigator.clipboard.readText()") == code.rstrip("\n")


def test_thinking_is_folded(page):
    imported(page, "Five.", thinking="2 and 3 are **five**.")
    details = page.locator("details.thinking")
    assert details.get_attribute("open") is None and details.locator("strong").count() == 0
    details.locator("summary").press("Enter")
    details.locator("strong").wait_for()


def test_a_composition_ends_with_enter_without_sending(page):
    area = page.locator(".composer textarea")
    area.focus()
    session = page.context.new_cdp_session(page)
    session.send("Input.imeSetComposition", {"text": "你好", "selectionStart": 2, "selectionEnd": 2})
    area.dispatch_event("keydown", {"key": "Enter", "keyCode": 229, "isComposing": True})
    assert page.locator("article").count() == 0 and area.input_value() == "你好"
    session.send("Input.insertText", {"text": "你好"})
    assert page.locator("article").count() == 0
    area.press("Shift+Enter")
    assert area.input_value() == "你好\n" and page.locator("article").count() == 0
    area.press("Enter")
    page.wait_for_selector("article.user")
    assert page.locator("article.user .body").inner_text() == "你好"


def test_chinese_and_the_switch(chromium, server):
    with visit(chromium, server, locale="zh-CN") as page:
        assert page.locator("html").get_attribute("lang") == "zh-CN"
        assert (
            page.get_by_text("新对话").count()
            and page.get_attribute(".composer textarea", "placeholder") == "输入问题"
        )
        page.fill(".composer textarea", "还没发送")
        page.click("[aria-label=设置]")
        page.select_option("#set-language", "en")
        page.wait_for_selector("dialog h2:has-text('Settings')")
        assert page.input_value(".composer textarea") == "还没发送"
        page.reload()
        page.wait_for_selector("text=What would you like to know?")


def test_chats_are_kept_renamed_exported_deleted_and_brought_back(page):
    set_numbers(page, maxTokens=4)
    ask(page, "First chat")
    page.keyboard.press("Control+k")
    ask(page, "Second chat")
    titles = page.locator(".sidebar .chat")
    assert titles.all_inner_texts() == ["Second chat", "First chat"]
    page.reload()
    page.wait_for_selector("article.user")
    assert page.locator("article.user .body").inner_text() == "Second chat"

    options = page.locator("[aria-label='Options for Second chat']")
    options.click()
    page.get_by_role("button", name="Rename").locator("visible=true").click()
    page.fill(".sidebar li input", "Renamed")
    page.locator(".sidebar li input").press("Enter")
    until(page, "document.title.startsWith('Renamed')")

    options = page.locator("[aria-label='Options for Renamed']")
    options.click()
    with page.expect_download() as got:
        page.get_by_role("button", name="Export Markdown").locator("visible=true").click()
    assert got.value.suggested_filename == "Renamed.md"
    text = got.value.path().read_text(encoding="utf-8")
    assert text.startswith("# Renamed\n") and "## You\n\nSecond chat\n" in text

    options.click()
    with page.expect_download() as got:
        page.get_by_role("button", name="Export JSON").locator("visible=true").click()
    assert json.loads(got.value.path().read_text(encoding="utf-8"))["title"] == "Renamed"

    options.click()
    page.get_by_role("button", name="Delete").locator("visible=true").click()
    page.wait_for_selector(".welcome")
    assert [chat["title"] for chat in stored(page)] == ["First chat"]
    page.get_by_role("button", name="Undo").click()
    page.wait_for_selector("article.user")
    assert sorted(chat["title"] for chat in stored(page)) == ["First chat", "Renamed"]


FILL = """() => {
  for (let n = 1 << 21; n > 0; n >>= 1) {
    try {
      for (;;) localStorage.setItem(`x${Math.random()}`, "x".repeat(n));
    } catch { /* full for pieces of this size */ }
  }
}"""


def test_a_full_storage_is_said_and_the_chat_goes_on(page):
    page.evaluate(FILL)
    set_numbers(page, maxTokens=4)
    assert page.locator(".notice").count()
    ask(page, "Hello")
    assert "storage is full" in page.locator(".notice").first.inner_text()
    page.evaluate("localStorage.clear()")
    ask(page, "Again")
    assert len(stored(page)) == 1


def test_two_windows_on_one_chat(page):
    set_numbers(page, maxTokens=4)
    ask(page, "One")
    other = page.context.new_page()
    other.goto(page.url)
    other.wait_for_selector("article.assistant")
    ask(other, "Two")
    until(page, "document.querySelectorAll('article.user').length === 2")
    ask(page, "Three")
    until(other, "document.querySelectorAll('article.user').length === 3")


def test_a_scroll_upwards_is_left_alone_and_the_end_is_followed(page):
    imported(page, "\n\n".join(f"Paragraph {i}" for i in range(200)))
    endless(page)
    send(page, "Tell me a story.")
    area = page.locator("main")
    end = "() => { const a = document.querySelector('main'); return a.scrollHeight - a.clientHeight - a.scrollTop }"
    grown(page, 20)
    assert page.evaluate(end) < 3
    area.hover()
    page.mouse.wheel(0, -900)
    until(page, "!document.querySelector('.newest').hidden")
    place = page.evaluate("document.querySelector('main').scrollTop")
    grown(page, page.evaluate(WRITTEN) + 40)
    assert (
        page.evaluate("document.querySelector('main').scrollTop")
        <= place
        < place + 200
        < place + page.evaluate(end)
    )
    page.click(".newest")
    until(page, f"({end})() < 3")
    page.keyboard.press("Escape")
    settle(page)


def test_everything_is_reached_by_tab_and_answers_are_announced(page):
    set_numbers(page, temperature=0, maxTokens=8)
    text = ask(page, "What is the capital of France?")
    until(page, "document.querySelector('#live').textContent.length > 0")
    assert page.locator("#live").get_attribute("aria-live") == "polite"
    assert page.locator("#live").inner_text() in (text, "Answer complete")
    names = set()
    page.evaluate("document.activeElement.blur()")
    for _ in range(60):
        page.keyboard.press("Tab")
        name, outlined = page.evaluate(FOCUS)
        names.add(name)
        assert outlined, names
    wanted = {
        "New chat",
        "Settings",
        "Model",
        "Copy",
        "Edit",
        "Answer again",
        "Ask something",
        "Thinking",
        "Import",
        "Export all",
    }
    assert wanted <= names


FOCUS = """() => {
  const e = document.activeElement;
  const seen = getComputedStyle(e).outlineStyle !== "none" || e.matches(".composer textarea, body");
  return [e.ariaLabel || e.placeholder || e.textContent.trim(), seen];
}"""


def test_a_phone(chromium, server):
    with visit(chromium, server, **PHONE) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert not page.locator(".sidebar").is_visible()
        area = page.locator(".composer textarea")
        area.fill("Hello")
        area.press("Enter")  # a touch keyboard has no other way to a new line
        assert area.input_value() == "Hello\n"
        page.tap(".composer button.round")
        page.wait_for_selector("article.assistant")
        settle(page)
        page.tap("[aria-label='Show chats']")
        until(page, "getComputedStyle(document.querySelector('.sidebar')).visibility === 'visible'")
        page.keyboard.press("Escape")
        until(page, "getComputedStyle(document.querySelector('.sidebar')).visibility === 'hidden'")
        imported_width = page.evaluate(
            "Math.max(...[...document.querySelectorAll('main *')].map(e => e.getBoundingClientRect().right))"
        )
        assert imported_width <= 391


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_schemes(chromium, server, scheme):
    """WCAG AA: 4.5 to 1 for text, against the background that is really behind it."""
    with visit(chromium, server, color_scheme=scheme) as page:
        imported(
            page,
            "Text `code` [link](https://example.invalid)\n\n> quote\n\n"
            "```python\n# comment\ndef f(): return 'x' + 1\n```",
        )
        found = page.evaluate(CONTRASTS)
        assert found and not {what: ratio for what, ratio in found.items() if ratio < 4.5}


CONTRASTS = """() => {
  const paint = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (colour) => {
    paint.fillStyle = colour;
    paint.fillRect(0, 0, 1, 1);
    return [...paint.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const linear = (part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  const light = (c) => [0.2126, 0.7152, 0.0722].reduce((sum, share, i) => sum + share * linear(c[i] / 255), 0);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (colour !== "rgba(0, 0, 0, 0)") return colour;
    }
    return "white";
  };
  const found = {};
  for (const e of document.querySelectorAll("main *, .sidebar *, .bar *, .composer *")) {
    const says = [...e.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!says || e.disabled || !e.checkVisibility({ opacityProperty: true })) continue;
    const pair = [light(rgb(getComputedStyle(e).color)), light(rgb(behind(e)))].sort((x, y) => y - x);
    found[`${e.tagName}.${e.className} ${e.textContent.slice(0, 20)}`] = (pair[0] + 0.05) / (pair[1] + 0.05);
  }
  return found;
}"""


def test_a_key_is_asked_for_and_kept(chromium):
    with serving.served("tiny-qwen3", api_key="open-sesame") as server, visit(chromium, server) as page:
        page.wait_for_selector(".connection .trouble")
        page.fill(".connection input", "wrong")
        page.click(".connection [type=submit]")
        page.wait_for_selector(".connection input[type=password]")
        until(page, "document.querySelector('.connection input').value === ''")
        set_numbers(page, maxTokens=4)
        send(page, "Hello")
        page.wait_for_selector("article .trouble input")
        page.fill("article .trouble input", "open-sesame")
        page.click("article .trouble [type=submit]")
        page.wait_for_selector(".cost")
        assert page.locator("article").count() == 2 and page.locator(".trouble").count() == 0
        page.reload()
        page.wait_for_selector(".model select")


def test_a_server_that_went_away_and_came_back(chromium):
    with contextlib.ExitStack() as first:
        server = first.enter_context(serving.served("tiny-qwen3"))
        with visit(chromium, server) as page:
            set_numbers(page, maxTokens=4)
            ask(page, "Hello")
            first.close()
            ask(page, "Are you there?")
            trouble = page.locator("article .trouble")
            assert "does not answer" in trouble.inner_text()
            with serving.served("tiny-qwen3", port=server.port):
                page.wait_for_selector(".trouble.over")
                trouble.get_by_role("button", name="Try again").click()
                until(page, "document.querySelectorAll('.cost').length === 2")
                assert page.locator("article").count() == 4


def test_an_engine_that_dies_is_said_where_it_happened(page, server):
    endless(page)
    send(page, "Tell me a story about a cat.")
    grown(page, 20)
    engines = serving.engines()
    assert engines
    for engine in engines:
        os.kill(engine, signal.SIGKILL)
    settle(page)
    trouble = page.locator("article .trouble")
    assert "The engine has stopped" in trouble.inner_text()
    assert len(answer(page)) > 10
    set_numbers(page, temperature=0, maxTokens=4)
    trouble.get_by_role("button", name="Try again").click()
    page.wait_for_selector(".cost")
    assert page.locator(".branches span").inner_text() == "2/2"


def test_a_full_queue_is_said(chromium):
    from edgellm.serving.job import ServingOptions

    with (
        serving.served("tiny-qwen3", engine=ROOMY, serving=ServingOptions(n_slots=1, max_queue=0)) as server,
        visit(chromium, server) as page,
    ):
        endless(page)
        send(page, "Tell me a story.")
        grown(page, 10)
        page.keyboard.press("Control+k")
        ask(page, "Me too")
        assert "queue is full" in page.locator(".trouble").inner_text()
        page.keyboard.press("Control+b")
        assert not page.locator(".sidebar").is_visible()
        page.keyboard.press("Control+b")
        page.locator(".sidebar .chat", has_text="Tell me a story").click()
        grown(page, 20)
        page.keyboard.press("Escape")
        settle(page)


def test_thinking_comes_before_the_answer_and_can_be_switched_off(chromium, thinking_server):
    with visit(chromium, thinking_server) as page:
        set_numbers(page, temperature=0, maxTokens=12)
        ask(page, "What is the capital of France?")
        summary = page.locator("details.thinking > summary")
        assert re.fullmatch(r"Thought for [\d.]+ m?s · \d+ tokens", summary.inner_text())
        page.select_option(".composer .think", "off")
        assert ask(page, "What is the capital of France?")
        assert page.locator("details.thinking:visible").count() == 1


def test_a_call_is_shown_and_its_result_goes_back(chromium, thinking_server):
    city = {"type": "string", "maxLength": 12}
    shape = {
        "type": "object",
        "properties": {"city": city},
        "required": ["city"],
        "additionalProperties": False,
    }
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": shape}}
    with visit(chromium, thinking_server) as page:
        page.click("[aria-label=Settings]")
        page.fill("#set-tools", "{")
        page.click("dialog [type=submit]")
        assert page.locator("dialog").count() == 1  # refused by the form
        page.fill("#set-tools", json.dumps([tool]))
        page.fill("#set-temperature", "0")
        page.click("dialog [type=submit]")
        page.wait_for_selector("dialog", state="detached")
        page.route("**/v1/chat/completions", call_forced)
        send(page, "What is the weather in Paris?")
        page.wait_for_selector(".results textarea")
        assert page.locator(".call h4").inner_text() == "Calls get_weather"
        assert "city" in json.loads(page.locator(".call pre").inner_text())
        page.fill(".results textarea", '{"degrees": 12}')
        with page.expect_request("**/v1/chat/completions") as sent:
            page.click(".results [type=submit]")
        said = sent.value.post_data_json["messages"]
        assert [message["role"] for message in said] == ["user", "assistant", "tool"]
        (call,) = said[1]["tool_calls"]
        assert said[2] == {"role": "tool", "tool_call_id": call["id"], "content": '{"degrees": 12}'}
        until(page, "document.querySelectorAll('article.assistant').length === 2")
        settle(page)
        assert page.locator(".trouble").count() == 0


def call_forced(route):
    """The tiny model does not call by itself: the server is told that it must, and to be brief afterwards."""
    body = route.request.post_data_json
    more = {"max_tokens": 8} if body["messages"][-1]["role"] == "tool" else {"tool_choice": "required"}
    route.continue_(post_data=json.dumps({**body, **more}))
