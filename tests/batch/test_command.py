"""`edgellm batch` as a program on a real model: every protocol, errors as rows, pipes, kills at any moment.

The authority on bodies is OpenAI's own client, on texts a session that answers one prompt after the other.
"""

import json
import random
import signal
import sys

import batches
import pytest
from batches import answers, asked, batch, stopped, texts, write
from fault_rows import FULL, trials
from plain import check

from edgellm.batch.journal import part_of

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def alone():
    return batches.alone(60)


def by_id(path):
    return {row["custom_id"]: row for row in answers(path)}


def test_answers_are_those_of_one_session_in_the_input_s_order_if_asked(tmp_path, alone):
    source, output = asked(tmp_path / "rows.jsonl", 60), tmp_path / "answers.jsonl"
    done = batch(source, output, "--ordered")
    said = check(done.stdout)
    assert done.returncode == 0, done.stderr
    assert "60 rows answered, 0 errors" in said and "tok/s" in said and "not measured" in said
    assert texts(output) == alone
    assert [row["custom_id"] for row in answers(output)] == [f"r{i}" for i in range(60)]
    assert not part_of(output).exists()


def test_every_protocol_and_every_error_is_a_row(tmp_path):
    from openai.types import Completion, CreateEmbeddingResponse
    from openai.types.chat import ChatCompletion
    from openai.types.responses import Response

    schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]}
    shape = {"type": "json_schema", "json_schema": {"name": "one", "schema": schema}}
    few = {"max_tokens": 4, "temperature": 0}

    def row(custom_id, url, **body):
        return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}

    source = write(
        tmp_path / "rows.jsonl",
        [
            row("chat", CHAT, model="gpt-4o-mini", messages=HELLO, **few),
            row("schema", CHAT, messages=HELLO, response_format=shape, temperature=0),
            row("text", "/v1/completions", prompt=["Once", "Twice"], **few),
            row("vectors", "/v1/embeddings", input=["a", "b"]),
            row("response", "/v1/responses", input="Hello", max_output_tokens=4),
            row("message", "/v1/messages", messages=HELLO, max_tokens=4),
            row("name", CHAT, model="gpt-5", messages=HELLO),
            row("range", CHAT, messages=HELLO, temperature=-1),
            row("long", "/v1/completions", prompt="word " * 2000),
            row("url", "/v1/batches"),
            "this is not JSON",
            {"custom_id": "stream", "messages": HELLO, "stream": True},
            r'{"custom_id": "\ud800", "prompt": "Hello", "max_tokens": 2}',  # half a pair: no UTF-8 has it
        ],
    )
    output = tmp_path / "answers.jsonl"
    done = batch(source, output, "--alias", "gpt-4o-mini")
    assert done.returncode == 3 and "6 of 13 rows are error rows, the first" in check(done.stderr)
    found = by_id(output)
    assert len(found) == 13
    for one in found.values():
        assert one.keys() == {"id", "custom_id", "response", "error"}
        assert (one["response"] is None) != (one["error"] is None)
        if one["response"]:
            assert one["response"].keys() == {"status_code", "request_id", "body"}
        else:
            assert one["error"].keys() == {"code", "message"}
    forms = {
        "chat": ChatCompletion,
        "text": Completion,
        "vectors": CreateEmbeddingResponse,
        "response": Response,
    }
    for name, form in forms.items():
        assert found[name]["response"]["status_code"] == 200
        form.model_validate(found[name]["response"]["body"])
    chat = ChatCompletion.model_validate(found["schema"]["response"]["body"])
    assert json.loads(chat.choices[0].message.content)["n"] in (1, 2)
    assert found["message"]["response"]["body"]["type"] == "message"
    assert found["\ud800"]["response"]["status_code"] == 200
    statuses = {name: found[name]["response"]["status_code"] for name in ("name", "range", "long")}
    assert statuses == {"name": 404, "range": 400, "long": 400}
    assert found["name"]["response"]["body"]["error"]["code"] == "model_not_found"
    codes = {name: found[name]["error"]["code"] for name in ("url", "line-11", "stream")}
    assert codes == {"url": "invalid_url", "line-11": "invalid_line", "stream": "stream"}
    again = batch(source, output, "--alias", "gpt-4o-mini", "--resume")  # asks nothing, and says the same
    assert again.returncode == 3 and "6 of 13 rows are error rows" in check(again.stderr)
    assert by_id(output) == found


def test_from_and_to_pipes(tmp_path):
    rows = b'{"prompt": "Hello"}\n{"custom_id": "b", "prompt": "Hello"}\n'
    done = batch("-", "-", "--temp", "0", "--max-tokens", "1", "--raw", stdin=None, input=rows)
    assert done.returncode == 0, done.stderr
    found = {row["custom_id"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert found.keys() == {"line-1", "b"} and "2 rows answered" in check(done.stderr)
    bodies = [row["response"]["body"] for row in found.values()]
    assert {body["object"] for body in bodies} == {"text_completion"}
    assert [body["usage"]["completion_tokens"] for body in bodies] == [1, 1]


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        (("--force", "--resume"), 2, "give one"),
        (("--raw", "-sys", "Be short."), 2, "no place for a system prompt"),
        ((), 1, "exists: --resume"),
        (("-i", "nothing.jsonl", "--force"), 2, "nothing.jsonl is no file"),
        (("-o", "-", "--resume"), 2, "--resume needs a file"),
        (("-o", "nowhere/a.jsonl"), 1, "does not exist"),
        (("--resume",), 2, "'r0' in "),
    ],
)
def test_what_makes_no_sense_is_said_before_the_model_is_opened(tmp_path, more, code, says):
    source, output = asked(tmp_path / "rows.jsonl", 2), tmp_path / "a.jsonl"
    kept = '{"id": "batch_req_1", "custom_id": "r0", "response": null, "error": null}\n'
    output.write_text(kept)
    done = batch(source, output, *more, cwd=tmp_path)
    *_, last = check(done.stderr).splitlines()
    assert (done.returncode, done.stdout) == (code, b"") and says in last, last
    assert output.read_text() == kept and sorted(p.name for p in tmp_path.iterdir()) == [
        "a.jsonl",
        "rows.jsonl",
    ]


ENDS = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
@pytest.mark.fault(17, trials(40, 3))
def test_a_run_that_is_ended_anywhere_goes_on_and_no_row_is_lost_or_doubled(tmp_path, alone):
    """Row 17."""
    source, output, rng = asked(tmp_path / "rows.jsonl", 60), tmp_path / "answers.jsonl", random.Random(20)
    for trial in range(trials(40, 3)):
        number = list(ENDS)[trial % len(ENDS)]
        code, said = stopped(source, output, number, rng.randrange(1, 50))
        assert code == ENDS[number] and not output.exists()
        assert number == signal.SIGKILL or "--resume goes on with it" in check(said.encode())
        n_kept = part_of(output).read_bytes().count(b"\n")
        with part_of(output).open("ab") as file:
            file.write(b'{"id": "batch_req_')  # torn, as a kill within a write leaves it
        refused = batch(source, output)
        assert refused.returncode == 1 and "--resume goes on with it" in check(refused.stderr)
        done = batch(source, output, "--resume")
        assert done.returncode == 0, done.stderr
        assert f"{60 - n_kept} rows answered beside {n_kept} that were there" in check(done.stdout)
        assert texts(output) == alone
        again = batch(source, output, "--resume")
        assert again.returncode == 0 and "0 rows answered beside 60" in check(again.stdout)
        assert texts(output) == alone
        output.unlink()
    assert FULL or not list(tmp_path.glob("*.part"))
