"""The formats that results are written in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

FORMATS = ("table", "jsonl", "csv", "parquet", "html")
SUFFIXES = {".txt": "table", **{f".{name}": name for name in FORMATS[1:]}, ".jsonl.gz": "jsonl", ".csv.gz": "csv"}


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
