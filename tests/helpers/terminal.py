"""As much of a terminal as answers need: cells, wide characters, cursor left, erase to the end of the line."""

import re

from wcwidth import wcwidth

_TOKEN = re.compile(r"\x1b\[(\d*)(?:;\d+)*([A-Za-z])|(.)", re.DOTALL)


class Screen:
    """`joins`: it draws emoji joined by ZWJ in two columns. `broken`: it had to end a line at its edge itself."""

    def __init__(self, columns: int, *, joins: bool = True):
        self.columns, self.joins = columns, joins
        self.rows: list[list[str]] = [[]]  # one cell per column; a wide character's second cell is ""
        self.col, self.joined, self.broken = 0, False, False

    def write(self, text: str) -> None:
        for number, command, char in _TOKEN.findall(text):
            if command == "D":
                assert self.col >= int(number), "the cursor would leave the line"
                self.col -= int(number)
            elif command == "K":
                del self.rows[-1][self.col :]
            elif char == "\n":
                self.rows.append([])
                self.col = 0
            elif char:
                self._put(char)

    def _put(self, char: str) -> None:
        width = max(wcwidth(char), 0)
        row = self.rows[-1]
        if width == 0 or (self.joins and self.joined):
            self.joined = char == "\u200d"
            last = max((i for i, cell in enumerate(row) if cell), default=None)
            if last is None:
                row.append(char)
            else:
                row[last] += char
            return
        if self.col + width > self.columns:
            self.rows.append([])
            self.col, self.broken = 0, True
        self.rows[-1][self.col :] = [char, *[""] * (width - 1)]
        self.col += width

    @property
    def lines(self) -> list[str]:
        return ["".join(row) for row in self.rows]
