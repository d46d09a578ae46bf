"""Importance matrices in llama.cpp's two formats: read, written, and refused when damaged."""

import struct

import numpy as np
import pytest

from edgellm.convert.gguf.imatrix import Imatrix, write
from edgellm.errors import ArtifactError
from edgellm.formats.gguf.reader import read_header


def sample(path):
    sums = {
        "blk.0.ffn_up_exps.weight": (
            np.array([[2, 4, 6], [0, 0, 0]], dtype=np.float32),
            np.array([2, 0], dtype=np.float32),
        ),
        "blk.0.attn_q.weight": (np.array([[3, 9]], dtype=np.float32), np.array([3], dtype=np.float32)),
    }
    write(path, sums, datasets=["a.txt", "文.txt"], chunk_count=7, chunk_size=512)
    return sums


def test_what_is_written_is_read(tmp_path):
    sums = sample(tmp_path / "i.gguf")
    matrix = Imatrix.open(tmp_path / "i.gguf")
    assert (matrix.datasets, matrix.chunk_count, matrix.chunk_size) == (("a.txt", "文.txt"), 7, 512)
    assert matrix.sizes == {"blk.0.ffn_up_exps.weight": 6, "blk.0.attn_q.weight": 2}
    for name, (values, counts) in sums.items():
        assert [array.tolist() for array in matrix.sums(name)] == [values.tolist(), counts.tolist()]


def test_weights_are_means_and_ones_for_experts_no_token_reached(tmp_path):
    sample(tmp_path / "i.gguf")
    matrix = Imatrix.open(tmp_path / "i.gguf")
    assert matrix.weights("blk.0.attn_q.weight", 0, 2).tolist() == [1, 3]
    assert matrix.weights("blk.0.ffn_up_exps.weight", 0, 3).tolist() == [1, 2, 3]
    assert matrix.weights("blk.0.ffn_up_exps.weight", 3, 3).tolist() == [1, 1, 1]


def test_the_file_is_laid_out_as_llama_cpp_s(tmp_path):
    """Names, shapes and keys of tools/imatrix; that llama.cpp's own reader takes it is tested with calibrate."""
    sample(tmp_path / "i.gguf")
    header = read_header(tmp_path / "i.gguf")
    assert header.get("general.type") == "imatrix"
    assert header.value_types["imatrix.datasets"] == "arr[str]"
    assert header.value_types["imatrix.chunk_count"] == header.value_types["imatrix.chunk_size"] == "u32"
    shapes = {name: tensor.shape for name, tensor in header.tensors.items()}
    assert shapes["blk.0.ffn_up_exps.weight.in_sum2"] == (2, 3)
    assert shapes["blk.0.ffn_up_exps.weight.counts"] == (2, 1)
    assert list(shapes) == sorted(shapes, key=lambda name: (name.rsplit(".", 1)[0], "counts" in name))


def dat(*entries: tuple[str, int, list[float]], tail: bytes = b"") -> bytes:
    """The older format."""
    data = struct.pack("<i", len(entries))
    for name, calls, values in entries:
        data += struct.pack("<i", len(name)) + name.encode()
        data += struct.pack(f"<ii{len(values)}f", calls, len(values), *values)
    return data + tail


def test_the_older_format_is_read(tmp_path):
    path = tmp_path / "i.dat"
    tail = struct.pack("<ii", 5, 5) + b"a.txt"
    path.write_bytes(dat(("blk.0.attn_q.weight", 2, [2, 6]), ("output.weight", 0, [7, 8]), tail=tail))
    matrix = Imatrix.open(path)
    assert (matrix.datasets, matrix.chunk_count) == (("a.txt",), 5)
    assert matrix.weights("blk.0.attn_q.weight", 0, 2).tolist() == [1, 3]
    assert matrix.weights("output.weight", 0, 2).tolist() == [7, 8]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "neither of llama.cpp's importance matrix formats"),
        (b"hello world, this is text", "neither of llama.cpp's importance matrix formats"),
        (dat(("a", 1, [1.0, 2.0]))[:-2], "is cut off inside a"),
        (dat(("a", 1, [1.0, float("nan")])), "a holds NaN or infinity"),
        (b"GGUF\x07" + b"\0" * 40, "GGUF version 7"),
    ],
)
def test_damaged_files_are_refused(tmp_path, data, message):
    (tmp_path / "i.dat").write_bytes(data)
    with pytest.raises(ArtifactError, match=message):
        Imatrix.open(tmp_path / "i.dat")


def test_the_older_format_counts_as_far_as_an_int_goes(tmp_path):
    """llama.cpp's imatrix writes `int ncall` and `int m_last_chunk`: no count that fits is damage."""
    most, path = 2**31 - 1, tmp_path / "i.dat"
    path.write_bytes(dat(("a", most, [float(most), 0.0]), tail=struct.pack("<ii", most, 1) + b"t"))
    matrix = Imatrix.open(path)
    assert matrix.chunk_count == most
    assert matrix.weights("a", 0, 2) == pytest.approx([1.0, 0.0])


def test_a_missing_file_and_a_model_are_refused(tmp_path):
    with pytest.raises(ArtifactError, match="cannot be read: No such file"):
        Imatrix.open(tmp_path / "none.gguf")
    from edgellm.convert.gguf.writer import encode, layout

    (tmp_path / "m.gguf").write_bytes(layout({"general.architecture": encode("str", "llama")}, []).header)
    with pytest.raises(ArtifactError, match="is a GGUF file but no importance matrix"):
        Imatrix.open(tmp_path / "m.gguf")
