"""How one model would be opened on this machine, setting by setting, and why. Reads its header; loads nothing, unless
it is to be spread over machines.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgellm.backends import checkpoints
from edgellm.backends import tuned as store
from edgellm.doctor.machine import Finding
from edgellm.errors import UsageError
from edgellm.formats.artifact import Artifact
from edgellm.machine import devices, hardware
from edgellm.session import EngineOptions
from edgellm.units import count, format_size

if TYPE_CHECKING:
    from edgellm.fit.table import Table


def explain(artifact: Artifact, options: EngineOptions) -> list[Finding]:
    """Every choice made for `artifact` where `options` leave it open. Raises EngineError, ArtifactError."""
    findings = {"gguf": _llamacpp, "onnx": _onnxruntime}[artifact.format]
    return list(findings(artifact, options))


def foretell(table: Table) -> list[Finding]:
    """What a type of an unconverted checkpoint will take, by the only row of `table`. Raises UsageError."""
    if not table.rows:
        raise UsageError("; ".join(table.refused.values()))
    (row,) = table.rows
    fits = f"needs {format_size(row.full.peak)} with {table.n_ctx:,} tokens of context; {_available()}"
    fast = row.speed
    pace = (
        f"about {fast.decode:.0f} tok/s"
        if fast
        else f"not known: {row.speed_reason}; edgellm fit times kernels"
    )
    longest = f"{row.longest:,} tokens fit" if row.longest else "not even a short one fits"
    facts = {
        "state": f"not converted yet: its first use does that, or edgellm convert --quant {row.type}",
        "file": f"{'' if row.build.exact else 'about '}{format_size(row.build.file_bytes)}",
        "engine": row.build.engine,
        "threads": f"{table.place.n_threads}: {_threads()}",
        "memory": fits,
        "context": longest,
        "speed": pace,
    }
    return [Finding(f"{table.name} as {row.type}", name, value) for name, value in facts.items()]


def _llamacpp(artifact: Artifact, options: EngineOptions) -> Iterator[Finding]:
    from edgellm.backends.llama import memory_estimate, session
    from edgellm.backends.llama import options as llama_options

    notes: list[str] = []
    chosen, device = llama_options.resolve(artifact, options, notes)
    record = store.read(artifact, session.build()) if options.tuned and store.enabled() else None
    tuned = store.open_settings(options, record.settings) if record else {}

    def said(name: str, field: str, value: object, why: str) -> Finding:
        return Finding(artifact.name, name, f"{value}: {'found by tuning' if field in tuned else why}")

    yield Finding(artifact.name, "device", _device(device, chosen.n_gpu_layers))
    yield said("threads", "n_threads", chosen.n_threads, _threads())
    yield said("context", "n_ctx", f"{chosen.n_ctx} tokens", _context(artifact, options))
    kv_bytes = memory_estimate.kv_bytes_per_token(artifact, chosen)
    size = "size unknown" if kv_bytes is None else format_size(kv_bytes * (chosen.n_ctx or 0))
    cache = f"{chosen.type_k}/{chosen.type_v}, {size}"
    yield said(
        "KV cache",
        "type_k",
        cache,
        "f16 is as good as exact; q8_0 (-ctk, -ctv) takes half, a little less exact",
    )
    if state := memory_estimate.state_bytes(artifact):
        yield _kept(artifact, state, chosen.n_checkpoints or 0)
    asked = options.flash_attn != "auto"
    why = "asked for" if asked else "llama.cpp uses it where it can; not always faster"
    yield said("flash attention", "flash_attn", chosen.flash_attn, why)
    yield said("batch", "n_ubatch", f"{chosen.n_batch}/{chosen.n_ubatch} tokens", "llama.cpp's defaults")
    yield said(
        "repacking",
        "repack",
        _on(chosen.repack),
        "faster kernels, tried by the canary; a second copy of the weights",
    )
    yield said("mmap", "use_mmap", _on(chosen.use_mmap), _mapping(chosen))
    if device is not None and device.kind == devices.RPC:
        yield from _split(artifact, chosen)
    else:
        yield from _memory(artifact, chosen)
        yield _tuning(artifact, record)
    yield from (Finding(artifact.name, "note", note) for note in notes)


def _split(artifact: Artifact, chosen: EngineOptions) -> Iterator[Finding]:
    """Which layers lie on which machine: the engine's own word, for which the model is opened."""
    from edgellm import backends

    with backends.open_session(artifact, chosen) as session:
        places = session.info.places
    n_layer = int(artifact.metadata.get(f"{artifact.architecture}.block_count", 0))
    for place in places:
        parts = {"weights": place.weights, "KV": place.kv, "scratch": place.compute}
        shown = ", ".join(f"{name} {format_size(size)}" for name, size in parts.items() if size)
        where = "this machine" if place.device == "CPU" else place.device
        yield Finding(artifact.name, where, f"{_layers(place.layers, n_layer)}: {shown}")


def _layers(layers: tuple[int, ...], n_layer: int) -> str:
    """Layers that follow each other, as their first and last; the output is one more than a model of `n_layer` has."""
    blocks = [layer for layer in layers if layer < n_layer]
    shown = [f"layers {blocks[0]} to {blocks[-1]}"] if blocks else []
    return " and ".join(shown + ["the output"] * (len(blocks) < len(layers))) or "no layer"


def _onnxruntime(artifact: Artifact, options: EngineOptions) -> Iterator[Finding]:
    from edgellm.backends.ort import session as ort
    from edgellm.formats import onnx_folder

    device = devices.choose(options.device, ort.offer(), [])
    record = store.read(artifact, ort.build()) if options.tuned and store.enabled() else None
    settings = dict(record.settings) if record else {}
    yield Finding(artifact.name, "device", _device(device, None))
    threads = settings.get("n_threads", options.n_threads or hardware.default_threads())
    yield Finding(artifact.name, "threads", f"{threads}: {_threads()}")
    yield Finding(artifact.name, "memory", f"weights {format_size(artifact.size_bytes)}, {_available()}")
    if state := onnx_folder.read(artifact.path).state_bytes:
        n = checkpoints.capacity(state) if options.n_checkpoints is None else options.n_checkpoints
        yield _kept(artifact, state, n)
    yield _tuning(artifact, record)


def _kept(artifact: Artifact, state: int, n: int) -> Finding:
    """What a recurrent state takes: itself, those kept to go back to, and one more before draft tokens."""
    kept = f"{format_size(state)}, with up to {n} kept to go back to {format_size((n + 2) * state)}"
    return Finding(artifact.name, "recurrent state", kept)


def _device(device: devices.Device | None, layers: int | None) -> str:
    if device is None:
        return "cpu: the installed engine drives no other device here, or cpu was asked for"
    if device.kind == devices.RPC:
        free = "" if device.free_bytes is None else f", which tell {format_size(device.free_bytes)} of memory"
        return f"{device}{free}: {layers} layers there, the output counted as one, by share of memory unless -ngl says"
    return f"{device}: the first it can drive" + (f", {layers} layers on it" if layers is not None else "")


def _threads() -> str:
    cpu, fast = hardware.cpu(), hardware.fast_cores()
    cores = f"{fast} fast of {cpu.n_physical} cores" if fast else count(cpu.n_physical, "core")
    return f"{cores} usable, less what a CPU quota withholds; hardware threads beyond cores seldom help"


def _context(artifact: Artifact, options: EngineOptions) -> str:
    if options.n_ctx:
        return "asked for"
    return f"what a chat needs and memory has room for; the model's window is {artifact.n_ctx_train}"


def _mapping(chosen: EngineOptions) -> str:
    if not chosen.use_mmap:
        return "read into memory: repacked weights are there once"
    if chosen.repack:
        return "starts fast; with repacking the file's pages stay beside the copy until memory is short"
    return "starts fast, and the kernel may drop what is not in use"


def _memory(artifact: Artifact, chosen: EngineOptions) -> Iterator[Finding]:
    from edgellm.backends.llama import memory, memory_estimate
    from edgellm.errors import ArtifactError

    total = memory.peak_bytes(artifact, chosen)
    try:
        buffers = memory_estimate.predict(artifact, chosen)
    except ArtifactError as error:
        yield Finding(artifact.name, "memory", f"{error}; the file is {format_size(artifact.size_bytes)}")
        return
    if total is None:
        return
    parts = {
        "weights": buffers.weights,
        "repacked": buffers.repacked,
        "KV": buffers.kv,
        "kept states": buffers.checkpoints,
        "scratch": buffers.compute,
    }
    shown = ", ".join(f"{name} {format_size(size)}" for name, size in parts.items() if size)
    yield Finding(artifact.name, "memory", f"{format_size(total)} at most ({shown}); {_available()}")


def _available() -> str:
    return f"{format_size(hardware.available_bytes())} available"


def _tuning(artifact: Artifact, record: store.Record | None) -> Finding:
    if record is None:
        return Finding(
            artifact.name, "tuning", "not tuned here; find faster settings with: edgellm tune MODEL"
        )
    gains = ", ".join(
        f"{row['ratio'][0]:.2f} times at {row['depth']}" for row in record.rows if row["phase"] == "decode"
    )
    found = record.flags or "the defaults are the best found"
    return Finding(
        artifact.name, "tuning", f"{found} ({record.how}, {record.made[:10]}{', ' if gains else ''}{gains})"
    )


def _on(value: bool | None) -> str:
    return "on" if value else "off"
