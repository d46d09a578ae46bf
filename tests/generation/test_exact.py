"""`exact`: an answer depends on prompt, seed and settings, and on nothing that was evaluated before."""

from pathlib import Path

import pytest
import tinymodels
from chat_fakes import ChatMl, ChatSession

from edgellm import backends
from edgellm.api.model import Model
from edgellm.catalog import conversion
from edgellm.chat.conversation import Conversation
from edgellm.chat.reply import seeded
from edgellm.errors import UsageError
from edgellm.generation.generate import GenerateOptions
from edgellm.generation.speculative import Lookup
from edgellm.session import EngineOptions, Sampling

#: As likely as not to be changed by the last bit of a logit.
HOT = {"temperature": 2.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return tinymodels.write(tinymodels.CASES["llama"], tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module", params=[("gguf", "Q8_0"), ("onnx", "onnx-int8")], ids=lambda p: p[0])
def model(request, source, tmp_path_factory):
    quant = request.param[1]
    output = tmp_path_factory.mktemp("model") / (quant if quant.startswith("onnx") else "tiny.gguf")
    artifact = conversion.convert_checkpoint(source, output, quant)
    with Model(backends.open_session(artifact, EngineOptions(n_ctx=512, n_threads=1))) as opened:
        yield opened


def test_the_same_answer_whatever_is_cached(model):
    for i in range(25):
        prompt = "The other thing is that there are three of them. " * (1 + i % 3) + f"{i}"
        settings = {**HOT, "seed": i, "max_tokens": 30, "exact": True}
        model.session.rewind(0)
        fresh = model.complete(prompt, **settings)
        again = model.complete(prompt, **settings)
        model.complete(prompt[: len(prompt) // 2] + " else", max_tokens=5, seed=1)
        after_others = model.complete(prompt, **settings)
        assert fresh.tokens == again.tokens == after_others.tokens
        assert again.usage.n_cached == after_others.usage.n_cached == 0
    usual = model.complete(prompt, **{**settings, "exact": False})
    assert usual.usage.n_cached > 0


def test_a_conversations_prompt_is_its_text_not_what_was_drawn():
    """Drawn ids seldom are what the tokenizer makes of their text: an answer must not depend on which it was."""
    session = ChatSession(b"an answer")
    conversation = Conversation(session, ChatMl(), options=GenerateOptions(exact=True))
    "".join(conversation.ask("one"))
    assert conversation.spans.known
    "".join(conversation.ask("two"))
    assert session.tokenize(session.text(session.evaluated[1])) == session.evaluated[1]
    assert session.text(session.evaluated[1]).startswith("<|im_start|>user\none")
    conversation._render(conversation.messages[:1], 0)
    assert not conversation.spans.known


def test_draft_tokens_exclude_it():
    with pytest.raises(UsageError, match="exclude each other"):
        GenerateOptions(exact=True, drafter=Lookup())


def test_an_answer_made_anew_has_a_seed_of_its_own():
    for seed in (0, 5, 2**32 - 3, 2**32 - 2, 2**32 - 1):
        options = GenerateOptions(sampling=Sampling(seed=seed))
        assert len({seeded(options, n).sampling.seed for n in range(4)}) == 4
