"""edgellm chats: what is saved, listed, shown, exported and deleted."""

import json

import pytest
from click.testing import CliRunner

from edgellm.chat.store import Store
from edgellm.cli import cli
from edgellm.errors import OutputExistsError, StorageError, UsageError
from edgellm.prompt.messages import History, Message
from edgellm.prompt.tools import ToolCall

SAID = (
    Message("user", "你好"),
    Message("assistant", "", "tool_calls", thinking="Hm.", calls=(ToolCall("f", {"x": 1}, "call_1"),)),
    Message("tool", "7", call_id="call_1"),
    Message("assistant", "It is 7.", "stop", False, 5),
)


@pytest.fixture
def chats(tmp_path, monkeypatch):
    for name in ("cache", "data"):
        monkeypatch.setenv(f"EDGELLM_{name.upper()}", str(tmp_path / name))
    store = Store()
    saved = store.write(store.new("m", "tiny"), History(SAID, "Be brief."))
    store.rename(saved, "trip")
    store.state_path("trip").write_bytes(b"state")

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(cli, ["chats", *arguments])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.stdout

    return run


def test_listed(chats):
    assert "trip" in chats()
    assert "1 turn " in chats("list")
    facts = json.loads(chats("list", "--json"))
    assert (facts["name"], facts["turns"], facts["title"], facts["state_bytes"]) == ("trip", 1, "你好", 5)


def test_shown_as_markdown(chats):
    shown = chats("show", "trip")
    for line in ("# trip", "## system", "Be brief.", "## user", "你好", "> Hm.", "`f({'x': 1})`", "It is 7."):
        assert line in shown.splitlines()


def test_exported(chats, tmp_path):
    openai = json.loads(chats("export", "trip", "-f", "openai"))
    assert [m["role"] for m in openai] == ["system", "user", "assistant", "tool", "assistant"]
    assert openai[2]["tool_calls"][0]["function"] == {"name": "f", "arguments": {"x": 1}}
    assert openai[3] == {"role": "tool", "content": "7", "tool_call_id": "call_1"}
    path = tmp_path / "out.json"
    chats("export", "trip", "-f", "json", "-o", str(path))
    assert path.read_bytes() == Store().path("trip").read_bytes()
    with pytest.raises(OutputExistsError):
        chats("export", "trip", "-o", str(path))
    chats("export", "trip", "-o", str(path), "--force")
    assert path.read_text(encoding="utf-8").startswith("# trip")


def test_deleted_with_the_state(chats):
    assert "deleted trip" in chats("delete", "trip")
    assert list(Store().folder.iterdir()) == []
    with pytest.raises(UsageError, match="no conversation 'trip'"):
        chats("delete", "trip")


def test_a_damaged_one_hides_no_other_and_can_be_deleted(chats):
    store = Store()
    store.path("bad").write_text("{", encoding="utf-8")
    assert "trip" in chats()
    with pytest.raises(StorageError, match="not a saved conversation"):
        chats("show", "bad")
    chats("delete", "bad")
    assert not store.path("bad").exists()
