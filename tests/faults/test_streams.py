"""Whatever tokens a model draws, what is shown piece by piece is the whole answer, and its bytes are the tokens'."""

import random

import fault_rows
import pytest
from fakes import ScriptedSession

from edgellm.generation import generate
from edgellm.generation.generate import GenerateOptions

ALPHABET = [
    "a", "b", "ab", "\n", " ", "é", "ß", "中", "文", "𠀀", "𪚥", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇫🇷",
    "e\u0301", "\u200d", "ﷺ", "ಠ", "\x00",
]  # fmt: skip


@pytest.mark.fault(12, 0)
def test_a_stream_is_the_whole_and_its_bytes(request):
    """One token a byte, so that every character is cut at every place; text and bytes are Python's own."""
    rng, count = random.Random(12), fault_rows.trials(2000, 200)
    for _ in range(count):
        text = "".join(rng.choices(ALPHABET, k=rng.randrange(40)))
        stop = tuple("".join(rng.choices(ALPHABET, k=rng.randrange(1, 3))) for _ in range(rng.randrange(3)))
        options = GenerateOptions(stop=stop, max_tokens=rng.choice([None, rng.randrange(80)]))
        stream = generate.stream(ScriptedSession(text.encode()), list(b"prompt"), options)
        pieces = list(stream)
        done = stream.completion
        assert "".join(pieces) == done.text
        assert not any("\ud800" <= c <= "\udfff" for c in done.text)
        drawn = bytes(t for t in done.tokens if t < 256)
        assert text.encode().startswith(drawn)
        whole = drawn.decode("utf-8", "replace")
        assert whole.startswith(done.text.rstrip("�")) or done.text.startswith(whole)
        cut = min((at for s in stop if (at := whole.find(s)) >= 0), default=None)
        if cut is None:
            assert done.text == whole
        else:
            ends = min(whole.find(s) + len(s) for s in stop if s in whole)
            starts = [whole.find(s) for s in stop if s in whole and whole.find(s) + len(s) == ends]
            assert done.text == whole[: min(starts)]
    request.node.user_properties.append(("fault", (12, count)))
