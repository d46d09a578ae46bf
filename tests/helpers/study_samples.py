"""A study made up for tests: two families, many quantizations, two thread counts, depths, quality, ceilings."""

import random
from dataclasses import replace

import profile_samples as samples

from edgellm.profiles.result import derive, roofline
from edgellm.profiles.result.bounds import Ceiling
from edgellm.profiles.result.quality_record import QualityRecord
from edgellm.profiles.result.quality_stats import Estimate, Share
from edgellm.profiles.result.result import EnergyRecord, EnergyWindow, Report, Run
from edgellm.profiles.result.settings import Settings, Workload

MIB = samples.MIB
#: quantization -> (bits per weight, KLD from the reference)
TYPES = {
    "F16": (16.0, 0.0),
    "Q8_0": (8.5, 0.0004),
    "Q6_K": (6.6, 0.002),
    "Q5_K_M": (5.7, 0.006),
    "Q4_K_M": (4.9, 0.02),
    "Q4_0": (4.5, 0.05),
    "IQ4_XS": (4.3, 0.024),
    "Q3_K_M": (3.9, 0.09),
    "Q2_K": (3.2, 0.4),
    "onnx-fp32": (32.0, 0.0),
    "onnx-int8": (8.6, 0.001),
    "onnx-int4": (4.6, 0.06),
}
FAMILIES = {"tiny-qwen3": (5.0, 4.1, 0.52, 62), "tiny-llama3": (6.2, 3.4, 0.58, 61)}


def energy(rng: random.Random, watts: float, seconds: float, tokens: int) -> EnergyRecord:
    def window(phase: str, s: float, w: float, n: int) -> EnergyWindow:
        return EnergyWindow(phase, s, n, {"package-0": s * w * rng.gauss(1, 0.01)})

    windows = (
        window("load", 0.4, 8.0, 0),
        window("idle", 1.0, 5.0, 0),
        window("prefill", seconds / 3, watts * 1.1, 512),
        window("decode", seconds, watts, tokens),
        window("idle", 1.0, 5.0, 0),
    )
    return EnergyRecord("rapl", "counter", "package-0", 0.001, windows)


def study(
    types: tuple[str, ...] = tuple(TYPES),
    threads: tuple[int, ...] = (1, 2),
    depths: tuple[int, ...] = (0,),
    *,
    metered: bool = False,
    launches: int = 4,
    quality: bool = True,
    speed: float = 1.0,
    seed: int = 7,
) -> Report:
    rng = random.Random(seed)
    runs, records = [], {}
    for family, (params, bytes_per_token, bits, right) in FAMILIES.items():
        for kind in types:
            name = f"{family}-{kind}"
            if quality:
                records[name] = _quality(bits, right, TYPES[kind][1], f"{family}-F16")
            for t in threads:
                for depth in depths:
                    runs.append(
                        _run(
                            rng,
                            name,
                            family,
                            kind,
                            params,
                            bytes_per_token,
                            t,
                            depth,
                            metered,
                            launches,
                            speed,
                        )
                    )
    ceilings = tuple(
        Ceiling(
            t,
            12e9 * t**0.5,
            (12e9 * t**0.5,),
            "read",
            64 * MIB,
            {"f32": 9e10 * t, "int8": 3e11 * t},
            "matmul",
        )
        for t in threads
    )
    machine = samples.machine(ceilings=ceilings)
    return replace(samples.report(*runs), quality=records or None, machine=machine)


def _quality(bits: float, right: int, kld: float, reference: str) -> QualityRecord:
    hit = max(0, round(right - 30 * kld))
    shift = sum(map(ord, reference))  # dialogue by dialogue, types of one model fare alike
    return QualityRecord(
        text="held-out dialogues",
        n_tokens=9000,
        perplexity=Estimate(2.1 + kld, 0.04),
        bits_per_byte=Estimate(bits + kld / 2, 0.011),
        dialogue_bits=tuple((bits + kld / 2) * 100 * (0.9 + 0.1 * ((i + shift) % 3)) for i in range(42)),
        dialogue_bytes=(100,) * 42,
        reference=reference,
        kld_mean=Estimate(kld, 0.1 * kld + 1e-5),
        kld_max=12 * kld,
        same_top=Estimate(1 - 0.3 * kld**0.5, 0.002),
        tasks={"arithmetic": Share(hit, 64), "translation": Share(min(64, hit + 1), 64)},
        total=Share(2 * hit, 128),
        seconds=4.0,
    )


def _run(rng, name, family, kind, params, bytes_per_token, threads, depth, metered, n, speed) -> Run:  # type: ignore[no-untyped-def]
    bits = TYPES[kind][0]
    onnx = kind.startswith("onnx")
    size = round(params * 1e6 * bits / 8) * 60
    gap = (
        speed
        * 10
        * (0.3 + bits / 16)
        * (1.3 if onnx else 1.0)
        / threads**0.8
        * (1 + depth / 4000)
        * params
        / 5
    )
    launches = []
    for i in range(n):
        luck = rng.gauss(1, 0.01)
        one = samples.launch(
            i,
            prefill_ms=tuple(
                speed * 90 * params / 5 / threads**0.9 * luck * rng.gauss(1, 0.006) for _ in range(3)
            ),
            gap_ms=tuple(gap * luck * rng.gauss(1, 0.006) for _ in range(3)),
            n_gaps=31,
            threads=threads,
            record=energy(rng, 9 + 6 * threads, 31 * gap / 1000, 31) if metered else samples.NO_METER,
        )
        memory = one.memory
        assert memory.split is not None
        split = replace(memory.split, weights=size, kv=12 * MIB + depth * 16384)
        peak = split.weights + split.kv + split.compute + split.rest
        phases = tuple(replace(p, peak=peak if p.phase == "prefill" else p.peak) for p in memory.phases)
        launches.append(
            replace(
                one,
                position=len(launches),
                memory=replace(memory, split=split, phases=phases),
                prompt=replace(one.prompt, bytes_per_token=bytes_per_token),
            )
        )
    settings = Settings("onnxruntime" if onnx else "llamacpp", threads)
    workload = Workload(512, 32, depth, repetitions=3, launches=n)
    plain = samples.run(
        name,
        tuple(launches),
        workload,
        settings,
        architecture=family.removeprefix("tiny-"),
        quantization=kind,
        size_bytes=size,
        tensor_bytes=size,
        weight_bytes_per_token=size,
        n_params=round(params * 60e6),
        n_params_active=round(params * 50e6),
        format="onnx" if onnx else "gguf",
        sha256=name.encode().hex().ljust(64, "0")[:64],
        tokenizer_sha256=family.encode().hex().ljust(64, "0")[:64],
    )
    limits = roofline.limits(plain.model, workload, samples.machine().ceiling(threads), 16384.0)
    return replace(plain, limits=limits, measurements=derive.measurements(launches, limits))
