"""The page's tables of facts: the models, the machine, the engine and the workload."""

from __future__ import annotations

from collections.abc import Mapping

from edgellm.profiles.report.figures.line import lines
from edgellm.profiles.report.figures.llama_bench import params
from edgellm.profiles.report.figures.scale import capital, scale_for
from edgellm.profiles.report.page.blocks import Card, Cell, Fold, Section, Table
from edgellm.profiles.report.words import say
from edgellm.profiles.result.result import Machine, Report, Run

#: More models than this are folded.
_MODELS = 2
#: CPU flags that change how fast quantized models run, as Linux prints them; the rest stay in the JSON.
_TELLING_FLAGS = (
    "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16",
    "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm", "sve", "sve2", "bf16",
)  # fmt: skip


def where(report: Report, lang: str) -> Section:
    """A table for each model, for the machine, for engine and workload."""
    ran = next((run for run in report.runs if run.launches), None)
    shown = {line.run.model.name: line for line in reversed(lines(report.runs, lang))}
    models = [
        _card(line.run.model.name, _model(line.run, lang), line.css) for line in reversed(shown.values())
    ]
    here = [_card(say("machine", lang), _machine(report.machine, lang))]
    if ran is not None:
        here.append(_card(say("engine", lang), _engine(ran, report, lang)))
    if len(models) > _MODELS:
        return Section("where", cards=here, css="wide", folds=[Fold(say("models", lang), models, "wide")])
    return Section("where", cards=models + here, css="wide")


def _card(title: str, facts: Mapping[str, str | None], colour: str = "") -> Card:
    rows = [(Cell(capital(name)), Cell(value)) for name, value in facts.items() if value]
    return Card(title, swatch=colour, table=Table("facts", rows))


def _model(run: Run, lang: str) -> dict[str, str | None]:
    model = run.model
    tensors = " · ".join(f"{count} {kind}" for kind, count in (model.tensor_types or {}).items())
    prompt = run.launches[0].prompt if run.launches else None
    return {
        say("k_file", lang): model.path.replace("\\", "/").rsplit("/", 1)[-1],
        say("k_sha", lang): model.sha256,
        say("k_size", lang): _bytes(model.size_bytes),
        say("k_arch", lang): model.architecture,
        say("k_params", lang): params(model.n_params),
        say("k_quant", lang): model.quantization,
        say("k_tensors", lang): tensors,
        say("k_bpt", lang): say("bpt", lang, value=f"{prompt.bytes_per_token:.2f}") if prompt else None,
    }


def _machine(machine: Machine, lang: str) -> dict[str, str | None]:
    unknown = say("unknown", lang)
    flags = " ".join(flag for flag in _TELLING_FLAGS if flag in machine.cpu_flags)
    cores = {
        "physical": machine.physical_cores or "?",
        "logical": machine.logical_cores or "?",
        "usable": machine.usable_cores or "?",
    }
    frequency = unknown
    if machine.frequency_mhz is not None:
        most = "?" if machine.frequency_max_mhz is None else f"{machine.frequency_max_mhz:.0f}"
        frequency = say("frequency", lang, now=f"{machine.frequency_mhz:.0f}", most=most)
    memory = _bytes(machine.memory_limit_bytes or machine.memory_bytes)
    return {
        say("k_cpu", lang): machine.cpu_model or unknown,
        say("k_cores", lang): say("cores", lang, **cores),
        say("k_features", lang): flags or unknown,
        say("k_cache", lang): _bytes(machine.last_level_cache_bytes) or unknown,
        say("k_frequency", lang): frequency,
        say("k_governor", lang): machine.governor or unknown,
        say("k_memory", lang): memory or unknown,
        say("k_hypervisor", lang): machine.hypervisor or say("none", lang),
        say("k_power", lang): machine.power_source or unknown,
        say("k_os", lang): f"{machine.os}, {machine.kernel}",
        say("k_python", lang): machine.python,
        say("k_libraries", lang): ", ".join(
            f"{name} {version}" for name, version in machine.libraries.items()
        ),
    }


def _engine(run: Run, report: Report, lang: str) -> dict[str, str | None]:
    launch, work = run.launches[0], run.workload
    options = launch.engine.options
    sampling = say("greedy", lang, seed=work.seed)
    if work.temperature > 0:
        sampling = say("sampled", lang, temperature=work.temperature, seed=work.seed)
    shares = [
        launch.noise.foreign_share
        for run in report.runs
        for launch in run.launches
        if launch.noise.foreign_share is not None
    ]
    return {
        say("k_backend", lang): f"{launch.engine.backend} ({launch.engine.version})",
        say("k_build", lang): launch.engine.system,
        say("k_threads", lang): _listed(options, "n_threads", "n_threads_batch", lang=lang),
        say("k_context", lang): str(launch.engine.n_ctx),
        say("k_kv", lang): _listed(options, "type_k", "type_v", lang=lang),
        say("k_mmap", lang): _yes(options.get("use_mmap"), lang),
        say("k_repack", lang): _yes(options.get("repack"), lang),
        say("k_flash", lang): _listed(options, "flash_attn", lang=lang),
        say("k_batch", lang): _listed(options, "n_batch", "n_ubatch", lang=lang),
        say("k_sampling", lang): sampling,
        say("k_text", lang): f"SHA-256 {launch.prompt.text_sha256[:16]}…",
        say("k_noise", lang): say("noise", lang, share=f"{max(shares):.1%}")
        if shares
        else say("unknown", lang),
    }


def _listed(options: Mapping[str, object], *names: str, lang: str) -> str:
    """The values of some options, with commas; an engine need not have them all."""
    known = [str(options[name]) for name in names if options.get(name) is not None]
    return ", ".join(known) or say("unknown", lang)


def _yes(value: object, lang: str) -> str:
    return say("unknown" if value is None else "yes" if value else "no", lang)


def _bytes(value: int | None) -> str | None:
    return None if value is None else scale_for("B", value).text(value)
