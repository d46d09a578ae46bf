"""Damaged and hostile GGUF files, built field by field. Random ones are in gguf_fuzz.py."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import tinymodels

from edgellm.convert.gguf.convert import ConvertRequest, convert
from edgellm.convert.gguf.writer import encode
from edgellm.formats.gguf.reader import read_header

ARCH = "qwen3"
NAN, INFINITY = float("nan"), float("inf")


@dataclass(frozen=True)
class RawTensor:
    """A tensor's line in the header as it will be written, right or wrong."""

    name: bytes
    dims: tuple[int, ...]  # GGUF's order
    type: int
    offset: int
    n_dims: int | None = None  # what the file claims; None: the truth


@dataclass(frozen=True)
class RawFile:
    """A GGUF file in parts, any of which may lie."""

    keys: tuple[tuple[bytes, bytes], ...]  # name, encoded value
    tensors: tuple[RawTensor, ...]
    data: bytes
    magic: bytes = b"GGUF"
    version: int = 3
    n_keys: int | None = None
    n_tensors: int | None = None

    def bytes(self) -> bytes:
        n_tensors = len(self.tensors) if self.n_tensors is None else self.n_tensors
        n_keys = len(self.keys) if self.n_keys is None else self.n_keys
        out = self.magic + struct.pack("<IQQ", self.version, n_tensors, n_keys)
        out += b"".join(_text(name) + value for name, value in self.keys)
        for t in self.tensors:
            n_dims = len(t.dims) if t.n_dims is None else t.n_dims
            dims = struct.pack(f"<I{len(t.dims)}Q", n_dims, *(d & (1 << 64) - 1 for d in t.dims))
            out += _text(t.name) + dims + struct.pack("<IQ", t.type, t.offset)
        return out.ljust(-(-len(out) // 32) * 32, b"\0") + self.data

    def with_key(self, name: str, value: bytes | None) -> RawFile:
        """One key replaced, added, or (None) dropped."""
        kept = tuple(item for item in self.keys if item[0] != name.encode())
        return replace(self, keys=kept if value is None else (*kept, (name.encode(), value)))

    def with_tensor(self, index: int, **changes: object) -> RawFile:
        tensors = list(self.tensors)
        tensors[index] = replace(tensors[index], **changes)  # type: ignore[arg-type]
        return replace(self, tensors=tuple(tensors))


def _text(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + data


def good_file(folder: Path) -> Path:
    """A small valid model."""
    source = tinymodels.write(tinymodels.CASES["qwen3"], folder / "checkpoint")
    return convert(ConvertRequest(source, "F16", folder / "good.gguf")).path


def take_apart(path: Path) -> RawFile:
    header = read_header(path)
    return RawFile(
        keys=tuple((key.encode(), header.raw_value(key)) for key in header.metadata),
        tensors=tuple(
            RawTensor(t.name.encode(), tuple(reversed(t.shape)), t.type.id, t.offset - header.data_offset)
            for t in header.tensors.values()
        ),
        data=path.read_bytes()[header.data_offset :],
    )


@dataclass(frozen=True)
class Mutant:
    """A structured fault. Everything here must be refused."""

    name: str
    make: Callable[[RawFile], bytes] = field(repr=False)


def _key(name: str, kind: str, value: object) -> Callable[[RawFile], bytes]:
    return lambda raw: raw.with_key(name, encode(kind, value)).bytes()


def _raw_key(name: str, value: bytes | None) -> Callable[[RawFile], bytes]:
    return lambda raw: raw.with_key(name, value).bytes()


def _preamble(**changes: object) -> Callable[[RawFile], bytes]:
    return lambda raw: replace(raw, **changes).bytes()  # type: ignore[arg-type]


def _tensor(index: int, **changes: object) -> Callable[[RawFile], bytes]:
    return lambda raw: raw.with_tensor(index, **changes).bytes()


def _tokens(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[RawFile], bytes]:
    def make(raw: RawFile) -> bytes:
        value = dict(raw.keys)[b"tokenizer.ggml.tokens"]
        tokens, at = [], 16
        while at < len(value):
            (n,) = struct.unpack_from("<Q", value, at)
            tokens.append(value[at + 8 : at + 8 + n])
            at += 8 + n
        return raw.with_key("tokenizer.ggml.tokens", encode("arr[str]", change(tokens))).bytes()

    return make


def _arrays() -> Iterator[Mutant]:
    """Arrays whose length or element type lies."""
    for type_id in (9, 13, 255, 1 << 31):
        yield Mutant(
            f"array of type {type_id}", _raw_key("x", struct.pack("<IIQ", 9, type_id, 1) + bytes(16))
        )
    for type_id in (0, 4, 8, 10, 12):
        for count in (1 << 20, 1 << 32, 1 << 62, (1 << 64) - 1):
            value = struct.pack("<IIQ", 9, type_id, count)
            yield Mutant(f"{count} elements of type {type_id}", _raw_key("x", value))


def _numbers() -> Iterator[Mutant]:
    """Hyperparameters out of bounds: llama.cpp aborts on several of them."""
    for name, values in {
        "block_count": (0, 1, 3, 513, 1 << 31, (1 << 32) - 1),
        "embedding_length": (0, 63, 65, (1 << 32) - 1),
        "attention.head_count": (0, 3, 1 << 20),
        "attention.head_count_kv": (0, 3, 5, 1 << 31),
        "attention.key_length": (0, 1, 25, 1 << 30),
        "attention.value_length": (0, 8, 1 << 30),
        "context_length": (0, (1 << 32) - 1),
        "expert_count": (5, 1025),
        "expert_used_count": (1,),
        "nextn_predict_layers": (1, (1 << 32) - 1),
        "feed_forward_length": (1, (1 << 32) - 1),
    }.items():
        for value in values:
            yield Mutant(f"{name} {value}", _key(f"{ARCH}.{name}", "u32", value))
    for name in ("attention.layer_norm_rms_epsilon", "rope.freq_base", "rope.scaling.factor"):
        for value in (NAN, INFINITY, -INFINITY, 0.0, -1.0):
            yield Mutant(f"{name} {value}", _key(f"{ARCH}.{name}", "f32", value))
    for name in (
        "block_count",
        "embedding_length",
        "attention.head_count",
        "attention.layer_norm_rms_epsilon",
    ):
        yield Mutant(f"{name} missing", _raw_key(f"{ARCH}.{name}", None))
        yield Mutant(f"{name} a string", _key(f"{ARCH}.{name}", "str", "2"))
        yield Mutant(f"{name} an array", _key(f"{ARCH}.{name}", "arr[i32]", [2, 2]))
    yield Mutant("rope scaling bogus", _key(f"{ARCH}.rope.scaling.type", "str", "bogus"))
    yield Mutant("rope scaling a number", _key(f"{ARCH}.rope.scaling.type", "u32", 1))
    yield Mutant("architecture unknown", _key("general.architecture", "str", "gpt2"))
    yield Mutant("architecture missing", _raw_key("general.architecture", None))
    yield Mutant("architecture a number", _key("general.architecture", "u32", 7))
    for value in (0, 3, 33, 1 << 31):
        yield Mutant(f"alignment {value}", _key("general.alignment", "u32", value))
    yield Mutant("alignment a u64", _key("general.alignment", "u64", 32))


def _vocabulary() -> Iterator[Mutant]:
    prefix = "tokenizer.ggml."
    for kind in ("bos", "eos", "eot", "eom"):
        for value in (320, 1 << 31, (1 << 32) - 1):
            yield Mutant(f"{kind} {value}", _key(f"{prefix}{kind}_token_id", "u32", value))
    yield Mutant("eos negative", _key(f"{prefix}eos_token_id", "i32", -1))
    yield Mutant("eos a string", _key(f"{prefix}eos_token_id", "str", "2"))
    yield Mutant("tokens missing", _raw_key(f"{prefix}tokens", None))
    yield Mutant("tokens empty", _tokens(lambda tokens: []))
    yield Mutant("a token less", _tokens(lambda tokens: tokens[:-1]))
    yield Mutant("a token twice", _tokens(lambda tokens: [tokens[1], *tokens[1:]]))
    yield Mutant("a token empty", _tokens(lambda tokens: [b"", *tokens[1:]]))
    yield Mutant("tokens numbers", _key(f"{prefix}tokens", "arr[i32]", list(range(320))))
    yield Mutant("token types too few", _key(f"{prefix}token_type", "arr[i32]", [1] * 319))
    yield Mutant("token types floats", _key(f"{prefix}token_type", "arr[f32]", [1.0] * 320))
    yield Mutant("merges missing", _raw_key(f"{prefix}merges", None))
    yield Mutant("merges numbers", _key(f"{prefix}merges", "arr[i32]", [1]))
    yield Mutant("pre a number", _key(f"{prefix}pre", "u32", 7))
    yield Mutant("pre missing", _raw_key(f"{prefix}pre", None))
    yield Mutant("an encoder's tokenizer", _key(f"{prefix}model", "str", "bert"))
    yield Mutant("no tokenizer", _key(f"{prefix}model", "str", "no_vocab"))
    yield Mutant("stop ids out of range", _key("edgellm.tokenizer.eos_token_ids", "arr[i32]", [1, 999]))
    yield Mutant("stop ids a string", _key("edgellm.tokenizer.eos_token_ids", "str", "1"))
    yield Mutant("split without parts", _key("split.count", "u16", 3))
    yield Mutant("split beyond reason", _key("split.count", "u16", 65535))


def _tensors() -> Iterator[Mutant]:
    for n_dims in (0, 5, 1 << 31, (1 << 32) - 1):
        yield Mutant(f"{n_dims} dimensions", _tensor(1, n_dims=n_dims))
    for dims in ((0, 64), (64, 0), (-1, 64), (1 << 62, 1 << 62), (1 << 40, 1 << 10), (1, 1, 1, 1 << 63)):
        yield Mutant(f"dims {dims}", _tensor(1, dims=dims))
    for type_id in (4, 5, 9, 31, 36, 43, 1 << 31, (1 << 32) - 1):
        yield Mutant(f"tensor type {type_id}", _tensor(1, type=type_id))
    yield Mutant("rows no multiple of the block", _tensor(0, type=12))
    for offset in (1, 31, 1 << 40, (1 << 64) - 32):
        yield Mutant(f"offset {offset}", _tensor(1, offset=offset))
    yield Mutant("two tensors at one place", _tensor(2, offset=0))
    yield Mutant("name too long", _tensor(1, name=b"x" * 64))
    yield Mutant("name empty", _tensor(1, name=b""))
    yield Mutant("name no UTF-8", _tensor(1, name=b"\xff\xfe"))
    yield Mutant("name twice", lambda raw: raw.with_tensor(1, name=raw.tensors[0].name).bytes())
    yield Mutant("tensor of another layer", _tensor(3, name=b"blk.99.attn_norm.weight"))


def _wholes() -> Iterator[Mutant]:
    yield Mutant("magic", _preamble(magic=b"GGML"))
    for version in (0, 1, 4, 3 << 24, (1 << 32) - 1):
        yield Mutant(f"version {version}", _preamble(version=version))
    for n in (1 << 20, 1 << 40, (1 << 64) - 1):
        yield Mutant(f"{n} tensors", _preamble(n_tensors=n))
        yield Mutant(f"{n} keys", _preamble(n_keys=n))
    yield Mutant("a key twice", lambda raw: replace(raw, keys=(*raw.keys, raw.keys[0])).bytes())
    yield Mutant(
        "a key without name", lambda raw: replace(raw, keys=((b"", encode("u8", 1)), *raw.keys)).bytes()
    )
    yield Mutant(
        "a key no UTF-8", lambda raw: replace(raw, keys=((b"\xc3", encode("u8", 1)), *raw.keys)).bytes()
    )
    yield Mutant("a value no UTF-8", _raw_key("general.name", struct.pack("<IQ", 8, 2) + b"\xc3\x28"))
    for length in (1 << 31, 1 << 62, (1 << 64) - 1):
        yield Mutant(f"string of {length}", _raw_key("general.name", struct.pack("<IQ", 8, length)))
    for type_id in (13, 200, 1 << 31):
        yield Mutant(f"value type {type_id}", _raw_key("x", struct.pack("<I", type_id) + bytes(8)))
    for n in (0, 3, 4, 23, 24, 100, 1000, 5000):
        yield Mutant(f"first {n} bytes", lambda raw, n=n: raw.bytes()[:n])  # type: ignore[misc]
    yield Mutant("a byte less", lambda raw: raw.bytes()[:-32])
    yield Mutant("no data", lambda raw: replace(raw, data=b"").bytes())
    yield Mutant("text", lambda raw: b"# A readme\n" * 100)


STRUCTURED: tuple[Mutant, ...] = (*_wholes(), *_arrays(), *_numbers(), *_vocabulary(), *_tensors())
