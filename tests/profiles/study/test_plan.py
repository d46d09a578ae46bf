"""Plans: what a TOML file may say, what it becomes, and the plans that come with edgellm."""

import profile_samples as samples
import pytest

from edgellm.errors import UsageError
from edgellm.formats.artifact import Artifact
from edgellm.profiles.result.settings import Settings, Workload, engine_options
from edgellm.profiles.study import plan


def artifact(tmp_path, name="a.gguf"):
    return Artifact(tmp_path / name, "gguf", "llama", "a", "Q8_0", 1, 0, None)


def test_a_grid_is_every_combination(tmp_path):
    grid = plan.parse(
        'models = ["m", "n"]\ntypes = ["Q8_0", "onnx-int4"]\nn_threads = [1, 2]\nn_prompt = [8, 16]\n'
        'n_depth = 0\ntype_k = ["f16", "q8_0"]\ntype_v = ["f16", "q8_0"]\nuntil = "2%"\nbudget = "10m"\nseed = 7',
        "x.toml",
    )
    assert grid.names() == ("m:Q8_0", "m:onnx-int4", "n:Q8_0", "n:onnx-int4")
    specs = grid.specs([artifact(tmp_path)])
    assert len(specs) == 2 * 2 * 2 and {s.workload.n_prompt for s in specs} == {8, 16}
    assert {(s.settings.type_k, s.settings.type_v) for s in specs} == {("f16", "f16"), ("q8_0", "q8_0")}
    assert all(s.workload.seed == 7 for s in specs)
    found = grid.plan()
    assert (found.until, found.budget_seconds, found.seed) == (0.02, 600.0, 7)
    assert found.max_launches == plan.MAX_LAUNCHES


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("n_promt = [1]", "unknown field 'n_promt'"),
        ("n_prompt = ['many']", "n_prompt"),
        ("n_prompt = [1", "x.toml"),
        ("until = '200%'", "no width between 0 and 1"),
        ("budget = 'soon'", "no time above zero"),
        ("text = 'wiki'", "there are: dialogues, general"),
        ("types = ['Q8_0']\n[[also]]\ntypes = ['Q4_0']", "Q4_0, which is not among the plan's types"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused_by_name(text, told):
    with pytest.raises(UsageError, match=told):
        plan.parse(text, "x.toml")


def test_further_points_are_measured_of_their_types_alone(tmp_path):
    grid = plan.parse(
        'models = ["m", "n"]\ntypes = ["Q8_0", "Q4_0"]\nn_threads = [1, 2]\nn_prompt = 8\n'
        '[[also]]\ntypes = ["Q4_0"]\nn_threads = 2\nn_depth = [0, 64]',
        "x.toml",
    )
    artifacts = [artifact(tmp_path, name) for name in grid.names()]
    found = [(s.artifact.path.name, s.settings.n_threads, s.workload.n_depth) for s in grid.specs(artifacts)]
    both = [(name, n, 0) for name in grid.names() for n in (1, 2)]
    assert sorted(found) == sorted([*both, ("m:Q4_0", 2, 64), ("n:Q4_0", 2, 64)])


def test_unequal_lists_of_cache_types_are_refused(tmp_path):
    grid = plan.Grid(type_k=("f16", "q8_0", "q4_0"), type_v=("f16", "q8_0"))
    with pytest.raises(UsageError, match="-ctk has 3 types and -ctv 2"):
        grid.specs([artifact(tmp_path)])


@pytest.mark.parametrize("name", plan.studies())
def test_the_plans_that_come_with_edgellm_are_plans(tmp_path, name):
    grid = plan.read(name)
    assert grid.specs([artifact(tmp_path)]) and grid.n_threads
    assert {"bundled", "real", "shapes"} <= set(plan.studies())


def test_a_plan_that_is_not_there_is_told_with_those_that_are():
    with pytest.raises(UsageError, match="one of: bundled, real, shapes"):
        plan.read("nowhere")


@pytest.mark.parametrize(
    ("model", "reference", "expected"),
    [
        ("tiny-qwen3:Q4_0", "F32", "tiny-qwen3:F32"),
        ("owner/name", "F16", "owner/name:F16"),
        ("tiny-qwen3:Q4_0", "tiny-llama3:F32", "tiny-llama3:F32"),
        ("tiny-qwen3:Q4_0", None, None),
        pytest.param(__file__, "F32", None, id="a file has no types"),
        pytest.param(__file__, __file__, __file__, id="a file beside a file"),
    ],
)
def test_the_reference_of_a_model(model, reference, expected):
    assert plan.reference_of(model, reference) == expected


def test_an_engine_gets_just_enough_context_and_a_batch_that_counts():
    options = engine_options(Settings("llamacpp", 2), Workload(n_prompt=8, n_gen=4, n_depth=16, n_batch=64))
    assert (options.n_ctx, options.n_batch, options.n_ubatch) == (29, 64, 64)
    with pytest.raises(UsageError, match="need 13 tokens of context, -c gives 12"):
        engine_options(Settings("llamacpp", 2, n_ctx=12), Workload(n_prompt=8, n_gen=4))
    assert samples.run().settings == Settings("llamacpp", 4)
