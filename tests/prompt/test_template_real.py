"""Prompts with tools and thinking, rendered by us and by transformers, from the families' own templates.

Needs real checkpoints' tokenizer files (never committed): EDGELLM_CHECKPOINTS=DIR pytest -m slow <this file>
"""

import json
import os
from pathlib import Path

import pytest

from edgellm.prompt.messages import Message, for_template
from edgellm.prompt.template import ChatTemplate
from edgellm.prompt.tools import ToolCall

pytestmark = [pytest.mark.slow, pytest.mark.transformers]

FOLDERS = sorted(Path(os.environ.get("EDGELLM_CHECKPOINTS", "/nonexistent")).glob("*/tokenizer_config.json"))
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": '天气 & <weather> "quoted"',
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
    for name in ("get_weather", "get_time")
]
ARGUMENTS = {"city": "北京 <|im_end|> 🎉", "days": 3, "deep": {"x": [1, None, True, 2.5]}}
CALL = ToolCall("get_weather", ARGUMENTS, "call_1")
SYSTEM = {"role": "system", "content": "Be brief."}


def said(*messages: Message) -> list[dict]:
    return for_template(messages, lambda text: text, one_call_each=True)


CALLED = (
    Message("user", "天气?"),
    Message("assistant", "", thinking="I should call.", calls=(CALL,)),
    Message("tool", '{"t": 21}', call_id="call_1"),
)
CONVERSATIONS = {
    "one": said(Message("user", "Hello\n")),
    "system": [SYSTEM, *said(Message("user", "你好"))],
    "thought before": said(
        Message("user", "a"), Message("assistant", "b", thinking="long"), Message("user", "<tool_response>c")
    ),
    "a call": [SYSTEM, *said(*CALLED)],
    "a call and on": said(*CALLED, Message("assistant", "21."), Message("user", "thanks")),
}  # fmt: skip


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.parent.name)
@pytest.mark.parametrize("name", CONVERSATIONS)
@pytest.mark.parametrize("tools", [None, TOOLS], ids=["no tools", "tools"])
@pytest.mark.parametrize("extra", [{}, {"enable_thinking": False}, {"enable_thinking": True}], ids=str)
def test_prompts_equal_those_of_transformers(folder, name, tools, extra):
    transformers = pytest.importorskip("transformers")
    config = json.loads(folder.read_text(encoding="utf-8"))
    theirs = transformers.AutoTokenizer.from_pretrained(folder.parent)
    made = ChatTemplate(config["chat_template"], theirs.special_tokens_map)
    ours = made.render(CONVERSATIONS[name], tools=tools, **extra)
    assert ours == theirs.apply_chat_template(
        CONVERSATIONS[name], tools=tools, tokenize=False, add_generation_prompt=True, **extra
    )
