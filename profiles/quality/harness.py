"""Standard tasks by EleutherAI's lm-evaluation-harness, its own task files as they are, on a session of ours.

The harness asks three things of a model: the log-likelihood of a continuation, that of a whole text, and text until a
stop string. What it makes of the answers is its own. Nothing is downloaded: data sets are those in a folder, laid out
as their names (`allenai/ai2_arc/...`), or in Hugging Face's own cache.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgellm.errors import MissingExtraError, UsageError
from edgellm.generation import generate, scoring
from edgellm.generation.generate import GenerateOptions
from edgellm.profiles.quality.task_scores import Render
from edgellm.session import GREEDY, Session

_MAX_TOKENS = 256  # where a task says nothing: the harness's own default
_OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")


def evaluate(
    session: Session,
    names: Sequence[str],
    *,
    data: Path | None = None,
    include: Path | None = None,
    limit: int | None = None,
    few_shot: int | None = None,
    render: Render | None = None,
) -> dict[str, Any]:
    """The harness's results for the tasks `names`: `results`, `versions`, `n-samples` as it gives them.

    `data` is the folder of data sets, `include` one of further task files; `render` puts each question into the chat
    template. Raises MissingExtraError, UsageError where a task or its data is not there, EngineError.
    """
    with _offline(data):
        library = _library()
        manager = library.tasks.TaskManager(include_path=str(include.resolve()) if include else None)
        if unknown := [name for name in names if name not in manager.all_tasks]:
            raise UsageError(f"the harness knows no task {unknown[0]!r}; lm_eval ls tasks lists them")
        try:
            found = library.simple_evaluate(
                model=_model(session, render),
                tasks=list(names),
                num_fewshot=few_shot,
                limit=limit,
                task_manager=manager,
                bootstrap_iters=100,
                log_samples=False,
                apply_chat_template=render is not None,
            )
        except (ConnectionError, FileNotFoundError) as error:
            told = " ".join(str(error).split())
            raise UsageError(
                f"the data of {', '.join(names)} is not here ({told}); nothing is downloaded: --harness-data names "
                "a folder of data sets"
            ) from error
    return {key: found[key] for key in ("results", "versions", "n-shot", "n-samples", "higher_is_better")}


def _library() -> Any:
    try:
        import lm_eval
        import lm_eval.tasks
    except ImportError as error:
        raise MissingExtraError("standard tasks", "eval") from error
    return lm_eval


@contextlib.contextmanager
def _offline(data: Path | None) -> Iterator[None]:
    """Hugging Face's libraries without a network; names of data sets are folders below `data` first."""
    before = {name: os.environ.get(name) for name in _OFFLINE}
    here = Path.cwd()
    os.environ.update(dict.fromkeys(_OFFLINE, "1"))
    if data:
        os.chdir(data)
    try:
        yield
    finally:
        os.chdir(here)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _model(session: Session, render: Render | None) -> Any:
    """What the harness takes for a model."""
    from lm_eval.api.model import LM

    class Ours(LM):  # type: ignore[misc]
        """Answers by a session."""

        tokenizer_name = session.artifact.sha256

        def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
            """Of each continuation after its context, and whether it is the greedy one."""
            return [continuation(session, *request.args) for request in requests]

        def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
            """Of each whole text."""
            return [continuation(session, "", request.args[0])[0] for request in requests]

        def generate_until(self, requests: list[Any]) -> list[str]:
            """Greedy text after each context."""
            return [_text(session, *request.args) for request in requests]

        def apply_chat_template(self, chat_history: Any, add_generation_prompt: bool = True) -> str:
            """Messages as the model's template writes them."""
            assert render
            return render(chat_history)

    return Ours()


def continuation(session: Session, context: str, text: str) -> tuple[float, bool]:
    """(natural log-likelihood of `text` after `context`, whether every token was the likeliest).

    As the harness's own models cut it: blanks at the end of the context belong to the text, and both are
    tokenized together. A text with nothing before it follows BOS, or EOS where the model has no BOS.
    """
    blanks = len(context) - len(context.rstrip())
    if blanks:
        context, text = context[:-blanks], context[-blanks:] + text
    before = session.tokenize(context, add_bos=session.info.add_bos)
    ids = session.tokenize(context + text, add_bos=session.info.add_bos)
    if not before:
        before = [min(session.info.eos_ids)]
        ids = [*before, *ids]
    first = min(len(before), len(ids) - 1)
    total, greedy = 0.0, True
    for chunk in scoring.windows(ids, first, session.info.n_ctx, ids[:1] if session.info.add_bos else ()):
        for block in scoring.blocks(session, chunk):
            total += float(scoring.target_log_probs(block).sum())
            greedy = greedy and bool((block.log_probs.argmax(axis=1) == block.targets).all())
    return total, greedy


def _text(session: Session, context: str, asked: dict[str, Any]) -> str:
    stops = asked.get("until") or ()
    stops = (stops,) if isinstance(stops, str) else tuple(stops)
    most = int(asked.get("max_gen_toks") or asked.get("max_tokens") or _MAX_TOKENS)
    prompt = session.tokenize(context, add_bos=session.info.add_bos)
    prompt = prompt[-max(1, session.info.n_ctx - most) :]
    options = GenerateOptions(max_tokens=most, stop=tuple(stop for stop in stops if stop), sampling=GREEDY)
    return generate.stream(session, prompt, options).completion.text
