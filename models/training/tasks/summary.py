"""One-line summaries: a few sentences around one event, and the event as the summary.

Held out: tuples of person, event and place; the sentences around them vary freely.
"""

from __future__ import annotations

import random

from edgellm.models.training.tasks.sample import Sample

NAME = "summary"

_PEOPLE = (
    ("Tom", "汤姆"), ("Anna", "安娜"), ("Mary", "玛丽"), ("Jack", "杰克"), ("Lily", "莉莉"), ("Ben", "本"),
    ("Emma", "艾玛"), ("Peter", "彼得"), ("Lucy", "露西"), ("David", "大卫"), ("Rose", "罗丝"),
    ("Leo", "里奥"),
)  # fmt: skip
#: (what happened, the details in one sentence) in English, then in Chinese
_EVENTS = (
    ("bought a bicycle", "The new bicycle was red and fast.", "买了一辆自行车",
     "新自行车是红色的，跑得很快。"),
    ("lost a key", "The key was nowhere to be found.", "丢了一把钥匙", "钥匙怎么也找不到。"),
    ("met an old friend", "They talked for a long time.", "遇见了一位老朋友", "他们聊了很久。"),
    ("found a small cat", "The cat was hungry and tired.", "发现了一只小猫", "小猫又饿又累。"),
    ("planted a tree", "The tree was still very small.", "种了一棵树", "那棵树还很小。"),
    ("painted a picture", "The picture showed a boat on a lake.", "画了一幅画", "画上有湖和一条船。"),
    ("won a race", "The crowd cheered loudly.", "赢了一场比赛", "观众大声欢呼。"),
    ("baked a cake", "The cake tasted of honey.", "做了一个蛋糕", "蛋糕有蜂蜜的味道。"),
    ("sold a guitar", "The guitar was ten years old.", "卖了一把吉他", "那把吉他已经用了十年。"),
    ("repaired a clock", "The clock had been broken for a year.", "修好了一个钟", "那个钟坏了一年了。"),
    ("lost an umbrella", "The umbrella was a present.", "丢了一把雨伞", "那把雨伞是一件礼物。"),
    ("learned a song", "The song was short and sweet.", "学会了一首歌", "那首歌又短又好听。"),
)  # fmt: skip
_PLACES = (
    ("at the market", "在市场"), ("at the station", "在车站"), ("at school", "在学校"),
    ("in the park", "在公园"),
    ("in the village", "在村里"), ("near the lake", "在湖边"), ("in the city", "在城里"),
    ("at home", "在家里"),
)  # fmt: skip
_OPENERS = (
    ("It was a sunny morning.", "那是一个晴朗的早上。"), ("It was raining all day.", "那天一直在下雨。"),
    ("The weather was cold.", "天气很冷。"), ("It was the first day of spring.", "那是春天的第一天。"),
    ("The streets were quiet.", "街上很安静。"), ("It was late in the evening.", "那时已经很晚了。"),
    ("", ""),
)  # fmt: skip
_ENDINGS = (
    ("Then it was time to go home.", "然后就该回家了。"), ("It was a day to remember.", "那是难忘的一天。"),
    ("Later there was tea and bread.", "后来大家喝茶吃面包。"),
    ("Nobody else knew about it.", "别人都不知道这件事。"),
    ("The whole family heard the story.", "全家人都听说了这件事。"), ("", ""),
)  # fmt: skip
_ASK_EN = ("Summarize in one line: {t}", "Give a one-line summary: {t}", "What is this text about? {t}",
           "Sum this up in one sentence: {t}")  # fmt: skip
_ASK_ZH = ("用一句话总结：{t}", "请用一句话概括：{t}", "这段话讲了什么？{t}", "总结一下：{t}")


def draw(rng: random.Random) -> Sample:
    """One short text and its summary."""
    lang = rng.choice(("en", "zh"))
    zh = int(lang == "zh")
    who, event, place = rng.choice(_PEOPLE), rng.choice(_EVENTS), rng.choice(_PLACES)
    opener, ending = rng.choice(_OPENERS)[zh], rng.choice(_ENDINGS)[zh]
    if zh:
        core = f"{who[1]}{place[1]}{event[2]}。"
        told = core if rng.random() < 0.5 else f"{who[1]}来了。{who[1]}{place[1]}{event[2]}。"
    else:
        core = f"{who[0]} {event[0]} {place[0]}."
        told = core if rng.random() < 0.5 else f"{capital_place(place[0])}, {who[0]} {event[0]}."
    parts = [part for part in (opener, told, event[3] if zh else event[1], ending) if part]
    text = ("" if zh else " ").join(parts)
    prompt = rng.choice(_ASK_ZH if zh else _ASK_EN).format(t=text)
    return Sample(NAME, lang, f"{who[0]}|{event[0]}|{place[0]}", ((prompt, core),))


def capital_place(place: str) -> str:
    """A place phrase at the start of a sentence."""
    return place[:1].upper() + place[1:]
