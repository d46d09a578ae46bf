"""The proof of a conversion: the written file against its source, before it gets its name.

    verification = verify(path, source, opener)      # raises CheckFailedError
    print(verification.text)

What is compared is never taken from what the conversion computed: numbers with config.json, rows with the
checkpoint's, token ids with the `tokenizers` library's, logits of the real engine with a forward pass in plain
numpy. Cheap checks come first, so that a failure names its cause - a key, a tensor, a token - and not just wrong
logits. The engine is passed in: conversion never imports the runtime.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from edgellm.convert.verify import logits as verify_logits
from edgellm.convert.verify import purpose as verify_purpose
from edgellm.convert.verify import tensors as verify_tensors
from edgellm.convert.verify import tokens as verify_tokens
from edgellm.convert.verify.logits import Fidelity
from edgellm.convert.verify.original import Original
from edgellm.convert.verify.tokenizer import check_tokenizer
from edgellm.errors import CheckFailedError, EngineError
from edgellm.formats.artifact import Artifact
from edgellm.formats.gguf.check import check_runnable
from edgellm.formats.gguf.header import GgufFile, GgufTensor
from edgellm.formats.gguf.reader import read_header
from edgellm.models.base import TensorSpec
from edgellm.session import EngineOptions, Session, SessionOpener

#: Small and exact: a short context, a float32 cache, no second copy of the weights in memory.
ENGINE = EngineOptions(
    n_ctx=128,
    n_batch=32,
    n_ubatch=32,
    flash_attn="off",
    type_k="f32",
    type_v="f32",
    repack=False,
    device="cpu",
)

_ENGINE_TO_BLAME = "yet all tensors match their source, so the engine or the model's numbers are to blame"

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Verification:
    """A passed proof."""

    facts: tuple[str, ...]  # what each check found, in order
    fidelity: Fidelity

    @property
    def text(self) -> str:
        """One line for people and for the file's metadata."""
        return "; ".join((self.fidelity.text, *self.facts))


@dataclass(frozen=True)
class Target:
    """A GGUF model of one or more files: the first header, and where every tensor lies."""

    path: Path
    header: GgufFile = field(repr=False)
    tensors: dict[str, tuple[Path, GgufTensor]] = field(repr=False)

    @classmethod
    def open(cls, path: Path) -> Target:
        """Read the headers. Raises ArtifactError."""
        header = read_header(path)
        check_runnable(header)
        parts = [read_header(part) for part in header.shard_paths()]
        return cls(path, header, {t.name: (p.path, t) for p in parts for t in p.tensors.values()})

    @property
    def types(self) -> set[str]:
        """The types of its tensors, by name."""
        return {tensor.type.name for _, tensor in self.tensors.values()}

    def rounding(self, tensor: TensorSpec) -> float:
        """What the type of a tensor brings into a product with it."""
        return verify_logits.ROUNDING[self.tensors[tensor.gguf_name][1].type.name]


def verify(
    path: Path,
    source: Path,
    opener: SessionOpener,
    report: Tell = lambda _: None,
    *,
    lora: Path | None = None,
) -> Verification:
    """Prove that the GGUF file `path` (its first part, when split) is `source`, as far as its types allow.

    `lora` is the folder of the adapter that was merged into it.
    `source` is the checkpoint folder or the GGUF file it was made from; `opener` opens the engine, preferably in
    a process of its own. `report` is told what is being checked. Raises CheckFailedError naming the check, and
    what opening the two files raises.
    """
    _give_back()
    target = Target.open(path)
    if source.is_dir():
        return _verify_checkpoint(target, source, lora, opener, report)
    return _verify_gguf(target, Target.open(source), opener, report)


def _verify_checkpoint(
    target: Target, folder: Path, lora: Path | None, opener: SessionOpener, report: Tell
) -> Verification:
    # Two things at a time: the tokenizer's process beside the rows, the oracle beside the engine.
    with Original.open(folder, lora) as source, ThreadPoolExecutor(1) as beside:
        report("tensors")
        if (rows := verify_purpose.answers(folder)) is not None:
            source = source.ranking(rows)
        verify_tensors.check_numbers(target.header, source.spec)
        tokenizer = beside.submit(check_tokenizer, target.path, folder)
        tensors = verify_tensors.check_tensors(target.tensors, source)
        report("tokens")
        stops, expected = tokenizer.result()
        _give_back()
        tokens = expected.sample[: min(verify_logits.N_TOKENS, source.spec.n_ctx_train)]
        original = beside.submit(source.logits, tokens)
        with _engine(target.path, opener) as session:
            texts = verify_tokens.check_tokens(session, target.header, expected)
            verify_tokens.check_engine_stops(session, target.header)
            report("logits")
            found = session.eval_all(tokens)
        logits = original.result()
        fidelity = verify_logits.compare(logits, found)
        remark = verify_logits.check(
            fidelity,
            max(verify_logits.ROUNDING[name] for name in target.types),
            lambda: verify_logits.expected_nmse(source, tokens, logits, target.rounding),
            lambda: verify_tensors.wrong_tensor(target.tensors, source) or _ENGINE_TO_BLAME,
        )
        purposes = verify_purpose.check(Artifact.open(target.path), folder, source)
    return Verification((tensors, stops, texts, *purposes, *filter(None, [remark])), fidelity)


def _verify_gguf(target: Target, origin: Target, opener: SessionOpener, report: Tell) -> Verification:
    """A requantized file against its source: keys, rows, and the logits of the same engine."""
    report("tensors")
    facts = [
        verify_tensors.check_keys(target.header, origin.header),
        verify_tensors.check_same_tensors(target.tensors, origin.tensors),
    ]
    report("logits")
    with _engine(origin.path, opener) as session:
        tokens = session.tokenize(verify_logits.TEXT, add_bos=session.info.add_bos)[: verify_logits.N_TOKENS]
        expected = session.eval_all(tokens)
    with _engine(target.path, opener) as session:
        fidelity = verify_logits.compare(expected, session.eval_all(tokens))
    if fidelity.nmse > verify_logits.ORDINARY_MOST:
        # One engine and the same keys: only tensors can differ, so they are asked, every row of them.
        culprit = verify_tensors.wrong_same_tensor(target.tensors, origin.tensors)
        if culprit or not math.isfinite(fidelity.nmse):
            raise CheckFailedError(
                f"the check of the logits failed: NMSE {fidelity.nmse:.3g} against {origin.path}"
                f"{culprit and '; '}{culprit}"
            )
    verify_logits.check_floor(fidelity, max(verify_logits.ROUNDING[name] for name in target.types))
    return Verification(tuple(facts), fidelity)


def _give_back() -> None:
    """Return freed memory to the system: glibc would keep the 200 MB a large tokenizer took."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


@contextlib.contextmanager
def _engine(path: Path, opener: SessionOpener) -> Iterator[Session]:
    """A session on `path`; an engine that refuses or dies fails the proof."""
    try:
        with opener(Artifact.open(path), ENGINE) as session:
            yield session
    except EngineError as error:
        raise CheckFailedError(
            f"the check of the engine failed: {error}; see edgellm doctor, or skip checks with --no-verify"
        ) from error
