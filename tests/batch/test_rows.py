"""Lines to requests; the authority on what a request may hold is the server, which the other tests ask."""

import json

import pytest

from edgellm.batch import rows
from edgellm.batch.rows import MAX_LINE, Manner
from edgellm.errors import UsageError

PLAIN = Manner("a model")


def read(given, manner=PLAIN, number=7):
    line = given if isinstance(given, bytes) else json.dumps(given).encode()
    return rows.read(line, number, manner)


def body(row):
    assert row.refusal is None, row.refusal
    return json.loads(row.body)


def test_openais_form_goes_as_it_is():
    asked = {"model": "m", "messages": [{"role": "user", "content": "你好 \ud800"}], "temperature": 0.25}
    row = read(
        {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": asked},
        Manner("m", {"seed": 1}),
    )
    assert (row.custom_id, row.url, body(row)) == ("a", "/v1/chat/completions", asked)


@pytest.mark.parametrize(
    ("given", "url", "expected"),
    [
        ({"prompt": "Hi"}, "/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}),
        ({"messages": [], "n": 2}, "/v1/chat/completions", {"messages": [], "n": 2}),
        ({"input": ["a"]}, "/v1/embeddings", {"input": ["a"]}),
        ({"query": "q", "documents": ["d"]}, "/v1/rerank", {"query": "q", "documents": ["d"]}),
    ],
)
def test_plain_rows(given, url, expected):
    row = read(given)
    assert (row.custom_id, row.url, body(row)) == ("line-7", url, expected)


def test_settings_of_the_command_line_hold_where_a_plain_row_has_none():
    manner = Manner("m", {"temperature": 0, "seed": 4}, system="Be short.", think=False)
    asked = body(read({"prompt": "Hi", "seed": 9}, manner))
    assert asked == {
        "temperature": 0,
        "seed": 9,
        "chat_template_kwargs": {"enable_thinking": False},
        "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi"}],
    }
    own = [{"role": "system", "content": "Be long."}, {"role": "user", "content": "Hi"}]
    assert body(read({"messages": own}, manner))["messages"] == own
    assert body(read({"input": "x"}, manner)) == {"input": "x"}
    raw = read({"prompt": "Hi"}, Manner("m", {"seed": 4}, raw=True))
    assert (raw.url, body(raw)) == ("/v1/completions", {"prompt": "Hi", "seed": 4})


@pytest.mark.parametrize(
    ("given", "code", "says"),
    [
        (b"{nonsense", "invalid_line", "line 7 is not JSON"),
        (b'{"prompt": NaN}', "invalid_line", "NaN"),
        (b'{"prompt": "\xff"}', "invalid_line", "line 7 is not JSON"),
        (b"[" * 100_000, "invalid_line", "line 7 is not JSON"),
        (b"[1]", "invalid_line", "no JSON object"),
        (b" " * MAX_LINE + b"{}", "invalid_line", "over"),
        ({"custom_id": 3, "prompt": "x"}, "invalid_custom_id", "no string"),
        ({"text": "x"}, "nothing_asked", "prompt"),
        ({"prompt": "x", "stream": True}, "stream", "stream"),
        ({"url": "/v1/chat/completions", "body": {"stream": True}}, "stream", "stream"),
        ({"url": "/models/unload", "body": {"model": "m"}}, "invalid_url", "/models/unload"),
        ({"url": ["/v1/embeddings"], "body": {}}, "invalid_url", "/v1/embeddings"),
        ({"method": "GET", "url": "/v1/embeddings", "body": {}}, "invalid_method", "POST"),
        ({"url": "/v1/embeddings", "body": []}, "invalid_body", "body"),
        ({"url": "/v1/embeddings", "body": {}, "prompt": "x"}, "unknown_field", "'prompt'"),
    ],
)
def test_what_cannot_be_asked_stays_a_row_and_says_why(given, code, says):
    row = read(given)
    assert row.refusal and row.refusal.code == code and says in row.refusal.message
    assert "\n" not in row.refusal.message


def test_an_id_is_of_what_is_asked_of_which_model():
    same = read({"prompt": "Hi", "custom_id": "a"}), read({"custom_id": "b", "prompt": "Hi"}, number=8)
    assert same[0].id == same[1].id and same[0].id.startswith("batch_req_")
    others = [read({"prompt": "Ho"}), read({"prompt": "Hi"}, Manner("another")), read(b"{"), read(b"[")]
    assert len({row.id for row in (same[0], *others)}) == 5


def test_lines_are_counted_as_editors_count_them(tmp_path):
    path = tmp_path / "rows.jsonl"
    long = json.dumps({"prompt": "x" * (2 * MAX_LINE)}).encode()
    path.write_bytes(b'\xef\xbb\xbf{"prompt": "a"}\r\n\n  \n' + long + b'\n{"prompt": "b"}')
    found = list(rows.rows(path, PLAIN))
    assert [(row.line, row.refusal is None) for row in found] == [(1, True), (4, False), (5, True)]
    assert list(rows.check(path, PLAIN)) == ["line-1", "line-4", "line-5"]


def test_custom_ids_that_are_there_twice_are_refused_with_both_lines(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(
        '{"prompt": "a"}\n{"prompt": "b", "custom_id": "x"}\n\n{"prompt": "c", "custom_id": "x"}\n'
    )
    with pytest.raises(UsageError, match="'x' is on line 2 and on line 4"):
        rows.check(path, PLAIN)
    path.write_text('{"prompt": "a"}\n{"prompt": "b", "custom_id": "line-1"}\n')
    with pytest.raises(UsageError, match="'line-1' is on line 1 and on line 2"):
        rows.check(path, PLAIN)
    path.write_text("\n \n")
    with pytest.raises(UsageError, match="holds no rows"):
        rows.check(path, PLAIN)
