"""Hostile safetensors headers: nothing is accepted that the official library rejects, or read differently."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
from tensor_files import to_bits
from tinymodels import hashed

from edgellm.convert.checkpoint.safetensors_file import MAX_HEADER_BYTES, LazyTensor, Shard, read_tensors
from edgellm.errors import CheckpointError

Header = dict[str, Any]
TENSOR = '"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'


def ours(path: Path) -> dict[str, tuple[str, list[int], bytes]] | str:
    """What we read: dtype, shape and bytes by name; or the one-line refusal."""
    try:
        shard = Shard.open(path)
    except CheckpointError as error:
        return str(error)
    try:
        return {name: (t.dtype, list(t.shape), content(t)) for name, t in read_tensors(shard).items()}
    except CheckpointError as error:
        assert "\n" not in str(error) and str(path) in str(error)
        return str(error)
    finally:
        shard.close()


def content(tensor: LazyTensor) -> bytes:
    return tensor.shard.read(tensor.offset, tensor.nbytes)


def theirs(path: Path) -> dict[str, tuple[str, list[int], bytes]] | str:
    """The same from the official library."""
    try:
        found = safetensors.deserialize(path.read_bytes())
    except safetensors.SafetensorError as error:
        return str(error)
    return {name: (info["dtype"], list(info["shape"]), bytes(info["data"])) for name, info in found}


def agree(path: Path) -> bool:
    """Whether we accept the file; if we do, the library must, with the same result."""
    found = ours(path)
    if isinstance(found, str):
        return False
    assert found == theirs(path)
    return True


def valid() -> tuple[Header, bytes]:
    header: Header = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, dtype, shape in (
        ("model.embed", "BF16", (6, 4)),
        ("norm", "F32", (3,)),
        ("empty", "F16", (0, 4)),
        ("head", "F16", (2, 2, 2)),
    ):
        stored = to_bits(hashed(name, shape, 1), dtype).tobytes()
        offsets = [len(data), len(data) + len(stored)]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": offsets}
        data += stored
    return header, data


def write(path: Path, header: bytes, data: bytes) -> Path:
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return path


def test_the_valid_file_is_accepted(tmp_path: Path) -> None:
    header, data = valid()
    assert agree(write(tmp_path / "x.safetensors", json.dumps(header).encode(), data))


WEIRD: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2, 3, 4, 8, 48, 1.0, 1e300, float("nan"), float("inf"), "1", "", [], [0], {}, {"x": 1},
    (1 << 31), (1 << 63), (1 << 64) - 1, 1 << 64, 1 << 80, "F32", "BF16", "bf16", "F4", "I64", "BOOL", "F8_E4M3",
)  # fmt: skip


def change_field(rng: random.Random, header: Header) -> None:
    entry = header[rng.choice([name for name in header if name != "__metadata__"])]
    if isinstance(entry, dict):
        entry[rng.choice(["dtype", "shape", "data_offsets", "other"])] = rng.choice(WEIRD)


def change_number(rng: random.Random, header: Header) -> None:
    entry = header[rng.choice([name for name in header if name != "__metadata__"])]
    numbers = entry.get(rng.choice(["shape", "data_offsets"])) if isinstance(entry, dict) else None
    if isinstance(numbers, list) and numbers:
        at = rng.randrange(len(numbers))
        step = rng.choice([-8, -4, -2, -1, 1, 2, 4, 8])
        numbers[at] = rng.choice(
            [numbers[at] + step if isinstance(numbers[at], int) else 0, rng.choice(WEIRD)]
        )


def change_length(rng: random.Random, header: Header) -> None:
    entry = header[rng.choice([name for name in header if name != "__metadata__"])]
    numbers = entry.get(rng.choice(["shape", "data_offsets"])) if isinstance(entry, dict) else None
    if isinstance(numbers, list):
        rng.choice([lambda: numbers.append(1), lambda: numbers.append(0), numbers.clear, numbers.reverse])()


def drop(rng: random.Random, header: Header) -> None:
    name = rng.choice(list(header))
    if rng.random() < 0.5 and isinstance(header[name], dict) and header[name]:
        del header[name][rng.choice(list(header[name]))]
    elif len(header) > 2:
        del header[name]


def swap(rng: random.Random, header: Header) -> None:
    a, b = rng.sample([name for name in header if name != "__metadata__"], 2)
    header[a], header[b] = header[b], header[a]


def copy_tensor(rng: random.Random, header: Header) -> None:
    name = rng.choice([name for name in header if name != "__metadata__"])
    header[rng.choice(["copy", "", "\x00", "a/b", "模型", "__metadata__"])] = copy.deepcopy(header[name])


def change_metadata(rng: random.Random, header: Header) -> None:
    header["__metadata__"] = rng.choice(
        [*WEIRD, {"a": "b"}, {"a": None}, {"a": ["b"]}, {"\ud800": "x"}, {"x": "\udfff"}]
    )


STRUCTURED: tuple[Callable[[random.Random, Header], None], ...] = (
    change_field, change_number, change_length, drop, swap, copy_tensor, change_metadata,
)  # fmt: skip


def flip(rng: random.Random, raw: bytearray) -> None:
    raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)


def overwrite(rng: random.Random, raw: bytearray) -> None:
    at = rng.randrange(len(raw))
    raw[at] = rng.choice(b'{}[]",:0-9.eE \t\n\x00\xff\\u')


def cut(rng: random.Random, raw: bytearray) -> None:
    del raw[rng.randrange(len(raw)) :]


def delete(rng: random.Random, raw: bytearray) -> None:
    at = rng.randrange(len(raw))
    del raw[at : at + rng.randrange(1, 9)]


def repeat(rng: random.Random, raw: bytearray) -> None:
    start = rng.randrange(len(raw))
    piece = raw[start : start + rng.randrange(1, 80)]
    raw[start:start] = piece


def change_header_length(rng: random.Random, raw: bytearray) -> None:
    n = int.from_bytes(raw[:8], "little") + rng.choice([-16, -8, -1, 1, 8, 100, 1 << 20, 1 << 40, 1 << 63])
    raw[:8] = (n % (1 << 64)).to_bytes(8, "little")


RAW: tuple[Callable[[random.Random, bytearray], None], ...] = (
    flip, overwrite, cut, delete, repeat, change_header_length,
)  # fmt: skip


def mutant(rng: random.Random) -> bytes:
    header, data = valid()
    if rng.random() < 0.7:
        for _ in range(rng.choice([1, 1, 2, 3])):
            rng.choice(STRUCTURED)(rng, header)
        text = json.dumps(header, ensure_ascii=rng.random() < 0.9).encode("utf-8", "surrogatepass")
        data += b"x" * rng.choice([0, 0, 0, 0, 1])
        return len(text).to_bytes(8, "little") + text + data
    text = json.dumps(header).encode()
    raw = bytearray(len(text).to_bytes(8, "little") + text + data)
    for _ in range(rng.choice([1, 1, 2, 4])):
        if raw:
            rng.choice(RAW)(rng, raw)
    return bytes(raw)


def run_mutants(path: Path, seed: int, count: int) -> int:
    """Accepted mutants out of `count`; fails when one is accepted wrongly or refused other than in one line."""
    rng, accepted = random.Random(seed), 0
    for trial in range(count):
        path.write_bytes(mutant(rng))
        try:
            accepted += agree(path)
        except AssertionError as error:
            raise AssertionError(f"mutant {trial} of seed {seed}: {path.read_bytes()!r}") from error
    return accepted


@pytest.mark.fault(4, 1000)
def test_mutants(tmp_path: Path) -> None:
    accepted = run_mutants(tmp_path / "x.safetensors", seed=1, count=1000)
    assert 10 < accepted < 500, "the mutants must try both sides of the line"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 7))
@pytest.mark.fault(4, 10_000)
def test_many_mutants(seed: int, tmp_path: Path) -> None:
    assert run_mutants(tmp_path / "x.safetensors", seed, count=10_000)


@pytest.mark.parametrize(
    ("header", "data", "part"),
    [
        (f"{{{TENSOR},{TENSOR}}}", b"1234", "occurs twice"),
        (f'{{{TENSOR},"b":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}', b"1234", "overlaps"),
        (f'{{{TENSOR},"b":{{"dtype":"F32","shape":[1],"data_offsets":[5,9]}}}}', b"123456789", "gap"),
        (f"{{{TENSOR}}}", b"123", "truncated: "),
        (f"{{{TENSOR}}}", b"12345", "1 bytes follow"),
        (f"{{{TENSOR}}}x", b"1234", "cannot be read"),
        (f"{{{TENSOR}}}\0", b"1234", "cannot be read"),
        ("[]", b"", "not an object"),
        ("", b"", "cannot be read"),
        ("[" * 100_000, b"", "cannot be read"),
        (f'{{"__metadata__":0,{TENSOR}}}', b"1234", "__metadata__"),
        (f'{{"__metadata__":{{"a":1}},{TENSOR}}}', b"1234", "metadata"),
        (f'{{"__metadata__":{{"a":"\\ud800"}},{TENSOR}}}', b"1234", "surrogates"),
        ('{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', b"1234", "negative"),
        ('{"a":{"dtype":"F32","shape":[-0],"data_offsets":[0,0]}}', b"", "negative"),
        ('{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}', b"1234", "not whole"),
        ('{"a":{"dtype":"F32","shape":[true],"data_offsets":[0,4]}}', b"1234", "shape [True]"),
        ('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}', b"1234", "8 bytes"),
        ('{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}', b"1234", "'F99'"),
        ('{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}}', b"1", "damaged"),
        ('{"a":{"dtype":"F32","shape":[9223372036854775808,4,0],"data_offsets":[0,0]}}', b"", "64 bits"),
        ('{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}', b"1234", "4 to 0"),
    ],
)
@pytest.mark.fault(4)
def test_known_attacks_are_refused_by_name(header: str, data: bytes, part: str, tmp_path: Path) -> None:
    found = ours(write(tmp_path / "x.safetensors", header.encode(), data))
    assert isinstance(found, str) and part in found


def test_lengths_beyond_the_file_or_reason_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    for raw, part in (
        (b"", "0 bytes"),
        (b"1234567", "7 bytes"),
        ((100).to_bytes(8, "little") + b"{}", "does not fit"),
        ((MAX_HEADER_BYTES + 1).to_bytes(8, "little") + b"{}", "limit"),
        (b"\xff" * 8 + b"{}", "limit"),
    ):
        path.write_bytes(raw)
        found = ours(path)
        assert isinstance(found, str) and part in found


def test_a_file_that_shrinks_while_open_is_an_error_not_a_crash(tmp_path: Path) -> None:
    header, data = valid()
    path = write(tmp_path / "x.safetensors", json.dumps(header).encode(), data)
    shard = Shard.open(path)
    tensors = read_tensors(shard)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CheckpointError, match="another program"):
        tensors["head"].rows(0, 4)
    assert np.isfinite(tensors["norm"].rows(0, 1)).all()
    shard.close()
