"""The text every profile reads: our own, English and Chinese, the same for every model.

It is cut to an exact number of each model's tokens. Because one tokenizer's token is not another's, the whole
text also tells how many UTF-8 bytes a token of this model stands for, which is what makes speeds comparable.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from edgellm.errors import UsageError
from edgellm.profiles.result.result import PromptRecord
from edgellm.session import Session

#: Changing a letter of it makes old results incomparable with new ones; its hash is in every result.
TEXT = """\
The workshop by the river opens at seven. Mara unlocks the door, lights the stove and puts the kettle on \
before she looks at the list on the wall: two clocks to clean, a radio that hums, and the small robot that \
the school sent back because it would only turn left. She starts with the robot. One of its wheels has a \
thread of blue wool wound around the axle, and once that is cut away it rolls straight across the table, \
stops at the edge, and waits there as if it wanted to be thanked.

"How long will a repair take?" people ask her, and she always gives the same answer: "Longer than you hope, \
and less than you fear." Last year she fixed 412 things, 37 of them twice. She writes down the weight of \
every part, the hours, and what each one cost: 3.50 for a spring, 0.12 for a screw, nothing for advice.

河边的修理铺早上七点开门。玛拉先生火烧水，再看墙上的单子：两座钟要清洗，一台收音机有杂音，还有学校送回来的小机器人，它只会向左转。\
她先修机器人。轮子上缠着一根蓝色的毛线，剪掉以后，它笔直地走过桌面，在桌边停下，好像在等别人说一声谢谢。

“修好要多久？”客人总是这样问。她的回答也总是一样：“比你希望的久，比你担心的快。”去年她一共修好了四百一十二件东西，其中三十七件修了两次。

In the evening the lamps along the bridge come on one after another. A boy brings a music box that plays only \
every second note. Mara listens, counts the missing teeth of the comb, and draws the melody on squared paper \
so that the gaps can be seen: do, rest, mi, rest, so. "It is not broken," she says at last, "it is breathing." \
Still, she takes it apart, for a promise is a promise, and by nine o'clock the tune is whole again.

    def mean(samples):
        total = 0.0
        for sample in samples:
            total += sample
        return total / len(samples)

晚上，桥上的灯一盏一盏亮起来。一个男孩带来一个音乐盒，它每隔一个音才响一次。玛拉数了数缺少的齿，把旋律画在方格纸上。九点钟，曲子又完整了。

What is kept in good repair costs little; what is thrown away costs twice. That is what the sign above the \
door says, in both languages, and the paint is renewed every spring.

"""


@dataclass(frozen=True)
class Prompt:
    """A prompt as one model sees it."""

    tokens: tuple[int, ...]
    text: str  # what the tokens spell, for timing the tokenizer
    record: PromptRecord
    before: tuple[int, ...] = ()  # what is in the cache when it comes


def make_prompt(session: Session, n_tokens: int, n_depth: int = 0) -> Prompt:
    """The first tokens of the text, repeated as often as needed, BOS first where the model wants one.

    `n_depth` of them go into the cache before, the `n_tokens` after those are the prompt.
    """
    if n_tokens < 1:
        raise UsageError(f"a prompt needs at least one token, got -p {n_tokens}")
    once = session.tokenize(TEXT, special=False)
    if not once:
        raise UsageError("the model's tokenizer makes no tokens of the profiling text; is it damaged?")
    times = (n_depth + n_tokens) // len(once) + 1
    ids = session.tokenize(TEXT * times, special=False, add_bos=session.info.add_bos)
    before, tokens = ids[:n_depth], ids[n_depth : n_depth + n_tokens]
    spelled = b"".join(session.piece(token) for token in tokens)
    data = TEXT.encode()
    record = PromptRecord(
        n_tokens=len(tokens),
        n_bytes=len(spelled),
        sha256=hashlib.sha256(spelled).hexdigest(),
        tokens_sha256=hashlib.sha256(" ".join(map(str, ids[: n_depth + n_tokens])).encode()).hexdigest(),
        bytes_per_token=len(data) / len(once),
        text_bytes=len(data),
        text_sha256=hashlib.sha256(data).hexdigest(),
        text_characters=len(TEXT),
    )
    return Prompt(tuple(tokens), spelled.decode("utf-8", "ignore"), record, tuple(before))
