"""The ONNX Runtime session on small random models: parity with the oracle, and what a session promises."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tinymodels
from onnx_helpers import nmse, oracle, typical_nmse
from tokenizers import Tokenizer

from edgellm import backends
from edgellm.calibration import text
from edgellm.convert.onnx import linear
from edgellm.convert.onnx.options import OnnxOptions
from edgellm.convert.onnx.writer import OnnxRequest, convert_onnx
from edgellm.errors import EngineError, OutputExistsError, UsageError
from edgellm.formats.artifact import Artifact
from edgellm.session import GREEDY, EngineOptions

OPTIONS = EngineOptions(n_ctx=128, n_threads=1)
TOKENS = [5, 17, 260, 40, 41, 42, 7, 9, 11, 100, 200, 150]
TINY = tinymodels.CASES | tinymodels.HYBRIDS
CASES = sorted(TINY)

#: Largest relative squared error of logits against the oracle. The bounds on int4 are for weights without any
#: structure, uniform noise, which rounding hurts more than trained ones.
BOUNDS = {"onnx-fp32": 1e-8, "onnx-int8": 1e-3, "onnx-w8a8": 2e-3, "onnx-int4": 4e-2}
#: The same of hybrids: a delta net divides what it reads by its length, so that of nearly nothing rounding grows, too.
HYBRID_BOUNDS = {"onnx-fp32": 1e-8, "onnx-int8": 5e-3, "onnx-w8a8": 1.5e-2, "onnx-int4": 0.3}


@pytest.mark.parametrize("name", CASES)
def test_logits_are_the_oracles(name, tmp_path):
    source = tinymodels.write(TINY[name], tmp_path / "source")
    expected, hybrid = oracle(source, TOKENS), name in tinymodels.HYBRIDS
    for quant, bound in (HYBRID_BOUNDS if hybrid else BOUNDS).items():
        artifact = convert_onnx(OnnxRequest(source, quant, tmp_path / quant, hash_sources=False))
        error = typical_nmse if (hybrid or "moe" in name) and quant != "onnx-fp32" else nmse
        with backends.open_session(artifact, OPTIONS) as session:
            assert error(session.eval_all(TOKENS), expected) < bound, quant


@pytest.mark.parametrize(
    "settings",
    [
        ["block=16", "symmetric=true"],
        ["algorithm=search"],
        ["algorithm=kquant", "block=32"],
        ["attention=int4"],
        ["mixed=true", "head=int4"],
        ["head=fp32"],
    ],
)
@pytest.mark.parametrize("name", ["llama-256", "qwen3moe-256"])
def test_every_option_gives_a_model_that_agrees(name, settings, tmp_path):
    source = tinymodels.write(tinymodels.CASES[name], tmp_path / "source")
    request = OnnxRequest(source, "onnx-int4", tmp_path / "out", OnnxOptions.parse(settings))
    with backends.open_session(convert_onnx(request), OPTIONS) as session:
        assert typical_nmse(session.eval_all(TOKENS), oracle(source, TOKENS)) < 0.1


@pytest.mark.parametrize("tied", [False, True])
def test_a_head_in_parts_gives_the_same_logits(tied, tmp_path, monkeypatch):
    source = tinymodels.write(tinymodels.variant("llama-256", tied=tied), tmp_path / "source")
    found = []
    for weights in (1 << 24, 1 << 14):
        monkeypatch.setattr(linear, "_PART_WEIGHTS", weights)
        artifact = convert_onnx(OnnxRequest(source, "onnx-int8", tmp_path / str(weights)))
        with backends.open_session(artifact, OPTIONS) as session:
            found.append(session.eval_all(TOKENS))
    np.testing.assert_array_equal(*found)
    sizes = [len((tmp_path / str(weights) / "model.onnx").read_bytes()) for weights in (1 << 24, 1 << 14)]
    assert sizes[1] > sizes[0] + 500  # more nodes, and no more data
    assert tmp_path.joinpath(str(1 << 14), "model.onnx.data").stat().st_size == artifact.size_bytes - sizes[1]


@pytest.fixture(scope="module")
def small_cache(source, tmp_path_factory) -> Artifact:
    options = OnnxOptions.parse(["kv=int8"])
    folder = tmp_path_factory.mktemp("model") / "int8-cache"
    return convert_onnx(OnnxRequest(source, "onnx-fp32", folder, options, calibration_text=text.text(4000)))


def test_an_int8_cache_is_a_quarter_as_large_and_loses_little(source, artifact, small_cache):
    tokens = [(7 * i) % 256 for i in range(200)]
    with backends.open_session(small_cache, EngineOptions(n_ctx=256, n_threads=1)) as session:
        assert session.info.options.type_k == "q8_0"
        found = session.eval(tokens).copy()  # in pieces smaller than the context
        state = session.save_state()
        after = session.eval([5]).copy()
        session.rewind(0)
        session.restore_state(state, tokens)
        np.testing.assert_array_equal(session.eval([5]), after)
        small = session.info.kv_bytes_per_token
    error = nmse(found, oracle(source, tokens)[-1])
    assert 1e-8 < error < 2e-3
    with backends.open_session(artifact, OPTIONS) as session:
        assert small and session.info.kv_bytes_per_token == 4 * small


def test_a_caches_type_is_the_folders(artifact, small_cache):
    with backends.open_session(small_cache, replace(OPTIONS, type_k="q8_0", type_v="q8_0")) as session:
        assert session.eval([1]).shape == (session.info.n_vocab,)
    with pytest.raises(EngineError, match="cache is q8_0, f32 cannot be chosen"):
        backends.open_session(small_cache, replace(OPTIONS, type_k="f32"))
    with pytest.raises(
        EngineError, match="cache is f32, q8_0 cannot be chosen; convert again with --onnx kv"
    ):
        backends.open_session(artifact, replace(OPTIONS, type_k="q8_0"))


def test_an_int8_cache_without_a_text_is_refused(source, tmp_path):
    with pytest.raises(UsageError, match="needs a text to measure its scales on"):
        convert_onnx(OnnxRequest(source, "onnx-int4", tmp_path / "out", OnnxOptions(kv="int8")))
    assert not (tmp_path / "out").exists()


def test_an_output_that_exists_is_kept(tmp_path):
    source = tinymodels.write(tinymodels.CASES["qwen2"], tmp_path / "source")
    request = OnnxRequest(source, "onnx-int4", tmp_path / "out")
    before = convert_onnx(request)
    with pytest.raises(OutputExistsError, match="--force"):
        convert_onnx(replace(request, quant="onnx-int8"))
    assert Artifact.open(tmp_path / "out").sha256 == before.sha256
    assert convert_onnx(replace(request, quant="onnx-int8", force=True)).quantization == "onnx-int8"


def test_a_plain_folder_as_output_takes_the_usual_name(tmp_path):
    source = tinymodels.write(tinymodels.CASES["qwen2"], tmp_path / "source")
    (tmp_path / "models").mkdir()
    artifact = convert_onnx(OnnxRequest(source, "onnx-int4", tmp_path / "models"))
    assert artifact.path.parent == tmp_path / "models" and artifact.path.name.endswith("-onnx-int4")


def test_onnx_itself_accepts_the_graph(tmp_path):
    onnx = pytest.importorskip("onnx")
    # ONNX Runtime has this operator in ONNX's own domain, where ONNX does not know it.
    parameter, attribute = onnx.defs.OpSchema.FormalParameter, onnx.defs.OpSchema.Attribute
    kinds = onnx.defs.OpSchema.AttrType
    schema = onnx.defs.OpSchema(
        "SimplifiedLayerNormalization",
        "",
        1,
        inputs=[parameter("X", "tensor(float)"), parameter("scale", "tensor(float)")],
        outputs=[parameter("Y", "tensor(float)")],
        attributes=[
            attribute("axis", kinds.INT),
            attribute("epsilon", kinds.FLOAT),
            attribute("stash_type", kinds.INT),
        ],
    )
    onnx.defs.register_schema(schema)
    try:
        for name, quants in (
            ("llama-bias", BOUNDS),
            ("qwen3moe", ["onnx-int4"]),
            ("qwen2moe", ["onnx-fp32"]),
            ("qwen35-grouped", ["onnx-w8a8"]),
        ):
            source = tinymodels.write(TINY[name], tmp_path / name)
            for quant in quants:
                folder = tmp_path / f"{name}-{quant}"
                convert_onnx(OnnxRequest(source, quant, folder, hash_sources=False))
                onnx.checker.check_model(str(folder / "model.onnx"))
    finally:
        onnx.defs.deregister_schema(schema.name, schema.since_version, schema.domain)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return tinymodels.write(tinymodels.CASES["llama"], tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def artifact(source, tmp_path_factory) -> Artifact:
    return convert_onnx(OnnxRequest(source, "onnx-int4", tmp_path_factory.mktemp("model") / "tiny"))


@pytest.fixture
def session(artifact):
    with backends.open_session(artifact, OPTIONS) as session:
        yield session


def first(session, tokens, n, sampling=GREEDY) -> list[int]:
    ids = session.stream(tokens, sampling)
    return [next(ids) for _ in range(n)]


def test_tokens_and_pieces_are_the_tokenizers(session, source):
    library = Tokenizer.from_file(str(source / "tokenizer.json"))
    text = "The quick brown fox's 1234 你好，世界 🎉\r\n\t <|eot_id|> é 👩‍👩‍👧"
    ids = session.tokenize(text)
    assert ids == library.encode(text, add_special_tokens=False).ids
    assert b"".join(map(session.piece, ids)).decode() == text.replace("<|eot_id|>", "")
    assert session.tokenize(text, add_bos=True) == library.encode(text).ids
    plain = session.tokenize("<|eot_id|>", special=False)
    assert len(plain) > 1 and b"".join(map(session.piece, plain)) == b"<|eot_id|>"
    assert session.info.eos_ids == set(session.tokenize("<|eot_id|><|end_of_text|>")) | {300}


def test_a_cache_that_grows_changes_nothing(source, tmp_path):
    artifact = convert_onnx(OnnxRequest(source, "onnx-fp32", tmp_path / "fp32"))
    tokens = [(7 * i) % 256 for i in range(510)]
    with backends.open_session(artifact, EngineOptions(n_ctx=512, n_threads=1, n_ubatch=100)) as session:
        session._cache.capacity = 0
        session._cache.reserve(16)
        grown = session.eval(tokens).copy()
        assert session._cache.capacity == 512
    assert nmse(grown, oracle(source, tokens)[-1]) < 1e-8


@pytest.mark.parametrize("damage", [lambda s: s[:-4], lambda s: s[:10], lambda s: b"XXXX" + s[4:]])
def test_a_state_of_another_shape_is_refused(session, damage):
    session.eval([1, 2, 3])
    with pytest.raises(EngineError, match="does not fit"):
        session.restore_state(damage(session.save_state()), [1, 2, 3])


def test_a_context_beyond_the_models_is_cut_and_said(artifact):
    with backends.open_session(artifact, EngineOptions(n_ctx=9999, n_threads=1)) as session:
        assert session.info.n_ctx == 512
        assert "reduced from 9999 to 512" in session.info.notes[0]


def test_a_damaged_graph_is_an_error(artifact, tmp_path):
    folder = shutil.copytree(artifact.path, tmp_path / "copy")
    graph = folder / "model.onnx"
    graph.write_bytes(graph.read_bytes().replace(b"SkipSimplified", b"SkipComplicat."))
    with pytest.raises(EngineError, match="ONNX Runtime cannot load"):
        backends.open_session(Artifact.open(folder), OPTIONS)
