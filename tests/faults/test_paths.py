"""Names that would lead out of where they belong: refused before anything is opened or asked of the network."""

import pytest

from edgellm.catalog import hub
from edgellm.chat.store import Store
from edgellm.convert.checkpoint.folder import find_file
from edgellm.errors import ArtifactError, CheckpointError, UsageError
from edgellm.formats import onnx_folder

NAMES = [
    "../secret", "..", ".", "/etc/passwd", "a/../../secret", "./../secret", "..\\secret", "C:\\secret", "//server/x",
    "\\\\server\\x", "a/..", "../", "a/../..", "C:secret",
]  # fmt: skip


@pytest.mark.fault(7)
@pytest.mark.parametrize("name", NAMES)
def test_a_file_name_in_an_onnx_folder(tmp_path, name):
    with pytest.raises(ArtifactError, match="outside the folder"):
        onnx_folder._inside(tmp_path, name)


@pytest.mark.fault(7)
@pytest.mark.parametrize("name", NAMES)
def test_a_file_name_in_a_checkpoint(tmp_path, name):
    (tmp_path / "home").mkdir()
    (tmp_path / "secret").write_text("x")
    try:
        assert find_file(tmp_path / "home", name) is None  # a plain name elsewhere: no such file
    except CheckpointError as error:
        assert "lead out" in str(error)


@pytest.mark.fault(7)
@pytest.mark.parametrize("name", [*NAMES, "a/b", ".hidden", "", "a\0b", "a\nb"])
def test_the_name_of_a_chat(tmp_path, name):
    with pytest.raises(UsageError, match="cannot be a name"):
        Store(tmp_path).path(name)


@pytest.mark.fault(7)
@pytest.mark.parametrize(
    "name", [*NAMES, "a/b/c", "owner/..", "../name", "owner/a--b", "owner/", "/name", "ow ner/x"]
)
def test_an_id_of_the_hub(name):
    with pytest.raises(CheckpointError, match="is not a hub id"):
        hub.download(name)
