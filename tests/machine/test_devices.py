"""--device: what is named must be there, `auto` takes the best that is; ggml's registry is read right."""

import ctypes
import re
from pathlib import Path

import pytest

from edgellm.backends.llama import devices as llama_devices
from edgellm.backends.llama import options as llama_options
from edgellm.backends.ort import devices as ort_devices
from edgellm.errors import EngineError, UsageError
from edgellm.formats.artifact import Artifact
from edgellm.machine import devices, hardware
from edgellm.machine.devices import Device, Offer
from edgellm.session import EngineOptions

CUDA0, CUDA1 = Device("cuda", "CUDA0", "Big GPU", 8 << 30), Device("cuda", "CUDA1", "Big GPU", 8 << 30)
IGPU = Device("vulkan", "Vulkan0", "Small GPU", integrated=True)
RPC = Device("rpc", "RPC0")


def offer(*there: Device) -> Offer:
    return Offer("engine", there, {"cuda": "install-cuda"}.get)


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr(hardware, "gpu_vendors", lambda: ())


def choose(wanted: str, *there: Device) -> Device | None:
    notes: list[str] = []
    device = devices.choose(wanted, offer(*there), notes)
    assert not notes
    return device


def test_auto_prefers_a_gpu_with_memory_of_its_own():
    assert choose("auto", IGPU, CUDA0, CUDA1) == CUDA0
    assert choose("auto", IGPU) == IGPU


def test_auto_does_not_take_another_machine_unasked():
    assert choose("auto", RPC) is None
    assert choose("rpc", RPC) == RPC


def test_cpu_is_the_cpu_whatever_else_is_there():
    assert choose("cpu", CUDA0) is None


def test_a_device_is_named_by_kind_or_by_the_engines_name():
    assert choose("cuda", CUDA0, CUDA1) == CUDA0
    assert choose("CUDA1", CUDA0, CUDA1) == CUDA1


def test_what_is_not_there_gives_the_line_that_installs_it():
    with pytest.raises(
        EngineError, match=r"device cuda is not there: .*has cpu, rpc; install it with: install-cuda"
    ):
        choose("cuda", RPC)


def test_servers_are_one_device_of_an_engine_that_can_use_them():
    there = "rpc://10.0.0.2:50052,rpc://Board-3:50052"
    able = Offer("engine", (), {}.get, remote=True)
    device = devices.choose(there, able, [])
    assert device and devices.servers(device.name) == ("10.0.0.2:50052", "board-3:50052")
    assert device.word == there.lower()
    with pytest.raises(EngineError, match=r"installed engine cannot; build one that can: build-it"):
        devices.choose(there, Offer("engine", (), {"rpc": "build-it"}.get), [])
    with pytest.raises(EngineError, match=r"installed engine cannot; convert the model to GGUF"):
        choose(there, RPC)
    with pytest.raises(EngineError, match=r"Runtime cannot; convert the model to GGUF"):
        devices.choose(there, ort_devices.offer(), [])
    assert "-DGGML_RPC=on" in (llama_devices.install_line("rpc") or "")


@pytest.mark.parametrize(
    "wrong", ["rpc://", "rpc://a", "rpc://a:0", "rpc://a:65536", "rpc://a:b", "rpc://:1", "rpc://[::1]:1",
              "rpc://a:1/x", "rpc://a:1,", "rpc://a:1,rpc://A:1", "rpc://a:1,cpu"]
)  # fmt: skip
def test_what_is_no_server_is_said_to_be_none(wrong):
    with pytest.raises(UsageError, match=r"write rpc://HOST:PORT|names a server twice"):
        devices.servers(wrong)


def test_what_nobody_knows_gives_the_choices():
    with pytest.raises(EngineError, match=r"device warp .*choose one of: cpu, rpc"):
        choose("warp", RPC)


def test_auto_says_which_gpu_lies_idle(monkeypatch):
    monkeypatch.setattr(hardware, "gpu_vendors", lambda: ("NVIDIA",))
    notes: list[str] = []
    assert devices.choose("auto", offer(), notes) is None
    assert re.fullmatch(r"running on the CPU: .*NVIDIA GPU; to use it: install-cuda.*", notes[0])


def test_the_systems_gpus_are_found_once_each(tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(hardware.platform, "system", lambda: "Linux")
    for index, vendor in enumerate(("0x8086", "0x10de", "0x10de", "0x1af4")):
        card = tmp_path / f"sys/class/drm/card{index}/device"
        card.mkdir(parents=True)
        (card / "vendor").write_text(vendor + "\n")
    assert hardware.gpu_vendors(tmp_path) == ("Intel", "NVIDIA")


class FakeGgml:
    """The functions of ggml-backend.h that are read, over a table; handles are addresses of rows."""

    def __init__(self, *rows: tuple[str, int, str, str, int]) -> None:
        self.rows = {0x1000 + i: row for i, row in enumerate(rows)}

    def ggml_backend_dev_count(self) -> int:
        return len(self.rows)

    def ggml_backend_dev_get(self, index: int) -> int:
        return list(self.rows)[index]

    def ggml_backend_dev_type(self, handle: int) -> int:
        return self.rows[handle][1]

    def ggml_backend_dev_backend_reg(self, handle: int) -> int:
        return handle

    def ggml_backend_reg_name(self, handle: int) -> bytes:
        return self.rows[handle][0].encode()

    def ggml_backend_dev_name(self, handle: int) -> bytes:
        return self.rows[handle][2].encode()

    def ggml_backend_dev_description(self, handle: int) -> bytes:
        return self.rows[handle][3].encode()

    def ggml_backend_dev_memory(self, handle: int, free, total) -> None:
        free._obj.value = total._obj.value = self.rows[handle][4]


def test_ggmls_registry_becomes_devices(monkeypatch):
    table = FakeGgml(
        ("CUDA", 1, "CUDA0", "Big GPU ", 8 << 30),
        ("MTL", 1, "MTL0", "Apple", 0),
        ("BLAS", 3, "BLAS", "OpenBLAS", 0),
        ("Vulkan", 2, "Vulkan0", "Small GPU", 1 << 30),
        ("CPU", 0, "CPU", "a CPU", 1 << 34),
    )
    found = tuple(llama_devices._scan(table, table.rows))
    assert [device.kind for device, _ in found] == ["cuda", "metal", "vulkan", "cpu"]
    assert found[0][0] == Device("cuda", "CUDA0", "Big GPU", 8 << 30, 8 << 30)
    assert found[1][0].free_bytes is None
    monkeypatch.setattr(llama_devices, "found", lambda: found)
    assert [device.name for device in llama_devices.offer().devices] == ["CUDA0", "MTL0", "Vulkan0"]
    assert list(llama_devices.handles(found[2][0])) == [0x1003, None]
    assert list(llama_devices.handles(None)) == [None]


def test_the_installed_library_has_a_cpu_and_tells_its_memory():
    found = [device for device, _ in llama_devices.found()]
    cpu = next(device for device in found if device.kind == "cpu")
    assert cpu.name and cpu.total_bytes and cpu.total_bytes > 1 << 28
    assert ctypes.sizeof(llama_devices.handles(None)) == ctypes.sizeof(ctypes.c_void_p)


META = {f"llama.{key}": value for key, value in (("block_count", 15), ("attention.head_count", 8))}
META |= {"llama.attention.head_count_kv": 2, "llama.embedding_length": 512}
MODEL = Artifact(Path("m.gguf"), "gguf", "llama", "m", "Q8_0", 16 << 30, 8192, None, META)


def layers(options: EngineOptions, device: Device | None) -> tuple[int, list[str]]:
    notes: list[str] = []
    return llama_options._gpu_layers(MODEL, options, device, notes), notes


def test_the_layers_that_fit_go_to_the_device():
    options = EngineOptions(n_ctx=1024)
    assert layers(options, Device("cuda", "CUDA0", free_bytes=24 << 30)) == (16, [])
    fit, notes = layers(options, Device("cuda", "CUDA0", free_bytes=8 << 30))
    assert 4 <= fit <= 7
    assert notes == [f"{fit} of 16 layers fit on CUDA0, the rest runs on the CPU; set n_gpu_layers"]
    assert layers(options, Device("metal", "MTL0")) == (16, [])


def test_layers_asked_for_are_taken_at_the_users_word():
    assert layers(EngineOptions(n_gpu_layers=3), Device("cuda", "CUDA0", free_bytes=1 << 30)) == (3, [])
    assert layers(EngineOptions(n_gpu_layers=0), None) == (0, [])
    count, notes = layers(EngineOptions(n_gpu_layers=9), None)
    assert count == 0 and "n_gpu_layers 9 is without effect" in notes[0]
