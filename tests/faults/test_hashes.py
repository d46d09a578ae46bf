"""Weights that are not what was written or fetched: a bit of a file is enough."""

import random
import re
import shutil

import fault_rows
import pytest
import tinymodels

from edgellm.convert.checkpoint.folder import Checkpoint
from edgellm.convert.onnx.writer import OnnxRequest, convert_onnx
from edgellm.errors import ArtifactError, CheckpointError
from edgellm.files import sha256
from edgellm.formats import onnx_folder


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return tinymodels.write(tinymodels.CASES["qwen3"], tmp_path_factory.mktemp("hashes") / "source")


def flip(path, rng) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


@pytest.mark.fault(5, 0)
def test_a_flipped_bit_of_a_converted_folder_is_found(source, tmp_path, request):
    folder = convert_onnx(OnnxRequest(source, "onnx-int4", tmp_path / "model")).path
    onnx_folder.verify(folder)
    rng, count = random.Random(5), fault_rows.trials(400, 40)
    listed = [path for path in sorted(folder.iterdir()) if path.name != onnx_folder.MANIFEST]
    for trial in range(count):
        path = listed[trial % len(listed)]
        good = path.read_bytes()
        flip(path, rng)
        with pytest.raises(ArtifactError, match=re.escape(path.name)):
            onnx_folder.verify(folder)
        path.write_bytes(good)
    onnx_folder.verify(folder)
    request.node.user_properties.append(("fault", (5, count)))


@pytest.mark.fault(5, 0)
def test_a_flipped_bit_of_a_download_is_found(source, tmp_path, request):
    """In the hub's cache a large file is called by its hash, which the client itself does not compare."""
    repository = tmp_path / "models--a--b"
    snapshot, blobs = repository / "snapshots" / "1", repository / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    weights = []
    for file in source.iterdir():
        name = sha256(file) if file.suffix == ".safetensors" else file.name
        shutil.copy(file, blobs / name)
        (snapshot / file.name).symlink_to(f"../../blobs/{name}")
        weights += [blobs / name] if file.suffix == ".safetensors" else []
    rng, count = random.Random(6), fault_rows.trials(100, 10)
    for trial in range(count):
        path = weights[trial % len(weights)]
        good = path.read_bytes()
        header = 8 + int.from_bytes(good[:8], "little")
        data = bytearray(good)
        data[rng.randrange(header, len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        with (
            Checkpoint.open(snapshot) as checkpoint,
            pytest.raises(CheckpointError, match="damaged on its way"),
        ):
            checkpoint.sha256()
        path.write_bytes(good)
    request.node.user_properties.append(("fault", (5, count)))
