"""Question answering over a closed world: relations as tables, several phrasings in both languages.

Held out: pairs of a fact and a phrasing. The fact itself is seen under its other phrasings.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from edgellm.models.training.tasks.sample import Sample
from edgellm.models.training.tasks.table_facts import RELATIONS, Relation

NAME = "facts"


@dataclass(frozen=True)
class _Fact:
    relation: Relation
    row: tuple[str, str, str, str]


FACTS = tuple(_Fact(relation, row) for relation in RELATIONS for row in relation.rows)


def draw(rng: random.Random) -> Sample:
    """One fact asked for in one phrasing of one language."""
    fact = rng.choice(FACTS)
    lang = rng.choice(("en", "zh"))
    subject_en, value_en, subject_zh, value_zh = fact.row
    relation = fact.relation
    ask, reply = (
        (relation.ask_en, relation.reply_en) if lang == "en" else (relation.ask_zh, relation.reply_zh)
    )
    subject, value = (subject_en, value_en) if lang == "en" else (subject_zh, value_zh)
    phrasing = rng.randrange(len(ask))
    prompt = ask[phrasing].format(x=subject)
    answer = reply.format(x=subject, y=value)
    if lang == "en":
        prompt, answer = prompt[:1].upper() + prompt[1:], answer[:1].upper() + answer[1:]
    return Sample(NAME, lang, f"{lang}|{relation.name}|{subject_en}|{phrasing}", ((prompt, answer),))
