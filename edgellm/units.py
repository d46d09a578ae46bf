"""Sizes and times as people write and read them. Inside, everything is bytes and seconds."""

from __future__ import annotations

import re

from edgellm.errors import UsageError

_DECIMAL = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([KMGT]?)B?|([KMGT])iB)", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes of `300M`, `1.5GB` (powers of 1000) or `256MiB` (powers of 1024). Raises UsageError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is no size; write it as 300M, 1.5G or 256MiB")
    number, decimal, binary = match.groups()
    factor = _BINARY[binary.upper()] if binary else _DECIMAL[(decimal or "").upper()]
    n_bytes = int(float(number) * factor)
    if n_bytes < 1:
        raise UsageError(f"{text!r} is no size above zero; write it as 300M, 1.5G or 256MiB")
    return n_bytes


def count(n: int, what: str, many: str = "") -> str:
    """`1 turn`, `2 turns`, `1,024 tokens`; `many` where an s does not make the plural."""
    return f"{n:,} {what if n == 1 else many or what + 's'}"


def format_size(n_bytes: float) -> str:
    """`942 B`, `15.3 MB`, `4.66 GB`: three digits, powers of 1000."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(n_bytes) < 999.5 or unit == "TB":
            break
        n_bytes /= 1000
    return f"{n_bytes:.0f} {unit}" if unit == "B" or abs(n_bytes) >= 99.95 else f"{n_bytes:.3g} {unit}"


def format_seconds(seconds: float) -> str:
    """`0.42 s`, `3.1 s`, `27 s`, `4:07`, `1:02:03`: two digits, and what a clock shows."""
    if seconds < 0.995:
        return f"{seconds:.2f} s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
