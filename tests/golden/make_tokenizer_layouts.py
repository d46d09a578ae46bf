"""Make the golden file of what transformers reads in each folder of tests/helpers/layouts.py.

    pip install -e '.[train]' && python tests/golden/make_tokenizer_layouts.py

Writes tests/golden/tokenizer_layouts.json. Where transformers is installed, the tests also ask it live and
hold the file against it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
GOLDEN = HERE / "tokenizer_layouts.json"
MESSAGES = [
    {"role": "user", "content": "Grüße! What is 2 + 2?"},
    {"role": "assistant", "content": "4"},
    {"role": "user", "content": "And the other 1234?"},
]
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}


def texts(added: list[str]) -> list[str]:
    """What is tokenized: words, spaces, and every token that any file names, between and within words."""
    plain = [
        "the quick brown fox; 1234 times 56 is 69104. " * 3,
        "e\u0301 \u4f60\u597d",
        " the  then\n\nother",
    ]
    return [*plain, *(f"{token} a {token}b  {token}\n{token}" for token in added)]


def named(folder: Path) -> list[str]:
    """Every token that any of the folder's files names."""
    files = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
    said = {
        name: json.loads((folder / name).read_text("utf-8")) for name in files if (folder / name).is_file()
    }
    found = set(said.pop("added_tokens.json", {}))
    found |= {entry["content"] for entry in said.pop("tokenizer.json")["added_tokens"]}
    for settings in said.values():
        found |= {entry["content"] for entry in settings.get("added_tokens_decoder", {}).values()}
        tokens = [value for key, value in settings.items() if key.endswith("_token")]
        tokens += settings.get("additional_special_tokens", [])
        found |= {token["content"] if isinstance(token, dict) else token for token in tokens if token}
    return sorted(token for token in found if isinstance(token, str))


def ask(folder: Path) -> dict[str, Any]:
    """What transformers makes of a folder. Sets with one answer each, all plain JSON."""
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    tokenizer = AutoTokenizer.from_pretrained(folder)
    try:
        generation = GenerationConfig.from_pretrained(folder)
    except OSError:  # as PreTrainedModel.from_pretrained does then
        generation = GenerationConfig.from_model_config(AutoConfig.from_pretrained(folder))
    eos = generation.eos_token_id
    return {
        "class": type(tokenizer).__name__,
        "special_tokens": dict(tokenizer.special_tokens_map),
        "added": {
            str(i): [t.content, t.special, t.lstrip, t.rstrip]
            for i, t in tokenizer.added_tokens_decoder.items()
        },
        "plain": {t: tokenizer(t, add_special_tokens=False)["input_ids"] for t in texts(named(folder))},
        "framed": tokenizer("the end", add_special_tokens=True)["input_ids"],
        "stop_ids": sorted(eos if isinstance(eos, list) else [] if eos is None else [eos]),
        "prompt": _prompt(tokenizer, MESSAGES),
        "tool_prompt": _prompt(tokenizer, MESSAGES, tools=[TOOL]),
    }


def _prompt(tokenizer: Any, messages: list[dict[str, Any]], **more: Any) -> str | None:
    """The rendered dialogue; with content in parts where the template loses it otherwise. None without a template."""
    if tokenizer.chat_template is None:
        return None
    typed = [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in messages]
    for told in (messages, typed):
        prompt: str = tokenizer.apply_chat_template(told, tokenize=False, add_generation_prompt=True, **more)
        if all(message["content"] in prompt for message in messages):
            return prompt
    raise AssertionError("neither form of content is rendered")


def main() -> None:
    """Write the file."""
    sys.path.insert(0, str(HERE.parent / "helpers"))
    import layouts
    import transformers

    found: dict[str, Any] = {"transformers": transformers.__version__}
    with tempfile.TemporaryDirectory() as scratch:
        for family in layouts.FAMILIES:
            for n, layout in enumerate(layouts.LAYOUTS):
                folder = layouts.write(family, layout, Path(scratch) / f"{family}-{n}")
                found[f"{family}: {layout}"] = ask(folder)
    lines = (f"{json.dumps(key)}: {json.dumps(value, sort_keys=True)}" for key, value in found.items())
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
