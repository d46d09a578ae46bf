"""Texts that tokenizers get wrong: a fixed list for every conversion, and a seeded generator for long tests."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

#: Every kind of text that has broken a tokenizer's conversion somewhere, each in a line or two.
HARD_STRINGS: tuple[str, ...] = (
    "Hello, world! It's what they'LL say; we'Re sure I'D go, you'Ve won't.",
    "don't DON'T 'tis ''s 'S's it's'll 'Twas rock'n'roll ’s ’ll",
    "The year 2024, 3.14159, 1,000,000, 007, 1e-10, 0xFF, 12345678901234567890 and ½ ² ٣ ४ 五 Ⅻ ①",
    "1 12 123 1234 12345 123456 1234567",
    " leading",
    "trailing ",
    "   three leading, three  in   the    middle   ",
    "\t\ttabs\tand  spaces \t mixed\t \n\n\nand\r\nCRLF\r\n\r\n  indented\n    more\n\t\tless  \n \n  \n",
    "\n",
    "\n\n\n\n",
    " ",
    "        ",
    "\u00a0no\u00a0break\u2003em\u2009thin\u3000ideographic\u200bzero\ufeffbom\u2028line\u2029paragraph\x85next\x0b\x0c",
    "",
    "你好，世界！今天天气怎么样？我在apple工作1314151天～《红楼梦》“引号”……",
    "繁體中文、日本語のテキスト：カタカナ、ひらがな、漢字。한국어 텍스트입니다。",
    "𠀀𠮷𪚥𫝆𬺰 CJK ext B–F: 𰻝𱁬 㐀㒨 豈更",
    "Привет, как дела? Γειά σου Κόσμε! שלום עולם مرحبا بالعالم नमस्ते दुनिया สวัสดีชาวโลก",
    "हिन्दी में क्ष त्र ज्ञ; தமிழ் க்ஷ; বাংলা ক্ষ; កាន់តែពិសេស; မြန်မာ; ትግርኛ; ქართული; Հայերեն",
    "Tiếng Việt có dấu: ắ ằ ẳ ẵ ặ ể ễ ệ ỗ ộ ợ ữ ự",
    "é è ê ë (NFC) e\u0301 e\u0300 e\u0302 e\u0308 (NFD) Å A\u030a \u212b ﬁ ﬀ Ǆ ſ ß ẞ İ ı",
    "\u1112\u1161\u11ab\u1100\u1173\u11af 한글 각각 \u0958 \u0915\u093c \u2126 \u2260 =\u0338",
    "Z\u0351\u036b\u0343a\u0363\u035el\u0348g\u0322o\u0321 \u0301\u0301\u0301 a\u0328\u0301\u0323",
    "😀 😃😄 👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇨🇳 ☺️ ❤️‍🔥 🧑🏿‍🚀 1️⃣ #️⃣ 🫠🪿 \U0001fae8",
    "math: ∑∫√∞≠≤≥±×÷ 𝒜𝓑ℂ𝔻𝟙 ⟨ψ|φ⟩ α→β ⇒ γ; box: ─│┌┐█▓; arrows ←↑→↓",
    "def f(x: int) -> str:\n    return f'{x!r:>10}'  # comment\n\n\nclass A:\n\tpass\n",
    'if (a && b || !c) { x += ++i; y = arr[i]->ptr; } // TODO: /* nested */ \\n "\\""',
    '<html><body class="a b">&amp;&lt;</body></html> {{ jinja }} {% raw %} ${shell} `tick` ~tilde~ |pipe|',
    "https://example.org/a/b?c=d&e=%20f#g user@example.com C:\\Windows\\System32 /usr/local/bin",
    'SELECT * FROM t WHERE a=\'b\' AND c<>1; -- x\n\n{"json": [1, 2.5, null, true], "k": "v\\u00e9"}',
    "!!!???...,,,;;;:::---___***+++===###$$$%%%^^^&&&|||///\\\\\\((([[[{{{<<<>>>}}}]]])))",
    "'''''' \"\"\"\"\"\" ```````` '' \" `` -- --- ---- …… ——",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "AbCdEfGhIjKlMnOp camelCaseWordsAndHTTPServerErrors snake_case_words kebab-case-words",
    "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft antidisestablishmentarianism",
    "\x00\x01\x02\x1b[31mred\x1b[0m\x7f\x80\x9f",
    "\ufffd\ufffe\uffff\U0010ffff \ue000 private \U000e0041 tag",
    "<|im_start|> <|im_end|><|endoftext|> <|begin_of_text|><|eot_id|> <|start_header_id|>user<|end_header_id|>",
    "<think>\nhm\n</think>\n\n<tool_call>\n{}\n</tool_call> <|not_a_token|> <|im_start| <| |> |> <|im_",
    "\n\n \n\n  \n\n\t\n 🚀 (normal) 😶‍🌫️ (multiple emojis concatenated) ✅ 🦙🦙 3 33 333 3333",
)

_RANGES: tuple[tuple[int, int], ...] = (
    (0x20, 0x7E),
    (0xA0, 0x17F),
    (0x300, 0x36F),  # combining marks
    (0x370, 0x3FF),
    (0x400, 0x4FF),
    (0x5D0, 0x5EA),
    (0x600, 0x6FF),
    (0x900, 0x97F),
    (0xE00, 0xE7F),
    (0x1100, 0x11FF),  # Hangul Jamo: composes
    (0x1E00, 0x1EFF),
    (0x1F00, 0x1FFF),  # Greek extended: composes and decomposes
    (0x2000, 0x206F),
    (0x2100, 0x214F),
    (0x3040, 0x30FF),
    (0x4E00, 0x9FFF),
    (0xAC00, 0xD7A3),
    (0xF900, 0xFAFF),  # compatibility ideographs: NFC replaces them
    (0x1D400, 0x1D7FF),
    (0x1F300, 0x1FAFF),
    (0x20000, 0x2A6DF),  # CJK extension B
    (0x2F800, 0x2FA1F),
    (0x0, 0x10FFFF),
)
_SPACES = (" ", "  ", "   ", "\n", "\r\n", "\t", "\n\n", " \n", "\u00a0", "\u3000", "\u2028", "\x85", "\x0b")


def random_strings(n: int, seed: int, special: Sequence[str] = ()) -> Iterator[str]:
    """`n` texts that mix scripts, spaces, numbers, code, damaged and whole special tokens. Same for a seed."""
    rng = random.Random(seed)
    return (rng.choice(_KINDS)(rng, special) for _ in range(n))


def _one_script(rng: random.Random, special: Sequence[str]) -> str:
    low, high = rng.choice(_RANGES)
    return "".join(_character(rng, low, high) for _ in range(rng.randint(1, 40)))


def _words(rng: random.Random, special: Sequence[str]) -> str:
    parts = []
    for _ in range(rng.randint(1, 12)):
        low, high = rng.choice(_RANGES)
        parts += ["".join(_character(rng, low, high) for _ in range(rng.randint(1, 8))), rng.choice(_SPACES)]
    return "".join(parts)


def _spaces(rng: random.Random, special: Sequence[str]) -> str:
    return "".join(rng.choice((*_SPACES, "a", "1", ".", "中", "e\u0301")) for _ in range(rng.randint(1, 30)))


def _numbers(rng: random.Random, special: Sequence[str]) -> str:
    digits = "".join(rng.choice("0123456789") for _ in range(rng.randint(1, 30)))
    return (
        rng.choice(("", " ", "-", "$", "x="))
        + digits
        + rng.choice(("", "%", ".5", ",000", "e-3", "st", "年"))
    )


def _pieces(rng: random.Random, special: Sequence[str]) -> str:
    """Cuts of the fixed strings, in any order, with special tokens between."""
    parts = []
    for _ in range(rng.randint(1, 6)):
        text = rng.choice(HARD_STRINGS)
        start = rng.randint(0, len(text))
        parts.append(text[start : start + rng.randint(0, 20)])
        if special and rng.random() < 0.4:
            parts.append(_broken(rng, rng.choice(special)))
    return "".join(parts)


def _broken(rng: random.Random, token: str) -> str:
    """A special token, whole more often than not, else with one character lost, doubled or followed by a mark."""
    place = rng.randrange(len(token))
    return rng.choice(
        (
            token,
            token,
            token,
            token + token,
            token[:place] + token[place + 1 :],
            token + "\u0301",
            " " + token + " ",
        )
    )


def _contractions(rng: random.Random, special: Sequence[str]) -> str:
    endings = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'LL", "'Re", "’s", "'ſ", "'x", "'")
    heads = ("it", "I", "WE", "5", "", " ", "你", "é", "\n")
    return "".join(rng.choice(heads) + rng.choice(endings) for _ in range(rng.randint(1, 8)))


def _character(rng: random.Random, low: int, high: int) -> str:
    code = rng.randint(low, high)
    return chr(code) if not 0xD800 <= code <= 0xDFFF else "\ufffd"


_KINDS: tuple[Callable[[random.Random, Sequence[str]], str], ...] = (
    _one_script,
    _words,
    _words,
    _spaces,
    _numbers,
    _pieces,
    _pieces,
    _contractions,
)
