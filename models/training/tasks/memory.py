"""Multi-turn dialogue: the user says something of themselves, talks of something else, and asks for it.

Held out: tuples of what is remembered, its value and the phrasing of the question, whatever lies between.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from edgellm.models.training.tasks import arithmetic, facts, sentiment
from edgellm.models.training.tasks.sample import Sample, Turn, draw_from

NAME = "memory"


@dataclass(frozen=True)
class _Item:
    name: str
    values: tuple[tuple[str, str], ...]
    tell: tuple[tuple[str, ...], tuple[str, ...]]
    reply: tuple[str, str]
    ask: tuple[tuple[str, ...], tuple[str, ...]]
    answer: tuple[str, str]


_NUMBERS = tuple(
    (str(n), str(n)) for n in (3, 5, 7, 8, 9, 11, 12, 13, 17, 21, 24, 33, 42, 58, 64, 77, 88, 99)
)
_ITEMS = (
    _Item(
        "name",
        (
            ("Tom", "小明"), ("Anna", "小红"), ("Mary", "王芳"), ("Jack", "李伟"), ("Lily", "张丽"),
            ("Ben", "刘洋"),
            ("Emma", "陈静"), ("Peter", "杨帆"), ("Lucy", "赵敏"), ("David", "周杰"), ("Rose", "吴磊"),
            ("Leo", "小华"),
            ("Sam", "小刚"), ("Kate", "林娜"), ("Max", "何平"), ("Nina", "郑云"), ("Oscar", "高山"),
            ("Ivy", "梁雨"),
        ),
        (("My name is {v}.", "I am {v}.", "Hi, I'm {v}.", "Call me {v}."),
         ("我叫{v}。", "我的名字是{v}。", "你好，我是{v}。", "叫我{v}吧。")),
        ("Nice to meet you, {v}!", "很高兴认识你，{v}！"),
        (("What is my name?", "Do you remember my name?", "Who am I?", "What am I called?"),
         ("我叫什么名字？", "你记得我的名字吗？", "我是谁？", "我的名字是什么？")),
        ("Your name is {v}.", "你叫{v}。"),
    ),
    _Item(
        "colour",
        (
            ("red", "红色"), ("blue", "蓝色"), ("green", "绿色"), ("yellow", "黄色"), ("black", "黑色"),
            ("white", "白色"),
            ("purple", "紫色"), ("orange", "橙色"), ("pink", "粉色"), ("brown", "棕色"), ("gray", "灰色"),
            ("gold", "金色"),
        ),
        (("My favorite color is {v}.", "I like {v} best of all colors.", "The color I love is {v}."),
         ("我最喜欢的颜色是{v}。", "所有颜色里我最爱{v}。", "我喜欢{v}这种颜色。")),
        ("{v} is a nice color.", "{v}很好看。"),
        (("What is my favorite color?", "Which color do I like?", "Do you remember my favorite color?"),
         ("我最喜欢什么颜色？", "你记得我喜欢的颜色吗？", "我喜欢哪种颜色？")),
        ("Your favorite color is {v}.", "你最喜欢的颜色是{v}。"),
    ),
    _Item(
        "number",
        _NUMBERS,
        (("My lucky number is {v}.", "Remember the number {v}.", "My number is {v}."),
         ("我的幸运数字是{v}。", "请记住数字{v}。", "我的数字是{v}。")),
        ("I will remember {v}.", "我记住了{v}。"),
        (("What is my number?", "Which number did I tell you?", "Do you remember my number?"),
         ("我的数字是什么？", "我告诉你的数字是多少？", "你记得我的数字吗？")),
        ("Your number is {v}.", "你的数字是{v}。"),
    ),
    _Item(
        "pet",
        (
            ("a cat", "一只猫"), ("a dog", "一只狗"), ("a rabbit", "一只兔子"), ("a bird", "一只鸟"),
            ("a fish", "一条鱼"),
            ("a horse", "一匹马"), ("a turtle", "一只乌龟"), ("a mouse", "一只老鼠"), ("a duck", "一只鸭子"),
            ("a snake", "一条蛇"),
        ),
        (("I have {v} at home.", "My pet is {v}.", "At home there is {v}."),
         ("我家有{v}。", "我养了{v}。", "我的宠物是{v}。")),
        ("It is nice to have {v}.", "有{v}真好。"),
        (("What pet do I have?", "Which animal do I have?", "Do you remember my pet?"),
         ("我养了什么宠物？", "我有什么动物？", "你记得我的宠物吗？")),
        ("You have {v}.", "你有{v}。"),
    ),
    _Item(
        "city",
        (
            ("Paris", "巴黎"), ("Tokyo", "东京"), ("Beijing", "北京"), ("Rome", "罗马"), ("Madrid", "马德里"),
            ("Berlin", "柏林"),
            ("London", "伦敦"), ("Moscow", "莫斯科"), ("Cairo", "开罗"), ("Lima", "利马"), ("Oslo", "奥斯陆"),
            ("Vienna", "维也纳"),
        ),
        (("I live in {v}.", "My home is in {v}.", "I come from {v}."),
         ("我住在{v}。", "我的家在{v}。", "我来自{v}。")),
        ("{v} is a beautiful city.", "{v}是一座美丽的城市。"),
        (("Where do I live?", "Which city is my home?", "Do you remember where I live?"),
         ("我住在哪里？", "我的家在哪个城市？", "你记得我住在哪里吗？")),
        ("You live in {v}.", "你住在{v}。"),
    ),
    _Item(
        "food",
        (
            ("rice", "米饭"), ("bread", "面包"), ("fish", "鱼"), ("apples", "苹果"), ("cake", "蛋糕"),
            ("soup", "汤"),
            ("noodles", "面条"), ("cheese", "奶酪"), ("eggs", "鸡蛋"), ("chocolate", "巧克力"),
            ("bananas", "香蕉"), ("tofu", "豆腐"),
        ),
        (("My favorite food is {v}.", "I love to eat {v}.", "Of all food I like {v} most."),
         ("我最喜欢吃{v}。", "我最爱的食物是{v}。", "我爱吃{v}。")),
        ("I hope you get {v} today.", "希望你今天能吃到{v}。"),
        (("What is my favorite food?", "What do I love to eat?", "Do you remember my favorite food?"),
         ("我最喜欢吃什么？", "我爱吃什么？", "你记得我最爱的食物吗？")),
        ("Your favorite food is {v}.", "你最喜欢吃{v}。"),
    ),
)  # fmt: skip
NAME_ITEM = _ITEMS[0]
#: What is talked of in between: nothing, a fact, a sum, a review, or a second thing to remember.
_FILLERS = ("none", "facts", "arithmetic", "sentiment", "item")
_SOURCES = {"facts": facts.draw, "arithmetic": arithmetic.draw, "sentiment": sentiment.draw}


#: Syllables and characters of invented names, and how often one stands in for a name of the table: whatever a
#: user is called should be repeated, not replaced by a name that is known.
_SYLLABLES = tuple(
    f"{first}{then}" for first in "bdfghjklmnprstvz" for then in ("a", "e", "i", "o", "u", "an", "el", "in")
)
_SURNAMES = "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗"
_GIVEN = "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超霞平刚桂英华玉兰红建文辉力"
_INVENTED_SHARE = 0.4


def _invented(rng: random.Random, item: _Item, zh: int) -> str | None:
    if rng.random() > _INVENTED_SHARE:
        return None
    if item.name == "number":
        return str(rng.randrange(1, 1000))
    if item.name != "name":
        return None
    if zh:
        return rng.choice(_SURNAMES) + "".join(rng.choices(_GIVEN, k=rng.choice((1, 2))))
    return "".join(rng.choices(_SYLLABLES, k=rng.choice((2, 2, 3)))).capitalize()


def _tell(rng: random.Random, item: _Item, zh: int) -> tuple[str, Turn]:
    value = _invented(rng, item, zh) or rng.choice(item.values)[zh]
    text, reply = rng.choice(item.tell[zh]).format(v=value), item.reply[zh].format(v=value)
    return value, (text, reply[:1].upper() + reply[1:])


def draw(rng: random.Random) -> Sample:
    """A dialogue of two to four turns whose last one asks for what the first one told."""
    lang = rng.choice(("en", "zh"))
    zh = int(lang == "zh")
    item, filler = rng.choice(_ITEMS), rng.choice(_FILLERS)
    value, told = _tell(rng, item, zh)
    turns = [told]
    if filler == "item":
        other = rng.choice([each for each in _ITEMS if each is not item])
        turns.append(_tell(rng, other, zh)[1])
        rng.shuffle(turns)
    elif filler != "none":
        turns += _between(rng, filler, lang)
    index = rng.randrange(len(item.ask[zh]))
    turns.append((item.ask[zh][index], item.answer[zh].format(v=value)))
    return Sample(NAME, lang, f"{lang}|{item.name}|{value}|{index}", tuple(turns))


def _between(rng: random.Random, filler: str, lang: str) -> tuple[Turn, ...]:
    """Turns of another task, always from the training side of its split."""
    while True:
        sample = draw_from(_SOURCES[filler], rng, want_held_out=False)
        if sample.lang == lang:
            return sample.turns
