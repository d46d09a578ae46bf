"""`edgellm explain` against llama.cpp's own binding, and readings of different tokenizers laid over each other."""

import html
import json
import math
import re

import numpy as np
import pytest
from click.testing import CliRunner
from html_balance import Balance

from edgellm import backends
from edgellm.catalog import first_use
from edgellm.cli.explain import command
from edgellm.errors import UsageError
from edgellm.profiles.explain import alignment, document, reading
from edgellm.profiles.explain.reading import Reading, Rival, Token
from edgellm.session import EngineOptions

TEXT = 'What is 12 + 30? 河边的修理铺😀 <script>alert("x")</script> & café\n'


@pytest.fixture(scope="module")
def artifact():
    return first_use.resolve("tiny-qwen3:F32")


@pytest.fixture(scope="module")
def own(artifact) -> Reading:
    with backends.open_session(artifact, EngineOptions(n_ctx=256, n_threads=1)) as session:
        return reading.read(session, TEXT)


def test_probabilities_entropy_and_rivals_are_those_of_llama_cpps_own_binding(artifact, own):
    llama_cpp = pytest.importorskip("llama_cpp")
    model = llama_cpp.Llama(
        str(artifact.path), n_ctx=256, n_threads=1, n_batch=256, logits_all=True, verbose=False
    )
    ids = model.tokenize(TEXT.encode(), add_bos=False, special=False)
    assert [token.id for token in own.tokens] == ids
    model.eval(ids)
    logits = np.array(model.scores[: len(ids)], np.float64)
    log_probs = logits - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True))
    log_probs -= logits.max(1, keepdims=True)
    assert own.tokens[0].log_prob is None
    for before, token in zip(log_probs, own.tokens[1:], strict=False):
        assert token.log_prob == pytest.approx(before[token.id], abs=1e-2)
        assert token.entropy_bits == pytest.approx(-(np.exp(before) * before).sum() / math.log(2), abs=1e-2)
        assert token.rank == pytest.approx((before > before[token.id]).sum() + 1, abs=2)
        others = sorted(np.delete(before, token.id))[::-1][: reading.N_RIVALS]
        assert [rival.log_prob for rival in token.rivals] == pytest.approx(others, abs=1e-2)
    told = -sum(token.log_prob for token in own.tokens[1:]) / math.log(2)
    assert own.bits_per_byte == pytest.approx(told / (len(TEXT.encode()) - own.tokens[0].end))


def tokens(*texts: str | bytes, said: str = "") -> Reading:
    """A reading that cuts the text so, each token with one bit; the first is not predicted unless `said`."""
    found, at = [], 0
    for number, text in enumerate(texts):
        size = len(text if isinstance(text, bytes) else text.encode())
        unknown = number == 0
        rivals = () if unknown else (Rival(said or "x", -1.0),)
        log_prob, rank = (None, None) if unknown else (-math.log(2), 2 if said else 1)
        found.append(Token(number, at, at + size, log_prob, rank, None if unknown else 1.0, rivals))
        at += size
    return Reading("m", "Q8_0", tuple(found))


def test_pieces_end_where_both_tokenizers_cut_and_never_inside_a_character():
    text = "ab cd河x"
    first = tokens("ab", " c", "d", b"\xe6\xb2", b"\xb3", "x")
    second = tokens("a", "b", " cd", "河x", said="y")
    spans = alignment.align(text, [first, second])
    assert [span.text for span in spans] == ["ab", " cd", "河x"]
    assert [[len(part) for part in span.tokens] for span in spans] == [[1, 2], [2, 1], [3, 1]]
    assert [span.bits(0) for span in spans] == [None, 2.0, 3.0]
    assert [span.divergence_bits for span in spans] == [None, -1.0, -2.0]
    assert [span.differ for span in spans] == [False, True, True]
    assert [span.expected(1) for span in spans] == [None, "y", "y"]
    (alone,) = {span.divergence_bits for span in alignment.align(text, [first])}
    assert alone is None


def test_two_readings_that_say_the_same_do_not_differ(own):
    spans = alignment.align(TEXT, [own, own])
    assert "".join(span.text for span in spans) == TEXT
    assert not any(span.differ for span in spans)
    assert {span.divergence_bits for span in spans} == {None, 0.0}


def test_a_text_is_a_text_on_the_page_and_nothing_is_asked_of_a_network(own):
    page = document.to_page([own, own], alignment.align(TEXT, [own, own]))
    Balance().feed(page)
    shown = re.findall(r'<span class="t [^>]*>(.*?)</span>', page, re.DOTALL)
    assert html.unescape("".join(shown)) == TEXT and page.count("<script") == 2
    assert "http" not in page.replace("http-equiv", "")


def test_the_command_writes_a_page_and_json(tmp_path, artifact):
    text, page = tmp_path / "t.txt", tmp_path / "p.html"
    text.write_text("A swan is white.")
    arguments = [
        str(artifact.path),
        str(artifact.path),
        "-f",
        str(text),
        "-o",
        str(page),
        "--json",
        "-t",
        "1",
    ]
    done = CliRunner().invoke(command, arguments, catch_exceptions=False)
    found = json.loads(done.stdout)
    assert found["schema"] == document.SCHEMA and len(found["models"]) == 2
    assert "".join(span["text"] for span in found["spans"]) == "A swan is white."
    assert page.read_text().startswith("<!doctype html>")
    text.write_text("")
    with pytest.raises(UsageError, match="the text is empty"):
        CliRunner().invoke(command, arguments[:4], catch_exceptions=False)
