"""Artifact: a runnable model on disk - a GGUF file or an ONNX folder - and what its header says of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from edgellm import digests, files
from edgellm.errors import ArtifactError


@dataclass(frozen=True)
class Artifact:
    """A converted model. Opening reads its header only; nothing here holds weights."""

    path: Path
    format: str  # "gguf" | "onnx"
    architecture: str  # e.g. "llama", "qwen2", "qwen3"
    name: str
    quantization: str  # e.g. "Q4_K_M"
    size_bytes: int
    n_ctx_train: int
    chat_template: str | None
    metadata: dict[str, Any] = field(
        repr=False, default_factory=dict
    )  # scalars of the header, arrays left out
    parts: tuple[Path, ...] = ()  # all files of a split GGUF in order, `path` the first; empty: `path` alone
    stop_ids: frozenset[int] = frozenset()  # token ids its maker ends answers with, where the file lists them
    foreign: bool = (
        False  # outside the verified families: the engine runs it by rules that are not checked here
    )

    @cached_property
    def sha256(self) -> str:
        """Hex SHA-256 of the file, of all parts of a split one, or of an ONNX folder. Reads it all."""
        if self.format == "onnx":
            from edgellm.formats import onnx_folder

            return onnx_folder.digest(self.path)
        return files.sha256(*(self.parts or (self.path,)))

    @property
    def fingerprint(self) -> str:
        """Digest of all its files, remembered where they are large: the key of what was made with it."""
        folder = sorted(path for path in self.path.rglob("*") if path.is_file()) if self.path.is_dir() else ()
        return digests.of_all(self.parts or folder or (self.path,))

    @property
    def provenance(self) -> dict[str, Any]:
        """What edgellm wrote about the conversion: the `edgellm.*` keys."""
        return {key: value for key, value in self.metadata.items() if key.startswith("edgellm.")}

    @staticmethod
    def open(path: Path | str) -> Artifact:
        """Read a GGUF file's header or an ONNX folder's. Raises ArtifactError when missing, damaged or no model."""
        path = Path(path)
        if not path.exists():
            files.recover(path.parent)  # a writer may have been killed between two renames
        if not path.exists():
            raise ArtifactError(
                f"{path} does not exist; give a .gguf file, a bundled name or a checkpoint folder"
            )
        if path.is_dir():
            from edgellm.formats import onnx_folder

            if onnx_folder.is_model(path):
                return _open_onnx(path)
            raise ArtifactError(
                f"{path} is a folder, not a converted model; make one with: edgellm convert {path}"
            )
        return _open_gguf(path)


def _open_gguf(path: Path) -> Artifact:
    from edgellm.formats.gguf import known
    from edgellm.formats.gguf.check import check_runnable, is_verified
    from edgellm.formats.gguf.reader import read_header

    header = read_header(path)
    check_runnable(header)
    known.remember(header)
    scalars = {
        key: value for key, value in header.metadata.items() if isinstance(value, (str, int, float, bool))
    }
    parts = header.shard_paths()
    architecture = str(scalars.get("general.architecture", ""))
    template = scalars.get("tokenizer.chat_template")
    return Artifact(
        path=path,
        format="gguf",
        architecture=architecture,
        name=str(scalars.get("general.name") or path.stem),
        quantization=header.quantization,
        size_bytes=sum(part.stat().st_size for part in parts),
        n_ctx_train=int(scalars.get(f"{architecture}.context_length", 0)),
        chat_template=None if template is None else str(template),
        metadata=scalars,
        parts=parts,
        stop_ids=header.stop_ids,
        foreign=not is_verified(header),
    )


def _open_onnx(path: Path) -> Artifact:
    from edgellm.formats import onnx_folder

    folder = onnx_folder.read(path)
    return Artifact(
        path=path,
        format="onnx",
        architecture=folder.architecture,
        name=folder.name,
        quantization=folder.quantization,
        size_bytes=sum(file.stat().st_size for file in folder.data_files),
        n_ctx_train=folder.n_ctx,
        chat_template=folder.chat_template,
        metadata={**folder.facts, **folder.purpose},
        stop_ids=folder.eos_ids,
    )
