"""Headers read back as they were written; hostile ones are in faults/test_gguf_hostile.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgellm.convert.gguf.writer import TensorEntry, encode, layout, shard_name, split_keys
from edgellm.errors import ArtifactError
from edgellm.formats.gguf.header import StringArray
from edgellm.formats.gguf.reader import read_header
from edgellm.formats.gguf.types import FILE_TYPES, GGML_TYPES, GGML_TYPES_BY_NAME

VALUES = {
    "a.u8": ("u8", 255),
    "a.i8": ("i8", -128),
    "a.u16": ("u16", 65535),
    "a.i16": ("i16", -32768),
    "a.u32": ("u32", (1 << 32) - 1),
    "a.i32": ("i32", -(1 << 31)),
    "a.u64": ("u64", (1 << 64) - 1),
    "a.i64": ("i64", -(1 << 63)),
    "a.f32": ("f32", 0.5),
    "a.f64": ("f64", 1e300),
    "a.bool": ("bool", True),
    "a.str": ("str", "grüße 你好 🙂"),
    "a.empty": ("str", ""),
    "b.strings": ("arr[str]", ["", "x", "你", "Ġthe"]),
    "b.nothing": ("arr[str]", []),
    "b.i32": ("arr[i32]", [1, -2, 3]),
    "b.f32": ("arr[f32]", [0.5, -1.0]),
    "b.bool": ("arr[bool]", [True, False]),
}


def write(
    path: Path, keys: dict[str, tuple[str, object]], tensors: dict[str, np.ndarray] | None = None
) -> Path:
    entries = [
        TensorEntry(n, v.shape, GGML_TYPES_BY_NAME["F32"], v.nbytes) for n, v in (tensors or {}).items()
    ]
    place = layout({key: encode(*value) for key, value in keys.items()}, entries)
    data = bytearray(place.header.ljust(place.size, b"\0"))
    for name, value in (tensors or {}).items():
        data[place.offsets[name] : place.offsets[name] + value.nbytes] = value.tobytes()
    path.write_bytes(data)
    return path


def test_every_type_of_value(tmp_path: Path) -> None:
    file = read_header(write(tmp_path / "m.gguf", VALUES))
    assert list(file.metadata) == list(VALUES)
    for key, (kind, value) in VALUES.items():
        found = file.metadata[key]
        assert file.value_types[key] == kind
        assert (list(found) if kind.startswith("arr") else found) == value
        assert file.raw_value(key) == encode(kind, value)


def test_tensors_lie_where_they_say(tmp_path: Path) -> None:
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones((2, 2, 5), np.float32)}
    path = write(tmp_path / "m.gguf", {"x": ("u8", 1)}, tensors)
    for name, tensor in read_header(path).tensors.items():
        raw = path.read_bytes()[tensor.offset : tensor.offset + tensor.nbytes]
        assert (np.frombuffer(raw, np.float32).reshape(tensor.shape) == tensors[name]).all()


def test_a_large_vocabulary(tmp_path: Path) -> None:
    """Real sizes, past the first chunk that is read; what was read before stays valid."""
    tokens = [f"token{i}" * 3 for i in range(150_000)]
    merges = [f"a{i} b{i}" for i in range(150_000)]
    keys = {"t": ("arr[str]", tokens), "n": ("arr[i32]", list(range(150_000))), "m": ("arr[str]", merges)}
    file = read_header(write(tmp_path / "m.gguf", keys))
    assert file.metadata["t"] == tokens and file.metadata["m"] == merges
    assert sum(file.metadata["n"]) == sum(range(150_000))


def test_strings_behave_as_a_sequence(tmp_path: Path) -> None:
    found = read_header(write(tmp_path / "m.gguf", VALUES)).metadata["b.strings"]
    assert isinstance(found, StringArray)
    assert (found[-1], found[1:3], len(found), "x" in found, found.index("x")) == (
        "Ġthe",
        ["x", "你"],
        4,
        True,
        1,
    )
    assert found.raw(2) == "你".encode() and found.raw(-1) == "Ġthe".encode()
    assert found != ["", "x", "你"] and found != "abcd"
    with pytest.raises(IndexError):
        found[4]


def test_bytes_that_are_no_text_survive(tmp_path: Path) -> None:
    file = read_header(write(tmp_path / "m.gguf", {"x": ("arr[str]", [b"\xff\xfe", b"ok"])}))
    assert file.metadata["x"].raw(0) == b"\xff\xfe"
    assert file.metadata["x"][0].encode("utf-8", "surrogateescape") == b"\xff\xfe"


@pytest.mark.parametrize(("keys", "name"), [({"general.file_type": ("u32", 15)}, "Q4_K_M"), ({}, "F32")])
def test_quantization(tmp_path: Path, keys: dict[str, tuple[str, object]], name: str) -> None:
    path = write(tmp_path / "m.gguf", keys, {"a": np.zeros(4, np.float32)})
    assert read_header(path).quantization == name


class TestShards:
    def make(self, folder: Path, count: int) -> list[Path]:
        paths = [folder / shard_name("m.gguf", i, count) for i in range(count)]
        for i, path in enumerate(paths):
            path.write_bytes(layout(split_keys(i, count, 0), []).header)
        return paths

    def test_all_parts_are_found_from_any(self, tmp_path: Path) -> None:
        paths = self.make(tmp_path, 3)
        for path in paths:
            assert read_header(path).shard_paths() == tuple(paths)

    def test_a_missing_part_is_named(self, tmp_path: Path) -> None:
        paths = self.make(tmp_path, 3)
        paths[1].unlink()
        with pytest.raises(ArtifactError, match="m-00002-of-00003"):
            read_header(paths[0]).shard_paths()

    def test_a_renamed_part_says_its_name(self, tmp_path: Path) -> None:
        path = self.make(tmp_path, 2)[0].rename(tmp_path / "model.gguf")
        with pytest.raises(ArtifactError, match="-00001-of-00002"):
            read_header(path).shard_paths()


def test_the_tables_are_ggml_s() -> None:
    gguf = pytest.importorskip("gguf")
    for type_ in GGML_TYPES.values():
        theirs = gguf.GGMLQuantizationType(type_.id)
        assert (theirs.name, gguf.GGML_QUANT_SIZES[theirs]) == (
            type_.name,
            (type_.block_size, type_.block_bytes),
        )
    for name, number in FILE_TYPES.items():
        assert gguf.LlamaFileType(number).name in (f"MOSTLY_{name}", f"ALL_{name}")


def test_a_tensor_type_is_read_where_ggml_has_it_and_refused_by_number_elsewhere(tmp_path: Path) -> None:
    """Every number up to 299 and the ends of its range: removed types (4, 5, 31) and those yet to come."""
    values = np.zeros((2, 256), dtype=np.float32)
    good = write(tmp_path / "m.gguf", {}, {"w": values}).read_bytes()
    place = good.index(b"w", 24) + 1 + 4 + 16  # behind the name, the number of dimensions and the two of them
    for type_id in (*range(300), (1 << 31) - 1, 1 << 31, (1 << 32) - 1):
        path = tmp_path / f"{type_id}.gguf"
        path.write_bytes(good[:place] + type_id.to_bytes(4, "little") + good[place + 4 :])
        type_ = GGML_TYPES.get(type_id)
        if type_ is None:
            with pytest.raises(ArtifactError, match=f"'w' has the unknown type {type_id};"):
                read_header(path)
        elif type_.nbytes(512) <= values.nbytes:
            assert read_header(path).tensors["w"].type is type_
        else:
            with pytest.raises(ArtifactError, match="cut off"):
                read_header(path)


def test_an_independent_writer_is_read(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "qwen3")
    writer.add_uint32("qwen3.block_count", 7)
    writer.add_array("tokenizer.ggml.tokens", ["a", "ü"])
    writer.add_tensor("w", np.arange(12, dtype=np.float16).reshape(3, 4))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = read_header(tmp_path / "m.gguf")
    assert (file.get("qwen3.block_count"), file.get("tokenizer.ggml.tokens")) == (7, ["a", "ü"])
    assert (file.tensors["w"].shape, file.tensors["w"].type.name) == ((3, 4), "F16")
