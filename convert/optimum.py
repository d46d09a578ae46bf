"""Export through Hugging Face's optimum, in a process of its own: for architectures the direct writer lacks.

optimum brings torch and pins transformers, so it is an extra, never needed otherwise, and may live in another
environment: EDGELLM_OPTIMUM_PYTHON names that one's interpreter. Its graph has no fused attention and copies the
KV cache at every step; it is slower than the direct writer's.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edgellm import files, privacy
from edgellm.errors import EngineError, MissingExtraError, UsageError

if TYPE_CHECKING:
    from edgellm.formats.artifact import Artifact

TYPES = ("onnx-fp32", "onnx-int8")
PYTHON = "EDGELLM_OPTIMUM_PYTHON"

#: optimum's dynamic int8 recipes, by a CPU flag that tells which one this machine runs best.
_INT8_ARGUMENTS = (("avx512_vnni", "--avx512_vnni"), ("avx512f", "--avx512"), ("asimd", "--arm64"))


def export(source: Path, output: Path, quant: str, *, force: bool = False) -> Artifact:
    """Export the checkpoint folder `source` to the folder `output`.

    Raises MissingExtraError without optimum, EngineError with its last line when it fails, UsageError.
    """
    from edgellm.formats.artifact import Artifact

    if quant not in TYPES:
        raise UsageError(f"optimum exports {' and '.join(TYPES)}, not {quant}; leave --exporter out")
    python = interpreter()
    with files.atomic_path(output, force=force) as folder:
        task = ["--task", "text-generation-with-past", "--model", str(source)]
        _run(python, ["export", "onnx", *task, str(folder)])
        if quant == "onnx-int8":
            quantized = folder / "quantized"  # optimum wants another folder than the one it reads
            _run(
                python,
                ["onnxruntime", "quantize", "--onnx_model", str(folder), _int8(), "-o", str(quantized)],
            )
            for plain in (*folder.glob("model.onnx"), *folder.glob("model.onnx_data")):
                plain.unlink()
            for file in quantized.glob("*.onnx*"):
                file.replace(folder / file.name)
            shutil.rmtree(quantized)
    return Artifact.open(output)


def interpreter() -> str:
    """The Python that has optimum. Raises MissingExtraError."""
    named = os.environ.get(PYTHON)
    if named:
        return named
    if (
        importlib.util.find_spec("optimum") is None
        or importlib.util.find_spec("optimum.exporters.onnx") is None
    ):
        raise MissingExtraError("--exporter optimum", "optimum")
    return sys.executable


def _int8() -> str:
    from edgellm.machine.hardware import cpu

    return next((argument for flag, argument in _INT8_ARGUMENTS if cpu().has(flag)), "--avx2")


def _run(python: str, arguments: list[str]) -> None:
    code = "import sys; from optimum.commands.optimum_cli import main; sys.argv[0] = 'optimum-cli'; main()"
    privacy.refuse_telemetry()
    done = subprocess.run([python, "-c", code, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise EngineError(f"optimum failed: {lines[-1] if lines else f'exit code {done.returncode}'}")
