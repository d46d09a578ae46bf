"""The options of `edgellm profile`: llama-bench's names, several values with commas.

An option that is given replaces the plan's value of the same name; the defaults are the plan's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from edgellm.cli.shared.threads import THREADS
from edgellm.machine import devices
from edgellm.profiles.result.axes_names import AXES, TEXTS


class Several(click.ParamType):  # type: ignore[type-arg]
    """Values with commas between: `1,2,4`."""

    name = "list"

    def __init__(self, one: Any) -> None:
        self._one = one

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Each part by the type of one."""
        if isinstance(value, tuple):
            return value
        return tuple(self._one.convert(part.strip(), param, ctx) for part in str(value).split(","))


class _Devices(Several):
    """Devices with commas between; servers that follow each other are one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Each device by its name."""
        found: list[str] = []
        for name in super().convert(value, param, ctx):
            if found and devices.servers(name) and devices.servers(found[-1]):
                found[-1] += f",{name}"
            else:
                found.append(name)
        return tuple(found)


_COUNT = click.IntRange(min=1)
_FROM_0 = click.IntRange(min=0)
_COUNTS, _COUNTS_FROM_0, _WORDS = Several(_COUNT), Several(_FROM_0), Several(click.STRING)
_SWITCHES = Several(click.Choice(("auto", "on", "off")))


def _option(*names: str, type: Any, text: str, default: str | None = None, metavar: str = "N") -> Any:
    shown = f"{text}  [default: {default}]" if default else text
    return click.option(*names, type=type, metavar=metavar, help=shown)


#: Everything that a plan file may say too: the last name is the key there.
GRID = (
    _option(
        "-p", "--n-prompt", "n_prompt", type=_COUNTS, default="512", metavar="N,...", text="Prompt tokens."
    ),
    _option(
        "-n",
        "--n-gen",
        "n_gen",
        type=_COUNTS_FROM_0,
        default="128",
        metavar="N,...",
        text="Tokens decoded after.",
    ),
    _option(
        "-d",
        "--n-depth",
        "n_depth",
        type=_COUNTS_FROM_0,
        default="0",
        metavar="N,...",
        text="Tokens in the cache before the prompt.",
    ),
    _option(
        "-b",
        "--batch-size",
        "n_batch",
        type=_COUNTS,
        metavar="N,...",
        text="Prompt tokens evaluated at once.",
    ),
    _option(
        "-t",
        "--threads",
        "n_threads",
        type=Several(THREADS),
        default="physical cores",
        metavar="N,...",
        text="Threads.",
    ),
    _option(
        "--device",
        "device",
        type=_Devices(click.STRING),
        default="auto",
        metavar="NAME,...",
        text="auto, cpu, cuda, metal, ..., or servers: rpc://HOST:PORT,...",
    ),
    _option(
        "-fa",
        "--flash-attn",
        "flash_attn",
        type=_SWITCHES,
        default="auto",
        metavar="auto|on|off,...",
        text="Flash attention.",
    ),
    _option("-ctk", "--cache-type-k", "type_k", type=_WORDS, metavar="TYPE,...", text="KV cache keys."),
    _option(
        "-ctv",
        "--cache-type-v",
        "type_v",
        type=_WORDS,
        metavar="TYPE,...",
        text="KV cache values; goes side by side with -ctk.",
    ),
    _option(
        "--types", "types", type=_WORDS, metavar="TYPE,...", text="Convert each MODEL to each of these first."
    ),
    _option(
        "-r", "--repetitions", "repetitions", type=_COUNT, default="5", text="Repetitions in each launch."
    ),
    _option(
        "--launches",
        "launches",
        type=_COUNT,
        default="3",
        text="Fresh processes for each run, interleaved; with --until, the least.",
    ),
    _option(
        "--until",
        "until",
        type=click.STRING,
        metavar="WIDTH",
        text="Go on until each 95% interval is within ±WIDTH of the figure, such as 2%.",
    ),
    _option(
        "--max-launches", "max_launches", type=_COUNT, default="20", text="The most --until may ask for."
    ),
    _option(
        "--budget",
        "budget",
        type=click.STRING,
        metavar="TIME",
        text="Start no launch that would end later than this, such as 10m.",
    ),
    _option(
        "--temp",
        "temperature",
        type=click.FloatRange(min=0),
        default="0.0",
        text="Sampling temperature; 0 is greedy.",
    ),
    _option("--seed", "seed", type=_FROM_0, default="0", text="Seed of the sampling and of the order."),
    _option(
        "--energy",
        "energy",
        type=click.STRING,
        default="auto",
        metavar="SOURCE",
        text="Energy sources: auto, none, names of doctor's, or csv for a meter's log imported later.",
    ),
    _option(
        "--energy-seconds",
        "energy_seconds",
        type=click.FloatRange(min=0),
        default="2.0",
        text="Longest extra loop for a phase too short for the meter; a battery's gauge needs 300.",
    ),
    _option(
        "--energy-estimate",
        "energy_estimate",
        type=click.STRING,
        metavar="IDLE_W,MAX_W|FILE",
        text="Also guess energy from utilisation between two powers; kept apart from all that is measured.",
    ),
    click.option("--quality", is_flag=True, default=None, help="Measure how good each model is as well."),
    _option(
        "--text",
        "text",
        type=click.Choice(TEXTS),
        default="dialogues",
        text="With --quality: edgellm's held-out dialogues and tasks, or general text and choices for any model.",
    ),
    _option(
        "--axes",
        "axes",
        type=Several(click.Choice((*AXES, "all"))),
        metavar="NAME,...",
        text="With --quality, further axes: language, robustness, response, energy (per right answer), or all.",
    ),
    _option(
        "--reference",
        "reference",
        type=click.STRING,
        metavar="TYPE|MODEL",
        text="What the divergence is from: each model in TYPE, or one MODEL for all.",
    ),
    _option("-c", "--ctx-size", "n_ctx", type=_COUNT, default="what is needed", text="Tokens of context."),
    _option(
        "-tb", "--threads-batch", "n_threads_batch", type=THREADS, default="-t", text="Threads of prefill."
    ),
    _option("-ub", "--ubatch-size", "n_ubatch", type=_COUNT, text="Tokens evaluated at once, at most."),
    _option("-ngl", "--n-gpu-layers", "n_gpu_layers", type=_FROM_0, text="Layers on the device."),
)


def grid_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add them all; the command gets each by its name, None where it was not given."""
    for option in reversed(GRID):
        function = option(function)
    return function
