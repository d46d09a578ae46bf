"""Questions about edgellm's own command line.

Held out: an intent with its slots (model, type, number) in one phrasing; the intent is seen with other slots
and the slots with other intents.
"""

from __future__ import annotations

import random

from edgellm.models.training.tasks.sample import Sample
from edgellm.models.training.tasks.table_commands import HOW_TO, LOOK_UP, SLOTS

NAME = "commands"


def draw(rng: random.Random) -> Sample:
    """One question and its command or its one-sentence explanation."""
    lang = rng.choice(("en", "zh"))
    zh = int(lang == "zh")
    if rng.random() < 0.25:
        entry = rng.choice(LOOK_UP)
        asks, reply = (entry.ask_zh, entry.reply_zh) if zh else (entry.ask_en, entry.reply_en)
        index = rng.randrange(len(asks))
        return Sample(NAME, lang, f"{lang}|{entry.name}|{index}", ((asks[index], reply),))
    intent = rng.choice(HOW_TO)
    slots = {name: rng.choice(values) for name, values in SLOTS.items() if f"{{{name}}}" in intent.command}
    asks = intent.ask_zh if zh else intent.ask_en
    index = rng.randrange(len(asks))
    prompt, answer = asks[index].format(**slots), intent.command.format(**slots)
    key = "|".join((lang, intent.name, str(index), *slots.values()))
    return Sample(NAME, lang, key, ((prompt, f"`{answer}`"),))
