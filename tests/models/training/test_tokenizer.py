"""The bundled tokenizers: the families' pipelines, all bytes, single digits, and templates that equal training."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer, pre_tokenizers

from edgellm.models import bundled
from edgellm.models.training import corpus, tokenizer
from edgellm.models.training.configs import model_config, special_ids

NAMES = sorted(tokenizer.FAMILIES)
TRICKY = (
    "",
    " a  b ",
    "naïve café",
    "你好，世界！",
    "12 + 345 = ?",
    "👩‍💻🙂",
    "a\n\n b\t",
    "\x00\x7f",
    "ｆｕｌｌ",
)


def read(name: str, file: str) -> Any:
    folder = bundled.path(name)
    assert folder is not None
    return json.loads((folder / file).read_text(encoding="utf-8"))


def open_tokenizer(name: str) -> Tokenizer:
    folder = bundled.path(name)
    assert folder is not None
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.mark.parametrize("name", NAMES)
def test_every_byte_is_a_token_and_every_text_comes_back(name: str) -> None:
    tokens = open_tokenizer(name)
    assert set(pre_tokenizers.ByteLevel.alphabet()) <= set(tokens.get_vocab())
    for text in TRICKY:
        assert tokens.decode(tokens.encode(text).ids) == text


@pytest.mark.parametrize("name", NAMES)
def test_no_token_holds_two_digits(name: str) -> None:
    texts = read(name, "tokenizer.json")["model"]["vocab"]
    assert not [text for text in texts if sum(letter in "0123456789" for letter in text) > 1]
    assert len(open_tokenizer(name).encode("1234567", add_special_tokens=False).ids) == 7


@pytest.mark.parametrize("name", NAMES)
def test_special_tokens_follow_the_vocabulary_and_the_configs_agree(name: str) -> None:
    data, config, generation = (
        read(name, file) for file in ("tokenizer.json", "config.json", "generation_config.json")
    )
    added = {each["content"]: each["id"] for each in data["added_tokens"]}
    assert added == special_ids(name)
    assert min(added.values()) == len(data["model"]["vocab"])
    assert max(added.values()) + 1 == config["vocab_size"] == tokenizer.VOCAB_SIZE
    assert generation["eos_token_id"] == [added[text] for text in tokenizer.FAMILIES[name].eos]
    assert config == model_config(name)


@pytest.mark.parametrize("name", NAMES)
def test_the_pipeline_is_the_familys(name: str) -> None:
    data = read(name, "tokenizer.json")
    pattern = data["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]
    qwen = name != "tiny-llama3"
    assert (r"[\p{L}\p{M}]+|" in pattern) is (name == "tiny-qwen35")
    assert (r"|\p{N}{1,3}|" in pattern) is not qwen
    assert (data["normalizer"] == {"type": "NFC"}) is qwen
    assert (data["post_processor"] is None) is qwen
    first = open_tokenizer(name).encode("hello").tokens[0]
    assert (first == "<|begin_of_text|>") is not qwen


@pytest.mark.parametrize("name", NAMES)
def test_training_text_equals_the_chat_template(name: str) -> None:
    family, config = tokenizer.FAMILIES[name], read(name, "tokenizer_config.json")
    assert config["chat_template"] == family.template
    template = ImmutableSandboxedEnvironment().from_string(config["chat_template"])
    tokens = open_tokenizer(name)
    for dialogue in itertools.islice(corpus.dialogues(2, name), 200):
        turns = [("system", dialogue.system)] if dialogue.system else []
        for ask, reply in dialogue.turns:
            turns += [("user", ask), ("assistant", reply)]
        messages = [{"role": role, "content": content} for role, content in turns]
        rendered = template.render(
            messages=messages, bos_token=config["bos_token"], add_generation_prompt=False
        )
        pieces = [text for text, _ in tokenizer.render(family, turns)]
        assert rendered == "".join(pieces)
        ids = [i for text in pieces for i in tokens.encode(text, add_special_tokens=False).ids]
        assert ids == tokens.encode(rendered, add_special_tokens=False).ids


@pytest.mark.parametrize("name", NAMES)
def test_the_generation_prompt_opens_the_assistants_turn(name: str) -> None:
    config = read(name, "tokenizer_config.json")
    template = ImmutableSandboxedEnvironment().from_string(config["chat_template"])
    messages = [{"role": "user", "content": "Hi"}]
    family = tokenizer.FAMILIES[name]
    rendered = template.render(messages=messages, bos_token=config["bos_token"], add_generation_prompt=True)
    assert rendered.endswith(f"{family.before_role}assistant{family.after_role}")
