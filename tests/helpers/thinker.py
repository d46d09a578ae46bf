"""A bundled model with a template of ours, which opens thinking and has a place for tools."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from places import ROOT

TEMPLATE = (
    "{% if tools %}<|im_start|>system\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}"
    "Call tools as <tool_call>JSON</tool_call>.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>\n{{ c.function | tojson }}\n</tool_call>{% endfor %}"
    "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n"
    "{% elif not tools %}<think>\n{% endif %}{% endif %}"
)


def made(folder: Path) -> Path:
    """The checkpoint, in a new folder `thinker` inside `folder`."""
    there = folder / "thinker"
    shutil.copytree(ROOT / "edgellm" / "models" / "bundled" / "tiny-qwen3", there)
    place = there / "tokenizer_config.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), "chat_template": TEMPLATE}))
    return there
