"""Sentiment: is a one-sentence review positive or negative?

Held out: triples of what is reviewed, the adjective and the sentence it stands in.
"""

from __future__ import annotations

import random

from edgellm.models.training.tasks.sample import Sample, capital_first

NAME = "sentiment"

_ASPECTS = (
    ("the food", "饭菜"), ("the movie", "电影"), ("the hotel", "酒店"), ("the service", "服务"),
    ("the room", "房间"),
    ("the book", "书"), ("the phone", "手机"), ("the trip", "旅行"), ("the music", "音乐"),
    ("the coffee", "咖啡"),
    ("the game", "游戏"), ("the price", "价格"), ("the screen", "屏幕"), ("the story", "故事"),
    ("the staff", "员工"),
    ("the show", "节目"), ("the course", "课程"), ("the camera", "相机"), ("the bread", "面包"),
    ("the seat", "座位"),
)  # fmt: skip
_GOOD = (
    ("great", "很棒"), ("wonderful", "很好"), ("excellent", "非常出色"), ("amazing", "太好了"),
    ("perfect", "很完美"),
    ("lovely", "很可爱"), ("fantastic", "特别棒"), ("good", "不错"), ("pleasant", "令人愉快"),
    ("superb", "一流"),
)  # fmt: skip
_BAD = (
    ("terrible", "很糟糕"), ("awful", "太差了"), ("bad", "很差"), ("boring", "很无聊"),
    ("horrible", "非常可怕"),
    ("disappointing", "令人失望"), ("poor", "很次"), ("annoying", "很烦人"), ("dreadful", "糟透了"),
    ("ugly", "很难看"),
)  # fmt: skip
#: (English frame, Chinese frame, whether it turns the meaning round)
_FRAMES: tuple[tuple[str, str, bool], ...] = (
    ("{x} was {y}.", "{x}{y}。", False),
    ("I think {x} was {y}.", "我觉得{x}{y}。", False),
    ("{x} was really {y}!", "{x}真的{y}！", False),
    ("Everyone said {x} was {y}.", "大家都说{x}{y}。", False),
    ("In the end {x} was {y}.", "最后{x}{y}。", False),
    ("My friend found that {x} was {y}.", "我的朋友发现{x}{y}。", False),
    ("We were there last week and {x} was {y}.", "我们上周去了，{x}{y}。", False),
    ("{x} was not {y} at all.", "我一点也不认为{x}{y}。", True),
    ("I would never say {x} was {y}.", "我绝不会说{x}{y}。", True),
)
_ASK_EN = (
    "Is this review positive or negative? {t}",
    "Positive or negative? {t}",
    "Classify the sentiment: {t}",
    "What is the sentiment of this sentence? {t}",
    "Tell me if this is positive or negative: {t}",
)
_ASK_ZH = (
    "这条评论是正面还是负面？{t}",
    "正面还是负面？{t}",
    "判断情感：{t}",
    "这句话的情感是什么？{t}",
    "请判断这句话是正面还是负面：{t}",
)


def draw(rng: random.Random) -> Sample:
    """One review and its class, a single word."""
    lang = rng.choice(("en", "zh"))
    zh = int(lang == "zh")
    aspect, frame = rng.choice(_ASPECTS), rng.choice(_FRAMES)
    good = rng.random() < 0.5
    word = rng.choice(_GOOD if good else _BAD)
    text = frame[:2][zh].format(x=aspect[zh], y=word[zh])
    positive = good is not frame[2]
    answer = (("negative", "负面"), ("positive", "正面"))[positive][zh]
    prompt = rng.choice(_ASK_ZH if zh else _ASK_EN).format(t=text if zh else capital_first(text))
    return Sample(NAME, lang, f"{aspect[0]}|{word[0]}|{frame[0]}", ((prompt, answer),))
