"""Records as a pandas data frame."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from itertools import count
from typing import Any

# Column -> dtype; a list stays a list. That of `id` follows the ids.
DTYPES = {
    **{"drug": "string", "targets": "object", "indications": "object"},
    **dict.fromkeys(("event", "status", "trigger"), "string"),
    **dict.fromkeys(("organizations", "dates", "dates_iso"), "object"),
    **{"score": "float64", "start": "int64", "end": "int64"},
}


def record_frame(
    extract: Callable[[Iterator[Any]], Iterable[Mapping[str, Any]]], texts: Any, ids: Iterable[Any] | None = None
) -> Any:
    """A data frame with a row for each record of the texts; see `TriplesPipeline.to_frame`.

    Args:
        extract: gives the results of texts, in order; it may read ahead.
    """
    try:
        import pandas as pd
    except ImportError as error:  # the code of a bundle runs where only transformers may be installed
        raise ImportError("to_frame needs pandas: pip install pandas") from error
    if isinstance(texts, str):
        texts = [texts]
    if isinstance(texts, (bytes, Mapping, pd.DataFrame)) or not isinstance(texts, Iterable):
        raise TypeError(f"to_frame takes a str, a list, a Series or an iterator of str, found {type(texts).__name__}")
    if ids is None and isinstance(texts, pd.Series):
        ids = texts.index

    def check(number: int) -> None:
        if isinstance(ids, Sized) and len(ids) != number:
            raise ValueError(f"there are {len(ids)} ids for {number} texts; give one for each text")

    if isinstance(texts, Sized):
        check(len(texts))
    waiting: deque[Any] = deque()
    names = count() if ids is None else iter(ids)

    def read() -> Iterator[Any]:
        number = 0
        for text in texts:
            try:
                waiting.append(next(names))
            except StopIteration:
                raise ValueError(f"the ids end after {number} texts; give one for each text") from None
            number += 1
            yield text
        check(number)

    found = (row for result in extract(read()) for row in record_lists(waiting.popleft(), result))
    rows = [{key: value if key == "id" else utf8(value) for key, value in row.items()} for row in found]
    dtype = "int64" if ids is None else getattr(ids, "dtype", "object")
    return pd.DataFrame(rows, columns=["id", *DTYPES]).astype({"id": dtype, **DTYPES})


def record_lists(id_: Any, result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A row for each record of a result: `id` and the keys of DTYPES."""
    for record in result["records"]:
        yield {
            "id": id_,
            **{key: record[key] for key in DTYPES if key not in ("dates_iso", "start", "end")},
            "dates_iso": [when["iso"] if when else None for when in record["dates_iso"]],
            "start": record["evidence"]["start"],
            "end": record["evidence"]["end"],
        }


def utf8(value: Any) -> Any:
    """Without half surrogate pairs, of which Arrow and pandas make no text; CSV has the same escapes."""
    if isinstance(value, list):
        return [utf8(item) for item in value]
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
