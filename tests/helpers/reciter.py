"""A model that thinks, speaks and calls tools as if by heart, so that a real engine gives a test what it needs.

Its weights are written, not trained: attention and feed-forward add nothing, so that the next token follows from the
last alone, and each token of a script names the one after it. The chat template ends a prompt with the cue of a script.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import tinymodels
from tensor_files import write_json, write_shards
from tinymodels import Tiny

from edgellm.convert.gguf.convert import ConvertRequest, convert

_SAYS = ["It is", " 20 degrees", " in 北京", " 🌞", " now."]
_CALLS = [
    "Let me", " look.\n", "<tool_call>\n", '{"name": "get_weather", ', '"arguments": ', '{"city', '": "Ro', 'me", ',
    '"days": ', "2}}\n", "</tool_call>", '\n<tool_call>\n{"name": "add", "argu', 'ments": {"a": 1, ', '"b": [2',
    ", 3]}}\n</tool_call>",
]  # fmt: skip
#: Cue -> what is recited after it. A token is followed by the same one in every script.
SCRIPTS = {
    "<|say|>": _SAYS,
    "<|call|>": _CALLS,
    "<|think|>": ["<think>\nThey", " ask something", ".\n</think>\n\n", *_SAYS],
    "<|think-call|>": ["<think>", "\nThe weather", " is wanted.", "\n</think>", "\n\n", *_CALLS],
}
TEXT, THOUGHT = "It is 20 degrees in 北京 🌞 now.", "They ask something."
TEXT_OF_CALL, THOUGHT_OF_CALL = "Let me look.", "The weather is wanted."
FIRST, SECOND = {"city": "Rome", "days": 2}, {"a": 1, "b": [2, 3]}

TEMPLATE = """
{%- if tools %}{{ '<|im_start|>system\\n' }}
{%- if messages[0].role == 'system' %}{{ messages[0].content + '\\n' }}{% endif %}
{%- for tool in tools %}{{ tool.function | tojson }}{{ '\\n' }}{% endfor %}{{ '<|im_end|>\\n' }}
{%- endif %}
{%- for m in messages %}
{%- if not (tools and loop.first and m.role == 'system') %}{{ '<|im_start|>' + m.role + '\\n' }}
{%- if m.reasoning_content %}{{ '<think>\\n' + m.reasoning_content + '\\n</think>\\n\\n' }}{% endif %}{{ m.content }}
{%- for call in m.tool_calls or [] %}{{ '<tool_call>\\n' }}{{ call.function | tojson }}{{ '\\n</tool_call>' }}
{%- endfor %}{{ '<|im_end|>\\n' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}
{%- set calls = tools and messages[-1].role == 'user' %}
{%- if enable_thinking is defined and not enable_thinking %}{{ '<|call|>' if calls else '<|say|>' }}
{%- else %}{{ '<|think-call|>' if calls else '<|think|>' }}{% endif %}
{%- endif %}"""


def write(folder: Path) -> Path:
    """The model as a GGUF file in `folder`."""
    tiny = Tiny(
        "qwen3", n_layer=1, n_embd=256, n_ff=64, head_dim=64, n_vocab=512, n_ctx_train=16_384, dtype="F16"
    )
    source = tinymodels.write(tiny, folder / "checkpoint")
    ids = _add_tokens(source)
    _, eos = tinymodels.special_ids(tiny)
    values = tinymodels.tensors(tiny)
    for name, value in values.items():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            value[:] = 0
        elif name.endswith("norm.weight"):
            value[:] = 1
    given, wanted = values["model.embed_tokens.weight"], values["lm_head.weight"]
    given[:], wanted[:] = 0, 0
    given[:, 0], wanted[eos, 0] = 1, 2  # what is in no script ends the answer
    steps = {a: b for cue, script in SCRIPTS.items() for a, b in pairwise([cue, *script])}
    steps |= {script[-1]: "" for script in SCRIPTS.values()}
    for place, (token, following) in enumerate(steps.items(), start=1):
        given[ids[token]] = 0
        given[ids[token], place] = 1
        wanted[ids[following] if following else eos, place] = 2
    write_shards(source, {name: (tiny.dtype, value) for name, value in values.items()})
    return convert(ConvertRequest(source, "F16", folder / "reciter.gguf")).path


def _add_tokens(source: Path) -> dict[str, int]:
    """Make tokens of the scripts' pieces, the cues special; their ids."""
    tokenizer = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    config = json.loads((source / "tokenizer_config.json").read_text(encoding="utf-8"))
    pieces = dict.fromkeys([*SCRIPTS, *(piece for script in SCRIPTS.values() for piece in script)])
    first = max(token["id"] for token in tokenizer["added_tokens"]) + 1
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    ids = {}
    for id_, piece in enumerate(pieces, start=first):
        ids[piece] = id_
        token = {"content": piece, **flags, "special": piece in SCRIPTS}
        tokenizer["added_tokens"].append({"id": id_, **token})
        config["added_tokens_decoder"][str(id_)] = token
    write_json(source / "tokenizer.json", tokenizer)
    write_json(source / "tokenizer_config.json", config | {"chat_template": TEMPLATE})
    return ids
