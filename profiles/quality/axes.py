"""The axes that were asked for, measured on an open session: each in a file of its own, put together here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from edgellm.errors import EdgellmError, UsageError
from edgellm.profiles.result.axes_names import AXES
from edgellm.profiles.result.axes_record import Axes

if TYPE_CHECKING:
    from edgellm.formats.artifact import Artifact
    from edgellm.profiles.quality.quality import Quality
    from edgellm.profiles.quality.task_scores import Answer
    from edgellm.profiles.quality.tasks import TaskItem
    from edgellm.session import EngineOptions, Session

_ROOM = 16  # tokens: a number before each prompt
_NO_TEMPLATE = "the model has no chat template: it answers no tasks"


def check(names: Sequence[str]) -> tuple[str, ...]:
    """Names of axes, `all` standing for all of them. Raises UsageError."""
    if "all" in names:
        return AXES
    if unknown := [name for name in names if name not in AXES]:
        raise UsageError(f"no axis is called {unknown[0]!r}; there are: all, {', '.join(AXES)}")
    return tuple(dict.fromkeys(names))


class Asked:
    """One model's axes, filled one after another; `axes` is None where none was asked for."""

    def __init__(self, session: Session, artifact: Artifact, names: Sequence[str]) -> None:
        self.axes = Axes() if names else None
        self._session, self._artifact, self._names = session, artifact, names
        self._answers: Sequence[Answer] = ()
        self._prompt = ("", 0)
        if "response" in names:
            self._prompt = self._long_prompt()

    def answers(self, items: Sequence[TaskItem]) -> Sequence[Answer]:
        """Answers to `items`: of a model that cannot be talked to, to those with choices.

        Their energy is measured, and the same questions are put otherwise, where these were asked for.
        """
        from edgellm.profiles.quality import answer_energy, robustness, task_scores
        from edgellm.prompt.model_template import template_of

        template = template_of(self._artifact) if self._artifact.chat_template else None
        asked = [item for item in items if template or item.choices]
        if not asked:
            for name in ("robustness", "energy"):
                self._reason(name, _NO_TEMPLATE if items else "no task was to be answered")
            return ()

        def render(messages: Sequence[dict[str, str]]) -> str:
            assert template
            return template.render(messages, enable_thinking=False)

        def work() -> list[Answer]:
            return task_scores.answer(self._session, render, asked)

        if "energy" in self._names:
            self._answers, found = answer_energy.measured(work, lambda done: sum(a.exact for a in done))
            if isinstance(found, str):
                self._reason("energy", found)
            else:
                self._put(energy=found)
        else:
            self._answers = work()
        spoken = [each for each in self._answers if not each.item.choices]
        if "robustness" in self._names and spoken:
            self._put(robustness=robustness.measure(self._session, render, spoken))
        elif not spoken:
            self._reason("robustness", "texts to be continued are not written otherwise")
        return self._answers

    def language(self, found: Quality, chunk_langs: Sequence[str]) -> None:
        """By language, from `found` and the answers."""
        from edgellm.profiles.quality import languages

        if "language" in self._names:
            self._put(language=languages.measure(found, chunk_langs, self._answers))

    def response(self, engine: EngineOptions) -> None:
        """Through the server; the session is closed by now."""
        from edgellm.profiles.quality import response

        if "response" not in self._names:
            return
        text, n_tokens = self._prompt
        options = replace(engine, n_ctx=n_tokens + response.N_ANSWER + _ROOM)
        try:
            self._put(response=response.measure(self._artifact, options, text, n_tokens))
        except ModuleNotFoundError as error:
            self._reason("response", f"the server needs {error.name}: pip install 'edgellm[server]'")
        except (EdgellmError, OSError) as error:
            self._reason("response", str(error))

    def _long_prompt(self) -> tuple[str, int]:
        from edgellm.profiles.measure.prompt import make_prompt
        from edgellm.profiles.quality import response

        n_train = self._artifact.n_ctx_train or 2 * response.N_PROMPT
        n_tokens = min(response.N_PROMPT, n_train // 2)
        return make_prompt(self._session, n_tokens).text, n_tokens

    def _put(self, **parts: object) -> None:
        assert self.axes
        self.axes = replace(self.axes, **parts)  # type: ignore[arg-type]

    def _reason(self, name: str, why: str) -> None:
        if self.axes and name in self._names:
            self.axes = replace(self.axes, reasons={**(self.axes.reasons or {}), name: why})
