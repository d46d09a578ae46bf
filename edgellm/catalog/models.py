"""What MODEL means: a file, a folder, a bundled name or a hub id - and where conversions of those are kept.

Converts nothing itself: it names the checkpoint and the place its conversion belongs.
"""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from edgellm import digests, files
from edgellm.catalog import gguf_files, hubs, spellings
from edgellm.catalog.spellings import MODELSCOPE, Reference
from edgellm.errors import ArtifactError, CheckpointError, did_you_mean
from edgellm.models import bundled
from edgellm.terminal import note
from edgellm.version import __version__

#: Type a checkpoint is converted to when it is run without one being named.
DEFAULT_TYPE = "Q4_K_M"
DEFAULT_TYPE_BUNDLED = "Q8_0"  # a model of a few megabytes gains nothing from fewer bits

DEFAULT_MODEL = "tiny-qwen3"


@dataclass(frozen=True)
class Source:
    """Where a model comes from."""

    name: str  # for file names and listings
    path: Path  # a converted model (file or ONNX folder) or a checkpoint folder
    is_checkpoint: bool
    quant: str  # type to convert to, when it is a checkpoint
    named: bool = True  # whether the type was asked for, and is not the usual one

    @cached_property  # once: what is being converted may change under us, and the place must not
    def kept(self) -> Path:
        """Where this checkpoint's conversion is kept: in a folder named by a digest of what it was made from."""
        name = f"{files.as_text(self.name)}-{self.quant}" + ("" if self.quant.startswith("onnx") else ".gguf")
        return models_dir() / _fingerprint(self.path) / name


@dataclass(frozen=True)
class Kept:
    """Something of a model that takes room on this machine."""

    name: str
    kind: (
        str  # "bundled" | "kept": made on first use | "prepared": for this CPU | "download": the hub's cache
    )
    path: Path
    size_bytes: int


def locate(model: str, *, offline: bool = False) -> Source:
    """Find what `model` names; `:TYPE` at its end picks the type a checkpoint is converted to, or the GGUF file.

    A hub id is downloaded unless `offline`. Raises ArtifactError, CheckpointError.
    """
    path = Path(model)
    if path.is_file():
        return _runnable(path)
    name, _, quant = model.partition(":") if not path.exists() else (model, "", "")
    if folder := bundled.path(name):
        return Source(name, folder, is_checkpoint=True, quant=quant or DEFAULT_TYPE_BUNDLED)
    path = Path(name)
    if path.is_dir():
        return _in_folder(path, quant)
    if path.is_file():
        raise ArtifactError(
            f"{name} is a converted model already: leave :{quant} out, or convert its checkpoint"
        )
    if reference := spellings.read(model):
        return _on_hub(reference, offline=offline)
    known, meant = ", ".join(bundled.names()), spellings.suggestion(model)
    raise ArtifactError(
        f"{model} is no file, folder or hub id (owner/name), nor a bundled model; "
        + (
            f"on the hub it is called {meant}"
            if meant
            else did_you_mean(str(model).split(":")[0], bundled.names(), f"bundled are: {known}")
        )
    )


def _runnable(path: Path) -> Source:
    return Source(path.stem, path, is_checkpoint=False, quant="")


def _in_folder(folder: Path, quant: str) -> Source:
    """A checkpoint, an ONNX folder, or the one GGUF model in a folder without either."""
    is_onnx = any(folder.glob("*.onnx"))
    is_checkpoint = (folder / "config.json").is_file() and not is_onnx
    names = [path.name for path in folder.glob("*.gguf")]
    if names and not is_onnx and not any(folder.glob("*.safetensors")):
        found = gguf_files.candidates(names)
        if len(found) > 1 and not quant:
            listed = ", ".join(one.files[0] for one in found)
            raise ArtifactError(f"{folder} holds several models: name one of them, {listed}")
        return _runnable(folder / gguf_files.choose(names, quant, str(folder)).files[0])
    return Source(folder.resolve().name, folder, is_checkpoint, quant or DEFAULT_TYPE, bool(quant))


def _on_hub(reference: Reference, *, offline: bool) -> Source:
    """A checkpoint, or one GGUF model of a repository that holds such."""
    repo_id, wanted = reference.repo_id, reference.wanted
    if "gguf" in f"{repo_id}:{wanted}".lower() and (found := _gguf_on_hub(reference, offline=offline)):
        return found
    folder = hubs.of(reference.hub).download(repo_id, offline=offline)
    if not any(folder.glob("*.safetensors")) and (found := _gguf_on_hub(reference, offline=offline)):
        return found
    return Source(
        _kept_name(reference), folder, is_checkpoint=True, quant=wanted or DEFAULT_TYPE, named=bool(wanted)
    )


def _gguf_on_hub(reference: Reference, *, offline: bool) -> Source | None:
    """The model of a GGUF repository, None for a repository that has no such file."""
    repo_id, hub = reference.repo_id, hubs.of(reference.hub)
    names = [name for name in hub.names(repo_id, offline=offline) if name.lower().endswith(".gguf")]
    if not names:
        return None
    chosen = gguf_files.choose(names, reference.wanted, repo_id)
    others = {one.type for one in gguf_files.candidates(names)} - {chosen.type}
    if others and not reference.wanted:
        note(f"{repo_id}: taking {chosen.type}; there are also {', '.join(sorted(others))}")
    folder = hub.fetch(repo_id, chosen.files, offline=offline)
    return _runnable(folder / chosen.files[0])


def _kept_name(reference: Reference) -> str:
    """What conversions of a hub's checkpoint are called."""
    name = reference.repo_id.replace("/", "--")
    return f"{MODELSCOPE}--{name}" if (reference.hub or hubs.preferred()) == MODELSCOPE else name


def checkpoint_folder(source: str, *, offline: bool = False) -> Path:
    """The checkpoint folder `source` names. Raises CheckpointError when it names something else."""
    found = locate(source, offline=offline)
    if not found.is_checkpoint:
        raise CheckpointError(
            f"{source} is not a checkpoint folder; a checkpoint has config.json and *.safetensors"
        )
    return found.path


def models_dir() -> Path:
    """Folder of kept conversions. Created where that is possible."""
    return files.cache_dir("models")


def kept() -> list[Kept]:
    """Conversions kept here, by name."""
    found = []
    for path in sorted(models_dir().glob("*/*"), key=lambda path: path.name):
        if path.suffix == ".gguf":
            found.append(Kept(path.stem, "kept", path, path.stat().st_size))
        elif path.is_dir() and any(path.glob("*.onnx")):
            found.append(Kept(path.name, "kept", path, _folder_bytes(path)))
    return found


def everything() -> list[Kept]:
    """All models that are here, and what was made of them: bundled, kept, prepared, downloaded."""
    from edgellm.backends.ort import prepacked

    found = [
        Kept(name, "bundled", path, _folder_bytes(path))
        for name in bundled.names()
        if (path := bundled.path(name))
    ]
    found += kept()
    for copy in prepacked.kept():
        found.append(Kept(Path(copy.model).parent.name, "prepared", copy.path, copy.size_bytes))
    return found + [Kept(d.repo_id, "download", d.path, d.size_bytes) for d in hubs.downloads()]


def remove(item: Kept) -> int:
    """Delete a kept conversion with what was prepared of it, or one prepared copy; the bytes freed."""
    from edgellm.backends.ort import prepacked

    freed = item.size_bytes
    shutil.rmtree(item.path) if item.path.is_dir() else item.path.unlink()
    if item.kind == "kept":
        for copy in prepacked.kept():
            if Path(copy.model).parent == item.path:
                freed += copy.size_bytes
                shutil.rmtree(copy.path, ignore_errors=True)
        with contextlib.suppress(OSError):  # another type of the same model is still there
            item.path.parent.rmdir()
    return freed


def _folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def _fingerprint(folder: Path) -> str:
    """Digest of what a conversion reads and of the code that converts: stale copies are not met."""
    beside = (
        "additional_chat_templates/*.jinja",
        "[0-9]*/config.json",
        "README.md",
    )  # a card may tell a reranker
    found = sorted([*folder.iterdir(), *(file for pattern in beside for file in folder.glob(pattern))])
    kinds = (".json", ".safetensors", ".jinja", ".md")
    read = (file for file in found if file.suffix in kinds)
    return digests.of_all(read, __version__, _converter(), str(folder.resolve()))[:12]


@cache
def _converter() -> str:
    """Digest of the converter's source; 2 ms."""
    root = Path(__file__).parents[1]
    rooms = ("convert", "models", "formats")
    sources = (file for room in rooms for file in sorted((root / room).glob("**/*.py")))
    return digests.of_all(file for file in sources if "training" not in file.parts)
