"""Saved conversations: nothing lost, nothing clobbered, nothing outside the folder."""

import json

import pytest

from edgellm.chat import store as store_module
from edgellm.chat.store import Store
from edgellm.errors import StorageError, UsageError
from edgellm.prompt.messages import History, Message

SAID = (Message("user", "你好 🎉"), Message("assistant", "hello", "stop", False, 7))


@pytest.fixture
def store(tmp_path, monkeypatch) -> Store:
    monkeypatch.setenv("EDGELLM_CACHE", str(tmp_path / "cache"))
    return Store(tmp_path / "chats")


def test_what_is_written_is_read_again(store):
    saved = store.write(store.new("model.gguf", "tiny"), History(SAID, "Be brief."))
    again = Store(store.folder).load(saved.name)
    assert again == saved
    assert again.messages == SAID
    assert again.system == "Be brief."
    assert again.model == "model.gguf"


def test_the_file_is_plain_readable_json(store):
    saved = store.write(store.new("m", "m"), History(SAID))
    text = store.path(saved.name).read_text(encoding="utf-8")
    assert "你好 🎉" in text
    assert json.loads(text)["messages"][1] == {
        "role": "assistant", "content": "hello", "finish_reason": "stop", "truncated": False, "seed": 7,
    }  # fmt: skip


def test_the_folder_is_private(store):
    store = Store(store.folder.parent / "data" / "chats")
    store.write(store.new("m", "m"), History(SAID))
    assert store.folder.stat().st_mode & 0o077 == 0
    assert store.folder.parent.stat().st_mode & 0o077 == 0


def test_two_conversations_of_one_second_get_two_names(store):
    first = store.write(store.new("m", "m"), History(SAID))
    second = store.write(store.new("m", "m"), History(SAID[:1]))
    assert first.name != second.name
    assert store.newest().name == second.name
    assert [saved.title for saved in store.all()] == ["你好 🎉", "你好 🎉"]


def test_rename_moves_and_never_clobbers(store):
    first = store.write(store.new("m", "m"), History(SAID))
    named = store.rename(first, "计划 1")
    assert not store.has(first)
    assert store.write(named, History(SAID)).name == "计划 1"
    other = store.write(store.new("m", "m"), History(SAID[:1]))
    with pytest.raises(UsageError, match="already"):
        store.rename(other, "计划 1")
    assert len(store.load("计划 1").messages) == 2
    store.rename(other, "计划 1", force=True)
    assert len(store.load("计划 1").messages) == 1


def test_two_programs_on_one_conversation_lose_nothing(store):
    saved = store.write(store.new("m", "m"), History(SAID))
    other = Store(store.folder)
    theirs = other.write(other.load(saved.name), History((*SAID, Message("user", "theirs"))))
    ours = store.write(saved, History((*SAID, Message("user", "ours"))))
    assert theirs.name == saved.name
    assert ours.name == f"{saved.name}-2"
    assert store.load(theirs.name).messages[-1].content == "theirs"
    assert store.load(ours.name).messages[-1].content == "ours"


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "", "a" * 200, "nul\0", "a\nb", "/etc/passwd"])
def test_names_cannot_leave_the_folder(store, name):
    with pytest.raises(UsageError, match="cannot be a name"):
        store.load(name)


def test_a_missing_name_lists_what_there_is(store):
    with pytest.raises(UsageError, match="no conversation 'lost'"):
        store.load("lost")
    with pytest.raises(UsageError, match="no conversation to continue"):
        store.newest()
    saved = store.write(store.new("m", "m"), History(SAID))
    with pytest.raises(UsageError, match=saved.name):
        store.load("lost")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"format": "other"}',
        b'{"format":"edgellm-chat/1","model":"m","created":"","updated":"","system":null,"messages":[{"role":"assistant","content":"x"}]}',
        b'{"format":"edgellm-chat/1","model":"m","created":"","updated":"","system":null,"messages":[{"role":"user","content":7}]}',
        b'{"format":"edgellm-chat/1","model":"m","created":"","updated":"","system":null,"messages":[{"role":"user","content":"\\ud800"}]}',
    ],
)
def test_a_damaged_file_is_refused_and_hides_no_other(store, content):
    good = store.write(store.new("m", "m"), History(SAID))
    store.path("bad").write_bytes(content)
    with pytest.raises(StorageError, match=r"bad\.json is not a saved conversation"):
        store.load("bad")
    assert [saved.name for saved in store.all()] == [good.name]


def test_the_data_folder_follows_xdg(monkeypatch, tmp_path):
    monkeypatch.delenv("EDGELLM_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert store_module.data_dir() == tmp_path / "edgellm"
    monkeypatch.setenv("EDGELLM_DATA", str(tmp_path / "mine"))
    assert store_module.data_dir() == tmp_path / "mine"
