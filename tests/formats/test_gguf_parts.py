"""Parts that do not belong together, and dimensions that contradict each other: refused by us as by llama.cpp.

Authority: llama.cpp's own loader, asked in a child process whether it takes the same file.
"""

import subprocess
import sys
from pathlib import Path

import pytest
import tinymodels
from gguf_edit import edited

from edgellm.convert.gguf.convert import ConvertRequest, convert
from edgellm.errors import ArtifactError
from edgellm.formats.gguf.check import check_runnable
from edgellm.formats.gguf.reader import read_header


def llama_cpp_loads(path: Path) -> bool:
    code = "import sys, llama_cpp; llama_cpp.Llama(sys.argv[1], n_ctx=64, verbose=False)"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, check=False)
    return done.returncode == 0


@pytest.fixture
def split(tmp_path):
    source = tinymodels.write(tinymodels.CASES["llama"], tmp_path / "source")
    path = convert(ConvertRequest(source, "Q8_0", tmp_path / "m.gguf", split_max_bytes=40_000)).path
    return path, sorted(tmp_path.glob("m-*.gguf"))


def rename(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert len(old) == len(new) and data.count(old) == 1
    path.write_bytes(data.replace(old, new))


def test_a_tensor_in_two_parts_is_refused(split):
    path, parts = split
    check_runnable(read_header(path))
    assert llama_cpp_loads(path)
    names = [set(read_header(part).tensors) for part in parts]
    again, old = next(
        (own, name)
        for own, part in enumerate(names)
        for name in sorted(part)
        if name.startswith("blk.1.")
        and any(name.replace("blk.1.", "blk.0.") in p for i, p in enumerate(names) if i != own)
    )
    rename(parts[again], old.encode(), old.replace("blk.1.", "blk.0.").encode())
    with pytest.raises(ArtifactError, match=r"is also in another part; the files do not belong together"):
        check_runnable(read_header(path))
    assert not llama_cpp_loads(path)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"llama.rope.dimension_count": ("u32", 8)}, "rope.dimension_count 8 does not fit the head size 16"),
        (
            {"llama.attention.key_length": ("u32", 15), "llama.attention.value_length": ("u32", 15)},
            "must be equal and even",
        ),
        ({"llama.attention.head_count_kv": ("u32", 3)}, "4 heads cannot share 3 key-value heads"),
    ],
)
def test_dimensions_that_contradict_each_other_are_refused(keys, told, tmp_path):
    source = tinymodels.write(tinymodels.variant("llama", dtype="F32"), tmp_path / "source")
    path = convert(ConvertRequest(source, "F32", tmp_path / "m.gguf")).path
    changed = edited(path, tmp_path / "changed.gguf", keys=keys)
    with pytest.raises(ArtifactError, match=told):
        check_runnable(read_header(changed))
    assert not llama_cpp_loads(changed)
