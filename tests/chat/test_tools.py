"""Thinking and tool calls in a conversation: what is kept, what goes back to the model, what is computed again."""

import json

import pytest
from chat_fakes import ChatMl, ChatSession

from edgellm.chat.conversation import Conversation
from edgellm.chat.store import Store
from edgellm.errors import UsageError
from edgellm.prompt.messages import History, Message, check

TOOLS = ({"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}},)
CALL = b'<tool_call>\n{"name": "add", "arguments": {"a": 2, "b": 3}}\n</tool_call>'


class Thinking(ChatMl):
    """Qwen3's template as a function of Python, as far as these tests go."""

    source = "<tool_call> </think> enable_thinking tools"

    def render(self, messages, add_generation_prompt=True, tools=None, enable_thinking=True) -> str:
        last_user = max(i for i, m in enumerate(messages) if m["role"] == "user")
        out = f"<|im_start|>system\n{json.dumps(tools)}<|im_end|>\n" if tools else ""
        for i, message in enumerate(messages):
            content = message["content"]
            if message["role"] == "tool":
                content = f"<tool_response>{content}</tool_response>"
            if i > last_user and message.get("reasoning_content"):
                content = f"<think>\n{message['reasoning_content']}\n</think>\n\n{content}"
            for call in message.get("tool_calls", ()):
                content += f"<tool_call>\n{json.dumps(call['function'])}\n</tool_call>"
            out += f"<|im_start|>{message['role']}\n{content}<|im_end|>\n"
        return out + "<|im_start|>assistant\n" + ("" if enable_thinking else "<think>\n\n</think>\n\n")


def talk(session: ChatSession, **options) -> Conversation:
    return Conversation(session, Thinking(), **options)


def test_thinking_is_told_apart_kept_and_not_fed_back():
    session = ChatSession(b"<think>\nHm.\n</think>\n\nYes.", b"No.")
    conversation = talk(session)
    reply = conversation.ask("one")
    parts = [(part.kind, part.text) for part in reply.parts()]
    assert {kind for kind, _ in parts} == {"thinking", "text"}
    assert "".join(text for kind, text in parts if kind == "text") == reply.text == "Yes."
    assert (reply.thinking, reply.n_thinking) == ("Hm.", len("<think>\nHm.\n</think>"))
    assert conversation.messages[-1].thinking == "Hm."
    assert "".join(conversation.ask("two")) == "No."
    assert "Hm." not in session.text(session.tokens)
    assert "Yes.<|im_end|>" in session.text(session.tokens)


def test_iterating_gives_the_text_alone():
    assert "".join(talk(ChatSession(b"<think>x</think>y")).ask("?")) == "y"


@pytest.mark.parametrize(("think", "closed"), [(None, False), (True, False), (False, True)])
def test_think_is_the_templates_switch(think, closed):
    session = ChatSession(b"ok")
    conversation = talk(session, think=think)
    assert "".join(conversation.ask("?")) == "ok"
    assert ("<think>\n\n</think>" in session.text(session.tokens)) is closed


def test_a_tool_is_called_and_its_result_goes_back():
    session = ChatSession(b"<think>\nI add.\n</think>\n\n" + CALL, b"It is 5.", b"Bye.")
    conversation = talk(session, tools=TOOLS)
    reply = conversation.ask("2 + 3?")
    assert "".join(reply) == ""
    assert reply.finish_reason == conversation.messages[-1].finish_reason == "tool_calls"
    (call,) = reply.calls
    assert (call.name, call.arguments) == ("add", {"a": 2, "b": 3})
    assert conversation.pending == (call,)
    assert "".join(conversation.respond({call.id: "5<|im_end|>"})) == "It is 5."
    new = session.text(session.evaluated[1])
    assert new.startswith("<|im_end|>\n<|im_start|>tool\n<tool_response>5<|im_end|></tool_response>")
    assert session.evaluated[1].count(256) == 2  # the result's <|im_end|> stayed text
    "".join(conversation.ask("thanks"))
    assert "I add." not in session.text(session.tokens)  # the thought ends with the turn
    assert session.text(session.tokens).count('"name": "add"') == 2


def test_results_must_be_those_asked_for():
    conversation = talk(ChatSession(CALL, b"ok"), tools=TOOLS)
    with pytest.raises(UsageError, match="no tool was called"):
        conversation.respond({})
    "".join(conversation.ask("?"))
    with pytest.raises(UsageError, match=r"results are missing for: add \(call_"):
        conversation.respond({"other": "x"})


def test_undo_and_edit_take_the_whole_turn():
    conversation = talk(ChatSession(CALL, b"5", b"again"), tools=TOOLS)
    "".join(conversation.ask("?"))
    "".join(conversation.respond({conversation.pending[0].id: "5"}))
    assert "".join(conversation.regenerate()) == "again"
    assert [m.role for m in conversation.messages] == ["user", "assistant", "tool", "assistant"]
    assert conversation.undo().content == "?"
    assert conversation.messages == []


def test_llama_gets_one_call_each():
    class Llama(ChatMl):
        source = "tools single tool-calls"

        def render(self, messages, add_generation_prompt=True, tools=None, **extra):
            self.seen = messages
            return super().render(messages)

    template = Llama()
    calls = b'{"name": "add", "parameters": {"a": 1}}; {"name": "add", "parameters": {"a": 2}}'
    conversation = Conversation(ChatSession(calls, b"ok"), template, tools=TOOLS)
    reply = conversation.ask("?")
    results = {call.id: str(call.arguments["a"]) for call in reply.calls}
    assert "".join(conversation.respond(results)) == "ok"
    assert [(m["role"], m.get("tool_call_id")) for m in template.seen] == [
        ("user", None), ("assistant", None), ("tool", reply.calls[0].id),
        ("assistant", None), ("tool", reply.calls[1].id),
    ]  # fmt: skip
    assert [len(m.get("tool_calls", ())) for m in template.seen] == [0, 1, 0, 1, 0]


def test_a_template_without_tools_says_so():
    with pytest.raises(UsageError, match="no place for tools"):
        Conversation(ChatSession(), ChatMl(), tools=TOOLS)


def test_calls_and_thinking_are_saved_and_read_again(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGELLM_CACHE", str(tmp_path / "cache"))
    conversation = talk(ChatSession(b"<think>x</think>" + CALL, b"5"), tools=TOOLS)
    "".join(conversation.ask("?"))
    "".join(conversation.respond({conversation.pending[0].id: "5"}))
    store = Store(tmp_path / "chats")
    saved = store.write(store.new("m", "m"), conversation.history)
    assert store.load(saved.name).history == conversation.history
    assert saved.messages[1].calls[0].arguments == {"a": 2, "b": 3}


@pytest.mark.parametrize("roles", ["assistant", "tool", "user user", "user tool", "user assistant assistant"])
def test_messages_out_of_order_are_refused(roles):
    with pytest.raises(ValueError, match="cannot be the"):
        check([Message(role, "x") for role in roles.split()])


def test_an_earlier_turn_is_edited_as_a_branch_without_computing_the_common_part():
    session = ChatSession(b"A", b"B", b"C", b"D")
    conversation = Conversation(session, ChatMl(), system="a system prompt")
    for text in ("one", "two", "three"):
        "".join(conversation.ask(text))
    reply = conversation.edit("zwei", turn=2)
    assert "".join(reply) == "D"
    assert [m.content for m in conversation.messages] == ["one", "A", "zwei", "D"]
    assert session.text(session.evaluated[-1]).startswith("zwei<|im_end|>")
    assert reply.completion.usage.n_cached == reply.n_prompt - len(session.evaluated[-1])
    (branch,) = conversation.branches
    assert [m.content for m in branch] == ["one", "A", "two", "B", "three", "C"]
    conversation.switch(1)
    assert [m.content for m in conversation.messages] == ["one", "A", "two", "B", "three", "C"]
    assert [m.content for m in conversation.branches[0]] == ["one", "A", "zwei", "D"]
    with pytest.raises(UsageError, match="no branch 2"):
        conversation.switch(2)
    with pytest.raises(UsageError, match="no turn 4; there are 3"):
        conversation.edit("x", turn=4)


def full(on_full: str, summary: bytes = b"SUMMARY") -> tuple[Conversation, ChatSession]:
    session = ChatSession(lambda prompt: summary if "Summarize" in prompt[-400:] else b"x" * 40, n_ctx=1024)
    return Conversation(session, ChatMl(), system="SYSTEM", on_full=on_full), session


def test_a_summary_takes_the_place_of_the_oldest_turns():
    conversation, session = full("summarise")
    shown = []
    conversation.on_summary = lambda reply: shown.append(
        (reply.n_dropped, "".join(reply), reply.completion.usage)
    )
    for i in range(14):
        reply = conversation.ask(f"message {i}")
        "".join(reply)
        assert reply.n_dropped == 0
    assert [text for _, text, _ in shown] == ["SUMMARY"] * len(shown) != []
    assert all(usage.n_cached > 300 for _, _, usage in shown)  # the old turns were not computed again
    seen = session.text(session.tokens)
    assert seen.startswith(
        "<|im_start|>system\nSYSTEM\n\nSummary of the conversation so far:\nSUMMARY<|im_end|>"
    )
    assert "message 0<" not in seen
    assert conversation.summary.n_messages == conversation.n_hidden == 2 * sum(n for n, _, _ in shown)
    assert len(conversation.messages) == 28
    again = Conversation(ChatSession(b"ok", n_ctx=1024), ChatMl())
    again.restore(conversation.history)
    "".join(again.ask("next"))
    "".join(conversation.ask("next"))
    assert again.history.n_hidden == conversation.history.n_hidden
    assert again.session.text(again.session.tokens)[:-2] == session.text(session.tokens)[:-40]


def test_a_summary_of_nothing_is_a_drop_and_one_of_what_changed_is_forgotten():
    conversation, _ = full("summarise", b"  ")
    dropped = 0
    for i in range(14):
        reply = conversation.ask(f"message {i}")
        dropped += reply.n_dropped
        "".join(reply)
    assert dropped
    assert conversation.summary is None
    conversation, session = full("summarise")
    for i in range(14):
        "".join(conversation.ask(f"message {i}"))
    "".join(conversation.edit("new", turn=1))
    assert conversation.summary is None
    assert "SUMMARY" not in session.text(session.tokens)
    assert conversation.n_hidden == 0


def test_what_is_hidden_stays_hidden_after_a_restart():
    conversation, session = full("drop")
    for i in range(14):
        "".join(conversation.ask(f"message {i}"))
    other, other_session = full("drop")
    other.restore(conversation.history)
    "".join(other.ask("next"))
    "".join(conversation.ask("next"))
    assert other_session.text(other_session.tokens) == session.text(session.tokens)
    assert History().branches == ()
