"""Saved conversations: nothing lost, nothing clobbered, nothing outside the folder."""

import json
from dataclasses import replace

import pytest
from json_fuzz import WRONG, changed, places

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


def test_a_value_of_any_wrong_type_breaks_neither_the_listing_nor_the_others(store):
    """Every field of a saved conversation, also inside messages, with each of many values: one line or still good."""
    store.write(replace(store.new("m", "good"), name="good"), History((Message("user", "hello"),)))
    path = store.folder / "bad.json"
    calls = [{"id": "1", "name": "f", "arguments": {"a": 1}}]
    message = {"role": "assistant", "content": "Hi", "finish_reason": "stop", "seed": 1, "calls": calls}
    data = json.loads((store.folder / "good.json").read_text())
    data |= {"messages": [{"role": "user", "content": "hello"}, message], "n_hidden": 0}
    data |= {"summary": {"text": "s", "n_messages": 1}, "branches": [{"n_common": 1, "messages": [message]}]}
    n_refused = 0
    for place in places(data):
        for value in WRONG:
            path.write_text(json.dumps(changed(data, place, value)))
            assert "good" in [saved.name for saved in store.all()]
            try:
                history = store.load("bad").history
                assert [*map(str, history.messages)] and store.load("bad").title is not None
                json.dumps([m.as_json() for m in history.messages]).encode()
            except StorageError as error:
                n_refused += 1
                assert "\n" not in str(error) and "bad.json is not a saved conversation: " in str(error)
    assert n_refused > 200
