"""The proof of an ONNX conversion: tokens, template, stop ids, rotary tables and logits against the source.

The same checks as a GGUF file's (gguf.py), on what this format holds. The engine is passed in: conversion
never imports the runtime.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgellm.convert.onnx import manifest as onnx_manifest
from edgellm.convert.verify import logits, transformers_rules
from edgellm.convert.verify import purpose as verify_purpose
from edgellm.convert.verify import tokens as verify_tokens
from edgellm.convert.verify.gguf import Tell, Verification
from edgellm.convert.verify.original import Original
from edgellm.convert.verify.tokens import CONTROL, NORMAL
from edgellm.errors import CheckFailedError, EngineError
from edgellm.formats.artifact import Artifact
from edgellm.models.base import ModelSpec
from edgellm.prompt.model_template import NAMES_KEY
from edgellm.session import EngineOptions

if TYPE_CHECKING:
    from edgellm.session import SessionOpener

#: A short context, and no copy of the weights prepared for a folder that has no name yet.
ENGINE = EngineOptions(n_ctx=128, n_batch=32, n_ubatch=32, repack=False, device="cpu")

#: Relative mean square error each type brings into a matrix product, weights and inputs, at its coarsest.
ROUNDING = {"onnx-fp32": 1e-11, "onnx-int8": 1e-4, "onnx-w8a8": 1e-3, "onnx-int4": 2e-2}
#: What an int8 KV cache brings in at least.
KV_ROUNDING = 1e-4


class FolderHeader:
    """An ONNX folder's manifest and tokenizer under GGUF's keys."""

    def __init__(self, folder: Path) -> None:
        self.manifest = json.loads((folder / onnx_manifest.MANIFEST).read_text(encoding="utf-8"))
        self._tokenizer = transformers_rules.read(folder).tokenizer

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end an answer."""
        return frozenset(self.manifest["tokenizer"]["eos_token_ids"])

    def get(self, key: str, default: Any = None) -> Any:
        """The value of one of GGUF's tokenizer keys."""
        tokenizer = self.manifest["tokenizer"]
        known = {
            "tokenizer.ggml.bos_token_id": tokenizer["bos_token_id"],
            "tokenizer.ggml.eos_token_id": tokenizer["eos_token_id"],
            "tokenizer.chat_template": self.manifest["chat_template"],
            NAMES_KEY: json.dumps(tokenizer["names"]),
        }
        if key == "tokenizer.ggml.tokens":
            return self._tokens
        if key == "tokenizer.ggml.token_type":
            control = set(tokenizer["control_ids"])
            return [CONTROL if index in control else NORMAL for index in range(len(self._tokens))]
        return known.get(key, default)

    @cached_property
    def _tokens(self) -> list[str]:
        n_vocab = self.manifest["dimensions"]["n_vocab"]
        named = (self._tokenizer.id_to_token(index) for index in range(n_vocab))
        return [f"[PAD{index}]" if token is None else token for index, token in enumerate(named)]


def verify_onnx(
    path: Path,
    source: Path,
    opener: SessionOpener,
    report: Tell = lambda _: None,
    *,
    lora: Path | None = None,
) -> Verification:
    """Prove that the folder `path` is the checkpoint `source`, as far as its types allow.

    `lora` is the folder of the adapter that was merged into it.
    Raises CheckFailedError naming the check, and what opening the two raises.
    """
    with Original.open(source, lora) as model:
        spec = model.spec
        report("tokens")
        header = FolderHeader(path)
        _check_numbers(header.manifest, spec)
        reading = transformers_rules.read(source)
        prompt = verify_tokens.check_template(header, reading)
        verify_tokens.check_vocabulary(header, reading)
        facts = [verify_tokens.check_stop_ids(header, reading)]
        expected = verify_tokens.expect(reading, header, prompt, logits.TEXT)
        tokens = expected.sample[: min(logits.N_TOKENS, spec.n_ctx_train)]
        try:
            with opener(Artifact.open(path), ENGINE) as session:
                facts.append(verify_tokens.check_tokens(session, header, expected))
                verify_tokens.check_engine_stops(session, header)
                report("logits")
                found = session.eval_all(tokens)
        except EngineError as error:
            raise CheckFailedError(
                f"the check of the engine failed: {error}; see edgellm doctor, or skip checks with --no-verify"
            ) from error
        original = model.logits(tokens)
        fidelity = logits.compare(original, found)
        rounding = _rounding(header.manifest)
        remark = logits.check(
            fidelity,
            rounding,
            lambda: logits.expected_nmse(model, tokens, original, lambda tensor: rounding),
            lambda: "a tensor is wrong, or the graph",
        )
        purposes = verify_purpose.check(Artifact.open(path), source, model)
    return Verification((*facts, *purposes, *filter(None, [remark])), fidelity)


def _rounding(manifest: dict[str, Any]) -> float:
    weights = ROUNDING[manifest["quantization"]]
    return max(weights, KV_ROUNDING) if manifest["recipe"].get("kv") == "int8" else weights


def _check_numbers(manifest: dict[str, Any], spec: ModelSpec) -> None:
    expected = {name: getattr(spec, name) for name in manifest["dimensions"]}
    for name, value in manifest["dimensions"].items():
        if value != expected[name]:
            raise CheckFailedError(
                f"the check of the numbers failed: {name} is {value}, not {expected[name]}"
            )
