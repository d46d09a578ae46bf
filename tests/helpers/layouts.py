"""The ways a checkpoint folder's tokenizer files are laid out in the world, on a tiny checkpoint of each family.

    folder = layouts.write("qwen3", "added tokens only in tokenizer_config", tmp_path)

Each entry of `LAYOUTS` changes one thing in a plain folder. What transformers reads in each is in
tests/golden/tokenizer_layouts.json, made by tests/golden/make_tokenizer_layouts.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tensor_files
import tinymodels

Json = dict[str, Any]
FAMILIES = {
    "qwen3": tinymodels.variant("qwen3", n_vocab=336),
    "llama": tinymodels.variant("llama", n_vocab=336, n_shards=1),
    "qwen35": tinymodels.variant("qwen35-grouped", n_vocab=336, n_shards=1),
}
N_BASE = 300  # tokens before the special ones

OTHER = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}[assistant]"
TOOLS = "{{ (tools or [])|length }} tools:" + OTHER
VARIABLES = "<{{ bos_token }}|{{ eos_token }}|{{ pad_token }}|{{ unk_token }}|{{ image_token }}>" + OTHER
TYPED = "{% for m in messages %}[{{ m.role }}]{{ m.content[0].text }}{% endfor %}[assistant]"
TYPED_LOOP = (
    "{% for m in messages %}[{{ m.role }}]{% for part in m['content'] %}{% if part.type == 'text' %}"
    "{{ part.text }}{% endif %}{% endfor %}{% endfor %}[assistant]"
)
EITHER = (
    "{% for m in messages %}[{{ m.role }}]{% if m.content is string %}{{ m.content }}{% else %}"
    "{{ m.content[0].text }}{% endif %}{% endfor %}[assistant]"
)
NEW = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}


class Folder:
    """The JSON files of a folder, changed in place."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def change(self, name: str, **values: Any) -> None:
        """Lay values over a JSON file, made when missing; over a language model's config where it stands within."""
        inner = self.read(name).get("text_config") if name == "config.json" else None
        if inner:
            values = {"text_config": inner | values}
        tensor_files.write_json(self.path / name, self.read(name) | values)

    def drop(self, name: str, *keys: str) -> None:
        """Take keys out of a JSON file."""
        tensor_files.write_json(self.path / name, {k: v for k, v in self.read(name).items() if k not in keys})

    def read(self, name: str) -> Json:
        path = self.path / name
        found: Json = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return found

    def text(self, name: str, text: str) -> None:
        """Write a text file, with its folder."""
        (self.path / name).parent.mkdir(exist_ok=True)
        (self.path / name).write_text(text, encoding="utf-8")

    @property
    def added(self) -> list[Json]:
        """tokenizer.json's added tokens."""
        return list(self.read("tokenizer.json")["added_tokens"])

    @property
    def decoder(self) -> Json:
        """tokenizer_config.json's added_tokens_decoder."""
        return dict(self.read("tokenizer_config.json")["added_tokens_decoder"])

    @property
    def next_id(self) -> int:
        return max(int(entry["id"]) for entry in self.added) + 1

    def list_tokens(self, *entries: Mapping[str, Any]) -> None:
        """Name tokens in tokenizer_config.json's added_tokens_decoder alone."""
        listed = {str(self.next_id + i): NEW | dict(entry) for i, entry in enumerate(entries)}
        self.change("tokenizer_config.json", added_tokens_decoder=self.decoder | listed)


def _plain(folder: Folder) -> None:
    pass


def _truncation(folder: Folder) -> None:
    truncation = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    padding = {
        "strategy": {"Fixed": 40}, "direction": "Left", "pad_to_multiple_of": None,
        "pad_id": N_BASE, "pad_type_id": 0, "pad_token": folder.added[0]["content"],
    }  # fmt: skip
    folder.change("tokenizer.json", truncation=truncation, padding=padding)


def _padding_names_pad(folder: Folder) -> None:
    _truncation(folder)
    folder.drop("tokenizer_config.json", "pad_token")
    folder.change("tokenizer_config.json", chat_template=VARIABLES)


def _config_decoder(folder: Folder) -> None:
    folder.list_tokens(
        {"content": "<tool_call>"}, {"content": "<|extra|>", "special": True}, {"content": "[word]"}
    )


def _decoder_not_in_order(folder: Folder) -> None:
    far = {"content": "<far>", **NEW}
    folder.change(
        "tokenizer_config.json", added_tokens_decoder=folder.decoder | {str(folder.next_id + 7): far}
    )


def _decoder_repeats_a_word(folder: Folder) -> None:
    folder.list_tokens({"content": "the"})


def _legacy(folder: Folder) -> None:
    """transformers before 4.33: no added_tokens_decoder; added_tokens.json and special_tokens_map.json instead."""
    folder.drop("tokenizer_config.json", "added_tokens_decoder")
    folder.change("added_tokens.json", **{"<tool_call>": folder.next_id, "<|more|>": folder.next_id + 1})
    eos = folder.read("tokenizer_config.json")["eos_token"]
    entry = {key: value for key, value in NEW.items() if key != "special"} | {"content": eos}
    folder.change("special_tokens_map.json", eos_token=entry, additional_special_tokens=["<|more|>"])


def _legacy_map_wins(folder: Folder) -> None:
    folder.drop("tokenizer_config.json", "added_tokens_decoder")
    folder.change("special_tokens_map.json", eos_token=folder.added[1]["content"])


def _map_is_ignored(folder: Folder) -> None:
    folder.change("special_tokens_map.json", eos_token=folder.added[1]["content"], pad_token="<|no|>")
    folder.change("added_tokens.json", **{"<never>": folder.next_id})


def _additional(folder: Folder) -> None:
    folder.change("tokenizer_config.json", additional_special_tokens=["<|a|>", "<|b|>"])


def _model_token(folder: Folder) -> None:
    folder.change("tokenizer_config.json", image_token="<|image|>", chat_template=VARIABLES)


def _named_pad(folder: Folder) -> None:
    folder.change("tokenizer_config.json", pad_token="<|pad_me|>", chat_template=VARIABLES)


def _strip(folder: Folder) -> None:
    folder.list_tokens(
        {"content": "<left>", "lstrip": True},
        {"content": "<right>", "rstrip": True, "special": True},
        {"content": "<both>", "lstrip": True, "rstrip": True},
    )


def _config_eos_2(folder: Folder) -> None:
    folder.change("config.json", eos_token_id=2, bos_token_id=1)


def _config_eos_2_alone(folder: Folder) -> None:
    folder.change("config.json", eos_token_id=2)
    (folder.path / "generation_config.json").unlink()


def _config_list(folder: Folder) -> None:
    ids = [entry["id"] for entry in folder.added[:2]]
    folder.change("config.json", eos_token_id=ids)
    (folder.path / "generation_config.json").unlink()


def _generation_one(folder: Folder) -> None:
    folder.change("generation_config.json", eos_token_id=folder.added[0]["id"])


def _negative(folder: Folder) -> None:
    folder.change("config.json", pad_token_id=-1)


def _no_processor(folder: Folder) -> None:
    folder.change("tokenizer.json", post_processor=None)


def _no_processor_and_flag(folder: Folder) -> None:
    _no_processor(folder)
    folder.change("tokenizer_config.json", add_bos_token=True, bos_token=folder.added[0]["content"])


def _flag(folder: Folder) -> None:
    folder.change("tokenizer_config.json", add_bos_token=True, add_eos_token=True)


def _config_bos(folder: Folder) -> None:
    folder.change("config.json", bos_token_id=folder.added[0]["id"], pad_token_id=folder.added[1]["id"])
    folder.change("tokenizer_config.json", bos_token=None, pad_token=None, chat_template=VARIABLES)


def _no_names(folder: Folder) -> None:
    folder.drop("tokenizer_config.json", "bos_token", "eos_token", "pad_token")
    folder.change("tokenizer_config.json", chat_template=VARIABLES)


def _jinja_file(folder: Folder) -> None:
    folder.text("chat_template.jinja", OTHER)


def _jinja_file_beside_null(folder: Folder) -> None:
    folder.change("tokenizer_config.json", chat_template=None)
    folder.text("chat_template.jinja", OTHER)


def _template_list(folder: Folder) -> None:
    named = [{"name": "default", "template": OTHER}, {"name": "tool_use", "template": TOOLS}]
    folder.change("tokenizer_config.json", chat_template=named)


def _template_folder(folder: Folder) -> None:
    folder.text("chat_template.jinja", OTHER)
    folder.text("additional_chat_templates/tool_use.jinja", TOOLS)


def _template_folder_without_file(folder: Folder) -> None:
    folder.text("additional_chat_templates/default.jinja", OTHER)


def _template(source: str) -> Callable[[Folder], None]:
    return lambda folder: folder.change("tokenizer_config.json", chat_template=source)


def _no_settings(folder: Folder) -> None:
    (folder.path / "tokenizer_config.json").unlink()


def _everything(folder: Folder) -> None:
    _truncation(folder)
    _config_decoder(folder)
    _config_eos_2(folder)
    folder.change("config.json", pad_token_id=-1)
    folder.change("tokenizer_config.json", add_bos_token=True, chat_template=None)
    folder.text("chat_template.jinja", "{{ bos_token }}" + TYPED)


LAYOUTS: dict[str, Callable[[Folder], None]] = {
    "plain": _plain,
    "truncation and padding stored": _truncation,
    "padding stored and no pad token named": _padding_names_pad,
    "added tokens only in tokenizer_config": _config_decoder,
    "an added token beyond the next id": _decoder_not_in_order,
    "a word of the vocabulary as added token": _decoder_repeats_a_word,
    "added_tokens.json and special_tokens_map.json": _legacy,
    "special_tokens_map.json alone names eos": _legacy_map_wins,
    "special_tokens_map.json beside a decoder": _map_is_ignored,
    "additional_special_tokens": _additional,
    "a token of the model's own": _model_token,
    "pad token named and nowhere else": _named_pad,
    "tokens that strip": _strip,
    "eos 2 left in config.json": _config_eos_2,
    "eos 2 in config.json and no generation_config": _config_eos_2_alone,
    "a list in config.json and no generation_config": _config_list,
    "generation_config names one end": _generation_one,
    "pad_token_id -1": _negative,
    "post_processor null": _no_processor,
    "post_processor null and add_bos_token": _no_processor_and_flag,
    "add_bos_token and add_eos_token": _flag,
    "bos and pad in config.json alone": _config_bos,
    "no token named": _no_names,
    "no tokenizer_config.json": _no_settings,
    "chat_template.jinja beside tokenizer_config's": _jinja_file,
    "chat_template null beside a file": _jinja_file_beside_null,
    "a list of templates": _template_list,
    "additional_chat_templates": _template_folder,
    "additional_chat_templates alone": _template_folder_without_file,
    "typed content": _template(TYPED),
    "typed content in a loop": _template(TYPED_LOOP),
    "content of either kind": _template(EITHER),
    "everything at once": _everything,
}


def write(family: str, layout: str, path: Path, *, weights: bool = False) -> Path:
    """A checkpoint folder of a family in a layout; without weights, what readers of tokenizers need."""
    tiny = FAMILIES[family]
    if weights:
        tinymodels.write(tiny, path)
    else:
        path.mkdir(parents=True, exist_ok=True)
        tensor_files.write_json(path / "config.json", tinymodels.config(tiny))
        tinymodels.write_tokenizer(tiny, path)
    LAYOUTS[layout](Folder(path))
    return path
