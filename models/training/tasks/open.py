"""What people type beyond the closed tasks: any name, any model, short forms, small words, nonsense. Never scored.

It teaches the models to repeat what they have not seen and to say so when they do not know.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from edgellm.models.training.tasks import memory, translation
from edgellm.models.training.tasks.sample import Sample, Turn, held_out
from edgellm.models.training.tasks.smalltalk import UNKNOWN
from edgellm.models.training.tasks.table_commands import HOW_TO, SLOTS
from edgellm.models.training.tasks.table_facts import CAPITAL, COLOUR

NAME = "open"

_NAMES = (  # noqa: SIM905
    "Robert Michael Sarah John James William Linda Susan Karen Daniel Mark Paul Steven Andrew George Kevin Brian "
    "Edward Ronald Tim Jason Jeff Ryan Jacob Gary Eric Jonathan Stephen Larry Scott Frank Alice Bob Carol Laura "
    "Julia Sophie Olivia Grace Chloe Zoe Ella Mia Noah Liam Ethan Lucas Henry Oliver Felix Hugo Hans Greta Yuki Wei "
    "Ming Li Raj Priya Ahmed Omar Fatima Carlos Maria Jose Diego Elena Ivan Olga Pierre Marie Alex Chris Charlie"
).split()
_SURNAMES = (
    "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕苏卢蒋蔡贾丁魏薛叶阎"
)
_DOUBLE_SURNAMES = ("欧阳", "司马", "诸葛", "上官")
_GIVEN = (
    "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超霞平刚桂英华玉兰红建文辉力子涵雨欣梓轩诗琪浩然思远佳怡一鸣天宇晨曦博雅婷雪梅春燕"
    "志国庆海波峰云龙飞宏亮东升光荣俊豪嘉瑞琳瑶月星辰乐安宁康福禄寿喜"
)
_MODELS = (
    "qwen3-4b", "qwen3-8b", "qwen3-14b", "qwen3-32b", "qwen2.5-3b", "qwen2.5-7b", "qwen2.5-14b",
    "llama-3.1-8b",
    "llama-3-8b", "llama-3.3-70b", "my_model", "model", "./my-model", "models/test", "test-model", "chatbot",
    "demo",
    "assistant-v2", "finetuned", "checkpoint-500", "/data/model", "base.gguf", "small.gguf",
)  # fmt: skip
_TYPES = (
    "q8_0",
    "q4_0",
    "Q6_K",
    "Q3_K_M",
    "Q2_K",
    "Q4_K_S",
    "Q5_K_S",
    "q5_0",
    "q4_1",
    "onnx-int4",
    "onnx-int8",
    "f16",
)
#: Small talk in other words: (what is typed, reply) in either language.
_SMALL: tuple[tuple[tuple[str, ...], str], ...] = (
    (("hi!", "hello!!", "HELLO", "yo", "hiya", "Good afternoon!", "hey there", "hello tiny model", "hi again",
      "greetings"),
     "Hello! How can I help you?"),
    (("嘿", "下午好！", "早", "你好呀", "你好啊", "哈喽！", "大家好", "你好，在吗"),
     "你好！有什么可以帮你的吗？"),
    (("thx", "ty", "thanks!!", "ok thanks", "cool, thanks", "thank you so much", "many thanks"),
     "You are welcome!"),
    (("谢啦", "好的谢谢", "谢谢你的帮助", "谢谢您", "感谢"), "不客气！"),
    (("what's up?", "how do you feel?", "how are things?", "are you ok?"), "I am fine, thank you. And you?"),
    (("你今天好吗？", "过得怎么样？", "心情如何？"), "我很好，谢谢。你呢？"),
    (("cool", "haha", "lol", "nice", "great", "wow", "interesting", "sure", "no", "maybe"),
     "Good! What would you like to know?"),
    (("哈哈", "不错", "厉害", "有意思", "行", "没事", "不用了", "可以"), "好的！你还想知道什么？"),
    (("see you", "cya", "good bye", "bye bye", "exit", "quit"), "Goodbye! See you soon."),
    (("我走了", "下次见", "拜", "再会"), "再见！下次聊。"),
    (("who made you?", "what's your name?", "your name?", "are you tiny-qwen3?", "are you ChatGPT?",
      "which model is this?"),
     "I am {self}, a tiny language model made for edgellm."),
    (("谁做的你？", "你的名字？", "你叫啥？", "你是ChatGPT吗？", "这是什么模型？"),
     "我是{self}，一个为edgellm制作的小语言模型。"),
)  # fmt: skip
_QUESTIONS = (
    "What is the meaning of life?", "Why is the sky blue?", "Who is the king?", "Write a poem.",
    "How old is the sun?",
    "What is love?", "What time is it?", "Where can I buy a car?", "Who wrote this book?", "Tell me a joke.",
    "What should I cook today?", "How do I learn the piano?", "Is there life on Mars?", "Who will win?",
    "Can you write code?", "What is the best phone?", "Do you like music?", "Recommend a movie.",
    "What is AI?",
    "How do planes fly?", "What is my age?", "Give me the lyrics.", "Who discovered fire?", "What is DNA?",
    "人生的意义是什么？", "天空为什么是蓝的？", "谁是国王？", "写一首诗。", "太阳多大了？", "爱是什么？",
    "现在几点？",
    "哪里可以买车？", "这本书是谁写的？", "讲个笑话。", "今天吃什么？", "怎么学钢琴？", "火星上有生命吗？",
    "谁会赢？",
    "你会写代码吗？", "什么手机最好？", "你喜欢音乐吗？", "推荐一部电影。", "什么是人工智能？",
    "飞机怎么飞？",
)  # fmt: skip
_PHRASES = (
    ("I love you.", "我爱你。"), ("Hello.", "你好。"), ("Thank you.", "谢谢。"),
    ("Good morning.", "早上好。"),
    ("Good night.", "晚安。"), ("Goodbye.", "再见。"), ("I am happy.", "我很高兴。"),
    ("I am tired.", "我累了。"),
    ("I am hungry.", "我饿了。"), ("What is your name?", "你叫什么名字？"), ("How are you?", "你好吗？"),
    ("I do not know.", "我不知道。"), ("I like apples.", "我喜欢苹果。"), ("I like tea.", "我喜欢茶。"),
    ("I like cats.", "我喜欢猫。"), ("I like music.", "我喜欢音乐。"), ("She likes flowers.", "她喜欢花。"),
    ("He likes coffee.", "他喜欢咖啡。"), ("It is cold today.", "今天很冷。"), ("It is raining.", "下雨了。"),
)  # fmt: skip
_EMOJI = "😀😂🙂😉😍🤔👍🙏🎉❤🔥🚀🐱🐶"


def _some_name(rng: random.Random, zh: int) -> str:
    if zh:
        surname = rng.choice(_DOUBLE_SURNAMES) if rng.random() < 0.15 else rng.choice(_SURNAMES)
        return surname + "".join(rng.choices(_GIVEN, k=rng.choice((1, 2, 2))))
    if rng.random() < 0.5:
        return rng.choice(_NAMES)
    letters = [
        rng.choice("aeiou" if index % 2 else "bcdfghjklmnpqrstvwxyz") for index in range(rng.randrange(3, 9))
    ]
    return "".join(letters).capitalize()


def _name(rng: random.Random) -> Sample:
    """A name from outside the tables, told, and asked for after something else."""
    zh = rng.randrange(2)
    lang, item = ("en", "zh")[zh], memory.NAME_ITEM
    value, index = _some_name(rng, zh), rng.randrange(len(item.ask[zh]))
    if held_out(f"{memory.NAME}|{lang}|name|{value}|{index}"):
        return _name(rng)
    turns: list[Turn] = [(rng.choice(item.tell[zh]).format(v=value), item.reply[zh].format(v=value))]
    if rng.random() < 0.5:
        turns += _small(rng, lang).turns
    turns.append((item.ask[zh][index], item.answer[zh].format(v=value)))
    return Sample(NAME, lang, value, tuple(turns))


def _command(rng: random.Random) -> Sample:
    """A command for a model or a type that is not in the tables."""
    intent, zh = rng.choice(HOW_TO), rng.randrange(2)
    if rng.random() < 0.5:
        intent = HOW_TO[0]
    slots = {
        "m": rng.choice(_MODELS),
        "k": rng.choice(_MODELS),
        "q": rng.choice(_TYPES),
        "n": rng.choice(SLOTS["n"]),
    }
    prompt = rng.choice((intent.ask_en, intent.ask_zh)[zh]).format(**slots)
    return Sample(NAME, ("en", "zh")[zh], prompt, ((prompt, f"`{intent.command.format(**slots)}`"),))


def _fact(rng: random.Random) -> Sample:
    """A fact in the short form of a search box."""
    zh = rng.randrange(2)
    relation, asks = rng.choice(
        (
            (CAPITAL, (("capital of {x}?", "{x} capital", "and the capital of {x}?"),
                       ("{x}首都是哪里？", "{x}的首都？", "{x}首都"))),
            (COLOUR, (("color of {x}?", "and {x}?  which color?"), ("{x}什么颜色？", "{x}的颜色？"))),
        )
    )  # fmt: skip
    row = rng.choice(relation.rows)
    prompt = rng.choice(asks[zh]).format(x=row[2 * zh])
    answer = (relation.reply_en, relation.reply_zh)[zh].format(x=row[2 * zh], y=row[2 * zh + 1])
    return Sample(NAME, ("en", "zh")[zh], prompt, ((prompt, answer[:1].upper() + answer[1:]),))


def _small(rng: random.Random, lang: str | None = None) -> Sample:
    """Small talk in other words."""
    index = rng.randrange(len(_SMALL) // 2) * 2 + (rng.randrange(2) if lang is None else lang == "zh")
    prompts, reply = _SMALL[index]
    prompt = rng.choice(prompts)
    return Sample(NAME, ("en", "zh")[index % 2], prompt, ((prompt, reply),))


def _unknown(rng: random.Random) -> Sample:
    """A question outside the world, letters at random, or emoji."""
    roll = rng.random()
    if roll < 0.6:
        prompt = rng.choice(_QUESTIONS)
    elif roll < 0.85:
        prompt = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randrange(3, 10)))
    else:
        prompt = "".join(rng.choices(_EMOJI, k=rng.randrange(1, 4)))
    zh = int(any("\u4e00" <= letter <= "\u9fff" for letter in prompt))
    return Sample(NAME, ("en", "zh")[zh], prompt, ((prompt, UNKNOWN[zh]),))


def _phrase(rng: random.Random) -> Sample:
    """An everyday phrase, translated."""
    zh = rng.randrange(2)
    source, target = rng.choice(_PHRASES)[:: 1 if zh else -1]
    _, ask = rng.choice(translation.TO_ZH if zh else translation.TO_EN)
    return Sample(NAME, ("en", "zh")[zh], source, ((ask.format(t=source), target),))


_KINDS: tuple[tuple[Callable[[random.Random], Sample], float], ...] = (
    (_name, 0.4), (_command, 0.18), (_fact, 0.1), (_small, 0.12), (_unknown, 0.12), (_phrase, 0.08),
)  # fmt: skip


def draw(rng: random.Random) -> Sample:
    """One sample of one kind."""
    kinds, weights = zip(*_KINDS, strict=True)
    kind: Callable[[random.Random], Sample] = rng.choices(kinds, weights=weights)[0]
    return kind(rng)
