"""The library that encodes blocks, where it is missing or not the one we know: said with the remedy."""

import sys

import pytest

from edgellm.convert.gguf import ggml
from edgellm.errors import EngineError


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """A folder that Python takes for llama-cpp-python."""
    folder = tmp_path / "llama_cpp"
    (folder / "lib").mkdir(parents=True)
    (folder / "__init__.py").touch()
    monkeypatch.delitem(sys.modules, "llama_cpp", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def test_an_engine_without_its_library_is_said(engine):
    with pytest.raises(
        EngineError, match=r"lib holds no ggml library; reinstall it with: pip install llama-cpp"
    ):
        ggml.library.__wrapped__()


def test_a_library_that_is_none_is_said(engine):
    (engine / "lib" / "libggml-base.so").write_bytes(b"not ELF")
    with pytest.raises(
        EngineError, match=r"libggml-base.so cannot be used \(.*\); reinstall llama-cpp-python"
    ):
        ggml.library.__wrapped__()
