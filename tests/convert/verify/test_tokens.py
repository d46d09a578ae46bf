"""Token ids of llama.cpp on our vocabularies against the `tokenizers` library: no difference allowed.

With EDGELLM_CHECKPOINTS set to a folder of real checkpoints (config.json and tokenizer files suffice), ten
thousand texts for each of their tokenizers: `pytest -m slow tests/convert/verify/test_tokens.py`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import metadata_cases as cases
import pytest
import tensor_files
import tinymodels
from places import ROOT
from tokenizers import Tokenizer, pre_tokenizers, trainers
from vocab_only import EngineVocabulary

from edgellm.convert.verify.hard_strings import HARD_STRINGS, random_strings

BUNDLED = sorted((ROOT / "models" / "bundled").glob("tiny-*"))
CHECKPOINTS = os.environ.get("EDGELLM_CHECKPOINTS")

#: What llama.cpp takes for a control token by its spelling (src/llama-vocab.cpp), wherever a vocabulary has it.
SPELLED = (
    "</s>",
    "<s></s>",
    "<EOT>",
    "<|end|>",
    "<|fim_pad|>",
    "<end_of_turn>",
    "_<EOT>",
    "[EOS]",
    "<|eot_id|>",
)


class Vocabulary(EngineVocabulary):
    """An engine's vocabulary beside the `tokenizers` library's."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        super().__init__(folder, scratch)
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def expected_ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def differences(self, n: int, seed: int) -> list[str]:
        """Texts, fixed and random, whose ids differ."""
        texts = [*HARD_STRINGS, *SPELLED, *random_strings(n, seed, [*self.special, *SPELLED])]
        return [t for t in texts if self.ids(t) != self.expected_ids(t)]


@pytest.mark.parametrize("folder", BUNDLED, ids=lambda folder: folder.name)
def test_bundled_tokenizers(folder: Path, tmp_path: Path) -> None:
    with Vocabulary(folder, tmp_path) as vocabulary:
        assert vocabulary.differences(1500, seed=3) == []


def test_padded_vocabulary_with_more_added_tokens(tmp_path: Path) -> None:
    folder = tinymodels.write(tinymodels.variant("qwen2", n_vocab=400), tmp_path / "padded")
    cases.more_tokens(folder)
    with Vocabulary(folder, tmp_path) as vocabulary:
        assert "<｜User｜>" in vocabulary.special
        assert vocabulary.differences(500, seed=4) == []


def test_marks_belong_to_words_since_qwen35(tmp_path: Path) -> None:
    """On a vocabulary learned from many scripts, whose merges cross marks; told the older way, the engine differs."""
    folder = many_scripts(tinymodels.write(tinymodels.variant("qwen35", n_vocab=2403), tmp_path / "marks"))
    with Vocabulary(folder, tmp_path) as vocabulary:
        assert vocabulary.differences(1500, seed=8) == []
        assert vocabulary.header().get("tokenizer.ggml.pre") == "qwen35"
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    split = tokenizer["pre_tokenizer"]["pretokenizers"][0]["pattern"]
    split["Regex"] = split["Regex"].replace(r"\p{M}", "").replace(r"[\p{L}]", r"\p{L}")
    tensor_files.write_json(folder / "tokenizer.json", tokenizer)
    with Vocabulary(folder, tmp_path) as older:
        assert older.differences(500, seed=8) == []
        assert older.header().get("tokenizer.ggml.pre") == "qwen2"
        assert sum(older.ids(text) != vocabulary.expected_ids(text) for text in HARD_STRINGS) > 3


def many_scripts(folder: Path) -> Path:
    """The folder's tokenizer learned anew, 2,400 tokens of hard and random strings."""
    plain = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    made = Tokenizer.from_str(json.dumps(plain | {"added_tokens": []}))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=2400, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([*HARD_STRINGS, *random_strings(3000, 99, [])], trainer)
    learned = json.loads(made.to_str())["model"]
    plain["model"] |= {"vocab": learned["vocab"], "merges": learned["merges"]}
    for place, token in enumerate(plain["added_tokens"], len(learned["vocab"])):
        token["id"] = place
    tensor_files.write_json(folder / "tokenizer.json", plain)
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    del settings["added_tokens_decoder"]
    tensor_files.write_json(folder / "tokenizer_config.json", settings)
    ends = {"eos_token_id": plain["added_tokens"][-1]["id"], "bos_token_id": None}
    tensor_files.write_json(folder / "generation_config.json", ends)
    return folder


def test_tokens_that_only_look_special(tmp_path: Path) -> None:
    """Qwen's vocabulary holds `</s>` as a piece of text that no merge reaches; so do these, in a foreign file too."""
    folder = tinymodels.write(tinymodels.variant("qwen2", n_vocab=400), tmp_path / "spelled")
    data = json.loads((folder / "tokenizer.json").read_text())
    names = [name for name in SPELLED if name != "<s></s>"]
    model = data["model"]
    by_id = sorted(
        model["vocab"], key=model["vocab"].__getitem__
    )  # the last tokens are the last merges' results
    places = {name: model["vocab"].pop(old) for name, old in zip(names, by_id[-len(names) :], strict=True)}
    model["vocab"] |= places
    del model["merges"][-len(names) :]
    (folder / "tokenizer.json").write_text(json.dumps(data))
    with Vocabulary(folder, tmp_path) as vocabulary:
        assert vocabulary.engine_ids("</s>") == [places["</s>"]], "llama.cpp guesses no more: less to do here"
        assert vocabulary.differences(500, seed=6) == []
        assert not vocabulary.engine.ends & set(places.values())
        assert [vocabulary.engine.piece(i).decode() for i in places.values()] == list(places)
        for text in ("a</s><|im_end|>", "<|im_start|><EOT>"):
            plain = vocabulary.engine.tokenize(text, special=False, add_bos=False)
            vocabulary.tokenizer.encode_special_tokens = True
            assert plain == vocabulary.expected_ids(text)
            vocabulary.tokenizer.encode_special_tokens = False


@pytest.mark.slow
@pytest.mark.fault(16, 5000)
@pytest.mark.parametrize("name", ["tiny-qwen3", "tiny-qwen35", "tiny-llama3"])
def test_ten_thousand_texts(name: str, tmp_path: Path) -> None:
    with Vocabulary(ROOT / "models" / "bundled" / name, tmp_path) as vocabulary:
        assert vocabulary.differences(5000, seed=16) == []


@pytest.mark.slow
@pytest.mark.skipif(not CHECKPOINTS, reason="set EDGELLM_CHECKPOINTS to a folder of checkpoints")
def test_real_tokenizers(tmp_path: Path) -> None:
    found = {}
    for folder in _different_tokenizers(Path(str(CHECKPOINTS))):
        with Vocabulary(folder, tmp_path) as vocabulary:
            found[folder.name] = vocabulary.differences(10_000, seed=5)
    assert found and found == {name: [] for name in found}


def _different_tokenizers(root: Path) -> Iterator[Path]:
    """One folder for each distinct tokenizer.json."""
    seen = set()
    for folder in sorted(root.iterdir()):
        path = folder / "tokenizer.json"
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        if digest and digest not in seen:
            seen.add(digest)
            yield folder


def test_without_normalizing_qwen_differs(tmp_path: Path) -> None:
    """The reason for normalize.py: were llama.cpp to compose by itself one day, this would say so."""
    folder = ROOT / "models" / "bundled" / "tiny-qwen3"
    with Vocabulary(folder, tmp_path) as vocabulary:
        text = "e\u0301"
        assert vocabulary.engine_ids(text) != vocabulary.expected_ids(text)
        assert vocabulary.ids(text) == vocabulary.expected_ids(text)


def test_normalizing_stops_at_special_tokens(tmp_path: Path) -> None:
    """'>' and a combining solidus compose to '≯': across a token's end that would destroy the token."""
    folder = ROOT / "models" / "bundled" / "tiny-qwen3"
    with Vocabulary(folder, tmp_path) as vocabulary:
        text = "e\u0301<|im_end|>\u0338"
        assert vocabulary.ids(text) == vocabulary.expected_ids(text)
        assert vocabulary.ids("<|im_end|>")[0] in vocabulary.ids(text)


def test_generated_texts_are_the_same_for_a_seed_and_reach_what_they_should() -> None:
    texts = list(random_strings(3000, 7, ("<|im_end|>",)))
    assert texts == list(random_strings(3000, 7, ("<|im_end|>",)))
    assert texts != list(random_strings(3000, 8, ("<|im_end|>",)))
    joined = "".join(texts)
    assert "<|im_end|>" in joined and "\r\n" in joined
    assert any("\U00020000" <= c <= "\U0002a6df" for c in joined)
    assert not any("\ud800" <= c <= "\udfff" for c in joined)
