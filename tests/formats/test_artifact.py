"""What an artifact says of a model in several files."""

import hashlib

import tinymodels

from edgellm.convert.gguf.convert import ConvertRequest, convert
from edgellm.formats.artifact import Artifact


def test_a_split_model_is_all_its_parts(tmp_path):
    source = tinymodels.write(tinymodels.CASES["llama"], tmp_path / "source")
    path = convert(ConvertRequest(source, "Q8_0", tmp_path / "m.gguf", split_max_bytes=40_000)).path
    parts = sorted(tmp_path.glob("m-*.gguf"))
    artifact = Artifact.open(path)
    assert artifact.parts == tuple(parts) and len(parts) > 1
    assert artifact.size_bytes == sum(part.stat().st_size for part in parts)
    before = artifact.sha256
    assert before == hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()
    data = bytearray(parts[-1].read_bytes())
    data[-1] ^= 1
    parts[-1].write_bytes(data)
    assert Artifact.open(path).sha256 != before
