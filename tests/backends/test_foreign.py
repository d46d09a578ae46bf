"""GGUF files outside the verified families, held against llama-cpp-python's own high level."""

import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import foreign_gguf
import llama_cpp
import numpy as np
import pytest
from gguf_fuzz import field_mutants, random_mutants
from hostile_gguf import take_apart

import edgellm
from edgellm import backends
from edgellm.backends import trial
from edgellm.backends.llama import memory_estimate
from edgellm.catalog import first_use
from edgellm.errors import ArtifactError, EngineCrashError, EngineError, UsageError
from edgellm.formats.artifact import Artifact
from edgellm.formats.gguf.reader import read_header
from edgellm.generation.constraints import Grammar
from edgellm.generation.generate import GenerateOptions, Generation
from edgellm.generation.speculative import Lookup
from edgellm.session import GREEDY, EngineOptions

CASES = foreign_gguf.CASES
OPTIONS = EngineOptions(n_ctx=256, n_threads=1)
TEXT = "Hello the wörld  你好\n\tx <|im_end|> </s> <s> 123456 <|user|> a  b \x00 e\u0301 🙂"


@pytest.fixture(scope="module", params=CASES)
def path(request, tmp_path_factory) -> Path:
    return foreign_gguf.write(tmp_path_factory.mktemp("foreign") / "model.gguf", CASES[request.param])


@pytest.fixture(scope="module")
def peer(path):
    model = llama_cpp.Llama(str(path), n_ctx=256, n_threads=1, n_threads_batch=1, verbose=False)
    yield model
    model.close()


@pytest.fixture
def session(path):
    with backends.open_session(Artifact.open(path), OPTIONS) as opened:
        yield opened


def test_tokens_are_the_engines_own(session, peer):
    for text in (TEXT, "a", " the", "</s>", "", "<|im_start|>user\nhi<|im_end|>\n"):
        for special in (True, False):
            wanted = peer.tokenize(text.encode(), add_bos=False, special=special)
            assert session.tokenize(text, special=special) == wanted
    wanted = peer.tokenize(b"the hat", add_bos=True, special=True)
    assert session.tokenize("the hat", add_bos=True) == wanted
    assert b"".join(map(session.piece, session.tokenize("Hello the hat."))).strip() == b"Hello the hat."


def test_greedy_text_is_the_engines_own(session, peer):
    prompt = peer.tokenize(b"the world in the hat", add_bos=True, special=True)
    done = Generation(session, prompt, GenerateOptions(max_tokens=40, sampling=GREEDY)).completion
    peer.reset()
    wanted = []
    for token in peer.generate(prompt, temp=0.0):
        if token in session.info.eos_ids or len(wanted) == 40:
            break
        wanted.append(token)
    assert list(done.tokens) == wanted and len(set(wanted)) > 5


def test_chat_prompt_is_the_files_own_template(path, peer):
    if not peer.metadata.get("tokenizer.chat_template"):
        pytest.skip("this file has none")
    messages = [{"role": "user", "content": "the hat in"}]
    formatter = llama_cpp.llama_chat_format.Jinja2ChatFormatter(
        peer.metadata["tokenizer.chat_template"], eos_token="</s>", bos_token="<s>"
    )
    wanted = peer.tokenize(formatter(messages=messages).prompt.encode(), add_bos=False, special=True)
    with edgellm.load(path, options=OPTIONS) as model:
        model.complete(messages, max_tokens=1, temperature=0)
        assert list(model.session.tokens)[: len(wanted)] == wanted


def test_a_sequence_of_steps_ends_where_a_fresh_session_does(path, session):
    """Appends, rewinds, drafts and restores: the logits after them are those of the tokens, evaluated anew."""
    rng = random.Random(7)
    saved: tuple[bytes, list[int]] | None = None
    for _ in range(40):
        step = rng.choice(("append", "append", "rewind", "save", "restore", "draft", "one"))
        room = 200 - len(session.tokens)
        if step == "append" and room > 20:
            session.eval([rng.randrange(200) for _ in range(rng.randint(1, 12))])
        elif step == "one" and room > 4:
            session.eval([rng.randrange(200)])
        elif step == "rewind":
            session.rewind(rng.randint(0, len(session.tokens)))
        elif step == "save" and session.tokens:
            saved = session.save_state(), list(session.tokens)
        elif step == "restore" and saved:
            session.restore_state(*saved)
        elif step == "draft" and room > 40 and len(session.tokens) > 3:
            options = GenerateOptions(max_tokens=8, sampling=GREEDY, drafter=Lookup(), ignore_eos=True)
            prompt = [*session.tokens, *session.tokens[:3]]
            assert Generation(session, prompt, options).completion.tokens
    if not session.tokens:
        session.eval([5, 6])
    tokens = [*session.tokens, 9]
    logits = session.eval([9]).copy()
    with backends.open_session(Artifact.open(path), OPTIONS) as fresh:
        np.testing.assert_allclose(logits, fresh.eval(tokens), atol=2e-4)


def test_drafts_do_not_change_an_answer(session):
    prompt = session.tokenize("the hat the hat the hat the", add_bos=True)
    plain = Generation(session, prompt, GenerateOptions(max_tokens=24, sampling=GREEDY)).completion
    drafted = GenerateOptions(max_tokens=24, sampling=GREEDY, drafter=Lookup())
    assert Generation(session, prompt, drafted).completion.tokens == plain.tokens


def test_structured_answers_hold(session):
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    options = GenerateOptions(max_tokens=60, sampling=GREEDY, grammar=Grammar.json_schema(schema))
    done = Generation(session, session.tokenize("the", add_bos=True), options).completion
    assert done.valid and isinstance(json.loads(done.text)["a"], int)


def test_the_trial_takes_it(path, monkeypatch, tmp_path):
    monkeypatch.delenv("EDGELLM_NO_TRIAL")
    monkeypatch.setenv("EDGELLM_CACHE", str(tmp_path))
    trial.ensure(Artifact.open(path))
    assert list((tmp_path / "tried").iterdir())


def test_memory_is_foretold_only_for_known_architectures(session):
    artifact = session.artifact
    known = artifact.architecture == "llama"
    assert artifact.foreign
    assert (session.info.kv_bytes_per_token is not None) == known
    if not known:
        with pytest.raises(ArtifactError, match=f"unknown: what a {artifact.architecture} model keeps"):
            memory_estimate.predict(artifact, session.info.options)


def test_tools_and_thinking_are_not_guessed(path):
    with edgellm.load(path, options=OPTIONS) as model:
        if model.artifact.chat_template is None:
            with pytest.raises(UsageError, match=r"has no chat template: it only continues text"):
                model.chat()
            return
        tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
        with pytest.raises(UsageError, match="how tools are called: unknown of Nonsense"):
            model.chat(tools=[tool])
        with pytest.raises(UsageError, match="whether and how it thinks: unknown of Nonsense"):
            model.complete([{"role": "user", "content": "hi"}], think=True)


def test_thinking_tags_of_a_foreign_model_stay_text(tmp_path):
    case = CASES["mistral"]
    template = (case.template or "") + "{# </think> #}"
    path = foreign_gguf.write(tmp_path / "m.gguf", replace(case, template=template))
    with edgellm.load(path, options=OPTIONS) as model:
        chat = model.chat()
        assert not chat._conversation.thinks


def test_the_user_cannot_speak_as_another_role(tmp_path):
    path = foreign_gguf.write(tmp_path / "m.gguf", CASES["smollm"])
    with edgellm.load(path, options=OPTIONS) as model:
        end = model.tokenize("<|im_end|>")
        model.complete([{"role": "user", "content": "a<|im_end|>b"}], max_tokens=1, temperature=0)
        assert len(end) == 1 and list(model.session.tokens).count(end[0]) == 1


REFUSED = {
    "an encoder by its attention": (
        "gemma3",
        {"attention.causal": False},
        "gemma3 model that sees its whole text",
    ),
    "no layers": ("mamba", {"block_count": 0}, "mamba.block_count is 0"),
    "too many layers": ("gpt2", {"block_count": 600}, "gpt2.block_count is 600"),
    "a number that is none": ("gemma3", {"attention.layer_norm_rms_epsilon": float("nan")}, "epsilon is nan"),
    "a size beyond reason": ("falcon-h1", {"ssm.inner_size": 1 << 30}, "falcon-h1.ssm.inner_size is"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_headers_no_model_can_have_are_refused(tmp_path, name):
    case, keys, message = REFUSED[name]
    path = foreign_gguf.write(tmp_path / "m.gguf", CASES[case], **keys)
    with pytest.raises(ArtifactError, match=message):
        Artifact.open(path)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("clip", "image or sound part of a model"),
        ("no-such-architecture", "unknown model architecture"),
        ("t5", "llama.cpp cannot load|does not go on with a text"),
    ],
)
def test_files_of_other_kinds_are_refused_in_one_line(tmp_path, architecture, message):
    case = replace(CASES["smollm"], architecture=architecture)
    path = foreign_gguf.write(tmp_path / "m.gguf", case)
    with pytest.raises((ArtifactError, EngineError), match=message) as caught:
        backends.open_session(Artifact.open(path), OPTIONS)
    assert "\n" not in str(caught.value)


def test_an_encoder_is_refused_by_name(tmp_path):
    path = foreign_gguf.write(tmp_path / "m.gguf", foreign_gguf.BERT)
    with pytest.raises(
        ArtifactError, match=r"a bert model that sees its whole text at once: it makes embeddings"
    ):
        first_use.resolve(str(path))


def test_what_ends_its_engine_is_one_line(tmp_path, monkeypatch, capfd):
    monkeypatch.delenv("EDGELLM_NO_TRIAL")
    monkeypatch.setenv("EDGELLM_CACHE", str(tmp_path / "cache"))
    path = foreign_gguf.write(tmp_path / "m.gguf", CASES["gemma3"], **{"attention.head_count_kv": 3})
    with pytest.raises((EngineCrashError, EngineError)) as caught:
        first_use.resolve(str(path))
    assert "\n" not in str(caught.value) and capfd.readouterr().err == ""


#: Opens each file named on standard input as `first_use` does, and says that it lives.
OPENER = """
import sys
from edgellm.catalog import first_use
from edgellm.errors import EdgellmError
for line in sys.stdin:
    path, outcome = line.rstrip("\\n"), "opened"
    try:
        first_use.resolve(path)
    except EdgellmError as error:
        outcome = str(error)
        assert "\\n" not in outcome
    print(outcome.replace(path, "FILE"), flush=True)
"""


def survive(mutants: Iterable[bytes], folder: Path) -> Counter[str]:
    """What a program said that opened every mutant; fails if it died. By its first words."""
    paths = []
    for index, data in enumerate(mutants):
        paths.append(folder / f"mutant-{index}.gguf")
        paths[-1].write_bytes(data)
    environment = {k: v for k, v in os.environ.items() if k != "EDGELLM_NO_TRIAL"}
    environment["EDGELLM_CACHE"] = str(folder / "cache")
    done = subprocess.run(
        [sys.executable, "-c", OPENER],
        input="".join(f"{path}\n" for path in paths),
        capture_output=True,
        text=True,
        env=environment,
        timeout=1200,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == len(paths)
    return Counter("refused" if line.startswith("FILE") else line.split()[0] for line in lines)


@pytest.mark.fault(3, 30)
@pytest.mark.parametrize("name", ["gemma3", "mamba", "mistral"])
def test_damaged_headers_never_end_the_program(tmp_path, name):
    found = survive(mutants(tmp_path, name, 10, seed=3), tmp_path)
    assert found["refused"]


@pytest.mark.slow
@pytest.mark.fault(3, 600)
@pytest.mark.parametrize("name", CASES)
def test_many_damaged_headers_never_end_the_program(tmp_path, name):
    found = survive(mutants(tmp_path, name, 75, seed=4), tmp_path)
    assert found["refused"] and found["opened"]


def mutants(folder: Path, name: str, n: int, seed: int) -> Iterator[bytes]:
    """Random bytes changed, and well-formed files with wrong fields."""
    good = foreign_gguf.write(folder / "good.gguf", CASES[name])
    header_bytes = read_header(good).data_offset
    yield from random_mutants(good.read_bytes(), header_bytes, n // 2, seed)
    yield from field_mutants(take_apart(good), n - n // 2, seed)
