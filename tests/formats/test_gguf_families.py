"""Headers of hybrid models: what llama.cpp runs is accepted; what it would crash on, or compute nonsense of, is not."""

import pytest
import tiny_hybrid
from hostile_gguf import RawFile, take_apart
from tiny_hybrid import Hybrid

from edgellm import backends
from edgellm.convert.gguf.writer import encode
from edgellm.errors import ArtifactError
from edgellm.formats.artifact import Artifact
from edgellm.session import EngineOptions

ACCEPTED = {
    "dense": Hybrid(),
    "tied, drafting": Hybrid(tied=True, n_nextn=1),
    "equal heads": Hybrid(n_group=4),
    "experts": Hybrid("qwen35moe"),
    "experts, drafting": Hybrid("qwen35moe", n_nextn=1),
    "next": Hybrid("qwen3next"),
}
#: Key without `qwen35.`, kind, value: each at odds with the rest of the file.
WRONG = (
    ("ssm.conv_kernel", "u32", 0),
    ("ssm.conv_kernel", "u32", 5),
    ("ssm.state_size", "u32", 0),
    ("ssm.state_size", "u32", 32),
    ("ssm.group_count", "u32", 0),
    ("ssm.group_count", "u32", 3),
    ("ssm.time_step_rank", "u32", 8),
    ("ssm.inner_size", "u32", 128),
    ("ssm.inner_size", "f32", 64.0),
    ("full_attention_interval", "u32", 0),
    ("full_attention_interval", "u32", 3),
    ("nextn_predict_layers", "u32", 4),
    ("nextn_predict_layers", "u32", 1 << 31),
    ("rope.dimension_sections", "arr[i32]", [0, 0, 0, 0]),
    ("rope.dimension_sections", "arr[i32]", [-1, 4, 4, 0]),
    ("rope.dimension_sections", "arr[i32]", [4]),
    ("rope.dimension_sections", "u32", 4),
    ("rope.dimension_count", "u32", 7),
    ("rope.dimension_count", "u32", 64),
    ("attention.recurrent_layers", "arr[bool]", [True]),
    ("attention.recurrent_layers", "arr[bool]", [True, True, True, True]),
    ("attention.recurrent_layers", "arr[i32]", [1, 0, 1, 0]),
)


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> RawFile:
    return take_apart(tiny_hybrid.write(tmp_path_factory.mktemp("hybrid") / "good.gguf"))


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_hybrid_that_the_engine_runs_is_accepted(name, tmp_path):
    artifact = Artifact.open(tiny_hybrid.write(tmp_path / "a.gguf", ACCEPTED[name]))
    with backends.open_session(artifact, EngineOptions(n_ctx=64, n_threads=1)) as session:
        logits = session.eval_all(range(20))
    assert logits.std() > 0.5


def test_without_an_interval_every_fourth_layer_attends_as_for_the_engine(tmp_path):
    path = tiny_hybrid.write(tmp_path / "told.gguf", Hybrid(n_layer=8, interval=4))
    bare = tmp_path / "bare.gguf"
    bare.write_bytes(take_apart(path).with_key("qwen35.full_attention_interval", None).bytes())
    logits = []
    for each in (path, bare):
        with backends.open_session(Artifact.open(each), EngineOptions(n_ctx=64, n_threads=1)) as session:
            logits.append(session.eval_all(range(20)))
    assert (logits[0] == logits[1]).all()


@pytest.mark.parametrize(("name", "kind", "value"), WRONG, ids=str)
def test_a_number_that_fits_nothing_is_refused_in_one_line(raw, tmp_path, name, kind, value):
    path = tmp_path / "wrong.gguf"
    path.write_bytes(raw.with_key(f"qwen35.{name}", encode(kind, value)).bytes())
    with pytest.raises(ArtifactError) as refused:
        Artifact.open(path)
    assert "\n" not in str(refused.value) and str(path) in str(refused.value)


@pytest.mark.parametrize("name", ["ssm.state_size", "ssm.inner_size", "rope.dimension_sections"])
def test_a_missing_number_is_named(raw, tmp_path, name):
    path = tmp_path / "wrong.gguf"
    path.write_bytes(raw.with_key(f"qwen35.{name}", None).bytes())
    with pytest.raises(ArtifactError, match=f"qwen35.{name} "):
        Artifact.open(path)


@pytest.mark.parametrize(
    "tensor", ["attn_qkv.weight", "attn_gate.weight", "ssm_out.weight", "post_attention_norm.weight"]
)
def test_a_tensor_without_which_the_engine_crashes_is_named(raw, tmp_path, tensor):
    index = next(i for i, one in enumerate(raw.tensors) if one.name == f"blk.0.{tensor}".encode())
    path = tmp_path / "wrong.gguf"
    path.write_bytes(raw.with_tensor(index, name=b"blk.0.other").bytes())
    with pytest.raises(ArtifactError, match=f"'blk.0.{tensor}' is missing"):
        Artifact.open(path)


def test_families_without_a_state_take_none_of_it(tmp_path):
    raw = take_apart(tiny_hybrid.write(tmp_path / "a.gguf"))
    path = tmp_path / "qwen3.gguf"
    renamed = tuple((key.replace(b"qwen35.", b"qwen3."), value) for key, value in raw.keys)
    changed = RawFile(renamed, raw.tensors, raw.data).with_key("general.architecture", encode("str", "qwen3"))
    path.write_bytes(changed.bytes())
    with pytest.raises(ArtifactError, match=r"rope\.dimension_count 8 does not fit the head size 32"):
        Artifact.open(path)
