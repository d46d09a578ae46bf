"""General text for models that were not made for edgellm's dialogues: English, Chinese and code of our own.

Written for this and nowhere else, so that no model has seen it. Cut at blank lines into passages of about one size,
the same for every tokenizer: models are compared passage by passage.
"""

from __future__ import annotations

from importlib import resources

from edgellm.errors import UsageError
from edgellm.generation.scoring import Chunk
from edgellm.session import Session

NAME = "edgellm general text"
#: Files beside this module, by language.
LANGUAGES = ("en", "zh", "code")
_PASSAGE_BYTES = 500  # at least; the last of a text may be shorter


def load(language: str) -> str:
    """The whole text in a language."""
    return (resources.files(__name__) / f"{language}.txt").read_text(encoding="utf-8")


def passages(language: str) -> list[str]:
    """The text in pieces; joined by blank lines they are the text again."""
    found: list[list[str]] = [[]]
    for part in load(language).strip().split("\n\n"):
        if sum(len(each.encode()) for each in found[-1]) >= _PASSAGE_BYTES:
            found.append([])
        found[-1].append(part)
    return ["\n\n".join(parts) for parts in found]


def with_languages(session: Session) -> list[tuple[Chunk, str]]:
    """Every passage as a chunk, each with its language; every token but the first is scored.

    Raises UsageError when a passage does not fit the session's context.
    """
    found = []
    for language in LANGUAGES:
        for passage in passages(language):
            ids = session.tokenize(passage, special=False, add_bos=session.info.add_bos)
            if len(ids) > session.info.n_ctx:
                raise UsageError(
                    f"a passage has {len(ids)} tokens, the context {session.info.n_ctx}; raise -c"
                )
            found.append((Chunk(tuple(ids), 1), language))
    return found
