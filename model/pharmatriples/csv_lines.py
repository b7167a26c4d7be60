"""The lines of a CSV file for `csv.reader`, in memory for a record that is not too long."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TextIO

_LONG_CELL = re.compile(r'([^",\r\n]{200})[^",\r\n]+')


class CsvLines:
    """The lines of a file for csv.reader; of a record that is too long only what tells where its cells end.

    Attributes:
        longest: most characters of a record.
        length: characters of the record so far; whoever reads the records sets it to 0 before each.
        unclosed: whether the file ended within a record, which it does within quotes alone.
    """

    def __init__(self, file: TextIO, longest: int):
        self._file = file
        self.longest = longest
        self.length = 0
        self.unclosed = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        was_too_long = self.length > self.longest
        line = self._piece()
        if not line:
            self.unclosed = self.length > 0
            raise StopIteration
        if self.length <= self.longest:
            return line
        # The reader asks for more of a record only within quotes, so that a line without one is of no use to it.
        quoted = '"' in line
        kept = [_LONG_CELL.sub(r"\1", line)]
        while not line.endswith(("\n", "\r")) and (line := self._piece()):
            quoted = quoted or '"' in line
            kept.append(_LONG_CELL.sub(r"\1", line))
        return "".join(kept) if quoted or not was_too_long else ""

    def _piece(self) -> str:
        line = self._file.readline(self.longest + 1)
        self.length += len(line)
        return line
