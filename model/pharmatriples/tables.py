"""Tables of records: rows, CSV for a spreadsheet, Parquet, and a table to read in a terminal.

A result is what the pipeline returns for one text, with the release's `id` added; or an `id` and an `error`.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, BinaryIO, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from .frames import record_lists, utf8

COLUMNS = (
    *("id", "drug", "target", "indication", "event", "status", "trigger"),
    *("organizations", "dates", "dates_iso", "score", "start", "end", "error"),
)
# Rows of a row group of Parquet.
GROUP = 10_000
# Of a line where there is no terminal to ask for its width, and between two columns.
WIDTH, GAP = 120, 3


def record_rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The records of a release as rows: one for each target and indication of a record; or one for its error.

    The keys of a row are COLUMNS; what a record lacks is None. Organizations and dates are joined by "; ", and so are
    the dates in ISO 8601, as many, empty where a date has no sure meaning.
    `start` and `end` bound the record's evidence in the text.
    """
    if "error" in result:
        return [dict.fromkeys(COLUMNS) | {"id": result["id"], "error": result["error"]}]
    return [
        {
            "id": result["id"],
            "drug": record["drug"],
            "target": target,
            "indication": indication,
            **{key: record[key] for key in ("event", "status", "trigger")},
            "organizations": "; ".join(record["organizations"]) or None,
            "dates": "; ".join(record["dates"]) or None,
            "dates_iso": "; ".join(when["iso"] if when else "" for when in record["dates_iso"])
            if any(record["dates_iso"])
            else None,
            "score": record["score"],
            "start": record["evidence"]["start"],
            "end": record["evidence"]["end"],
            "error": None,
        }
        for record in result["records"]
        for target, indication in product(record["targets"] or [None], record["indications"] or [None])
    ]


def write_csv(results: Iterable[Mapping[str, Any]], out: TextIO) -> None:
    """Write the rows of all results under one header. `out` must be open with newline=""."""
    writer = csv.DictWriter(_UnixLines(out), COLUMNS)
    writer.writeheader()
    for result in results:
        writer.writerows(record_rows(result))


class _UnixLines:
    """Ends the rows of a csv.writer with "\\n".

    Told to do so itself, it leaves a bare "\\r" in a cell without quotes before Python 3.13, and a reader ends the row
    there.
    """

    def __init__(self, out: TextIO):
        self._out = out

    def write(self, row: str) -> None:
        self._out.write(row.removesuffix("\r\n") + "\n")


def write_parquet(results: Iterable[Mapping[str, Any]], out: BinaryIO) -> None:
    """Write a row for each record, as in `to_frame`: what a record has several of is a list. An error is a row, too."""
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    text, texts = pyarrow.string(), pyarrow.list_(pyarrow.string())
    schema = pyarrow.schema(
        {
            **{"id": text, "drug": text, "targets": texts, "indications": texts},
            **dict.fromkeys(("event", "status", "trigger"), text),
            **dict.fromkeys(("organizations", "dates", "dates_iso"), texts),
            **{"score": pyarrow.float64(), "start": pyarrow.int64(), "end": pyarrow.int64(), "error": text},
        }
    )
    rows: list[dict[str, Any]] = []
    with ParquetWriter(out, schema) as writer:
        for result in results:
            found = [result] if "error" in result else record_lists(result["id"], result)
            rows += [{key: utf8(value) for key, value in row.items()} for row in found]
            if len(rows) >= GROUP:
                writer.write_table(pyarrow.Table.from_pylist(rows, schema))
                rows = []
        if rows:
            writer.write_table(pyarrow.Table.from_pylist(rows, schema))


def print_table(results: Iterable[Mapping[str, Any]], out: TextIO, width: int | None = None) -> None:
    """Print the records of each release for reading, as the releases come.

    A line is a record, or, where the width would cut words, a block of lines. Colours only on a terminal.

    Args:
        width: in characters; that of the terminal unless given.
    """
    console = Console(file=out, width=width or shutil.get_terminal_size((WIDTH, 0)).columns, highlight=False)
    for result in results:
        if "error" in result:
            console.print(Text.assemble((_plain(result["id"]), "bold"), ("  " + _plain(result["error"]), "red")))
            console.print()
            continue
        count = len(result["records"])
        console.print(Text.assemble((_plain(result["id"]), "bold"), f"  {count} record{'' if count == 1 else 's'}"))
        if count:
            table = _lines(result["records"], console.width) or _blocks(result["records"])
            console.print(Padding(table, (1, 0, 0, 0)))
        console.print()


def _lines(records: Sequence[Mapping[str, Any]], width: int) -> Table | None:
    """One line of cells a record; None where the longest words do not fit side by side."""
    rows = [dict(_cells(record)) for record in records]
    columns = {heading: [Text(heading), *(row[heading] for row in rows)] for heading in rows[0]}
    widths = _widths(
        [_longest(cells, str.split) for cells in columns.values()],
        [_longest(cells, str.splitlines) for cells in columns.values()],
        width - GAP * len(columns),
    )
    if widths is None:
        return None
    table = Table(box=SIMPLE_HEAD, header_style="bold", padding=(0, 1), pad_edge=False, show_edge=False)
    for heading, cell_width in zip(columns, widths, strict=True):
        table.add_column(heading, width=cell_width)
    for row in rows:
        table.add_row(*row.values())
    return table


def _widths(least: Sequence[int], most: Sequence[int], whole: int) -> list[int] | None:
    """Widths of columns between `least` and `most` that fit into `whole`: what is spare goes to all in equal parts.

    Rich by itself cuts words in a column before it takes blanks from another.
    """
    spare = whole - sum(least)
    if spare < 0:
        return None
    widths = list(least)
    order = sorted(range(len(least)), key=lambda i: most[i] - least[i])
    for left, i in zip(range(len(order), 0, -1), order, strict=True):
        more = min(most[i] - least[i], spare // left)
        widths[i] += more
        spare -= more
    return widths


def _longest(cells: Iterable[Text], parts: Callable[[str], list[str]]) -> int:
    return max(Text(part).cell_len for cell in cells for part in parts(cell.plain) or [""])


def _blocks(records: Iterable[Mapping[str, Any]]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for number, record in enumerate(records):
        if number:
            grid.add_row()
        for heading, cell in _cells(record):
            if cell.plain:
                grid.add_row(heading, cell)
    return grid


def _cells(record: Mapping[str, Any]) -> Iterator[tuple[str, Text]]:
    yield "drug", Text(_plain(record["drug"] or ""), "bold cyan")
    yield "target", _several(record["targets"])
    yield "indication", _several(record["indications"])
    yield (
        "event",
        Text(f"{record['event']}, {record['status']}"),
    )
    yield "trigger", Text(_plain(record["trigger"]))
    yield "organizations", _several(record["organizations"])
    yield "dates", _several(record["dates"])
    yield "score", Text(f"{record['score']:.2f}")


def _several(names: Iterable[str]) -> Text:
    return Text("\n".join(_plain(name) for name in names))


def _plain(name: str) -> str:
    """One line without control characters: a release must not steer the terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in name).split())
