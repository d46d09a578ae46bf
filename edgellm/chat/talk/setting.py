"""/set and /model: what can be changed about the talk - generation, the view, the window, the model itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from edgellm.chat import settings, words
from edgellm.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from edgellm.chat.talk.talk import Talk

_CTX = ("ctx", "num-ctx", "ctx-size", "c")  # ours, and what the peers call it
_LEAST_CTX = 16  # tokens; no template leaves room for an answer in fewer
_ON_OFF: dict[str, object] = {"on": True, "off": False}
#: What /set knows beside generation: name -> (attribute owner, attribute, values as words).
_SWITCHES: dict[str, tuple[Callable[[Talk], object], str, dict[str, object]]] = {
    "on-full": (
        lambda talk: talk.conversation,
        "on_full",
        {"drop": "drop", "stop": "stop", "summarise": "summarise"},
    ),
    "think": (lambda talk: talk.conversation, "think", {"on": True, "off": False, "auto": None}),
    "show-thinking": (lambda talk: talk.screen.view, "thinking", _ON_OFF),
    "markdown": (lambda talk: talk.screen.view, "markdown", _ON_OFF),
    "wrap": (lambda talk: talk.screen.view, "wrap", _ON_OFF),
    "save-state": (lambda talk: talk, "save_state", _ON_OFF),
    "energy": (lambda talk: talk.energy, "on", _ON_OFF),
    "stats": (lambda talk: talk, "stats", {"short": "short", "all": "all", "off": "off"}),
}


def change(talk: Talk, arg: str) -> None:
    """/set, /set NAME, /set NAME VALUE. Raises UsageError."""
    name, _, value = arg.removeprefix("parameter ").partition(" ")
    name, value = name.lower().replace("_", "-"), value.strip()
    if not name:
        talk.screen.table(rows(talk))
    elif name in _CTX:
        _window(talk, value)
    elif name in _SWITCHES:
        _switch(talk, name, value)
    else:
        _parameter(talk, name, value)


def rows(talk: Talk) -> list[tuple[str, str, str]]:
    """Every setting: its name, its value, what it does."""
    options = talk.conversation.options
    found = [
        (p.name, settings.show(settings.get(options, p)), words.setting(p.name, p.help))
        for p in settings.PARAMETERS
    ]
    helps = {
        "on-full": words.say("set_on_full"),
        "think": words.say("set_think"),
        "show-thinking": words.say("set_show_thinking"),
        "markdown": words.say("set_markdown"),
        "wrap": words.say("set_wrap"),
        "save-state": words.say("set_save_state"),
        "energy": words.say("set_energy"),
        "stats": words.say("set_stats"),
    }
    found.append(("ctx", f"{talk.conversation.n_ctx}", words.say("set_ctx")))
    return found + [(name, _word(talk, name), helps[name]) for name in _SWITCHES]


def names() -> list[str]:
    """All that can be set."""
    return [*(p.name for p in settings.PARAMETERS), "ctx", *_SWITCHES]


def values(name: str) -> Iterable[str]:
    """The words a setting takes, where it takes words."""
    return _SWITCHES[name][2] if name in _SWITCHES else ()


def model(talk: Talk, arg: str) -> None:
    """/model, /model MODEL: which one answers from now on."""
    if arg:
        talk.reopen(arg, talk.engine)
    artifact = talk.conversation.session.artifact
    talk.screen.note(
        words.say("model_is", name=artifact.name, type=artifact.quantization, n_ctx=talk.conversation.n_ctx)
    )


def _parameter(talk: Talk, name: str, value: str) -> None:
    try:
        parameter = settings.find(name)
    except UsageError:
        hint = did_you_mean(name, names(), words.say("there_are", what=", ".join(names())))
        raise UsageError(words.say("no_setting", name=name, hint=hint)) from None
    options = talk.conversation.options
    if value:
        options = settings.put(options, parameter, parameter.parse(value))
        talk.conversation.options = options
    talk.screen.note(
        words.say("set_to", name=parameter.name, value=settings.show(settings.get(options, parameter)))
    )


def _switch(talk: Talk, name: str, word: str) -> None:
    owner, attribute, known = _SWITCHES[name]
    if word and word not in known:
        raise UsageError(words.say("cannot_be", name=name, value=word, known=", ".join(known)))
    if word:
        setattr(owner(talk), attribute, known[word])
    talk.screen.note(words.say("set_to", name=name, value=_word(talk, name)))


def _word(talk: Talk, name: str) -> str:
    owner, attribute, known = _SWITCHES[name]
    return next(word for word, value in known.items() if value == getattr(owner(talk), attribute))


def _window(talk: Talk, value: str) -> None:
    """/set ctx N opens the same model with another window; what was said stays."""
    if value:
        number = value.replace(",", "").lower()
        number = f"{number[:-1]}" if number.endswith("k") else number
        if not number.isdecimal() or not number.isascii():
            raise UsageError(words.say("ctx_cannot_be", value=value))
        n_ctx = int(number) * (1024 if value.lower().endswith("k") else 1)
        most = talk.conversation.session.artifact.n_ctx_train
        if not _LEAST_CTX <= n_ctx <= max(most, _LEAST_CTX):
            raise UsageError(words.say("ctx_out_of_range", value=value, least=_LEAST_CTX, most=most))
        talk.reopen(talk.model, replace(talk.engine, n_ctx=n_ctx))
    talk.screen.note(words.say("set_to", name="ctx", value=f"{talk.conversation.n_ctx:,}"))
