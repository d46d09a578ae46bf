"""Making a bundle: which files it holds, what is said of them, and their sums. Contacts nobody but through pip."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from edgellm import files
from edgellm.bundle import archive, engine, texts, wheels
from edgellm.errors import UsageError
from edgellm.formats.artifact import Artifact
from edgellm.profiles.devices import Device
from edgellm.version import __version__

#: An allowance for the interpreter, edgellm and an engine beside the model: 90 MB was the peak of the bundled models.
RUNTIME_BYTES = {"gguf": 90_000_000, "onnx": 130_000_000}
EXTRAS = ("serve", "ollama", "llamafile")
SCRIPT, SUMS, FACTS = "edgellm-bundle", "SHA256SUMS", "bundle.json"


@dataclass(frozen=True)
class Plan:
    """What is asked for."""

    artifact: Artifact
    device: Device
    python: str  # "3.11"
    extras: Collection[str] = ()  # of EXTRAS
    wheels: Path | None = None  # a folder that has them all; None: pip's index
    engine_wheel: Path | None = None  # of llama-cpp-python, for a GGUF model
    n_ctx: int | None = None

    @property
    def context(self) -> int:
        """Tokens of context: what was asked for, or what suits the device, within what the model was made for."""
        most = self.artifact.n_ctx_train
        wanted = self.n_ctx or self.device.n_ctx
        return min(wanted, most) if most else wanted

    @property
    def memory_bytes(self) -> int:
        """Memory without which it is not even opened: model and runtime. The cache of the context comes on top."""
        return self.artifact.size_bytes + RUNTIME_BYTES[self.artifact.format]


def make(plan: Plan, target: Path, *, force: bool = False) -> None:
    """Write the bundle: a folder, or an archive by its suffix. The same plan, the same bytes. Raises EdgellmError."""
    check(plan)
    archive.check(target)
    files.check_output(target, force=force)
    files.check_space(target.parent, 2 * plan.artifact.size_bytes)
    with files.atomic_path(target, force=force) as growing:
        if archive.is_archive(target):
            folder = growing.parent / "folder"
            fill(plan, folder)
            archive.pack(folder, growing, f"{plan.artifact.path.stem}-{plan.device.name}")
            shutil.rmtree(folder)
        else:
            fill(plan, growing)


def check(plan: Plan) -> None:
    """Raise UsageError for what cannot be bundled."""
    wheels.platforms(plan.device)
    if plan.artifact.format == "gguf" and plan.engine_wheel is None:
        raise UsageError(
            f"a GGUF model needs llama-cpp-python built for {plan.device.name}: make it with "
            f"edgellm wheel --for {plan.device.name}, and name it with --engine-wheel; "
            f"an ONNX model needs no compiler: edgellm convert MODEL --quant onnx-int4"
        )
    if plan.artifact.format == "onnx" and set(plan.extras) & {"ollama", "llamafile"}:
        raise UsageError("ollama and llamafile run GGUF models; this one is ONNX")
    if (size := max(plan.device.ram_gib) * 2**30) < plan.memory_bytes:
        raise UsageError(
            f"{plan.device.title} has at most {size / 2**30:g} GiB; the model needs {plan.memory_bytes / 2**30:.1f}"
        )


def fill(plan: Plan, folder: Path) -> None:
    """Write the bundle's files into `folder`, which is made."""
    (folder / "wheels").mkdir(parents=True)
    model = _model(plan.artifact, folder)
    serve = "serve" in plan.extras
    wanted = wheels.requirements(plan.artifact.format, plan.python, serve=serve)
    wheels.fetch(wanted, plan.device, plan.python, folder / "wheels", plan.wheels)
    wheels.own(folder / "wheels", serve=serve)
    if plan.engine_wheel is not None and plan.artifact.format == "gguf":
        wheels.add_engine(plan.engine_wheel, plan.device, folder / "wheels")
    script = resources.files(__package__).joinpath("board.py").read_text(encoding="utf-8")
    written = {
        FACTS: json.dumps(facts(plan, model, folder), indent=1, ensure_ascii=False, sort_keys=True) + "\n",
        SCRIPT: script,
        "README.md": texts.readme(plan.artifact.name, plan.device, plan.python, serve=serve),
        "Containerfile": texts.containerfile(plan.python),
    }
    if serve:
        limit = plan.device.free_bytes(_ram(plan))
        written["edgellm.service"] = texts.unit(plan.artifact.name, plan.python, limit)
    if "ollama" in plan.extras:
        written["Modelfile"] = texts.modelfile(model, plan.context)
    if "llamafile" in plan.extras:
        written["run-llamafile"] = texts.llamafile(model, plan.context, plan.device.threads)
    for name, text in written.items():
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(0o755 if text.startswith("#!") else 0o644)
    sums = [
        f"{files.sha256(path)}  {path.relative_to(folder).as_posix()}\n"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    (folder / SUMS).write_text("".join(sums), encoding="utf-8")


def facts(plan: Plan, model: str, folder: Path) -> dict[str, Any]:
    """What bundle.json says: the model and how it was made, the device, what running needs and may expect."""
    artifact, device = plan.artifact, plan.device
    compiled = engine.target(device).features if artifact.format == "gguf" else ()
    return {
        "bundle": 1,
        "edgellm": __version__,
        "model": {
            "path": model,
            "name": artifact.name,
            "format": artifact.format,
            "architecture": artifact.architecture,
            "type": artifact.quantization,
            "bytes": artifact.size_bytes,
            "conversion": artifact.provenance,
        },
        "device": device.name,
        "needs": {
            "arch": device.arch,
            "python": plan.python,
            "cpu_features": list(compiled),
            "memory_bytes": plan.memory_bytes,
        },
        "expected": {
            "decode_per_second_at_most": round(device.read_bytes_per_second / artifact.size_bytes, 1),
            "why": "every token reads the weights once; the device's bandwidth by its sources in edgellm",
        },
        "settings": ["--threads", str(device.threads), "--ctx-size", str(plan.context)],
        "serve": "serve" in plan.extras,
        "wheels": sorted(path.name for path in (folder / "wheels").iterdir()),
    }


def _model(artifact: Artifact, folder: Path) -> str:
    """Copy the model into `folder`; its path there."""
    place = folder / "model"
    if artifact.path.is_dir():
        shutil.copytree(artifact.path, place, copy_function=shutil.copyfile)
        return "model"
    place.mkdir()
    for part in artifact.parts or (artifact.path,):
        shutil.copyfile(part, place / part.name)
    return f"model/{artifact.path.name}"


def _ram(plan: Plan) -> float:
    """The smallest size of the device, in GiB, in which the model has room."""
    room = [size for size in plan.device.ram_gib if plan.device.free_bytes(size) > plan.memory_bytes]
    return min(room, default=max(plan.device.ram_gib))
