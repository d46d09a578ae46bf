"""Sizes and times as people write and read them."""

import pytest

from edgellm.errors import UsageError
from edgellm.units import count, format_seconds, format_size, parse_size


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("300M", 300_000_000), ("1.5g", 1_500_000_000), ("2 GB", 2_000_000_000), ("256MiB", 1 << 28), ("1024", 1024),
     ("4kb", 4000), ("1TiB", 1 << 40), ("7B", 7)],
)  # fmt: skip
def test_parse(text: str, n_bytes: int) -> None:
    assert parse_size(text) == n_bytes


@pytest.mark.parametrize(
    "text", ["", "M", "-1M", "1e9", "300X", "1.5.5G", "0", "0.0001", "1 000M", "∞", "３G."]
)
def test_parse_refuses(text: str) -> None:
    with pytest.raises(UsageError, match="write it as 300M"):
        parse_size(text)


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (15_300_000, "15.3 MB"), (999_600, "1 MB"), (4.66e9, "4.66 GB"),
     (123_456_789, "123 MB"), (2e15, "2000 TB")],
)  # fmt: skip
def test_format_size(n_bytes: float, text: str) -> None:
    assert format_size(n_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.421, "0.42 s"),
        (3.06, "3.1 s"),
        (9.996, "10 s"),
        (27.0, "27 s"),
        (59.97, "1:00"),
        (247, "4:07"),
        (3723.4, "1:02:03"),
    ],
)
def test_format_seconds(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_one_and_many() -> None:
    assert [count(n, "turn") for n in (0, 1, 2, 1024)] == ["0 turns", "1 turn", "2 turns", "1,024 turns"]
    assert [count(n, "copy", "copies") for n in (1, 2)] == ["1 copy", "2 copies"]
