"""What an engine set aside in memory, beside what was foretold, and the peak taken apart by it.

llama.cpp says what it set aside in its log. ONNX Runtime says nothing: its account is drawn up here from the
files, the shape of the cache and what private memory grew by.
"""

from __future__ import annotations

from dataclasses import replace

from edgellm import footprint
from edgellm.artifact import Artifact
from edgellm.errors import EdgellmError
from edgellm.footprint import Buffers
from edgellm.profiles.memory import take_apart
from edgellm.profiles.model_files import weight_files
from edgellm.profiles.result import MemoryPhase, MemoryRecord, Workload
from edgellm.session import EngineInfo, EngineOptions


def account(
    artifact: Artifact, asked: EngineOptions, info: EngineInfo, workload: Workload, record: MemoryRecord
) -> MemoryRecord:
    """The record with the engine's buffers, the prediction and the split filled in, or the reason they are not."""
    engine = info.buffers or _own_account(artifact, info, workload, record)
    if engine is None:
        return replace(record, split_reason="neither the engine nor this system tells what its memory is for")
    predicted, reason = _predicted(artifact, asked, info)
    split = take_apart(record.phases, engine)
    if split is None:
        reason = record.reason or "this system does not tell what memory is made of"
    return replace(record, split=split, engine=engine, predicted=predicted, split_reason=reason)


def _predicted(
    artifact: Artifact, asked: EngineOptions, info: EngineInfo
) -> tuple[Buffers | None, str | None]:
    """From the header and the options as resolved; the context as asked for, for that is what bounds a batch."""
    if artifact.format != "gguf":
        return None, "ONNX Runtime's scratch memory is not foretold"
    try:
        return footprint.predict(artifact, replace(info.options, n_ctx=asked.n_ctx)), None
    except (EdgellmError, KeyError) as error:
        return None, f"the header does not tell enough for a prediction ({error})"


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
