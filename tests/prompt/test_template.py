"""Chat templates: transformers' conventions, one shared process, errors in one line."""

from __future__ import annotations

import datetime
import json
import threading

import pytest
from places import ROOT

from edgellm.errors import ArtifactError
from edgellm.prompt import template
from edgellm.prompt.template import ChatTemplate

BUNDLED = ROOT / "models" / "bundled"
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "<b>你好</b> & 'hi' 🙂"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "  And?  "},
]


def test_chatml() -> None:
    settings = json.loads((BUNDLED / "tiny-qwen3" / "tokenizer_config.json").read_text(encoding="utf-8"))
    made = ChatTemplate(settings["chat_template"], {"eos_token": settings["eos_token"]})
    assert made.render(MESSAGES[1:3]) == (
        "<|im_start|>user\n<b>你好</b> & 'hi' 🙂<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_llama_headers_without_a_generation_prompt() -> None:
    settings = json.loads((BUNDLED / "tiny-llama3" / "tokenizer_config.json").read_text(encoding="utf-8"))
    made = ChatTemplate(settings["chat_template"], {"bos_token": settings["bos_token"]})
    assert made.render(MESSAGES[3:], add_generation_prompt=False) == (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nAnd?<|eot_id|>"
    )


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{% if true %}\n  a\n  {% endif %}\nb", "  a\nb"),  # trim_blocks and lstrip_blocks
        ("{{ {'z': 1, 'a': '<é>'} | tojson }}", '{"z": 1, "a": "<é>"}'),  # neither escaped nor sorted
        ("{{ [1] | tojson(indent=2) }}", "[\n  1\n]"),
        ("{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.role }},{% endfor %}",
         "user,assistant,user,"),
        ("{% for m in messages %}{% break %}{% endfor %}ok", "ok"),
        ("{% generation %}answer{% endgeneration %}", "answer"),
        ("{{ tools is none }} {{ documents is none }} {{ tools is defined }}", "True True True"),
        ("[{{ bos_token }}][{{ eos_token }}][{{ pad_token }}]", "[][</s>][]"),
        ("{{ enable_thinking }}", "False"),
        ("{{ messages[-1]['content'] | trim }}", "And?"),
        ("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}", "4"),
        ("{{ messages[1].content.split('</b>')[-1].lstrip() }}", "& 'hi' 🙂"),
        ("{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m(1) }}", "<1>"),
    ],
)  # fmt: skip
def test_conventions(source: str, expected: str) -> None:
    assert ChatTemplate(source, {"eos_token": "</s>"}).render(MESSAGES, enable_thinking=False) == expected


def test_tools_and_dates() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    made = ChatTemplate("{{ tools[0].function.name }} {{ strftime_now('%Y-%m-%d') }}")
    days = {str(datetime.date.today() + datetime.timedelta(days=d)) for d in (0, 1)}  # midnight may pass
    assert made.render([], tools=[tool]) in {f"f {day}" for day in days}


def test_what_is_wrong_comes_in_one_line() -> None:
    for source, words in {
        "{{ raise_exception('roles must\nalternate') }}": "roles must alternate",
        "{% for %}": "broken",
        "{{ messages[9].content.x }}": "no element 9",
        "{{ 1 / 0 }}": "division by zero",
    }.items():
        with pytest.raises(ArtifactError, match=words) as caught:
            ChatTemplate(source).render(MESSAGES)
        assert "\n" not in str(caught.value)


def test_messages_must_be_plain_data() -> None:
    with pytest.raises(ArtifactError, match="plain data"):
        ChatTemplate("x").render([{"role": "user", "content": object()}])


def test_a_template_cannot_change_what_the_next_one_sees() -> None:
    with pytest.raises(ArtifactError):
        ChatTemplate("{{ messages.append('x') }}").render(MESSAGES)
    assert ChatTemplate("{{ messages | length }}").render(MESSAGES) == "4"
    assert len(MESSAGES) == 4


def test_one_process_serves_threads() -> None:
    made = ChatTemplate("{{ messages[0].content }}")
    found: dict[int, str] = {}

    def work(i: int) -> None:
        found[i] = made.render([{"role": "user", "content": str(i)}])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {i: str(i) for i in range(20)}


def test_the_process_starts_again_after_it_died() -> None:
    made = ChatTemplate("{{ messages[0].content }}")
    made.render(MESSAGES)
    child = template._shared._child
    assert child is not None
    child.kill()
    child.wait()
    assert made.render(MESSAGES) == "Be brief."


def test_content_in_parts_for_templates_that_want_it() -> None:
    """Llama Guard's way; content of the other kind renders an empty turn there, or an error."""
    told = [{"role": "user", "content": "Is this safe?"}]
    for source in (
        "[{% for m in messages %}{{ m.content[0].text }}{% endfor %}]",
        "[{% for m in messages %}{{ m['content'][0]['text'] | trim }}{% endfor %}]",
        "[{% for m in messages %}{% for p in m.content %}{{ p['text'] }}{% endfor %}{% endfor %}]",
        "[{% for m in messages %}{{ (m.content | selectattr('type', 'equalto', 'text') | first).text }}{% endfor %}]",
        "[{% for m in messages %}{% if m.content is string %}{{ raise_exception('no') }}{% endif %}"
        "{{ m.content[0].text }}{% endfor %}]",
        "[{{ messages[0].content }}]",
    ):
        made = ChatTemplate(source)
        assert [made.render(told), made.render(told)] == ["[Is this safe?]"] * 2, source


def test_an_error_with_either_kind_of_content_is_that_of_plain_text() -> None:
    with pytest.raises(ArtifactError, match="wants no str"):
        ChatTemplate(
            "{{ raise_exception('wants no ' ~ ('str' if messages[0].content is string else 'list')) }}"
        ).render(MESSAGES)


def test_a_template_of_its_own_for_tools() -> None:
    made = ChatTemplate(
        "plain {{ bos_token }}", {"bos_token": "<s>"}, "{{ tools|length }} tools {{ bos_token }}"
    )
    assert made.render(MESSAGES) == "plain <s>"
    assert made.for_tools().render(MESSAGES, tools=[{}, {}]) == "2 tools <s>"
    assert ChatTemplate("one").for_tools().render(MESSAGES, tools=[{}]) == "one"


def test_an_absurdly_long_source_is_refused() -> None:
    with pytest.raises(ArtifactError, match="characters"):
        ChatTemplate("x" * (template.MAX_SOURCE_CHARS + 1))


@pytest.mark.transformers
@pytest.mark.parametrize("name", ["tiny-qwen3", "tiny-qwen35", "tiny-llama3"])
def test_equal_to_transformers(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(BUNDLED / name)
    made = ChatTemplate(tokenizer.chat_template, tokenizer.special_tokens_map)
    for messages in (MESSAGES, MESSAGES[1:], MESSAGES[1:2]):
        for prompt in (True, False):
            expected = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
            assert made.render(messages, add_generation_prompt=prompt) == expected
