"""Reading releases: text files, JSON lines, CSV and Parquet, one release at a time, however large the file is.

What cannot be read is a `Refusal` in its place, and the reading goes on: each document of the input is one item.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any, BinaryIO, NamedTuple

from .csv_lines import CsvLines
from .dates import DateError, as_date

STANDARD_INPUT = "-"
TEXTS = (".txt", ".txt.gz")
DATA = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".parquet")
# What is no text, though its characters may be, and what to do with it.
_OTHER_FORMS = {
    (".json",): "give JSON lines (.jsonl), one object with a text in each line",
    (".ndjson",): "name the file .jsonl",
    (".tsv", ".xls", ".xlsx", ".ods"): "save the table as CSV with commas",
    (".html", ".htm", ".xml", ".pdf", ".doc", ".docx", ".rtf", ".odt", ".eml"): "save it as plain text (.txt)",
}
# What a run that was stopped leaves beside its output; no folder of inputs.
PARTIAL = ".partial"
MAX_CHARS = 10_000_000
# The most that a caller may allow: csv.reader counts the characters of a cell, each quote twice, in 31 bits.
MOST_CHARS = 1_000_000_000
# Of a line of JSON or a record of CSV: its text in the longest way to write it, and as much again for all the rest.
_LONGEST_ESCAPE, _REST = 6, 1 << 16
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
_SHOWN = 12
_PIECE = 1 << 20  # bytes


class Release(NamedTuple):
    """A text to read, the id that its result carries, and the day of the release where it is given."""

    id: str
    text: str
    release_date: date | None = None


class Refusal(NamedTuple):
    """A document that cannot be read: its id, and one line that names the place and says what to do."""

    id: str
    error: str


class Source(NamedTuple):
    """A file: its path, and the id of its release, or what the ids of its releases begin with."""

    path: str
    id: str

    @property
    def is_data(self) -> bool:
        """Whether it holds many releases."""
        return self.path.lower().endswith(DATA)


@dataclass(frozen=True)
class Columns:
    """The names of what is read of JSON lines, CSV and Parquet; only the text must be there."""

    text: str = "text"
    id: str = "id"
    release_date: str = "release_date"


class Meter:
    """How many bytes of the files have been read: where the file stands, so that nothing is counted."""

    def __init__(self) -> None:
        self._before = 0
        self._here: Callable[[], int] = int

    @contextmanager
    def over(self, file: BinaryIO) -> Iterator[None]:
        """While `file` is read; one that has no positions, such as a pipe, counts nothing."""
        self._here = file.tell if file.seekable() else int
        try:
            yield
        finally:
            self._before, self._here = self.bytes_read, int

    @property
    def bytes_read(self) -> int:
        return self._before + self._here()


def sources(names: Sequence[str]) -> list[Source | Refusal]:
    """The files that files, folders and "-" stand for, in the order given.

    A folder stands for the text files in it and in its folders, or, where there is none, for its files of data. The id
    of a file is its name without suffix, or, where two files share that, its path.
    """
    found: list[str | Refusal] = []
    for name in names:
        found += _in_folder(name) if name != STANDARD_INPUT and os.path.isdir(name) else [name]
    stems = Counter(_stem(item) for item in found if isinstance(item, str))
    return [
        item
        if isinstance(item, Refusal)
        else _of_another_form(item) or Source(item, stem if stems[stem := _stem(item)] == 1 else item)
        for item in found
    ]


def _of_another_form(path: str) -> Refusal | None:
    """A refusal of a file whose name says that it is one of these."""
    suffix = os.path.splitext(path.lower().removesuffix(".gz"))[1]
    hint = next((hint for suffixes, hint in _OTHER_FORMS.items() if suffix in suffixes), None)
    return Refusal(path, f"{path}: {suffix} is neither text nor data that is read here; {hint}") if hint else None


def _in_folder(folder: str) -> list[str | Refusal]:
    refused: list[str | Refusal] = []
    texts: list[str] = []
    data: list[str] = []

    def refuse(error: OSError) -> None:
        refused.append(_unreadable(str(error.filename), str(error.filename), error))

    walked: set[tuple[int, int]] = set()  # a link may lead back
    for path, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        here = os.stat(path)
        if (here.st_dev, here.st_ino) in walked:
            folders.clear()
            continue
        walked.add((here.st_dev, here.st_ino))
        folders[:] = sorted(name for name in folders if not name.endswith(PARTIAL))
        for name in sorted(files):
            if name.lower().endswith(TEXTS):
                texts.append(os.path.join(path, name))
            elif name.lower().endswith(DATA):
                data.append(os.path.join(path, name))
    found = texts or data
    if not found and not refused:
        refused.append(
            Refusal(
                folder,
                f"{folder}: the folder holds no text and no data ({', '.join((*TEXTS, *DATA))}); name one that does",
            )
        )
    return refused + found


def _stem(path: str) -> str:
    if path == STANDARD_INPUT:
        return "stdin"
    name = os.path.basename(path)
    suffix = next((suffix for suffix in (*TEXTS, *DATA) if name.lower().endswith(suffix)), os.path.splitext(name)[1])
    return name[: len(name) - len(suffix)] or name


def read(
    source: Source, columns: Columns = Columns(), max_chars: int = MAX_CHARS, meter: Meter | None = None
) -> Iterator[Release | Refusal]:
    """The releases of a file, in order; it takes memory for a few releases, not for the file.

    Args:
        columns: the names of the columns, or keys.
        max_chars: a longer text is refused; up to MOST_CHARS.
        meter: told how far the reading has come.
    """
    reader = _reader(source)
    try:
        with _opened(source, meter or Meter()) as file:
            yield from reader(file, source, columns, max_chars)
    except (OSError, EOFError, zlib.error) as error:
        yield _unreadable(source.id, source.path, error)


def _reader(source: Source) -> Callable[[BinaryIO, Source, Columns, int], Iterator[Release | Refusal]]:
    if not source.is_data:
        return _read_text
    name = source.path.lower().removesuffix(".gz")
    return {"jsonl": _read_json_lines, "csv": _read_csv, "parquet": _read_parquet}[name.rpartition(".")[2]]


@contextmanager
def _opened(source: Source, meter: Meter) -> Iterator[BinaryIO]:
    if source.path == STANDARD_INPUT:
        if sys.stdin.isatty():
            print("Reading the text of one release; end it with Ctrl-D.", file=sys.stderr)
        yield sys.stdin.buffer
        return
    with open(source.path, "rb") as file, meter.over(file):
        if source.path.lower().endswith(".gz"):
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield unpacked  # type: ignore[misc]
        else:
            yield file


def _read_text(file: BinaryIO, source: Source, columns: Columns, max_chars: int) -> Iterator[Release | Refusal]:
    where = source.path
    longest = 4 * max_chars + 3  # bytes of UTF-8, and of a mark before it
    content = _content(file, longest)
    if len(content) > longest:
        yield Refusal(source.id, _too_long(where, max_chars))
        return
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        yield _unreadable(source.id, where, error)
        return
    if "\0" in text:
        yield Refusal(source.id, f"{where}: not text (character {text.index(chr(0))} is NUL); name a text file")
    else:
        yield _release(source.id, where, {columns.text: text}, columns, max_chars)


def _content(file: BinaryIO, longest: int) -> bytearray:
    """All bytes of a file, or the first of more than `longest`; in pieces, as a read takes room for all it asks for."""
    content = bytearray()
    while len(content) <= longest:
        size = min(_PIECE, longest + 1 - len(content))
        piece = file.read(size)
        content += piece
        if len(piece) < size:  # the end; a terminal must not be asked twice
            break
    return content


def _read_json_lines(file: BinaryIO, source: Source, columns: Columns, max_chars: int) -> Iterator[Release | Refusal]:
    longest = _LONGEST_ESCAPE * max_chars + _REST
    for number, line in _lines(file, longest):
        id_, where = f"{source.id}:{number}", f"{source.path}:{number}"
        if line is None:
            yield Refusal(id_, f"{where}: longer than {longest} bytes; cut it, or raise --max-chars")
        elif line.strip():
            yield _read_json(id_, where, line, columns, max_chars)


def _read_json(id_: str, where: str, line: bytes, columns: Columns, max_chars: int) -> Release | Refusal:
    try:
        data = json.loads(line.strip().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return _unreadable(id_, where, error)
    except (ValueError, RecursionError) as error:
        return Refusal(id_, f"{where}: not JSON ({error}); a line is one JSON object")
    if not isinstance(data, dict):
        return Refusal(id_, f'{where}: no text; a line is an object such as {{"id": "...", "text": "..."}}')
    return _release(id_, where, data, columns, max_chars)


def _lines(file: BinaryIO, longest: int) -> Iterator[tuple[int, bytes | None]]:
    """Each line with its number, None in place of one that is longer; what is too long is never held."""
    number = 0
    while line := file.readline(longest + 1):
        number += 1
        yield number, line if len(line) <= longest else None
        while len(line) > longest and not line.endswith(b"\n"):
            line = file.readline(longest + 1)


def _read_csv(file: BinaryIO, source: Source, columns: Columns, max_chars: int) -> Iterator[Release | Refusal]:
    longest = 2 * max_chars + _REST  # a quote in a cell is written twice
    csv.field_size_limit(2**31 - 1)  # the lines below hold less
    # A byte that is no UTF-8 becomes half a surrogate pair: it spoils its record, not the reading.
    text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
    try:
        yield from _read_rows(CsvLines(text, longest), source, columns, max_chars)
    finally:
        text.detach()  # or it would close the file


def _read_rows(lines: CsvLines, source: Source, columns: Columns, max_chars: int) -> Iterator[Release | Refusal]:
    rows = csv.reader(lines, strict=True)
    header: list[str] = []
    while True:
        lines.length = 0
        number = rows.line_num + 1
        id_, where = f"{source.id}:{number}", f"{source.path}:{number}"
        try:
            row = next(rows)
        except StopIteration:
            break
        except csv.Error as error:
            if lines.unclosed:  # the cell would hold all that follows
                yield Refusal(id_, f"{where}: a quote is open from here to the end of the file; close it")
                return
            yield Refusal(id_, f"{where}: not CSV ({error}); check the quotes of the line, and those within double")
            continue
        if not header:
            header = row
            if header and (wrong := _wrong_columns(source.path, header, columns)):
                yield Refusal(source.id, wrong)
                return
        elif row:
            values = dict(zip(header, row, strict=False))
            given = values.get(columns.id, "")
            id_ = id_ if _NOT_UTF8.search(given) else given or id_
            if lines.length > lines.longest:
                yield Refusal(id_, f"{where}: longer than {lines.longest} characters; cut it, or raise --max-chars")
            elif any(_NOT_UTF8.search(values.get(name, "")) for name in vars(columns).values()):
                yield Refusal(id_, f"{where}: not UTF-8 text; convert the file to UTF-8")
            elif any(row[len(header) :]):
                found = f"{len(row)} cells below {len(header)} names"
                yield Refusal(id_, f"{where}: {found}; put a text with commas or line breaks in quotes")
            else:
                yield _release(id_, where, values, columns, max_chars)
    if not header:
        yield Refusal(source.id, f"{source.path}: is empty; its first line must name the columns")


def _read_parquet(file: BinaryIO, source: Source, columns: Columns, max_chars: int) -> Iterator[Release | Refusal]:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    number = 0
    try:
        table = ParquetFile(file, buffer_size=1 << 16, pre_buffer=False)
        names = table.schema_arrow.names
        if wrong := _wrong_columns(source.path, names, columns):
            yield Refusal(source.id, wrong)
            return
        # The id first, so that what is wrong with the others stands under it.
        wanted = [name for name in (columns.id, columns.text, columns.release_date) if name in names]
        for batch in table.iter_batches(batch_size=16, columns=wanted, use_threads=False):
            for row in range(batch.num_rows):
                number += 1
                id_, where = f"{source.id}:{number}", f"{source.path}, row {number}"
                cells = {name: batch.column(name)[row] for name in wanted}
                yield _read_cells(id_, where, cells, columns, max_chars)
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:  # the second of names of columns
        yield _unreadable(source.id, source.path, error)


def _read_cells(id_: str, where: str, cells: Mapping[str, Any], columns: Columns, max_chars: int) -> Release | Refusal:
    values: dict[str, Any] = {}
    for name, cell in cells.items():
        try:
            values[name] = cell.as_py()
        except UnicodeDecodeError as error:
            return _unreadable(_given_id(values, columns) or id_, where, error)
        except (OverflowError, ValueError):
            return Refusal(
                _given_id(values, columns) or id_,
                f"{where}: what {name!r} holds ({cell.type}) is out of range, or its time zone is not known here; "
                "write it as text",
            )
    return _release(id_, where, values, columns, max_chars)


def _wrong_columns(path: str, names: Sequence[str], columns: Columns) -> str | None:
    """What is wrong with the columns of a table, if anything is. Those of id and date must be there only if named."""
    if any(map(_NOT_UTF8.search, names)):
        return f"{path}: not UTF-8 text; convert the file to UTF-8"
    if len(names) == 1 and names[0] != columns.text and (other := [sign for sign in ";\t|" if sign in names[0]]):
        return f"{path}: the cells seem to be separated by {other[0]!r}; separate them by commas"
    shown = ", ".join(f"{name!r:.40}" for name in names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    for kind, name in vars(columns).items():
        if name not in names and (kind == "text" or name != getattr(Columns, kind)):
            option = kind.replace("release_", "")
            return f"{path}: no column {name!r}; its columns are {shown}; name one with --{option}-column"
        if names.count(name) > 1:
            return f"{path}: {names.count(name)} columns are named {name!r}; rename all but one"
    return None


def _release(id_: str, where: str, values: Mapping[str, Any], columns: Columns, max_chars: int) -> Release | Refusal:
    """What a row, an object or a file holds; `id_` is the id where it holds none."""
    given, text = values.get(columns.id), values.get(columns.text)
    own = _given_id(values, columns)
    if not own and given not in (None, "") and given == given:  # NaN is none
        return Refusal(id_, f"{where}: the id is {given!r:.40}; give a text or a whole number, or leave it out")
    id_ = own or id_
    if not isinstance(text, str):
        found = "nothing" if text is None else type(text).__name__
        return Refusal(id_, f"{where}: no text ({columns.text!r} holds {found}); give it, or say --text-column")
    if len(text) > max_chars:
        return Refusal(id_, _too_long(where, max_chars))
    try:
        return Release(id_, text, as_date(values.get(columns.release_date) or None))
    except DateError as error:
        return Refusal(id_, f"{where}: {error}")


def _given_id(values: Mapping[str, Any], columns: Columns) -> str:
    """The id that values hold, empty where they hold none."""
    given = values.get(columns.id)
    if isinstance(given, float) and given.is_integer():
        given = int(given)  # pandas makes 1.0 of 1 in a column with gaps
    return str(given) if isinstance(given, str | int) and not isinstance(given, bool) else ""


def _too_long(where: str, max_chars: int) -> str:
    return f"{where}: a text longer than {max_chars} characters; cut it, or raise --max-chars"


def _unreadable(id_: str, where: str, error: Exception) -> Refusal:
    if isinstance(error, UnicodeDecodeError):
        return Refusal(id_, f"{where}: not UTF-8 text (byte {error.start}: {error.reason}); convert it to UTF-8")
    if isinstance(error, FileNotFoundError):
        return Refusal(id_, f"{where}: no such file; check the name")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
    return Refusal(id_, f"{where}: cannot be read ({reason}); check the file")
