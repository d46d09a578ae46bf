"""Making a bundle: which files it holds, what is said of them, and their sums. Contacts nobody but through pip."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgellm import files
from edgellm.bundle import archive, engine, outlook, texts, wheels
from edgellm.bundle.outlook import Outlook
from edgellm.errors import UsageError
from edgellm.formats.artifact import Artifact
from edgellm.profiles.devices import Device
from edgellm.session import EngineOptions
from edgellm.units import format_size
from edgellm.version import __version__

if TYPE_CHECKING:
    from edgellm.fit.places import Place

#: EngineOptions' fields that a bundle sets, as `run`, `chat` and `serve` take them.
_FLAGS = {
    "n_threads": "-t",
    "n_threads_batch": "-tb",
    "n_ctx": "-c",
    "n_ubatch": "-ub",
    "type_k": "-ctk",
    "type_v": "-ctv",
    "flash_attn": "-fa",
    "use_mmap": "--no-mmap",
    "repack": "--no-repack",
}
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
    ram_bytes: int | None = None  # of the device; None: the least that it is sold with and that is enough
    tuned: Path | None = None  # what `edgellm tune --json` printed on such a device
    place: Place | None = None  # the device as `fit` knows it, for the speed to expect


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
    if (most := max(plan.device.ram_gib)) * 2**30 < plan.artifact.size_bytes:
        needed = format_size(plan.artifact.size_bytes)
        raise UsageError(f"{plan.device.title} has at most {most:g} GiB; the model is {needed}")


def fill(plan: Plan, folder: Path) -> None:
    """Write the bundle's files into `folder`, which is made."""
    expected = outlook.look(plan.artifact, plan.device, plan.n_ctx, plan.ram_bytes, plan.place)
    settings = flags(expected.options, plan.tuned)
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
        FACTS: json.dumps(
            facts(plan, model, folder, expected, settings), indent=1, ensure_ascii=False, sort_keys=True
        )
        + "\n",
        SCRIPT: script,
        "README.md": texts.readme(plan.artifact.name, plan.device, plan.python, serve=serve),
        "Containerfile": texts.containerfile(plan.python),
    }
    if serve:
        limit = plan.device.free_bytes(expected.ram_gib)
        written["edgellm.service"] = texts.unit(plan.artifact.name, plan.python, limit)
    if "ollama" in plan.extras:
        written["Modelfile"] = texts.modelfile(model, expected.options.n_ctx or 0)
    if "llamafile" in plan.extras:
        written["run-llamafile"] = texts.llamafile(model, expected.options.n_ctx or 0, plan.device.threads)
    for name, text in written.items():
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(0o755 if text.startswith("#!") else 0o644)
    sums = [
        f"{files.sha256(path)}  {path.relative_to(folder).as_posix()}\n"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    (folder / SUMS).write_text("".join(sums), encoding="utf-8")


def facts(plan: Plan, model: str, folder: Path, expected: Outlook, settings: list[str]) -> dict[str, Any]:
    """What bundle.json says: the model and how it was made, the device, what running needs and may expect."""
    artifact, device = plan.artifact, plan.device
    target = None
    if artifact.format == "gguf" and plan.engine_wheel is not None:
        target = engine.of_wheel(plan.engine_wheel) or engine.of_device(device)
        if lacking := [flag for flag in target.features if flag not in device.cpu_features]:
            raise UsageError(
                f"{plan.engine_wheel.name} is built for {target.name}; {device.title} has no {', '.join(lacking)}"
            )
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
            "conversion": {name: f"{value}".strip() for name, value in artifact.provenance.items()},
        },
        "device": device.name,
        "needs": {
            "arch": device.arch,
            "python": plan.python,
            "cpu_features": list(target.features) if target else [],  # onnxruntime looks for itself
            "glibc": wheels.glibc(folder / "wheels"),
            "memory_bytes": expected.opened,
        },
        "engine": target.name if target else "onnxruntime",
        "expected": expected.plain(),
        "settings": settings,
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


def flags(options: EngineOptions, tuned: Path | None) -> list[str]:
    """The options as flags; those that were found by tuning on such a device go before. Raises UsageError."""
    left = EngineOptions()
    chosen = {name: getattr(options, name) for name in _FLAGS}
    chosen = {name: value for name, value in chosen.items() if value != getattr(left, name)}
    if tuned is not None:
        try:
            chosen |= json.loads(tuned.read_text(encoding="utf-8"))["settings"]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UsageError(f"{tuned} is not what edgellm tune --json prints: {error}") from error
    found: list[str] = []
    for name, flag in _FLAGS.items():
        value = chosen.get(name, True)
        if value is False:
            found.append(flag)
        elif value is not True:
            found += [flag, f"{value}"]
    return found
