"""A source model opened for conversion: its tensors, its metadata and the numbers recipes need.

The one place that knows there are two kinds of source: a Hugging Face checkpoint folder and a GGUF file.
Reads headers and tokenizer files only, no weights.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from edgellm.convert.gguf.plan import ModelFacts
from edgellm.convert.gguf.sources import (
    TensorSource,
    facts_of_metadata,
    facts_of_spec,
    from_checkpoint,
    from_gguf,
)
from edgellm.convert.gguf.writer import encode
from edgellm.errors import CheckpointError, UsageError
from edgellm.formats.gguf.types import file_type

_TOKENIZER_KEYS = ("tokenizer.ggml.model", "tokenizer.ggml.pre")
QUANTIZATION_VERSION = 2  # GGML_QNT_VERSION in ggml.h

#: Files beside the weights that decide what a conversion writes.
SIDE_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
)


@dataclass(frozen=True)
class SourceModel:
    """An open source. `key_values` are encoded as GGUF stores them, general.file_type that of `quant`."""

    path: Path
    kind: str  # "checkpoint" | "gguf"
    facts: ModelFacts
    tensors: tuple[TensorSource, ...] = field(repr=False)
    key_values: Mapping[str, bytes] = field(repr=False)
    stem_of: Callable[[str], str]  # of an output's file name, by GGUF's convention, for a type
    type: str  # a recipe's canonical name
    files: tuple[Path, ...]  # what the output is made of: weights first
    adapter: Mapping[str, object] = field(default_factory=dict)  # what is recorded of one that was merged
    remarks: tuple[str, ...] = ()  # what is left out and what kept, for people

    @property
    def stem(self) -> str:
        """Of an output's file name."""
        return self.stem_of(self.type)

    def of_type(self, quant: str) -> SourceModel:
        """The same source for another recipe's canonical name."""
        key = {"general.file_type": encode("u32", file_type(quant))}
        return replace(self, type=quant, key_values={**self.key_values, **key})


@contextlib.contextmanager
def open_model(
    path: Path,
    quant: str,
    *,
    allow_requantize: bool = False,
    lora: Path | None = None,
    ignore_adapter: bool = False,
) -> Iterator[SourceModel]:
    """Open a checkpoint folder or a GGUF file; files stay open inside the `with` block.

    `quant` is a recipe's canonical name, `lora` an adapter's folder to merge, `ignore_adapter` leaves one beside
    the weights out. Raises CheckpointError, ArtifactError, UsageError.
    """
    if not path.exists():
        raise CheckpointError(
            f"{path} does not exist: give a checkpoint folder, a GGUF file or a bundled name"
        )
    with ExitStack() as stack:
        if path.is_dir():
            yield _open_folder(path, quant, lora, ignore_adapter, stack)
        elif lora:
            raise UsageError(
                "--lora merges into a checkpoint folder; a GGUF file takes its adapter at run time"
            )
        else:
            yield _open_gguf(path, quant, allow_requantize, stack)


def _open_folder(
    path: Path, quant: str, lora: Path | None, ignore_adapter: bool, stack: ExitStack
) -> SourceModel:
    from edgellm.convert.checkpoint.adapter import CONFIG, open_checkpoint
    from edgellm.convert.checkpoint.purpose import FILES, is_embedding, with_purpose
    from edgellm.convert.checkpoint.remarks import remarks
    from edgellm.convert.checkpoint.tokenizer import read_tokenizer
    from edgellm.convert.gguf.metadata import build_metadata, default_stem
    from edgellm.models.registry import spec_of

    checkpoint = stack.enter_context(open_checkpoint(path, lora, ignore_adapter=ignore_adapter))
    spec = spec_of(checkpoint.config, checkpoint.shapes, headless=is_embedding(path))
    vocabulary = read_tokenizer(path, checkpoint.config, checkpoint.generation_config, spec.n_vocab)
    checkpoint, spec = with_purpose(checkpoint, spec, vocabulary)
    keys = build_metadata(
        path, checkpoint.config, checkpoint.generation_config, spec, vocabulary, file_type(quant)
    )
    side = [path / name for name in (*SIDE_FILES, *FILES)] + ([lora / CONFIG] if lora else [])
    return SourceModel(
        path=path,
        kind="checkpoint",
        facts=facts_of_spec(spec),
        tensors=from_checkpoint(checkpoint, spec),
        key_values={key: encode(type_, value) for key, (type_, value) in keys.items()},
        stem_of=partial(default_stem, keys),
        type=quant,
        files=(*(shard.path for shard in checkpoint.shards), *(file for file in side if file.is_file())),
        adapter=checkpoint.adapter,
        remarks=tuple(remarks(spec, checkpoint.config, keeps_nextn=True)),
    )


def _open_gguf(path: Path, quant: str, allow_requantize: bool, stack: ExitStack) -> SourceModel:
    from edgellm.convert.gguf.metadata import default_stem
    from edgellm.formats.gguf.check import is_verified
    from edgellm.formats.gguf.reader import read_header

    first = read_header(path)
    facts = facts_of_metadata(first.metadata, path)
    if not is_verified(first):
        names = " ".join(str(first.get(key))[:40] for key in _TOKENIZER_KEYS)
        raise UsageError(
            f"{path} has the tokenizer {names}, outside the verified families: it can be run, not converted"
        )
    parts = [read_header(part) for part in first.shard_paths()]
    fds = [_open_fd(part.path, stack) for part in parts]
    header = parts[0]
    keys = {key: header.raw_value(key) for key in header.metadata if _is_carried(key)}
    keys["general.quantization_version"] = encode("u32", QUANTIZATION_VERSION)
    keys["general.file_type"] = encode("u32", file_type(quant))
    named = {key: ("str", value) for key, value in header.metadata.items() if isinstance(value, str)}
    return SourceModel(
        path=path,
        kind="gguf",
        facts=facts,
        tensors=from_gguf(parts, fds, allow_requantize=allow_requantize),
        key_values=keys,
        stem_of=partial(default_stem, named),
        type=quant,
        files=tuple(part.path for part in parts),
    )


def _is_carried(key: str) -> bool:
    """Everything goes into the new file but how the old one was cut and made."""
    made = ("edgellm.version", "edgellm.engine", "edgellm.recipe", "edgellm.source", "edgellm.verification")
    return not key.startswith(("split.", "general.alignment", *made))


def _open_fd(path: Path, stack: ExitStack) -> int:
    fd = os.open(path, os.O_RDONLY)
    stack.callback(os.close, fd)
    return fd
