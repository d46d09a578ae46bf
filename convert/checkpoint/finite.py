"""Whether weights are finite: found by two reductions over their bits, without a temporary, in any float format.

Knows numpy arrays; knows no file and no plan.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgellm.errors import CheckpointError

if TYPE_CHECKING:
    import numpy.typing as npt

#: How an array holds a format's bits; numpy has no bfloat16.
DTYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}

#: The bit pattern of +infinity by array type: what is not below it, the sign apart, is infinite or NaN.
_INFINITY = {"f4": 0x7F800000, "f2": 0x7C00, "u2": 0x7F80}


def first_not_finite(block: npt.NDArray[Any]) -> tuple[int, int] | None:
    """(row, column) of the first value that is NaN or infinite; None when all rows are finite.

    `block` [rows, ...] is of a type in DTYPES, `<u2` being bfloat16.
    """
    size = block.dtype.itemsize
    signed, unsigned = block.view(f"<i{size}"), block.view(f"<u{size}")
    infinity = _INFINITY[f"{block.dtype.kind}{size}"]
    # Positive numbers compare as signed integers, negative ones as unsigned.
    if not block.size or (signed.max() < infinity and unsigned.max() < (1 << (8 * size - 1)) + infinity):
        return None
    rows, columns = ((unsigned & infinity) == infinity).reshape(block.shape[0], -1).nonzero()
    return int(rows[0]), int(columns[0])


def check_finite(name: str, block: npt.NDArray[Any], first_row: int = 0) -> None:
    """Raise CheckpointError naming tensor and index when a value of `block`, from `first_row` on, is not finite."""
    if (place := first_not_finite(block)) is not None:
        raise damaged(name, first_row + place[0], place[1])


def damaged(name: str, row: int, column: int) -> CheckpointError:
    """The error for a value that is not finite."""
    return CheckpointError(
        f"tensor {name} holds NaN or infinity at [{row}, {column}]: the checkpoint is damaged, "
        "download it again or ask its author"
    )
