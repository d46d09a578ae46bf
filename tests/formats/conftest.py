"""What tests of GGUF headers begin with: a good file, and the same taken apart."""

from pathlib import Path

import pytest
from hostile_gguf import RawFile, good_file, take_apart


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return good_file(tmp_path_factory.mktemp("good"))


@pytest.fixture(scope="module")
def raw(good: Path) -> RawFile:
    return take_apart(good)
