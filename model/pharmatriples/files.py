"""Files that take their name when all is written: a stop on the way leaves what was there."""

from __future__ import annotations

import gzip
import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

# Half a surrogate pair, which JSON lines may hold, is no UTF-8; its escape is JSON again.
_ENCODING: dict[str, Any] = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}


class OutputError(ValueError):
    """The output cannot be written; the message says where and why."""


def write_text(text: str, path: str | Path) -> None:
    """Write a text, as `writing` does.

    Raises:
        OutputError: it cannot be written.
    """
    with writing(Path(path)) as out:
        out.write(text)


def write_json(value: Any, path: str | Path) -> None:
    """Write a value as JSON that can be read, as `writing` does.

    Raises:
        OutputError: it cannot be written.
    """
    write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", path)


def check_place(path: Path) -> None:
    """A file can be written there, as far as that can be told before the work.

    Raises:
        OutputError: it is a folder, or in none that is there.
    """
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; name a file in it")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {path.parent}; make it, or write elsewhere")


@contextmanager
def writing(path: Path | None) -> Iterator[TextIO]:
    """Where to write: standard output, or a file that takes its name when all is written.

    A pipe or a device is written as it is. A file whose name ends in .gz is packed.

    Raises:
        OutputError: it cannot be written.
    """
    if path is None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(**_ENCODING)
        yield sys.stdout
        sys.stdout.flush()
        return
    packed = path.suffix == ".gz"  # as it was called, where it is a link
    if not (special := is_special(path)):
        path = path.resolve()
    part = path if special else path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with opened(part, packed) as out:
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
