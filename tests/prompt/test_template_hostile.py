"""Hostile chat templates: no code runs, nothing takes more than its two seconds and 256 MB."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from edgellm.errors import ArtifactError
from edgellm.prompt import template, template_child
from edgellm.prompt.template import ChatTemplate

MESSAGES = [{"role": "user", "content": "hi"}]

#: Ways out of jinja2's sandbox that have been tried on chat templates (CVE-2024-34359, CVE-2026-5760 and kin).
ESCAPES = (
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.system('touch PWNED') }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context }}",
    "{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}",
    "{{ messages.__class__ }}",
    "{{ messages|attr('__class__') }}",
    "{{ messages|map(attribute='__class__')|list }}",
    "{{ '{0.__class__}'.format(messages) }}",
    "{{ '{0.__class__.__init__.__globals__}'.format_map({'0': messages}) }}",
    "{{ ('%s'|format).__globals__ }}",
    "{{ raise_exception.__globals__['__builtins__'] }}",
    "{{ strftime_now.__globals__ }}",
    "{{ range.__self__ }}",
    "{{ dict.mro() }}",
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}{{ os }}",
    "{% extends '/etc/passwd' %}",
    "{{ messages.append(1) }}",
    "{{ messages[0].update({'role': 'x'}) }}",
    "{{ messages[0].clear() }}",
    "{{ (messages|first).pop('role') }}",
    "{{ ''.join.__func__ }}",
    "{{ [].append.__self__.__class__ }}",
    "{% set x = messages.__init__ %}{{ x.__globals__ }}",
    "{{ get_flashed_messages.__globals__ }}",
    "{{ config.items() }}",
)
#: Ways to take all memory or all time.
EXHAUSTION = (
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99999) %}xxxxxxxx{% endfor %}{% endfor %}",
    "{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "{% for x in messages recursive %}{{ loop(messages) }}{% endfor %}",
    "{{ 'a' * 10**10 }}",
    "{{ ['a' * 1000] * 10**9 }}",
    "{{ 'a'.ljust(2 * 10**9) }}",
    "{{ 'a'|center(2 * 10**9) }}",
    "{{ '%2000000000d' % 1 }}",
    "{{ '{:>2000000000}'.format(1) }}",
    "{{ range(10**12)|list }}",
    "{{ (('a' * 10**7)|list|join('b' * 100))|length }}",
    "{{ ('a' * 10**7).replace('a', 'b' * 1000)|length }}",
    "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{{ 7 ** (7 ** 9) }}",
    "{{ 'a'|indent(2 * 10**9, first=true) }}",
    "{{ messages|batch(2 * 10**9, 0)|list }}",
    "{{ {'a': 'b' * 10**7}|tojson(indent=2 * 10**9) }}",
    "{{ strftime_now('%Y' * 10**7) * 100 }}",
    "{{ raise_exception('x' * 10**9) }}",
    "{{ ('x' * 10**7)|wordwrap(1)|length }}" * 40,
    "{{ 'x' * 20000000 }}",
    "".join("{% for a in messages %}" for _ in range(300)) + "x" + "{% endfor %}" * 300,
    "(" * 10**5 + "{{ " + "(" * 10**5 + "1" + ")" * 10**5 + " }}",
    "{{ " + "-" * 10**5 + "1 }}",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def empty_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder the renderer works in: whatever a template manages to write appears there."""
    folder = tmp_path_factory.mktemp("empty")
    template._shared.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.mark.parametrize("source", ESCAPES)
@pytest.mark.fault(6)
def test_nothing_runs(source: str, empty_folder: Path) -> None:
    try:
        text = ChatTemplate(source).render(MESSAGES)
    except ArtifactError as error:
        text = ""
        assert "\n" not in str(error)
    # What is not refused is undefined and renders as nothing, or as jinja2's own harmless description.
    assert "class '" not in text and "root:" not in text and "uid=" not in text
    assert list(empty_folder.iterdir()) == []


@pytest.mark.parametrize("source", EXHAUSTION, ids=range(len(EXHAUSTION)))
@pytest.mark.fault(6)
def test_time_and_memory_are_bounded(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = ChatTemplate(source)
    ChatTemplate("x").render(MESSAGES)  # the process is up
    child = template._shared._child
    assert child is not None
    peak = Peak(child.pid)
    with pytest.raises(ArtifactError) as caught, monkeypatch.context() as patch:
        patch.setattr(template, "RENDER_SECONDS", 0.7)  # the real bound has a test of its own
        made.render(MESSAGES)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    assert peak.bytes() < 400 << 20
    assert ChatTemplate("still here").render(MESSAGES) == "still here"


def test_memory_is_bounded_though_nothing_is_written() -> None:
    """Quick, and with a short output: no other bound would stop it."""
    assert ChatTemplate("{{ ('a' * 100000000)|length }}").render(MESSAGES) == "100000000"
    with pytest.raises(ArtifactError, match="256 MB"):
        ChatTemplate("{{ ('a' * 300000000)|length }}").render(MESSAGES)


def test_output_is_bounded_though_there_is_memory_for_more() -> None:
    assert len(ChatTemplate("{{ 'x' * 1000000 }}").render(MESSAGES)) == 1_000_000
    for source in ("{{ 'x' * 1100000 }}", "{% for i in range(110) %}{{ 'x' * 10000 }}{% endfor %}"):
        with pytest.raises(ArtifactError, match=r"writes more than 1,0\d\d,\d\d\d characters"):
            ChatTemplate(source).render(MESSAGES)


def test_a_long_conversation_may_be_written_out() -> None:
    told = [{"role": "user", "content": "a" * 3_000_000}]
    assert len(ChatTemplate("{{ messages[0].content }}{{ messages[0].content }}").render(told)) == 6_000_000


@pytest.mark.fault(6)
def test_a_rendering_is_stopped_after_its_time() -> None:
    made = ChatTemplate(EXHAUSTION[0])
    ChatTemplate("x").render(MESSAGES)
    start, spent = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    with pytest.raises(ArtifactError, match="2 s"):
        made.render(MESSAGES)
    assert time.monotonic() - start >= template.RENDER_SECONDS  # on a busy machine any time more
    spent = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - spent
    assert spent < template_child.CPU_SECONDS + 1


class Peak:
    """The most memory a process has had resident, as far as it can still be read."""

    def __init__(self, pid: int) -> None:
        self._file = Path(f"/proc/{pid}/status")

    def bytes(self) -> int:
        try:
            lines = self._file.read_text().splitlines()
        except OSError:  # it was stopped
            return 0
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def test_the_child_ends_with_its_parent() -> None:
    ChatTemplate("x").render(MESSAGES)
    child = template._shared._child
    assert child is not None
    pid = child.pid
    template._shared.close()
    assert not psutil.pid_exists(pid)
