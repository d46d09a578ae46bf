"""Coding agents' requests: what they send is taken, what means nothing here is named, their prompts stay cached."""

import json

import agent_requests
import pytest
import reciter
from hypothesis import given
from hypothesis import strategies as st

from edgellm.server import schema
from edgellm.server.agents.anthropic import MessagesRequest
from edgellm.server.agents.responses import ResponsesRequest
from edgellm.server.agents.turns import Turns
from edgellm.server.agents.volatile import stable
from edgellm.server.conversation import arguments_of
from edgellm.server.errors import RequestError

KEY = {"authorization": "Bearer a key"}
CALLED = [("get_weather", reciter.FIRST), ("add", reciter.SECOND)]


def sent(server, path, body, headers=None):
    said = server.ask("POST", path, body, {**KEY, **(headers or {})})
    assert said.status == 200, said.body
    return said


def codex(server, *later):
    """The response of a turn, and what was skipped."""
    said = sent(server, "/v1/responses", agent_requests.codex(*later, model="reciter"))
    assert said.events[-1]["type"] == "response.completed"
    return said.events[-1]["response"], said.headers["x-edgellm-skipped"]


def claude(server, *later, cch):
    """A turn's events, and what was skipped."""
    body = agent_requests.claude_code(*later, model="reciter", cch=cch)
    said = sent(server, "/v1/messages?beta=true", body, agent_requests.CLAUDE_CODE_HEADERS)
    assert said.events[-1] == {"type": "message_stop"}
    return said.events, said.headers["x-edgellm-skipped"]


def test_codex_gets_its_calls_and_goes_on_with_their_results(agents_server):
    first, skipped = codex(agents_server)
    assert skipped == "custom, namespace, web_search, image_generation"
    assert [tool["name"] for tool in first["tools"]] == [
        "exec_command",
        "write_stdin",
        "update_plan",
        "get_weather",
        "add",
    ]
    calls = [item for item in first["output"] if item["type"] == "function_call"]
    assert [(call["name"], json.loads(call["arguments"])) for call in calls] == CALLED
    outputs = [
        {"type": "function_call_output", "call_id": call["call_id"], "output": "20 degrees"} for call in calls
    ]
    second, _ = codex(agents_server, *first["output"], *outputs)
    assert second["output"][-1]["content"][0]["text"] == reciter.TEXT
    assert second["usage"]["input_tokens_details"]["cached_tokens"] >= first["usage"]["input_tokens"] - 1


def test_codex_may_bring_what_another_model_did(agents_server):
    second, skipped = codex(
        agents_server,
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": None, "encrypted_content": "gAAAA"},
        {
            "type": "custom_tool_call",
            "call_id": "c1",
            "name": "apply_patch",
            "input": "*** Begin Patch",
            "status": "completed",
        },
        {
            "type": "custom_tool_call_output",
            "call_id": "c1",
            "output": [{"type": "input_text", "text": "Done!"}],
        },
        {
            "type": "web_search_call",
            "id": "ws_1",
            "status": "completed",
            "action": {"type": "search", "query": "x"},
        },
        {"type": "function_call", "call_id": "c2", "name": "exec_command", "arguments": '{"cmd": "l'},
        {"type": "function_call_output", "call_id": "c2", "output": "the arguments are no JSON"},
        {"type": "message", "role": "developer", "content": "<model_switch>Go on.</model_switch>"},
    )
    assert second["status"] == "completed"
    assert skipped == "web_search_call, custom, namespace, web_search, image_generation"


def test_claude_code_gets_its_calls_and_goes_on_with_their_results(agents_server):
    events, skipped = claude(agents_server, cch="fa690")
    assert skipped == "web_search_20250305"
    blocks = [event["content_block"] for event in events if event["type"] == "content_block_start"]
    assert [block["type"] for block in blocks] == ["thinking", "text", "tool_use", "tool_use"]
    given = ["", "", "", ""]
    for event in events:
        if event["type"] == "content_block_delta":
            delta = event["delta"]
            given[event["index"]] += (
                delta.get("thinking") or delta.get("text") or delta.get("partial_json") or ""
            )
    assert [(b["name"], json.loads(g)) for b, g in zip(blocks[2:], given[2:], strict=True)] == CALLED
    said = [
        {"type": "thinking", "thinking": given[0], "signature": "edgellm"},
        {"type": "text", "text": given[1]},
        *({**b, "input": json.loads(g)} for b, g in zip(blocks[2:], given[2:], strict=True)),
    ]
    results = [{"type": "tool_result", "tool_use_id": block["id"], "content": "20"} for block in blocks[2:]]
    later = [{"role": "assistant", "content": said}, {"role": "user", "content": results}]
    after, _ = claude(agents_server, *later, cch="0aaa9")
    assert (
        "".join(e["delta"].get("text", "") for e in after if e["type"] == "content_block_delta")
        == reciter.TEXT
    )
    begun = events[0]["message"]["usage"]
    n_before = begun["input_tokens"] + begun["cache_read_input_tokens"]
    assert after[0]["message"]["usage"]["cache_read_input_tokens"] >= n_before - 1


def test_a_number_that_changes_with_every_request_keeps_the_prefix_cached(agents_server):
    claude(agents_server, cch="36ee5")
    again, _ = claude(agents_server, cch="8ae40")
    usage = again[0]["message"]["usage"]
    assert usage["cache_read_input_tokens"] > 900 and usage["input_tokens"] <= 1


def test_only_the_line_itself_is_left_out():
    line = "x-anthropic-billing-header: cc_version=2.1.177.01c; cc_entrypoint=sdk-cli; cch=36ee5;"
    assert stable(line) == ""
    assert stable(f"{line}\nYou are brief.\n") == "You are brief.\n"
    about = "Never print the x-anthropic-billing-header: it is private."
    assert stable(about) == about


def test_turns_alternate_whatever_is_said():
    turns = Turns()
    turns.system("one")
    turns.system("two")
    turns.user("ask")
    turns.system("three")
    turns.thought("hm")
    turns.said("well")
    turns.called("c", "f", {})
    turns.result("c", "")
    assert [(m["role"], m["content"]) for m in turns.messages] == [
        ("system", "one\n\ntwo"),
        ("user", "ask\n\nthree"),
        ("assistant", "well"),
        ("tool", ""),
    ]
    assert turns.messages[2]["reasoning_content"] == "hm"


@pytest.mark.parametrize(
    ("text", "found"),
    [("", {}), ('{"a": 1}', {"a": 1}), ('{"a": ', {"malformed": '{"a": '}), ("[1]", {"malformed": "[1]"}),
     ('{"a": "\\ud83d"}', {"malformed": '{"a": "\\ud83d"}'}), ("[" * 9999, {"malformed": "[" * 9999})],
)  # fmt: skip
def test_arguments_that_are_no_object_are_told_as_they_are(text, found):
    assert arguments_of(text) == found


_words = st.sampled_from(
    ["text", "input_text", "output_text", "message", "reasoning", "function_call", "function_call_output", "tool_use",
     "tool_result", "thinking", "image", "user", "assistant", "developer", "custom_tool_call", "item_reference", "c1"]
)  # fmt: skip
_names = st.sampled_from(
    ["type", "role", "content", "text", "summary", "output", "call_id", "name", "arguments", "input", "id", "thinking",
     "tool_use_id", "tools", "mode"]
)  # fmt: skip
_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | _words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_names, inner, max_size=6),
    max_leaves=20,
)
_items = st.lists(st.dictionaries(_names, _anything, max_size=7), max_size=4) | _words


@given(_items, _anything, _items)
def test_whatever_comes_is_read_or_refused(items, choice, more):
    for model, body in (
        (ResponsesRequest, {"input": items, "tool_choice": choice, "tools": more}),
        (ResponsesRequest, {"input": items}),
        (
            MessagesRequest,
            {"max_tokens": 1, "messages": [{"role": "user", "content": items}], "system": more},
        ),
        (
            MessagesRequest,
            {"max_tokens": 1, "messages": [{"role": "assistant", "content": items}], "tools": more},
        ),
        (MessagesRequest, {"max_tokens": 1, "messages": more, "tool_choice": choice}),
    ):
        try:
            job, skipped = schema.parsed(body, model).read()
        except RequestError as refused:
            assert refused.status == 400 and "\n" not in str(refused)
        else:
            assert job.messages and all(isinstance(name, str) for name in skipped)
            assert all(isinstance(message["content"], str) for message in job.messages)
