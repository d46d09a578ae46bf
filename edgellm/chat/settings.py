"""What can be set about generation, as one table: the command line's options and `/set` both come from it.

Knows names, ranges and how to read a value; knows neither click nor the terminal.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

from edgellm.errors import UsageError, did_you_mean
from edgellm.generation.generate import GenerateOptions
from edgellm.session import Sampling

Value = float | int | None | tuple[str, ...]


@dataclass(frozen=True)
class Parameter:
    """One setting: where it lives, how it is called, what it accepts."""

    field: str  # of Sampling, or of GenerateOptions where Sampling has no such field
    flags: tuple[str, ...]  # on the command line; the last long one is its name in /set
    help: str
    read: Callable[[str], Value]

    @property
    def name(self) -> str:
        """The name in /set, e.g. `top-k`."""
        return self.flags[-1].lstrip("-")

    @property
    def default(self) -> Value:
        """The frozen dataclass's default."""
        return get(GenerateOptions(), self)

    def parse(self, text: str) -> Value:
        """The value `text` stands for. Raises UsageError naming the setting, the value and the range."""
        try:
            return self.read(text.strip())
        except ValueError as error:
            raise UsageError(f"{self.name} cannot be {text.strip()!r}: {error}") from None


def _number(low: float, high: float = math.inf, *, whole: bool = False) -> Callable[[str], Value]:
    """A reader of numbers in [low, high]."""
    kind = "a whole number" if whole else "a number"
    bounds = f"of at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"

    def read(text: str) -> Value:
        try:
            value = int(text) if whole else float(text)
        except ValueError:
            raise ValueError(f"give {kind} {bounds}") from None
        if not low <= value <= high or math.isinf(value):
            raise ValueError(f"give {kind} {bounds}")
        return value

    return read


def _or_none(read: Callable[[str], Value]) -> Callable[[str], Value]:
    """`none` and llama.cpp's -1 mean: not set."""
    return lambda text: None if text.lower() in ("none", "-1") else read(text)


def _stops(text: str) -> Value:
    return () if text.lower() in ("", "none") else (text.replace("\\n", "\n").replace("\\t", "\t"),)


PARAMETERS = (
    Parameter("temperature", ("--temperature", "--temp"), "Randomness; 0 is greedy.", _number(0)),
    Parameter("top_k", ("--top-k",), "Draw from the K likeliest tokens; 0 is all.", _number(0, whole=True)),
    Parameter(
        "top_p", ("--top-p",), "Draw from the likeliest tokens with this total; 1 is off.", _number(0, 1)
    ),
    Parameter(
        "min_p", ("--min-p",), "Least probability, as a share of the likeliest; 0 is off.", _number(0, 1)
    ),
    Parameter(
        "repeat_penalty", ("--repeat-penalty",), "Divide repeated tokens' scores; 1 is off.", _number(0.01)
    ),
    Parameter(
        "presence_penalty", ("--presence-penalty",), "Subtract from seen tokens' scores.", _number(-2, 2)
    ),
    Parameter(
        "frequency_penalty", ("--frequency-penalty",), "The same, for every time seen.", _number(-2, 2)
    ),
    Parameter(
        "repeat_last_n", ("--repeat-last-n",), "Tokens penalties look back on.", _number(0, whole=True)
    ),
    Parameter(
        "seed", ("-s", "--seed"), "Makes an answer repeatable.", _or_none(_number(0, 2**32 - 1, whole=True))
    ),
    Parameter(
        "max_tokens",
        ("-n", "--max-tokens", "--num-predict", "--n-predict"),
        "Most tokens in an answer; -1 is no limit.",
        _or_none(_number(0, whole=True)),
    ),
    Parameter("stop", ("--stop",), "Text that ends an answer.", _stops),
)

_SPELLINGS = {"temperature": "temp", "num-predict": "n-predict", "max-tokens": "n-predict", "n": "n-predict"}


def find(name: str) -> Parameter:
    """The setting called `name` (underscores, upper case and the peers' names are understood)."""
    wanted = name.lower().replace("_", "-").lstrip("-")
    wanted = _SPELLINGS.get(wanted, wanted)
    for parameter in PARAMETERS:
        if parameter.name == wanted:
            return parameter
    names = [p.name for p in PARAMETERS]
    hint = did_you_mean(wanted, names, f"there are: {', '.join(names)}")
    raise UsageError(f"there is no setting {name!r}; {hint}")


def get(options: GenerateOptions, parameter: Parameter) -> Value:
    """The setting's value in `options`."""
    holder = options.sampling if hasattr(options.sampling, parameter.field) else options
    value: Value = getattr(holder, parameter.field)
    return value


def put(options: GenerateOptions, parameter: Parameter, value: Value) -> GenerateOptions:
    """`options` with the setting changed."""
    changes = {parameter.field: value}
    if parameter.field in {field.name for field in dataclasses.fields(Sampling)}:
        return dataclasses.replace(options, sampling=dataclasses.replace(options.sampling, **changes))  # type: ignore[arg-type]
    return dataclasses.replace(options, **changes)  # type: ignore[arg-type]


def show(value: Value) -> str:
    """A value as /set shows and takes it."""
    if value is None or value == ():
        return "none"
    if isinstance(value, tuple):
        return ", ".join(map(repr, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
