"""The header's bytes, read back by our own reader and by llama.cpp's Python package."""

import pytest

from edgellm.convert.gguf import provenance
from edgellm.convert.gguf.writer import TensorEntry, encode, layout, shard_name, split, split_keys
from edgellm.errors import UsageError
from edgellm.formats.gguf.reader import read_header
from edgellm.formats.gguf.types import GGML_TYPES_BY_NAME

F32, Q4_0 = GGML_TYPES_BY_NAME["F32"], GGML_TYPES_BY_NAME["Q4_0"]
VALUES = {
    "general.architecture": ("str", "llama"),
    "a.u8": ("u8", 200),
    "a.i8": ("i8", -100),
    "a.u16": ("u16", 60000),
    "a.i16": ("i16", -30000),
    "a.u32": ("u32", 4_000_000_000),
    "a.i32": ("i32", -2_000_000_000),
    "a.u64": ("u64", 1 << 60),
    "a.i64": ("i64", -(1 << 60)),
    "a.f32": ("f32", 1.5),
    "a.f64": ("f64", 1e300),
    "a.bool": ("bool", True),
    "a.text": ("str", "héllo 你好 🙂"),
    "a.empty": ("str", ""),
    "a.texts": ("arr[str]", ("x", "", "二")),
    "a.ints": ("arr[i32]", (1, -2, 3)),
    "a.floats": ("arr[f32]", [0.5, -1.0]),
    "a.none": ("arr[u32]", ()),
}
TENSORS = [
    TensorEntry("odd", (5,), F32, 20),
    TensorEntry("matrix", (3, 64), Q4_0, 108),
    TensorEntry("experts", (2, 3, 32), Q4_0, 108),
]


@pytest.fixture
def path(tmp_path):
    place = layout({key: encode(*value) for key, value in VALUES.items()}, TENSORS)
    with (tmp_path / "w.gguf").open("wb") as file:
        file.write(place.header)
        file.truncate(place.size)
    return tmp_path / "w.gguf"


def test_our_reader_reads_it(path):
    header = read_header(path)
    for key, (type_, value) in VALUES.items():
        assert header.value_types[key] == type_
        found = header.metadata[key]
        assert (list(found) if type_.startswith("arr") else found) == (
            list(value) if type_.startswith("arr") else value
        )
        assert header.raw_value(key) == encode(type_, value)
    assert {t.name: (t.shape, t.type, t.nbytes) for t in header.tensors.values()} == {
        t.name: (t.shape, t.type, t.nbytes) for t in TENSORS
    }


def test_llama_cpp_s_reader_reads_it(path):
    gguf = pytest.importorskip("gguf")
    reader = gguf.GGUFReader(path)
    for key, (_, value) in VALUES.items():
        found = reader.fields[key].contents()
        assert found == (list(value) if isinstance(value, tuple) else value), key
    shapes = {tensor.name: tuple(int(n) for n in reversed(tensor.shape)) for tensor in reader.tensors}
    assert shapes == {tensor.name: tensor.shape for tensor in TENSORS}
    assert all(tensor.data_offset % 32 == 0 for tensor in reader.tensors)


def test_undecodable_text_survives():
    assert encode("arr[str]", [b"\xff".decode("utf-8", "surrogateescape"), b"\xfe"]).endswith(b"\xfe")


def test_a_header_of_no_tensors_is_padded():
    place = layout({"general.architecture": encode("str", "x")}, [])
    assert place.size == len(place.header) and place.size % 32 == 0


def test_runs_are_cut_by_padded_size():
    entries = [TensorEntry(str(i), (n,), F32, 4 * n) for i, n in enumerate((8, 8, 9, 8, 30))]
    runs = [[entry.name for entry in run] for run in split(entries, 128)]
    assert runs == [["0", "1", "2"], ["3"], ["4"]]
    assert split(entries, None) == [entries]
    with pytest.raises(UsageError, match=r"4 alone takes 128 bytes; --split-max-size must be at least that"):
        split(entries, 100)


def test_shards_are_named_and_marked_as_llama_cpp_expects():
    assert shard_name("m.gguf", 0, 12) == "m-00001-of-00012.gguf"
    assert split_keys(1, 2, 7) == {
        "split.no": encode("u16", 1),
        "split.count": encode("u16", 2),
        "split.tensors.count": encode("i32", 7),
    }


def test_a_reserved_value_is_filled_in_place():
    old, new = provenance.verdict_text("not verified"), provenance.verdict_text("passed: 好" * 200)
    header = layout({"a": encode("str", old), "k": encode("str", old)}, []).header
    start, data = provenance.fill(header, "k", old, new)
    assert len(data) == provenance.VERDICT_BYTES
    filled = header[:start] + data + header[start + len(data) :]
    assert len(filled) == len(header) and filled.count(old.encode()) == 1
    assert filled.index(old.encode()) < start
    with pytest.raises(ValueError, match="k is reserved"):
        provenance.fill(header, "k", old, "short")
