"""Options that `chat` and `run` share: how to draw tokens and how to open the engine.

The defaults are those of the frozen dataclasses; the settings table names the sampling options.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import click

from edgellm.chat import settings
from edgellm.cli.shared import guided
from edgellm.cli.shared.model_argument import hub_option
from edgellm.errors import UsageError
from edgellm.generation.generate import GenerateOptions
from edgellm.session import EngineOptions

if TYPE_CHECKING:
    from edgellm.formats.gguf.lora import Lora

_KV = click.Choice(
    ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"), case_sensitive=False
)
_KV_NAMES = ", ".join(_KV.choices)
_SWITCH = click.Choice(("auto", "on", "off"))
_COUNT = click.IntRange(min=1)
_ENGINE = EngineOptions()


def _layers(context: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Click callback: a count of layers, None for `auto`."""
    if value is None or value == "auto":
        return None
    if not value.isdecimal():
        raise click.BadParameter(f"{value!r} is neither a count of layers nor auto", context, param)
    return int(value)


def _lora(context: click.Context, param: click.Parameter, given: tuple[str, ...]) -> tuple[Lora, ...]:
    """Click callback: adapter files, checked."""
    from edgellm.formats.gguf import adapter

    return tuple(map(adapter.parse, given))


def _engine(*names: str, type: Any, text: str, metavar: str | None = "N", **more: Any) -> Any:
    """An engine option; the last name is its field, whose default is shown."""
    default = getattr(_ENGINE, names[-1])
    shown = "" if default is None else f"  [default: {default}]"
    return click.option(*names, type=type, default=default, metavar=metavar, help=text + shown, **more)


_DEVICE_OPTIONS = (
    _engine(
        "--device",
        "device",
        type=click.STRING,
        metavar="NAME",
        text="auto, cpu, cuda, metal, vulkan, ..., a name of doctor's, or servers: rpc://HOST:PORT,...",
    ),
    _engine(
        "-ngl",
        "--n-gpu-layers",
        "n_gpu_layers",
        type=click.STRING,
        callback=_layers,
        text="Layers on the device, or auto.  [default: what fits]",
    ),
)
_IGNORE_EOS = click.option(
    "--ignore-eos", is_flag=True, help="Go on where the model would end, up to -n or the window."
)
_EXACT = click.option(
    "--exact",
    is_flag=True,
    help="Evaluate the whole prompt for every answer, so that --seed repeats it whatever was said before.",
)
_ENGINE_OPTIONS = (
    _engine(
        "-c", "--ctx-size", "--num-ctx", "n_ctx", type=_COUNT, text="Tokens of context.  [default: what fits]"
    ),
    _engine("-t", "--threads", "n_threads", type=_COUNT, text="Threads.  [default: physical cores]"),
    _engine(
        "-tb", "--threads-batch", "n_threads_batch", type=_COUNT, text="Threads of prefill.  [default: -t]"
    ),
    _engine("-b", "--batch-size", "n_batch", type=_COUNT, text="Tokens of a prefill batch.  [default: 2048]"),
    _engine(
        "-ub", "--ubatch-size", "n_ubatch", type=_COUNT, text="Tokens evaluated at once.  [default: 512]"
    ),
    *_DEVICE_OPTIONS,
    _engine(
        "-ctk", "--cache-type-k", "type_k", type=_KV, metavar="TYPE", text=f"KV cache keys: {_KV_NAMES}."
    ),
    _engine(
        "-ctv", "--cache-type-v", "type_v", type=_KV, metavar="TYPE", text="KV cache values: the same types."
    ),
    _engine("-fa", "--flash-attn", "flash_attn", type=_SWITCH, metavar=None, text="Flash attention."),
    click.option(
        "--lora",
        multiple=True,
        callback=_lora,
        metavar="FILE[:SCALE]",
        help="LoRA adapter (GGUF) on the model; several add up.",
    ),
    click.option("--offline", is_flag=True, help="Download nothing."),
    hub_option,
    click.option("--no-mmap", is_flag=True, help="Read the model into memory instead of mapping it."),
    click.option("--no-tune", is_flag=True, help="Neither use nor look for faster settings (edgellm tune)."),
    click.option("--no-repack", is_flag=True, help="Leave the weights as the file has them."),
)


def valid_text(
    context: click.Context, param: click.Parameter, value: str | tuple[str, ...] | None
) -> str | tuple[str, ...] | None:
    """Click callback: bytes of the command line that are not UTF-8 become U+FFFD, as in a prompt from a pipe."""
    return tuple(map(_valid, value)) if isinstance(value, tuple) else value and _valid(value)


def _valid(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def model_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add all shared options; the command gets them as `options` (GenerateOptions) and `engine` (EngineOptions)."""

    @functools.wraps(function)
    def collected(**values: Any) -> Any:
        engine = _engine_options(values)
        return function(options=_generate_options(values, engine), engine=engine, **values)

    own = (*map(_option, settings.PARAMETERS), _IGNORE_EOS, _EXACT, *guided.OPTIONS, *_ENGINE_OPTIONS)
    for option in reversed(own):
        collected = option(collected)
    return collected


def engine_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the engine's options alone; the command gets them as `engine` (EngineOptions)."""

    @functools.wraps(function)
    def collected(**values: Any) -> Any:
        return function(engine=_engine_options(values), **values)

    for option in reversed(_ENGINE_OPTIONS):
        collected = option(collected)
    return collected


def drawing_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the sampling options alone; the command gets those that were given as `drawing`, by their fields' names."""

    @functools.wraps(function)
    def collected(**values: Any) -> Any:
        found = {parameter.field: values.pop(parameter.field) for parameter in settings.PARAMETERS}
        return function(
            drawing={name: value for name, value in found.items() if value not in (None, ())}, **values
        )

    command: Callable[..., Any] = collected
    for option in map(_option, reversed(settings.PARAMETERS)):
        command = option(command)
    return command


def device_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--device` and `-ngl` alone; the command gets them as `device` and `n_gpu_layers`."""
    for option in reversed(_DEVICE_OPTIONS):
        function = option(function)
    return function


def _option(parameter: settings.Parameter) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    several = parameter.field == "stop"

    def read(context: click.Context, param: click.Parameter, text: Any) -> Any:
        try:
            if several:
                parsed = [parameter.parse(_valid(one)) for one in text]
                return tuple(stop for stops in parsed for stop in cast("tuple[str, ...]", stops))
            return None if text is None else parameter.parse(text)
        except UsageError as error:
            raise click.BadParameter(str(error), context, param) from None

    return click.option(
        *parameter.flags,
        parameter.field,
        callback=read,
        multiple=several,
        metavar="TEXT" if several else "N",
        help=f"{parameter.help}{_default(parameter)}",
    )


def _default(parameter: settings.Parameter) -> str:
    value = parameter.default
    return "" if value in (None, ()) else f"  [default: {settings.show(value)}]"


def _generate_options(values: dict[str, Any], engine: EngineOptions) -> GenerateOptions:
    """Take the sampling options out of click's values."""
    options = GenerateOptions(ignore_eos=values.pop("ignore_eos"), exact=values.pop("exact"))
    for parameter in settings.PARAMETERS:
        if (value := values.pop(parameter.field)) is not None:
            options = settings.put(options, parameter, value)
    return guided.put(options, values, engine)


def _engine_options(values: dict[str, Any]) -> EngineOptions:
    """Take the engine options out of click's values."""
    use_mmap, repack = (False if values.pop(name) else None for name in ("no_mmap", "no_repack"))
    tuned = not values.pop("no_tune")
    names = ("n_ctx", "n_threads", "n_threads_batch", "n_batch", "n_ubatch", "n_gpu_layers")
    chosen = {name: values.pop(name) for name in (*names, "type_k", "type_v", "flash_attn", "device", "lora")}
    mtp = values.get("draft") == guided.OWN_BLOCK
    return EngineOptions(use_mmap=use_mmap, repack=repack, tuned=tuned, mtp=mtp, **chosen)
