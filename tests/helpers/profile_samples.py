"""Launches and reports made up for tests: plausible numbers, every part filled in."""

from dataclasses import replace

from edgellm.backends.llama.memory_estimate import Buffers
from edgellm.machine.noise import NoiseRecord
from edgellm.profiles.result import derive, roofline
from edgellm.profiles.result.bounds import Ceiling
from edgellm.profiles.result.caveats import Caveat
from edgellm.profiles.result.result import (
    SCHEMA,
    EnergyRecord,
    EnergyWindow,
    EngineRecord,
    Launch,
    Machine,
    MemoryPhase,
    MemoryRecord,
    MemorySplit,
    ModelRecord,
    PromptRecord,
    Repetition,
    Report,
    Run,
)
from edgellm.profiles.result.settings import Plan, Settings, Workload

MIB = 1 << 20
OPTIONS = {"n_threads_batch": 4, "type_k": "f16", "type_v": "f16", "use_mmap": True, "flash_attn": "auto"}
NO_METER = EnergyRecord(meter=None, reason="no energy counter works here (rapl: hidden; battery: none)")


def machine(**changes: object) -> Machine:
    plain = Machine(
        cpu_model="Example CPU <2.5 GHz> & co",
        cpu_flags=("avx2", "fma"),
        microcode="0xb4",
        physical_cores=4,
        logical_cores=8,
        usable_cores=8,
        smt=True,
        last_level_cache_bytes=8 * MIB,
        governor="performance",
        frequency_mhz=2500.0,
        frequency_max_mhz=4700.0,
        memory_bytes=16 << 30,
        memory_limit_bytes=None,
        hypervisor=None,
        power_source=None,
        os="Some Linux 12",
        kernel="Linux 6.1",
        python="CPython 3.11.7",
        libraries={"numpy": "2.0"},
        affinity=tuple(range(8)),
        ceilings=(
            Ceiling(4, 20e9, (19e9, 20e9), "memchr", 64 * MIB, {"f32": 1e11, "int8": 2e12}, "ONNX Runtime"),
        ),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def memory_phase(name: str, peak: int, anonymous: int, weights: int = 0) -> MemoryPhase:
    file = 20 * MIB + weights
    resident = anonymous + file
    return MemoryPhase(name, max(peak, resident), resident, anonymous, file, weights, 0, resident - 4 * MIB)


def energy() -> EnergyRecord:
    return EnergyRecord(
        meter="rapl",
        kind="counter",
        scope="package-0",
        update_period_seconds=0.001,
        windows=(
            EnergyWindow("idle", 1.0, 0, {"package-0": 5.0}),
            EnergyWindow("prefill", 0.5, 512, {"package-0": 12.8}),
            EnergyWindow("decode", 2.0, 100, {"package-0": 50.0}),
            EnergyWindow("idle", 1.0, 0, {"package-0": 5.1}),
        ),
        phase_reasons={"load": "load took 0.01 s; rapl needs 0.1 s or more"},
    )


def launch(
    index: int = 0,
    *,
    prefill_ms: tuple[float, ...] = (100.0, 101.0, 99.0),
    gap_ms: tuple[float, ...] = (10.0, 10.1, 9.9),
    n_prompt: int = 512,
    n_gaps: int = 127,
    record: EnergyRecord = NO_METER,
    foreign: float | None = 0.001,
    threads: int = 4,
    notes: tuple[str, ...] = (),
) -> Launch:
    repetitions = tuple(
        Repetition(2_000_000, round(p * 1e6), (round(g * 1e6),) * n_gaps, 2500.0)
        for p, g in zip(prefill_ms, gap_ms, strict=True)
    )
    weights = 100 * MIB
    memory = MemoryRecord(
        (
            memory_phase("start", 0, 25 * MIB),
            memory_phase("load", 0, 40 * MIB, weights),
            memory_phase("prefill", 190 * MIB, 60 * MIB, weights),
            memory_phase("decode", 0, 60 * MIB, weights),
            memory_phase("repetitions", 0, 61 * MIB, weights),
        ),
        "phase",
        split=MemorySplit(weights, 12 * MIB, 18 * MIB, 60 * MIB),
        engine=Buffers(weights, 0, 12 * MIB, 40 * MIB, "engine log"),
        predicted=Buffers(weights, 0, 12 * MIB, 41 * MIB, "prediction"),
        gpu_reason="no layer is on a GPU",
    )
    return Launch(
        index=index,
        position=index,
        started="2026-01-02T03:04:05+00:00",
        prepare_ns=90_000_000,
        load_ns=50_000_000 + index * 1_000_000,
        engine=EngineRecord(
            "llamacpp",
            "llama-cpp-python 0.3",
            "AVX2 = 1",
            768,
            1000,
            OPTIONS | {"n_threads": threads},
            notes,
            16384.0,
        ),
        prompt=PromptRecord(n_prompt, n_prompt * 3, "ab" * 32, "ba" * 32, 3.0, 2328, "cd" * 32),
        repetitions=repetitions,
        memory=memory,
        energy=record,
        noise=NoiseRecord(3.0, foreign, 0.0, 0, None),
    )


def run(
    name: str = "model-Q8_0",
    launches: tuple[Launch, ...] | None = None,
    workload: Workload | None = None,
    settings: Settings | None = None,
    **changes: object,
) -> Run:
    launches = (launch(0), launch(1)) if launches is None else launches
    model = ModelRecord(
        name=name,
        path=f"/somewhere/{name}.gguf",
        format="gguf",
        sha256="12" * 32,
        size_bytes=105 * MIB,
        architecture="qwen3",
        quantization="Q8_0",
        n_params=100_000_000,
        tensor_bytes=104 * MIB,
        tensor_types={"F32": 9, "Q8_0": 40},
        n_layer=8,
        n_ctx_train=4096,
        n_params_active=90_000_000,
        n_params_head=10_000_000,
        weight_bytes_per_token=104 * MIB,
        tokenizer_sha256="34" * 32,
        cache_resident=False,
    )
    model = replace(model, **changes)  # type: ignore[arg-type]
    workload = workload or Workload(repetitions=3, launches=len(launches))
    settings = settings or Settings("llamacpp", 4)
    limits = roofline.limits(model, workload, machine().ceiling(settings.n_threads), 16384.0)
    measured = derive.measurements(launches, limits)
    return Run(model, workload, launches, measured, settings, limits=limits, ended="launches")


def report(*runs: Run, caveats: tuple[Caveat, ...] = (), complete: bool = True) -> Report:
    return Report(
        schema=SCHEMA,
        created="2026-01-02T03:05:00+00:00",
        edgellm_version="0.1.0",
        command="edgellm profile a.gguf b.gguf",
        machine=machine(),
        runs=runs or (run("model-a-Q8_0"), run("model-b-Q8_0")),
        caveats=caveats,
        complete=complete,
        plan=Plan(),
    )
