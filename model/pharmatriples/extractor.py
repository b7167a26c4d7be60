"""Texts in, entities, relations and records out: what a pipeline does, for any model that `predict` takes."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from datetime import date
from functools import partial
from itertools import repeat
from numbers import Real
from typing import Any

from .confidence import RECORDS, Confidence
from .dates import DateError, as_date
from .documents import Document
from .frames import record_frame
from .prediction import BATCH_SIZE, predict
from .records import has_records
from .results import result
from .schema import Schema
from .windows import Windower


class Extractor:
    """Entities, relations and records of releases.

    Call it with a text, a list of texts, or an iterator (which gives an iterator back). A result depends on its
    text alone: not on the batch size, the order, or the other texts.

    Args:
        model: a `TriplesModel` in eval mode, or an `OnnxModel`.
        tokenizer: the model's own, as `Windower` takes it.
        batch_size: most texts that are read at once.
        threshold: smallest probability of what is kept: one number, or a mapping of entity types, relation types and
            "records".
        precision: the share that should be right of the records that are kept (a number), or of what a mapping names
            like that of `threshold`; the thresholds are those at which the model met it on its validation documents.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        batch_size: int = BATCH_SIZE,
        threshold: float | Mapping[str, float] | None = None,
        precision: float | Mapping[str, float] | None = None,
    ):
        self.model = model
        self.tokenizer = tokenizer
        self.batch_size = _positive(batch_size)
        self.confidence = Confidence.from_dict(model.config.calibration)
        self.thresholds = dict(model.config.thresholds or {})
        self.thresholds = self._thresholds(threshold, precision)
        self.windower = Windower(tokenizer, model.config.window, model.config.stride)

    def __call__(self, inputs: str | Iterable[str], **kwargs: Any) -> Any:
        """Result dicts as the README describes them.

        Args:
            inputs: a str gives a dict, a list or tuple gives a list, any other iterable an iterator.
            batch_size, threshold, precision: as for the pipeline, for this call.
            release_date: the day of the release (a date, or ISO 8601 text), against which dates without a year are
                read; for several texts one for all, or as many as there are texts. Where it is None, the dateline's.

        Raises:
            TypeError: something in the input is no str; the message names its place.
            ValueError: a threshold or a precision is no share, names no type, or was not met on validation.
            DateError: a release date is none, or there are not as many as texts (an iterator may hold more).
        """
        known = ("batch_size", "threshold", "precision", "release_date")
        for name in kwargs:
            if name not in known:
                raise TypeError(f"unknown argument {name!r}; a call takes {', '.join(known)}")
        batch_size = _positive(kwargs.get("batch_size", self.batch_size))
        thresholds = self._thresholds(kwargs.get("threshold"), kwargs.get("precision"))
        given = kwargs.get("release_date")
        if isinstance(inputs, str):
            return next(self._results([(inputs, as_date(given))], batch_size, thresholds))
        listed = isinstance(inputs, Iterable) or hasattr(inputs, "__getitem__")
        if isinstance(inputs, (bytes, Mapping)) or not listed or getattr(inputs, "ndim", 1) != 1:  # a table is no list
            raise TypeError(f"the input must be a str, a list of str or an iterator of str, found {_kind(inputs)}")
        dated = _dated(_checked(iter(inputs)), given)  # transformers' KeyDataset has items alone
        if isinstance(inputs, (list, tuple)):
            return list(self._results(list(dated), batch_size, thresholds))  # checked before any work is done
        return self._results(dated, batch_size, thresholds)

    def to_frame(self, texts: Any, ids: Iterable[Any] | None = None, **kwargs: Any) -> Any:
        """The records of texts as a pandas DataFrame, one row a record.

        The columns are those of the command's CSV but for `error`. `targets` and `indications` are lists, as are
        `organizations`, `dates` and `dates_iso` (ISO 8601, or None where a date has no sure meaning); `start` and `end`
        bound the record's evidence in the text. Without a record the frame is empty and has the same columns and
        dtypes.

        Args:
            texts: a str, a list, a Series or an iterator of str.
            ids: what column `id` holds, one for each text; unless given, the index of a Series, else 0, 1, 2 ...
            kwargs: as for a call.

        Raises:
            TypeError, ValueError: as for a call; or there are not as many ids as texts (an iterator may hold more).
        """
        if not has_records(self.model.schema):
            warnings.warn(
                "the schema of the model has no records, so the frame is empty; call it instead", stacklevel=2
            )
        return record_frame(partial(self, **kwargs), texts, ids)

    def _results(
        self,
        dated: Iterable[tuple[str, date | None]],
        batch_size: int,
        thresholds: Mapping[str, float],
    ) -> Iterator[dict[str, Any]]:
        days: dict[str, date | None] = {}  # of the texts that are being read, by the ids of their documents

        def texts() -> Iterator[str]:
            for number, (text, day) in enumerate(dated):
                days[str(number)] = day
                yield text

        def finish(document: Document) -> dict[str, Any]:
            return result(document, self.confidence, thresholds.get(RECORDS, 0.0), days.pop(document.id))

        return predict(self.model, self.windower, texts(), batch_size, thresholds, then=finish)

    def _thresholds(
        self, threshold: float | Mapping[str, float] | None, precision: float | Mapping[str, float] | None
    ) -> dict[str, float]:
        """Name -> threshold: what is asked for over what the pipeline or the model's configuration has."""
        schema: Schema = self.model.schema
        names = [*schema.entities, *schema.relations, RECORDS]
        precisions = _shares("precision", precision, names, [RECORDS])
        wanted = {name: self.confidence.threshold(name, share) for name, share in precisions.items()}
        return self.thresholds | _shares("threshold", threshold, names, names) | wanted


def annotate(extract: Any, documents: Sequence[Document]) -> Iterator[Document]:
    """What a pipeline finds in the texts of documents, under their ids: to be compared with them."""
    for document, found in zip(documents, extract(document.text for document in documents), strict=True):
        yield Document.from_dict({**found, "id": document.id, "text": document.text})


def _shares(
    what: str, given: float | Mapping[str, float] | None, known: Sequence[str], all_: Sequence[str]
) -> dict[str, float]:
    """Name -> share in [0, 1] of an argument that is nothing, a mapping of known names, or one number for `all_`."""
    if given is None:
        return {}
    if not isinstance(given, (Mapping, Real)):
        raise ValueError(f"{what} must be a number, or a mapping of type to number, found {_kind(given)}")
    shares = dict(given) if isinstance(given, Mapping) else dict.fromkeys(all_, given)
    for name, value in shares.items():
        if name not in known:
            raise ValueError(f"{what} for unknown type {name!r}; known are {', '.join(known)}")
        if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= value <= 1:
            raise ValueError(f"{what} for {name} must be a number from 0 to 1, found {value!r}")
    return shares


def _checked(texts: Iterable[Any]) -> Iterator[str]:
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            hint = "; give the texts alone, such as data['text']" if isinstance(text, Mapping) else ""
            raise TypeError(f"input {i} must be a str, found {_kind(text)}{hint}")
        yield text


def _dated(texts: Iterable[str], release_date: Any) -> Iterator[tuple[str, date | None]]:
    """Each text with its release date: one for all, or one for each."""
    if isinstance(release_date, Iterable) and not isinstance(release_date, (str, bytes, Mapping)):
        return _each_dated(texts, release_date)
    return zip(texts, repeat(as_date(release_date)), strict=False)


def _each_dated(texts: Iterable[str], release_dates: Iterable[Any]) -> Iterator[tuple[str, date | None]]:
    each = "give one for each text (None where it is not known)"
    days = iter(release_dates)
    number = 0
    for text in texts:
        try:
            day = next(days)
        except StopIteration:
            raise DateError(f"release_date ends after {number} texts; {each}") from None
        number += 1
        try:
            yield text, as_date(day)
        except DateError as error:
            raise DateError(f"release_date {number - 1}: {error}") from None
    if isinstance(release_dates, Sized) and len(release_dates) > number:
        raise DateError(f"release_date has {len(release_dates)} dates for {number} texts; {each}")


def _positive(batch_size: Any) -> int:
    if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
        raise ValueError(f"batch_size must be a whole number above 0, found {batch_size!r}")
    return batch_size


def _kind(value: Any) -> str:
    return f"{type(value).__name__} {value!r:.40}"
