"""One launch: a fresh process opens one model, warms up, measures, and says what it saw.

Run as `python -m edgellm.profiles.measure.launch`: the request is one JSON document on standard input; standard
output carries one JSON object per line, `{"progress": ...}` between repetitions and `{"result": ...}` or
`{"error": ...}` at the end. Whatever the engine's library prints goes to standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone

from edgellm import backends, lifeline
from edgellm.errors import EdgellmError
from edgellm.formats.artifact import Artifact
from edgellm.machine.noise import NoiseRecord, NoiseWatch
from edgellm.profiles import energy
from edgellm.profiles.measure import buffers, energy_estimate, speed
from edgellm.profiles.measure.energy_log import EnergyLog, Mark
from edgellm.profiles.measure.gpu_memory import GpuMemoryWatch
from edgellm.profiles.measure.machine import frequency_mhz
from edgellm.profiles.measure.memory import MemoryWatch
from edgellm.profiles.measure.prompt import Prompt, make_prompt
from edgellm.profiles.result.codec import from_plain, to_plain
from edgellm.profiles.result.model_files import weight_places
from edgellm.profiles.result.result import EnergyEstimate, EngineRecord, Launch, Repetition
from edgellm.profiles.result.settings import Workload
from edgellm.session import EngineOptions, Sampling, Session, SessionOpener

#: One pass of a very small model is over before the clock rate and the caches have settled.
MIN_WARM_UP_SECONDS = 0.3

Progress = Callable[[str], None]


@dataclass(frozen=True)
class LaunchRequest:
    """What one launch is to do."""

    path: str
    workload: Workload
    options: EngineOptions
    index: int = 0  # launch number of this model
    position: int = 0  # place in the order of all launches
    opener: str = "edgellm.backends:open_here"  # module:function, so that another runtime can be measured


def run_launch(request: LaunchRequest, progress: Progress) -> Launch:
    """Do it, in this process. Raises what the engine raises."""
    artifact, workload = Artifact.open(request.path), request.workload
    opener = _find_opener(request.opener)
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    prepare_ns = _timed_ns(lambda: backends.prepare(artifact.format))
    choice = energy.choose(workload.energy)
    memory = MemoryWatch(weight_places(artifact))
    gpu = GpuMemoryWatch()  # its library is no part of the load
    memory.end_phase("start")
    with EnergyLog(choice, workload.energy_seconds) as log:
        at_start = log.mark()
        with gpu:
            begin = time.perf_counter_ns()
            session = opener(artifact, request.options)
            load_ns = time.perf_counter_ns() - begin
        log.add("load", at_start, log.mark(), 0)
        memory.end_phase("load")
        with session:
            prompt = make_prompt(session, workload.n_prompt, workload.n_depth)
            repetitions, noise = _Measurement(session, prompt, workload, log, memory, progress).run()
            engine = engine_record(session)
            taken = buffers.account(artifact, session.info, workload, memory.record())
            on_gpu = gpu.record()
    headline, *beside = log.records()
    return Launch(
        index=request.index,
        position=request.position,
        started=started,
        prepare_ns=prepare_ns,
        load_ns=load_ns,
        engine=engine,
        prompt=prompt.record,
        repetitions=repetitions,
        memory=replace(taken, gpu_bytes=on_gpu.peak, gpu_reason=on_gpu.reason),
        energy=headline,
        noise=noise,
        energy_beside=tuple(beside),
        energy_estimate=_estimated(log, workload.energy_estimate),
        spans=log.spans(),
    )


def _estimated(log: EnergyLog, powers: str | None) -> EnergyEstimate | None:
    return None if powers is None else energy_estimate.estimate(log.kept(), energy_estimate.parse(powers))


@dataclass
class _Measurement:
    """The part of a launch that works on an open session."""

    session: Session
    prompt: Prompt
    workload: Workload
    log: EnergyLog
    memory: MemoryWatch
    progress: Progress

    def run(self) -> tuple[tuple[Repetition, ...], NoiseRecord]:
        """Warm up, watch idle, measure, fill energy windows, watch idle again."""
        self.progress("warm-up")
        noise = NoiseWatch()  # the warm-up is watched too: without it a short run is too short to judge
        self._warm_up()
        self.log.idle()
        repetitions = tuple(self._repeat(number) for number in range(self.workload.repetitions))
        record = noise.record()
        self.memory.end_phase("repetitions")
        self._fill_energy()
        self.log.idle()
        return repetitions, record

    @property
    def _sampling(self) -> Sampling:
        return Sampling(temperature=self.workload.temperature, seed=self.workload.seed)

    def _warm_up(self) -> None:
        """Untimed passes, at least one: here, where nothing is timed, memory is taken apart by phase."""
        until = time.perf_counter() + MIN_WARM_UP_SECONDS
        self._take_memory_apart()
        while time.perf_counter() < until:
            speed.repetition(self.session, self.prompt, self.workload.n_gen, self._sampling)

    def _take_memory_apart(self) -> None:
        phases = iter(("", "prefill", "decode"))

        def boundary() -> None:
            if phase := next(phases):
                self.memory.end_phase(phase)

        speed.repetition(self.session, self.prompt, self.workload.n_gen, self._sampling, boundary)

    def _repeat(self, number: int) -> Repetition:
        self.progress(f"repetition {number + 1} of {self.workload.repetitions}")
        marks: list[Mark] = []
        result = speed.repetition(
            self.session,
            self.prompt,
            self.workload.n_gen,
            self._sampling,
            lambda: marks.append(self.log.mark()),
        )
        start, first, end = marks
        self.log.add("prefill", start, first, len(self.prompt.tokens))
        self.log.add("decode", first, end, len(result.gaps_ns))
        return replace(result, frequency_mhz=frequency_mhz())

    def _fill_energy(self) -> None:
        session, prompt, n_gen = self.session, self.prompt, self.workload.n_gen
        windows = self.workload.repetitions
        self.log.fill("prefill", lambda: speed.prefill_only(session, prompt), windows)
        if n_gen > 1:
            self.log.fill(
                "decode", lambda: speed.decode_only(session, prompt, n_gen, self._sampling), windows
            )


def engine_record(session: Session) -> EngineRecord:
    """What the open engine says of itself, as data."""
    info = session.info
    return EngineRecord(
        backend=info.backend,
        version=info.version,
        system=info.system,
        n_ctx=info.n_ctx,
        n_vocab=info.n_vocab,
        options=asdict(info.options),
        notes=info.notes,
        kv_bytes_per_token=info.kv_bytes_per_token,
    )


def _timed_ns(work: Callable[[], None]) -> int:
    begin = time.perf_counter_ns()
    work()
    return time.perf_counter_ns() - begin


def _find_opener(name: str) -> SessionOpener:
    module, _, function = name.partition(":")
    opener: SessionOpener = getattr(importlib.import_module(module), function)
    return opener


def main() -> None:
    """The child's whole life."""
    lifeline.follow()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)  # libraries print

        def say(kind: str, value: object) -> None:
            print(json.dumps({kind: value}, allow_nan=False), file=out, flush=True)

        try:
            request = from_plain(LaunchRequest, json.load(sys.stdin))
            say("result", to_plain(run_launch(request, lambda text: say("progress", text))))
        except EdgellmError as error:
            say("error", str(error))
        except MemoryError:
            say("error", "there is not enough memory to run this model; choose a smaller quantization or -c")


if __name__ == "__main__":
    main()
