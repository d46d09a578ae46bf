"""NVML, AMD SMI and Apple's counters on libraries with the real function names: scope, pace, loss, matching."""

import os

import pytest
from fake_vendors import FakeAmdSmi, FakeClock, FakeGpu, FakeNvml, FakeZeus, missing

from edgellm.machine import nvidia
from edgellm.profiles.energy import EnergyLostError
from edgellm.profiles.energy.amdsmi import AmdSmi
from edgellm.profiles.energy.apple import Apple
from edgellm.profiles.energy.nvml import Nvml
from edgellm.profiles.measure.gpu_memory import GpuMemoryWatch

A, B = "GPU-aaaa1111", "GPU-bbbb2222"


def nvml(clock: FakeClock, *gpus: FakeGpu) -> Nvml:
    return Nvml(lambda: FakeNvml(list(gpus)), clock, clock.sleep)


@pytest.fixture(autouse=True)
def no_cuda_settings(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)


def test_the_fakes_names_are_the_bindings_own():
    pynvml = pytest.importorskip("pynvml")
    for name in vars(FakeNvml):
        assert name.startswith("_") or hasattr(pynvml, name), name


def test_the_counter_is_read_twice_and_subtracted():
    clock = FakeClock()
    meter = nvml(clock, FakeGpu(clock, A, watts=250.0))
    assert meter.why_not() is None and meter.kind == "counter"
    assert meter.update_period_seconds == pytest.approx(0.02, rel=0.1), "as found by watching"
    first = meter.read()
    clock.sleep(10)
    second = meter.read()
    (label,) = second.channels
    assert A in label and "H100" in label
    assert second.channels[label] - first.channels[label] == pytest.approx(2500, rel=0.01)
    assert A in meter.scope and "without processor" in meter.scope


def test_without_an_energy_counter_the_gauge_is_read():
    clock = FakeClock()
    old = FakeGpu(clock, A, "Tesla P100", watts=120.0)
    old.period = None
    meter = nvml(clock, old)
    assert meter.why_not() is None and meter.kind == "power"
    assert list(meter.read().channels.values()) == [120.0]
    old.gauge = False
    assert "neither an energy counter" in str(nvml(clock, old).why_not())


def test_a_counter_that_stands_still_is_dead_and_so_is_a_gauge_at_zero():
    clock = FakeClock()
    gpu = FakeGpu(clock, A)
    gpu.alive = False
    assert "dead" in str(nvml(clock, gpu).why_not())


def test_a_driver_that_is_loaded_again_ends_the_measurement():
    clock = FakeClock()
    gpu = FakeGpu(clock, A)
    meter = nvml(clock, gpu)
    meter.read()
    gpu.loaded_at = clock()
    with pytest.raises(EnergyLostError, match="began anew"):
        meter.read()


def test_missing_binding_driver_and_gpu_say_what_to_do():
    clock = FakeClock()
    assert "pip install 'edgellm[nvidia]'" in str(Nvml(missing("pynvml")).why_not())
    assert "nvidia-smi" in str(Nvml(lambda: FakeNvml([], starts=False)).why_not())
    assert "no GPU" in str(nvml(clock).why_not())


def test_gpus_this_process_does_not_use_are_kept_apart():
    clock = FakeClock()
    used, idle = FakeGpu(clock, A), FakeGpu(clock, B, watts=60.0)
    meter = nvml(clock, used, idle)
    assert meter.why_not() is None and meter.parts == frozenset(), (
        "nothing is known before the model is loaded"
    )
    used.processes = {os.getpid(): 1 << 20, 1: 5}
    idle.processes = {1: 5}
    (part,) = meter.parts
    assert B in part and len(meter.read().channels) == 2


@pytest.mark.parametrize(
    ("environ", "names", "expected"),
    [
        ({}, "xy", [A, B]),
        ({"CUDA_VISIBLE_DEVICES": B}, "xy", [B]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-bbbb"}, "xy", [B]),
        ({"CUDA_VISIBLE_DEVICES": "1"}, "xx", [B]),
        ({"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, "xy", [B]),
        ({"CUDA_VISIBLE_DEVICES": "1"}, "xy", [A, B]),  # CUDA's own order: which one is meant cannot be told
        ({"CUDA_VISIBLE_DEVICES": "1,0"}, "xx", [B, A]),
        ({"CUDA_VISIBLE_DEVICES": "0,-1,1"}, "xx", [A]),
        ({"CUDA_VISIBLE_DEVICES": ""}, "xx", []),
    ],
)
def test_gpus_are_matched_as_cuda_would(environ, names, expected):
    every = [nvidia.Gpu(None, uuid, name) for uuid, name in zip((A, B), names, strict=True)]
    found, note = nvidia.visible(every, environ)
    assert [gpu.uuid for gpu in found] == expected
    assert bool(note) == (environ == {"CUDA_VISIBLE_DEVICES": "1"} and names == "xy")


def test_the_peak_of_gpu_memory_is_this_processs(monkeypatch):
    clock = FakeClock()
    gpu = FakeGpu(clock, A)
    with GpuMemoryWatch(lambda: FakeNvml([gpu]), poll_seconds=60) as watch:
        assert watch.record().peak == 0 and "used no NVIDIA GPU" in str(watch.record().reason)
        gpu.processes = {os.getpid(): 900}
        watch.look()
        gpu.processes = {os.getpid(): 700, 1: 5000}
        assert watch.record().peak == 900 and watch.record().reason is None


def test_gpu_memory_where_nvml_does_not_know_this_process_is_the_rise_and_says_so():
    clock = FakeClock()
    gpu = FakeGpu(clock, A)
    with GpuMemoryWatch(lambda: FakeNvml([gpu]), poll_seconds=60) as watch:
        gpu.used += 4096
        gpu.processes = {12345: None}
        assert watch.record().peak == 4096 and "does not know this process" in str(watch.record().reason)
    with GpuMemoryWatch(missing("pynvml")) as watch:
        assert watch.record().peak is None and "pip install" in str(watch.record().reason)


@pytest.mark.parametrize("old", [False, True])
def test_amd_counts_steps_of_some_microjoules(old):
    clock = FakeClock()
    meter = AmdSmi(lambda: FakeAmdSmi(clock, [200.0, 50.0], old=old), clock, clock.sleep)
    assert meter.why_not() is None
    before = meter.read().channels
    clock.sleep(5)
    after = meter.read().channels
    assert [after[name] - before[name] for name in after] == [pytest.approx(1000), pytest.approx(250)]


def test_amd_in_a_virtual_machine_without_a_gpu_and_without_the_package():
    clock = FakeClock()
    guest = AmdSmi(lambda: FakeAmdSmi(clock, [200.0], counts=False), clock, clock.sleep)
    assert "virtual machines" in str(guest.why_not()) and "\n" not in str(guest.why_not())
    assert "no AMD GPU" in str(AmdSmi(lambda: FakeAmdSmi(clock, []), clock, clock.sleep).why_not())
    assert "does not move" in str(AmdSmi(lambda: FakeAmdSmi(clock, [0.0]), clock, clock.sleep).why_not())
    assert "install ROCm" in str(AmdSmi(missing("amdsmi")).why_not())


def test_amd_loses_a_counter_that_began_anew():
    clock = FakeClock()
    smi = FakeAmdSmi(clock, [200.0])
    meter = AmdSmi(lambda: smi, clock, clock.sleep)
    meter.read()
    smi.reset_at = clock()
    with pytest.raises(EnergyLostError, match="began anew"):
        meter.read()


def test_apple_adds_what_the_chip_counts_and_no_part_twice():
    clock = FakeClock()
    chip = {"cpu_total_mj": 8.0, "gpu_mj": 2.0, "ane_mj": 0.5, "dram_mj": None, "efficiency_cores_mj": 1.0}
    meter = Apple(lambda: FakeZeus(clock, chip), clock, clock.sleep)
    assert meter.why_not() is None
    before = meter.read().channels
    clock.sleep(4)
    after = meter.read().channels
    assert {name: after[name] - before[name] for name in after} == {
        "cpu": pytest.approx(32),
        "gpu": pytest.approx(8),
        "ane": pytest.approx(2),
    }


def test_apples_private_interface_may_fail_in_any_way():
    clock = FakeClock()
    assert "edgellm[apple]" in str(Apple(missing("zeus_apple_silicon")).why_not())
    assert "IOReport does not answer" in str(Apple(lambda: FakeZeus(clock, {}, fails=True)).why_not())
    assert "neither CPU nor GPU" in str(Apple(lambda: FakeZeus(clock, {}), clock, clock.sleep).why_not())
    still = Apple(lambda: FakeZeus(clock, {"cpu_total_mj": 0.0}), clock, clock.sleep)
    assert "do not move" in str(still.why_not())
