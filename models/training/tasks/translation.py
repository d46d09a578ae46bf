"""Translation of short sentences both ways: a compositional grammar of subject, verb, object, time and place.

Held out: tuples (subject, verb, object, time, place), in both directions and every phrasing.
"""

from __future__ import annotations

import random

from edgellm.models.training.tasks.sample import Sample, capital_first

NAME = "translation"

#: (English, Chinese, whether an English present-tense verb takes -s)
_SUBJECTS = (
    ("I", "我", False), ("we", "我们", False), ("they", "他们", False), ("he", "他", True),
    ("she", "她", True),
    ("you", "你", False), ("my mother", "我妈妈", True), ("my father", "我爸爸", True),
    ("the teacher", "老师", True),
    ("the children", "孩子们", False), ("the doctor", "医生", True), ("my friend", "我的朋友", True),
    ("the girl", "女孩", True), ("the boy", "男孩", True), ("the students", "学生们", False),
    ("the cook", "厨师", True),
)  # fmt: skip
#: (base, third person, past, Chinese, objects as (English, Chinese))
_VERBS = (
    ("eat", "eats", "ate", "吃", (("apples", "苹果"), ("rice", "米饭"), ("bread", "面包"), ("fish", "鱼"))),
    ("drink", "drinks", "drank", "喝",
     (("tea", "茶"), ("milk", "牛奶"), ("water", "水"), ("coffee", "咖啡"))),
    ("read", "reads", "read", "读",
     (("a book", "一本书"), ("the newspaper", "报纸"), ("a letter", "一封信"))),
    ("buy", "buys", "bought", "买",
     (("flowers", "花"), ("a hat", "一顶帽子"), ("bread", "面包"), ("fish", "鱼"))),
    ("write", "writes", "wrote", "写",
     (("a letter", "一封信"), ("a story", "一个故事"), ("a poem", "一首诗"))),
    ("see", "sees", "saw", "看见", (("a bird", "一只鸟"), ("a cat", "一只猫"), ("the moon", "月亮"))),
    ("play", "plays", "played", "玩", (("games", "游戏"), ("chess", "象棋"))),
    ("sing", "sings", "sang", "唱", (("a song", "一首歌"),)),
    ("wash", "washes", "washed", "洗", (("clothes", "衣服"), ("the dishes", "盘子"), ("apples", "苹果"))),
    ("draw", "draws", "drew", "画", (("a tree", "一棵树"), ("a cat", "一只猫"), ("flowers", "花"))),
)  # fmt: skip
#: (English, Chinese, tense)
_TIMES = (
    ("every day", "每天", "present"), ("every morning", "每天早上", "present"),
    ("every evening", "每天晚上", "present"),
    ("yesterday", "昨天", "past"), ("last week", "上周", "past"), ("last night", "昨天晚上", "past"),
    ("tomorrow", "明天", "future"), ("next week", "下周", "future"), ("", "", "present"),
)  # fmt: skip
_PLACES = (
    ("at home", "在家"), ("at school", "在学校"), ("in the park", "在公园"), ("in the garden", "在花园"),
    ("in the kitchen", "在厨房"), ("in the city", "在城里"), ("by the river", "在河边"), ("", ""), ("", ""),
)  # fmt: skip
TO_ZH = (
    ("en", "Translate into Chinese: {t}"), ("en", "Translate to Chinese: {t}"),
    ("en", 'How do you say "{t}" in Chinese?'),
    ("en", "What is this in Chinese? {t}"), ("zh", "翻译成中文：{t}"), ("zh", "请把这句话翻译成中文：{t}"),
)  # fmt: skip
TO_EN = (
    ("en", "Translate into English: {t}"), ("en", "Translate to English: {t}"),
    ("en", "What is this in English? {t}"),
    ("zh", "翻译成英文：{t}"), ("zh", "请把这句话翻译成英文：{t}"), ("zh", "“{t}”用英文怎么说？"),
)  # fmt: skip
_ZH_MARK = {"present": ("", ""), "past": ("", "了"), "future": ("要", "")}


def draw(rng: random.Random) -> Sample:
    """One sentence and its translation; the language of a sample is the language of the answer."""
    subject, verb = rng.choice(_SUBJECTS), rng.choice(_VERBS)
    thing, time, place = rng.choice(verb[4]), rng.choice(_TIMES), rng.choice(_PLACES)
    tense = time[2]
    form = {"present": verb[1] if subject[2] else verb[0], "past": verb[2], "future": f"will {verb[0]}"}[
        tense
    ]
    english = capital_first(" ".join(x for x in (subject[0], form, thing[0], place[0], time[0]) if x)) + "."
    before, after = _ZH_MARK[tense]
    chinese = f"{subject[1]}{time[1]}{before}{place[1]}{verb[3]}{after}{thing[1]}。"
    to_zh = rng.random() < 0.5
    source, target = (english, chinese) if to_zh else (chinese, english)
    _, ask = rng.choice(TO_ZH if to_zh else TO_EN)
    key = "|".join((subject[0], verb[0], thing[0], time[0], place[0]))
    return Sample(NAME, "zh" if to_zh else "en", key, ((ask.format(t=source), target),))
