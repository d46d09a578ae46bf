"""The constants of the GGUF format: ggml's tensor types, value types and file types, as tables.

Sources: ggml/include/ggml.h and gguf.h, gguf-py/gguf/constants.py, include/llama.h of llama.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
MAX_DIMS = 4  # GGML_MAX_DIMS
MAX_NAME_BYTES = 63  # GGML_MAX_NAME counts the terminating zero


@dataclass(frozen=True)
class GgmlType:
    """How ggml stores a row: blocks of `block_size` weights in `block_bytes` bytes."""

    id: int
    name: str
    block_size: int
    block_bytes: int

    @property
    def bits_per_weight(self) -> float:
        """Bits one weight takes, scales included."""
        return 8 * self.block_bytes / self.block_size

    def nbytes(self, n_elements: int) -> int:
        """Bytes of `n_elements` weights, a multiple of the block size."""
        return n_elements // self.block_size * self.block_bytes


_TYPES = (
    GgmlType(0, "F32", 1, 4),
    GgmlType(1, "F16", 1, 2),
    GgmlType(2, "Q4_0", 32, 2 + 16),
    GgmlType(3, "Q4_1", 32, 2 + 2 + 16),
    GgmlType(6, "Q5_0", 32, 2 + 4 + 16),
    GgmlType(7, "Q5_1", 32, 2 + 2 + 4 + 16),
    GgmlType(8, "Q8_0", 32, 2 + 32),
    GgmlType(10, "Q2_K", 256, 16 + 64 + 2 + 2),
    GgmlType(11, "Q3_K", 256, 32 + 64 + 12 + 2),
    GgmlType(12, "Q4_K", 256, 2 + 2 + 12 + 128),
    GgmlType(13, "Q5_K", 256, 2 + 2 + 12 + 32 + 128),
    GgmlType(14, "Q6_K", 256, 128 + 64 + 16 + 2),
    GgmlType(16, "IQ2_XXS", 256, 2 + 64),
    GgmlType(17, "IQ2_XS", 256, 2 + 64 + 8),
    GgmlType(18, "IQ3_XXS", 256, 2 + 64 + 32),
    GgmlType(19, "IQ1_S", 256, 2 + 32 + 16),
    GgmlType(20, "IQ4_NL", 32, 2 + 16),
    GgmlType(21, "IQ3_S", 256, 2 + 64 + 8 + 32 + 4),
    GgmlType(22, "IQ2_S", 256, 2 + 64 + 16),
    GgmlType(23, "IQ4_XS", 256, 2 + 2 + 4 + 128),
    GgmlType(24, "I8", 1, 1),
    GgmlType(25, "I16", 1, 2),
    GgmlType(26, "I32", 1, 4),
    GgmlType(27, "I64", 1, 8),
    GgmlType(28, "F64", 1, 8),
    GgmlType(29, "IQ1_M", 256, 32 + 16 + 8),
    GgmlType(30, "BF16", 1, 2),
    GgmlType(34, "TQ1_0", 256, 48 + 4 + 2),
    GgmlType(35, "TQ2_0", 256, 64 + 2),
    GgmlType(39, "MXFP4", 32, 1 + 16),
)
GGML_TYPES: dict[int, GgmlType] = {t.id: t for t in _TYPES}
GGML_TYPES_BY_NAME: dict[str, GgmlType] = {t.name: t for t in _TYPES}

# Value types of the key-value section. Scalars: struct format; the format is little-endian.
UINT8, INT8, UINT16, INT16, UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY, UINT64, INT64, FLOAT64 = range(13)
SCALAR_FORMATS: dict[int, str] = {
    UINT8: "<B",
    INT8: "<b",
    UINT16: "<H",
    INT16: "<h",
    UINT32: "<I",
    INT32: "<i",
    FLOAT32: "<f",
    BOOL: "<?",
    UINT64: "<Q",
    INT64: "<q",
    FLOAT64: "<d",
}
VALUE_TYPE_NAMES: dict[int, str] = {
    UINT8: "u8",
    INT8: "i8",
    UINT16: "u16",
    INT16: "i16",
    UINT32: "u32",
    INT32: "i32",
    FLOAT32: "f32",
    BOOL: "bool",
    STRING: "str",
    ARRAY: "arr",
    UINT64: "u64",
    INT64: "i64",
    FLOAT64: "f64",
}

#: `general.file_type` (llama.h: enum llama_ftype), by the name people give the type.
FILE_TYPES: dict[str, int] = {
    "F32": 0,
    "F16": 1,
    "Q4_0": 2,
    "Q4_1": 3,
    "Q8_0": 7,
    "Q5_0": 8,
    "Q5_1": 9,
    "Q2_K": 10,
    "Q3_K_S": 11,
    "Q3_K_M": 12,
    "Q3_K_L": 13,
    "Q4_K_S": 14,
    "Q4_K_M": 15,
    "Q5_K_S": 16,
    "Q5_K_M": 17,
    "Q6_K": 18,
    "IQ2_XXS": 19,
    "IQ2_XS": 20,
    "Q2_K_S": 21,
    "IQ3_XS": 22,
    "IQ3_XXS": 23,
    "IQ1_S": 24,
    "IQ4_NL": 25,
    "IQ3_S": 26,
    "IQ3_M": 27,
    "IQ2_S": 28,
    "IQ2_M": 29,
    "IQ4_XS": 30,
    "IQ1_M": 31,
    "BF16": 32,
    "TQ1_0": 36,
    "TQ2_0": 37,
    "MXFP4_MOE": 38,
}
FILE_TYPE_NAMES: dict[int, str] = {number: name for name, number in FILE_TYPES.items()}

#: Types of edgellm's own, which llama.h does not count, and the type whose number their files carry.
OWN_TYPES: dict[str, str] = {"Q3_K_H": "Q3_K_M", "Q4_K_H": "Q4_K_M", "Q5_K_H": "Q5_K_M"}


def file_type(name: str) -> int:
    """`general.file_type` of a type. Raises KeyError for an unknown one."""
    return FILE_TYPES[OWN_TYPES.get(name, name)]
