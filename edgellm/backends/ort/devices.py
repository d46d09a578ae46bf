"""The devices the installed ONNX Runtime was built for: its execution providers, as --device calls them."""

from __future__ import annotations

from edgellm.backends.ort import graph
from edgellm.machine import hardware
from edgellm.machine.devices import CPU, Device, Offer

CPU_PROVIDER = "CPUExecutionProvider"

#: Provider -> kind. Those that are not here (Azure's, say) run no model on this machine.
_KINDS = {
    CPU_PROVIDER: CPU,
    "CUDAExecutionProvider": "cuda",
    "ROCMExecutionProvider": "rocm",
    "MIGraphXExecutionProvider": "migraphx",
    "DmlExecutionProvider": "dml",
    "CoreMLExecutionProvider": "coreml",
    "OpenVINOExecutionProvider": "openvino",
    "QNNExecutionProvider": "qnn",
    "WebGpuExecutionProvider": "webgpu",
}

#: kind -> the package that brings it.
_PACKAGES = {"cuda": "onnxruntime-gpu", "dml": "onnxruntime-directml", "openvino": "onnxruntime-openvino"}


def offer() -> Offer:
    """What the installed library can run on beside the CPU."""
    kinds = {name: _KINDS[name] for name in graph.library().get_available_providers() if name in _KINDS}
    if "NVIDIA" not in hardware.gpu_vendors():
        kinds.pop("CUDAExecutionProvider", None)  # built in, but there is nothing for it to drive
    found = tuple(Device(kind, name) for name, kind in kinds.items() if kind != CPU)
    return Offer("ONNX Runtime", found, install_line)


def install_line(kind: str) -> str | None:
    """The shell line that brings `kind`; packages of the library overwrite each other, so the other one goes first."""
    package = _PACKAGES.get(kind)
    return package and f"pip uninstall -y onnxruntime && pip install {package}"


def providers(device: Device | None) -> list[str]:
    """The list for InferenceSession: the device's provider first, the CPU for what it cannot do."""
    return [device.name, CPU_PROVIDER] if device else [CPU_PROVIDER]
