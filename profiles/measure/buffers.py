"""What an engine set aside in memory, beside what was foretold, and the peak taken apart by it.

llama.cpp says what it set aside in its log. ONNX Runtime says nothing: its account is drawn up here from the
files, the shape of the cache and what private memory grew by.
"""

from __future__ import annotations

from dataclasses import replace

from edgellm.backends.llama import memory_estimate
from edgellm.errors import EdgellmError
from edgellm.formats.artifact import Artifact
from edgellm.profiles.measure.memory import take_apart
from edgellm.profiles.result.codec import CodecError, from_plain
from edgellm.profiles.result.model_files import weight_files
from edgellm.profiles.result.result import Launch, MemoryPhase, MemoryRecord
from edgellm.profiles.result.settings import Workload
from edgellm.session import Buffers, EngineInfo, EngineOptions


def account(artifact: Artifact, info: EngineInfo, workload: Workload, record: MemoryRecord) -> MemoryRecord:
    """The record with the engine's buffers and the peak taken apart by them, or the reason they are not there."""
    engine = info.buffers or _own_account(artifact, info, workload, record)
    if engine is None:
        return replace(record, split_reason="neither the engine nor this system tells what its memory is for")
    split = take_apart(record.phases, engine)
    told = None if split else record.reason or "this system does not tell what memory is made of"
    return replace(record, split=split, engine=engine, split_reason=told)


def foretell(artifact: Artifact, asked: EngineOptions, launch: Launch) -> Launch:
    """The launch with what could have been known of its buffers before, beside what the engine set aside.

    From the header and the options as resolved; the context as asked for, for that is what bounds a batch. Not done
    in the launch's own process: parsing a large vocabulary would count as the model's memory.
    """
    memory = launch.memory
    if artifact.format != "gguf" or launch.engine.backend != "llamacpp":
        reason = memory.split_reason or "ONNX Runtime's scratch memory is not foretold"
        return replace(launch, memory=replace(memory, split_reason=reason))
    try:
        options = replace(from_plain(EngineOptions, dict(launch.engine.options)), n_ctx=asked.n_ctx)
        predicted = memory_estimate.predict(artifact, options)
    except (EdgellmError, CodecError, KeyError) as error:
        told = memory.split_reason or f"the header does not tell enough for a prediction ({error})"
        return replace(launch, memory=replace(memory, split_reason=told))
    return replace(launch, memory=replace(memory, predicted=predicted))


def _own_account(
    artifact: Artifact, info: EngineInfo, workload: Workload, record: MemoryRecord
) -> Buffers | None:
    """Weights by the files' size, the cache by the tokens in it, scratch by what private memory grew by."""
    phases = {phase.phase: phase for phase in record.phases}
    loaded, worked = phases.get("load"), phases.get("repetitions") or phases.get("decode")
    if info.kv_bytes_per_token is None or loaded is None or worked is None or worked.weights_mapped is None:
        return None
    on_disk = sum(path.stat().st_size for path in weight_files(artifact))
    kv = round(info.kv_bytes_per_token * workload.n_total)
    mapped = worked.weights_mapped
    return Buffers(
        weights=mapped or on_disk,
        repacked=max(0, min(on_disk - mapped, _private(loaded))) if mapped else 0,
        kv=kv,
        compute=max(0, _highest(record) - _private(loaded) - kv),
        source="own accounting",
    )


def _private(phase: MemoryPhase) -> int:
    return phase.anonymous or 0


def _highest(record: MemoryRecord) -> int:
    """The most private memory: a phase's peak less what is mapped from files."""
    return max((phase.peak or 0) - (phase.file or 0) for phase in record.phases)
