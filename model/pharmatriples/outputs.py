"""The formats that results are written in, and the file that takes its name only when all is written."""

from __future__ import annotations

import gzip
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

FORMATS = ("table", "jsonl", "csv", "parquet", "html")
SUFFIXES = {".txt": "table", **{f".{name}": name for name in FORMATS[1:]}, ".jsonl.gz": "jsonl", ".csv.gz": "csv"}
# Half a surrogate pair, which JSON lines may hold, is no UTF-8; its escape is JSON again.
_ENCODING: dict[str, Any] = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}


class OutputError(ValueError):
    """The output cannot be written; the message says where and why."""


def format_of(name: str) -> str | None:
    """The format that the suffix of a file's name says."""
    return next((format_ for suffix, format_ in SUFFIXES.items() if name.endswith(suffix)), None)


def write_results(results: Iterable[Mapping[str, Any]], out: TextIO, format_: str, types: Sequence[str]) -> None:
    """Write results, which carry their id and text, in one of FORMATS, as they come (HTML: at the end).

    Args:
        results: also what is refused, as an id and an error.
        types: the entity types, for colours.
    """
    if format_ == "jsonl":
        for result in results:
            out.write(json.dumps(result, ensure_ascii=False) + "\n")
    elif format_ == "csv":
        from .tables import write_csv

        write_csv(results, out)
    elif format_ == "parquet":
        from .tables import write_parquet

        write_parquet(results, out.buffer)
    elif format_ == "html":
        from .page import render_page

        out.write(render_page(list(results), types))
    else:
        from .tables import print_table

        print_table(results, out)


@contextmanager
def writing(path: Path | None) -> Iterator[TextIO]:
    """Where to write: standard output, or a file that takes its name when all is written.

    A pipe or a device is written as it is. A file whose name ends in .gz is packed.
    """
    if path is None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(**_ENCODING)
        yield sys.stdout
        sys.stdout.flush()
        return
    if not (special := is_special(path)):
        path = path.resolve()
    part = path if special else path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with opened(part, path.suffix == ".gz") as out:
            yield out
        if part != path:
            os.replace(part, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        if part != path:
            part.unlink(missing_ok=True)


@contextmanager
def opened(path: Path, packed: bool) -> Iterator[TextIO]:
    """A file to write text to; `packed` by gzip, equal text to equal bytes."""
    with open(path, "wb") as file:
        if packed:
            with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as gz, io.TextIOWrapper(gz, **_ENCODING) as out:
                yield out
        else:
            with io.TextIOWrapper(file, **_ENCODING) as out:
                yield out


def is_special(path: Path) -> bool:
    """Whether it is a pipe or a device, which cannot be replaced by another file."""
    return path.exists() and not path.is_file()
