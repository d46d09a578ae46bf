"""A model's figures by language: bits per byte of the dialogues in it, right answers to the tasks in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgellm.profiles.quality import task_scores
from edgellm.profiles.quality.quality import Quality
from edgellm.profiles.quality.task_scores import Answer
from edgellm.profiles.result import quality_stats
from edgellm.profiles.result.axes_record import LanguageRecord
from edgellm.profiles.result.quality_stats import Estimate


def measure(
    found: Quality, chunk_langs: Sequence[str], answers: Sequence[Answer]
) -> dict[str, LanguageRecord]:
    """By language, from what was measured already; `chunk_langs` has the language of each chunk of `found`."""
    spoken = task_scores.languages(each for each in answers if each.closed)
    return {
        lang: LanguageRecord(
            bits_per_byte=_bits(found, chunk_langs, lang),
            right=task_scores.total(lang, spoken[lang]).exact if lang in spoken else None,
        )
        for lang in sorted({*chunk_langs, *spoken})
        if lang
    }


def _bits(found: Quality, chunk_langs: Sequence[str], lang: str) -> Estimate | None:
    """Bits over bytes of the chunks in `lang`, each a sample."""
    own = np.array([each == lang for each in chunk_langs])
    n_bytes = np.array(found.chunk_bytes, dtype=float)[own]
    if not n_bytes.any():
        return None
    return quality_stats.ratio(np.array(found.chunk_bits)[own], n_bytes, np.arange(len(n_bytes)))
