"""Saved engine states: taken up when they are whole and ours, refused otherwise, never in the way."""

import dataclasses
import hmac
import json
import os
import random
import stat
import struct

import pytest
from chat_fakes import ChatMl, ChatSession, Terminal, Typist

from edgellm.chat import state
from edgellm.chat.conversation import Conversation
from edgellm.chat.state import StateError
from edgellm.chat.store import Store
from edgellm.chat.talk.repl import Repl
from edgellm.chat.terminal.render import Screen
from edgellm.errors import EngineError, StorageError
from edgellm.prompt.messages import History


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGELLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("EDGELLM_DATA", str(tmp_path / "data"))
    path = tmp_path / "model.gguf"
    path.write_bytes(bytes(range(256)) * 1000)
    return path


def session_of(path, *answers, **options) -> ChatSession:
    session = ChatSession(*answers, **options)
    session.artifact = dataclasses.replace(session.artifact, path=path)
    return session


@pytest.fixture
def written(model, tmp_path):
    """A conversation of one turn and its state."""
    conversation = Conversation(session_of(model, b"Hello!"), ChatMl())
    "".join(conversation.ask("Hi"))
    path = tmp_path / "chat.state"
    assert state.write(path, conversation.session, conversation.spans) == path.stat().st_size
    return conversation, path


def test_going_on_evaluates_only_what_is_new(model, written):
    conversation, path = written
    session = session_of(model, b"fine")
    again = Conversation(session, ChatMl())
    again.restore(conversation.history)
    assert state.restore(path, session, again.spans) == len(conversation.session.tokens)
    "".join(again.ask("How are you?"))
    assert session.text(session.evaluated[0]).startswith("<|im_end|>\n<|im_start|>user\nHow are you?")


@pytest.mark.fault(14, 300)
def test_every_damage_is_refused(model, written):
    _, path = written
    good, session = path.read_bytes(), session_of(model)
    spans = Conversation(session, ChatMl()).spans
    chance = random.Random(7)
    for _ in range(150):
        cut = chance.randrange(len(good))
        path.write_bytes(good[:cut])
        with pytest.raises(StateError):
            state.restore(path, session, spans)
        flipped = bytearray(good)
        flipped[cut] ^= 1 << chance.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(StateError):
            state.restore(path, session, spans)
    path.unlink()
    with pytest.raises(StateError, match="cannot be read"):
        state.restore(path, session, spans)
    assert list(session.tokens) == []


@pytest.mark.fault(14, 6)
def test_a_foreign_state_is_refused_by_what_differs(model, written, tmp_path):
    _, path = written
    other = tmp_path / "other.gguf"
    other.write_bytes(model.read_bytes()[:-1] + b"x")
    sessions = {"model": session_of(other)}
    for key, changes in (
        ("build", {"version": "1"}),
        ("engine", {"backend": "x"}),
        ("CPU and build flags", {"system": "AVX"}),
    ):
        sessions[key] = session_of(model)
        sessions[key].info = dataclasses.replace(sessions[key].info, **changes)
    sessions["type_k"] = session_of(model)
    info = sessions["type_k"].info
    sessions["type_k"].info = dataclasses.replace(
        info, options=dataclasses.replace(info.options, type_k="q4_0")
    )
    for key, session in sessions.items():
        with pytest.raises(StateError, match=f"made with another {key}"):
            state.restore(path, session, Conversation(session, ChatMl()).spans)
        assert list(session.tokens) == []
    small = session_of(model, n_ctx=16)
    with pytest.raises(StateError, match="the window 16"):
        state.restore(path, small, Conversation(small, ChatMl()).spans)


def test_threads_and_batches_may_differ(model, written):
    _, path = written
    session = session_of(model)
    options = dataclasses.replace(session.info.options, n_threads=7, n_ubatch=64)
    session.info = dataclasses.replace(session.info, options=options)
    assert state.restore(path, session, Conversation(session, ChatMl()).spans)


def test_an_engine_that_refuses_leaves_an_empty_session(model, written):
    class Refusing(ChatSession):
        def restore_state(self, data, tokens):
            self._tokens = [1, 2]
            raise EngineError("no")

    _, path = written
    session = Refusing()
    session.artifact = dataclasses.replace(session.artifact, path=model)
    with pytest.raises(StateError, match="refused by the engine: no"):
        state.restore(path, session, Conversation(session, ChatMl()).spans)
    assert list(session.tokens) == []


def chat(model, *lines, store, session=None, **options) -> Repl:
    conversation = Conversation(session or session_of(model, b"ok"), ChatMl())
    repl = Repl(conversation, Typist(*lines), Screen(Terminal()), "fake", store, **options)
    repl.begin(store.newest() if store.all() else None)
    repl.run()
    return repl


def test_a_chat_keeps_its_state_and_takes_it_up(model):
    store = Store()
    first = chat(model, "one", "/save trip", store=store, save_state=True)
    assert store.state_path("trip").exists()
    assert not list(store.folder.glob("2*.state"))  # it moved with the name
    session = session_of(model, b"ok")
    again = chat(model, "two", store=store, session=session)
    assert "its state is back" in again.screen.out.getvalue()
    assert session.text(session.evaluated[0]).startswith("<|im_end|>\n<|im_start|>user\ntwo")
    assert again.save_state  # it goes on being kept
    assert len(first.conversation.messages) == 2
    data = bytearray(store.state_path("trip").read_bytes())
    data[100] ^= 1
    store.state_path("trip").write_bytes(data)
    session = session_of(model, b"ok")
    damaged = chat(model, "three", store=store, session=session)
    assert "the text is read again: trip.state is damaged" in damaged.screen.out.getvalue()
    assert "one<|im_end|>" in session.text(session.evaluated[0])
    assert [m.content for m in store.load("trip").messages] == ["one", "ok", "two", "ok", "three", "ok"]
    store.delete("trip")
    assert [path.name for path in store.folder.iterdir()] == ["state.key"]


def test_a_state_that_cannot_be_written_is_said_and_no_more(model, monkeypatch):
    def fail(*args):
        raise StorageError("no space")

    monkeypatch.setattr(state, "write", fail)
    repl = chat(model, "one", store=Store(), save_state=True)
    assert "the state is not saved: no space" in repl.screen.out.getvalue()
    assert len(repl.conversation.messages) == 2


def sealed(path, header: object, body: bytes) -> None:
    """A state file of any content whose seal holds, as another version of ours might have left it."""
    text = json.dumps(header).encode()
    rest = struct.pack("<Q", len(text)) + text + body
    key = path.with_name("state.key").read_bytes()
    path.write_bytes(b"edgellm-state/2\n" + hmac.digest(key, rest, "sha256") + rest)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("n_tokens", bad) for bad in (None, "3", -1, 1.5, 10**30, [1])),
        *(("spans", bad) for bad in (None, 1, [1], [["a"]], [["a", ["b"]]], [[1, [2]]], {"a": 1})),
        *(("made_by", bad) for bad in (None, [], "x")),
    ],
)
@pytest.mark.fault(14, 5)
def test_a_sealed_file_of_wrong_contents_is_one_line(model, written, name, value):
    _, path = written
    data = path.read_bytes()
    size = struct.unpack("<Q", data[48:56])[0]
    header, body = json.loads(data[56 : 56 + size]), data[56 + size :]
    session = session_of(model)
    sealed(path, header, body)
    assert state.restore(path, session, Conversation(session, ChatMl()).spans) == header["n_tokens"]
    for wrong in (header | {name: value}, {k: v for k, v in header.items() if k != name}, [], 1, "x"):
        session = session_of(model)
        sealed(path, wrong, body)
        with pytest.raises(StateError) as caught:
            state.restore(path, session, Conversation(session, ChatMl()).spans)
        assert "\n" not in str(caught.value) and list(session.tokens) == []


def test_a_state_from_elsewhere_is_not_given_to_the_engine(model, written, tmp_path):
    """Its checksum would be right, for whoever wrote it computed it; llama.cpp aborts on such bytes."""
    _, path = written
    folder = tmp_path / "another home"
    folder.mkdir()
    moved = path.replace(folder / path.name)
    session = session_of(model)
    with pytest.raises(StateError, match="was not written here"):
        state.restore(moved, session, Conversation(session, ChatMl()).spans)


@pytest.mark.skipif(os.name == "nt", reason="permissions are POSIX")
def test_what_was_said_is_for_its_owner(model, written):
    _, path = written
    store = Store()
    store.write(store.new("m", "m"), History())
    for file in (path, path.with_name("state.key"), *store.folder.iterdir()):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
