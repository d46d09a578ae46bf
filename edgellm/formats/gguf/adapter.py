"""A LoRA adapter in a GGUF file: what its header says, checked before an engine sees it.

llama.cpp throws for a wrong pair or shape and trusts the rest; what is checked here is named instead.
"""

from __future__ import annotations

from pathlib import Path

from edgellm import files
from edgellm.errors import ArtifactError, UsageError, option
from edgellm.formats.gguf.header import GgufFile
from edgellm.formats.gguf.lora import Lora
from edgellm.formats.gguf.reader import read_header

_ENDS = (".lora_a", ".lora_b")


def parse(text: str) -> Lora:
    """`FILE` or `FILE:SCALE` as a checked adapter. Raises UsageError, ArtifactError."""
    path, colon, scale = text.rpartition(":")
    if not colon or Path(text).exists():
        return open_lora(Path(text))
    try:
        return open_lora(Path(path), float(scale))
    except ValueError:
        return open_lora(Path(text))


def open_lora(path: Path, scale: float = 1.0) -> Lora:
    """A checked adapter. Raises UsageError for a folder or a scale that is none, ArtifactError."""
    if path.is_dir():
        raise UsageError(
            f"{path} is a folder: make an adapter file of it with edgellm convert {path} --lora-gguf -o FILE, "
            f"or merge it with edgellm convert MODEL --lora {path}"
        )
    if not path.is_file():
        raise ArtifactError(f"the adapter {path} does not exist")
    if not abs(scale) <= 1e3:
        raise UsageError(
            f"{option('lora')} {path}:{scale:g} is no scale; 1 applies the adapter as it was trained"
        )
    check(read_header(path))
    return Lora(str(path.resolve()), scale, files.sha256(path))


def check(header: GgufFile) -> None:
    """Raise ArtifactError, naming key or tensor, when the file is not a whole LoRA adapter."""
    for key, expected in (("general.type", "adapter"), ("adapter.type", "lora")):
        if header.get(key) != expected:
            raise ArtifactError(
                f"{header.path}: {key} is {str(header.get(key))[:64]!r}, not {expected!r}: no LoRA adapter"
            )
    alpha = header.get("adapter.lora.alpha", 0.0)
    if not isinstance(alpha, float) or not abs(alpha) < 1e6:
        raise ArtifactError(f"{header.path}: adapter.lora.alpha is {alpha!r}, no number")
    if header.get("adapter.alora.invocation_tokens") is not None:
        raise ArtifactError(
            f"{header.path}: an activated LoRA (aLoRA), which edgellm does not switch on and off"
        )
    names = set(header.tensors)
    pairs = {name.removesuffix(end) for name in names for end in _ENDS if name.endswith(end)}
    if not pairs:
        raise ArtifactError(f"{header.path}: holds no pair of lora_a and lora_b")
    for tensor in sorted({f"{base}{end}" for base in pairs for end in _ENDS} ^ names):
        what = "is no part of a LoRA adapter" if tensor in names else "is missing"
        raise ArtifactError(f"{header.path}: tensor {tensor} {what}")
