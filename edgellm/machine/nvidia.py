"""NVIDIA GPUs through NVML (nvidia-ml-py): which there are, which this run can use, which it does use.

NVML numbers GPUs by PCI address, CUDA by speed unless CUDA_DEVICE_ORDER says otherwise, so a number of one is not
a number of the other. UUIDs are the same for both, and NVML knows which processes hold memory on which GPU.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgellm.errors import EdgellmError


class NoNvmlError(EdgellmError):
    """NVML cannot be used here; the message has the remedy."""


@dataclass(frozen=True)
class Gpu:
    """One GPU."""

    handle: Any
    uuid: str
    name: str

    @property
    def label(self) -> str:
        """The name of its channel."""
        return f"{self.name} {self.uuid}"


@dataclass(frozen=True)
class Gpus:
    """The open library and the GPUs that CUDA may use here."""

    nvml: Any
    found: tuple[Gpu, ...]
    note: str = ""  # why more are listed than CUDA may use

    def used_by(self, pid: int) -> dict[str, int | None]:
        """UUID -> bytes that process `pid` holds on it (None: the driver does not say how many)."""
        used: dict[str, int | None] = {}
        for gpu in self.found:
            for process in self._processes(gpu):
                if process.pid == pid:
                    used[gpu.uuid] = max_known(used.get(gpu.uuid), process.usedGpuMemory)
        return used

    def _processes(self, gpu: Gpu) -> list[Any]:
        found: list[Any] = []
        for of in (
            self.nvml.nvmlDeviceGetComputeRunningProcesses,
            self.nvml.nvmlDeviceGetGraphicsRunningProcesses,
        ):
            try:
                found += of(gpu.handle)
            except self.nvml.NVMLError:  # not supported by this driver or this kind of GPU
                continue
        return found


def max_known(a: int | None, b: int | None) -> int | None:
    """The larger of two, as far as they are known."""
    return a if b is None else b if a is None else max(a, b)


def gpus(load: Any, environ: Mapping[str, str] = os.environ) -> Gpus:
    """Open NVML and list the GPUs. Raises NoNvmlError."""
    try:
        nvml = load()
    except ImportError as error:
        raise NoNvmlError(
            f"NVML's Python binding is missing ({error}); pip install 'edgellm[nvidia]'"
        ) from error
    try:
        nvml.nvmlInit()
        every = [_gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError as error:
        raise NoNvmlError(
            f"NVML does not start ({error}); is there an NVIDIA driver? try: nvidia-smi"
        ) from error
    if not every:
        raise NoNvmlError("NVML finds no GPU")
    found, note = visible(every, environ)
    if not found:
        raise NoNvmlError("CUDA_VISIBLE_DEVICES hides every GPU")
    return Gpus(nvml, tuple(found), note)


def _gpu(nvml: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    return Gpu(handle, _text(nvml.nvmlDeviceGetUUID(handle)), _text(nvml.nvmlDeviceGetName(handle)))


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value  # bindings before 11.515 give bytes


def visible(every: list[Gpu], environ: Mapping[str, str]) -> tuple[list[Gpu], str]:
    """Those that CUDA_VISIBLE_DEVICES leaves, and a note where its numbers cannot be told apart.

    CUDA stops at the first entry it does not know, and takes a UUID by any unique beginning.
    """
    setting = environ.get("CUDA_VISIBLE_DEVICES")
    if setting is None:
        return every, ""
    by_number = environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID" or len({gpu.name for gpu in every}) == 1
    found: list[Gpu] = []
    for entry in (part.strip() for part in setting.split(",")):
        if entry.isdigit() and int(entry) < len(every):
            if not by_number:
                return every, f"CUDA_VISIBLE_DEVICES={setting} counts in CUDA's own order; name GPUs by UUID"
            found.append(every[int(entry)])
        elif entry.startswith("GPU-") and (match := [gpu for gpu in every if gpu.uuid.startswith(entry)]):
            found.append(match[0])
        else:
            break
    return found, ""
