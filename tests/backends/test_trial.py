"""Files not seen before are opened in a child first: what never ends or dies there is one line here."""

import json
import shutil
import signal
from types import SimpleNamespace

import pytest

from edgellm import backends
from edgellm.backends import trial, worker
from edgellm.catalog import first_use
from edgellm.convert.gguf.convert import ConvertRequest, convert
from edgellm.convert.onnx.writer import OnnxRequest, convert_onnx
from edgellm.errors import EngineCrashError, EngineError
from edgellm.formats.artifact import Artifact
from edgellm.models import bundled
from edgellm.session import EngineOptions


@pytest.fixture(autouse=True)
def trials_on(monkeypatch, tmp_path):
    monkeypatch.delenv("EDGELLM_NO_TRIAL")
    monkeypatch.setenv("EDGELLM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def opened(monkeypatch):
    """The files that were given to a child."""
    names = []

    def open_isolated(artifact, *arguments, **bounds):
        names.append(artifact.path.name)
        return worker.open_isolated(artifact, *arguments, **bounds)

    monkeypatch.setattr(trial, "worker", SimpleNamespace(open_isolated=open_isolated))
    return names


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    output = tmp_path_factory.mktemp("converted") / "tiny"
    return convert_onnx(OnnxRequest(bundled.path("tiny-qwen3"), "onnx-int4", output)).path


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    output = tmp_path_factory.mktemp("converted") / "tiny.gguf"
    return convert(ConvertRequest(bundled.path("tiny-qwen3"), "Q8_0", output)).path


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_file_is_tried_once_wherever_it_lies(request, tmp_path, opened, kind):
    path = request.getfixturevalue(kind)
    first_use.resolve(str(path))
    copy = tmp_path / path.name
    shutil.copytree(path, copy) if path.is_dir() else shutil.copy(path, copy)
    assert first_use.resolve(str(copy)).path == copy
    assert opened == [path.name]


def test_another_content_at_the_same_place_is_tried_again(file, tmp_path, opened):
    copy = tmp_path / "model.gguf"
    for quant in ("Q8_0", "Q4_0"):
        convert(ConvertRequest(bundled.path("tiny-qwen3"), quant, copy, force=True))
        first_use.resolve(str(copy))
    assert opened == ["model.gguf", "model.gguf"]


def test_what_was_converted_and_verified_needs_no_trial(opened):
    assert first_use.resolve("tiny-qwen3").path.exists()
    assert opened == []


def looping(folder, tmp_path):
    """The model with an endless Loop between its last operator and its logits."""
    onnx = pytest.importorskip("onnx")
    copy = tmp_path / "endless"
    shutil.copytree(folder, copy)
    model = onnx.load(str(copy / "model.onnx"), load_external_data=False)
    helper, kinds = onnx.helper, onnx.TensorProto
    for node in model.graph.node:
        for index, name in enumerate(node.output):
            if name == "logits":
                node.output[index] = "before"
    value = [helper.make_tensor_value_info(name, kinds.FLOAT, None) for name in ("x", "x_out")]
    counter = helper.make_tensor_value_info("i", kinds.INT64, [])
    conditions = [helper.make_tensor_value_info(name, kinds.BOOL, []) for name in ("go", "go_out")]
    nodes = [helper.make_node("Identity", ["go"], ["go_out"]), helper.make_node("Neg", ["x"], ["x_out"])]
    body = helper.make_graph(nodes, "body", [counter, conditions[0], value[0]], [conditions[1], value[1]])
    true = helper.make_tensor("true", kinds.BOOL, [], [True])
    model.graph.initializer.append(true)
    model.graph.node.append(helper.make_node("Loop", ["", "true", "before"], ["logits"], body=body))
    (copy / "model.onnx").write_bytes(model.SerializeToString())
    return copy


@pytest.mark.wide
def test_an_endless_loop_is_one_line_and_not_opened(folder, tmp_path, monkeypatch):
    path = looping(folder, tmp_path)
    monkeypatch.setattr(trial, "_SECONDS", 4.0)
    with pytest.raises(
        EngineCrashError, match=r"endless did not answer in 4\.\d+ s and was stopped"
    ) as caught:
        first_use.resolve(str(path))
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache" / "tried").glob("*"))  # and is tried again


def test_a_graph_that_asks_for_all_memory_is_refused(folder, tmp_path):
    """A billion billion zeros, made when the graph runs."""
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "greedy"
    shutil.copytree(folder, path)
    model = onnx.load(str(path / "model.onnx"), load_external_data=False)
    helper = onnx.helper
    for node in model.graph.node:
        for index, name in enumerate(node.output):
            if name == "logits":
                node.output[index] = "before"
    size = helper.make_tensor("huge", onnx.TensorProto.INT64, [1], [1 << 36])
    model.graph.initializer.append(size)
    model.graph.node.append(helper.make_node("ConstantOfShape", ["huge"], ["zeros"]))
    model.graph.node.append(helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0))
    model.graph.node.append(helper.make_node("Add", ["before", "sum"], ["logits"]))
    (path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(EngineError) as caught:
        first_use.resolve(str(path))
    assert "\n" not in str(caught.value)


def test_a_child_that_dies_is_told_by_its_signal(file, monkeypatch):
    def killed(session, _tokens):
        session._child.kill()
        return session._call("tokens")

    monkeypatch.setattr(worker.WorkerSession, "eval", killed)
    with pytest.raises(EngineCrashError, match=signal.SIGKILL.name):
        trial.ensure(Artifact.open(file))


def test_the_trial_can_be_turned_off(file, monkeypatch, opened):
    monkeypatch.setenv("EDGELLM_NO_TRIAL", "1")
    trial.ensure(Artifact.open(file))
    assert opened == []
    with backends.open_session(Artifact.open(file), EngineOptions(n_ctx=32)) as session:
        assert json.dumps(session.eval([1]).tolist())
