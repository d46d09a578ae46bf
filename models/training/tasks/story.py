"""Short stories from a small grammar: open generation, never scored."""

from __future__ import annotations

import random

from edgellm.models.training.tasks.sample import Sample

NAME = "story"

_HEROES = (("cat", "小猫"), ("dog", "小狗"), ("rabbit", "小兔子"), ("fox", "小狐狸"), ("bird", "小鸟"),
           ("bear", "小熊"),
           ("mouse", "小老鼠"), ("robot", "小机器人"))  # fmt: skip
_TRAITS = (("little", "可爱"), ("brave", "勇敢"), ("clever", "聪明"), ("shy", "害羞"), ("happy", "快乐"))
_HOMES = (
    ("in a forest", "森林里"),
    ("by the sea", "大海边"),
    ("on a hill", "山上"),
    ("in a small town", "小镇上"),
)
_WISHES = (("see the moon", "看月亮"), ("find a friend", "找一个朋友"), ("learn to sing", "学唱歌"),
           ("cross the river", "过河"))  # fmt: skip
_HELPERS = (("an old owl", "一只老猫头鹰"), ("a kind turtle", "一只善良的乌龟"),
            ("a white horse", "一匹白马"),
            ("a young girl", "一个小女孩"))  # fmt: skip
_ENDS = (("From then on they were best friends.", "从那以后，他们成了最好的朋友。"),
         ("And they all lived happily.", "他们都幸福地生活着。"),
         ("That night everyone slept well.", "那天晚上，大家都睡得很香。"))  # fmt: skip
_ASK = (
    (
        "Tell me a story about a {x}.",
        "Write a short story about a {x}.",
        "I want to hear a story about a {x}.",
    ),
    ("给我讲一个{x}的故事。", "写一个关于{x}的小故事。", "我想听{x}的故事。"),
)
_ASK_ANY = (
    ("Tell me a story.", "Write a short story.", "Can you tell me a story?"),
    ("给我讲个故事。", "写一个小故事。", "你会讲故事吗？"),
)


def draw(rng: random.Random) -> Sample:
    """One request and one story of five sentences."""
    lang = rng.choice(("en", "zh"))
    zh = int(lang == "zh")
    hero, trait, home, wish, helper, end = (
        rng.choice(table)[zh] for table in (_HEROES, _TRAITS, _HOMES, _WISHES, _HELPERS, _ENDS)
    )
    if zh:
        story = (
            f"从前，{home}住着一只{trait}的{hero}。它很想{wish}，可是不知道怎么办。有一天，它遇见了{helper}。"
            f"“我来帮你。”对方说。它们一起努力，终于成功了。{end}"
        )
    else:
        story = (
            f"Once upon a time there was a {trait} {hero} who lived {home}. The {hero} wanted to {wish}, "
            f'but did not know how. One day {helper} came by. "I will help you," said the visitor. '
            f"Together they did it. {end}"
        )
    asks = _ASK[zh] if rng.random() < 0.7 else _ASK_ANY[zh]
    prompt = rng.choice(asks).format(x=hero)
    return Sample(NAME, lang, f"{hero}|{trait}|{home}|{wish}|{helper}|{end}", ((prompt, story),))
