"""Many documents: in batches, each document answered by its result or by why there is none.

The batches depend on the input alone, so that a run that goes on after a stop, or on several machines, gives the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .releases import Columns, Meter, Refusal, Release, Source, read

Unit = list[Source | Refusal]
# Characters of a batch, unless it is one text.
_CHARS = 200_000
_PROBE = "A"


class ExtractionError(ValueError):
    """The model is broken; the message says how."""


@dataclass(frozen=True)
class Batch:
    """Documents that are read and answered together.

    Attributes:
        unit: the number of the unit that they are in.
        number: that of the batch in its unit.
    """

    unit: int
    number: int
    items: list[Release | Refusal]

    @property
    def releases(self) -> list[Release]:
        return [item for item in self.items if isinstance(item, Release)]


@dataclass(frozen=True)
class Reading:
    """How inputs are read: `size` is that of a batch; for the others see `releases.read`."""

    size: int
    columns: Columns
    max_chars: int

    def batches(self, sources: Iterable[Source | Refusal], meter: Meter) -> Iterator[Batch]:
        """All documents of the sources, in order."""
        for number, unit in enumerate(self.units(sources)):
            yield from self.unit_batches(number, unit, meter)

    def units(self, sources: Iterable[Source | Refusal]) -> Iterator[Unit]:
        """What is read as a whole: a file of data, or up to `size` text files that follow one another."""
        unit: Unit = []
        for source in sources:
            is_data = isinstance(source, Source) and source.is_data
            if unit and (is_data or len(unit) == self.size):
                yield unit
                unit = []
            if is_data:
                yield [source]
            else:
                unit.append(source)
        if unit:
            yield unit

    def unit_batches(self, number: int, unit: Unit, meter: Meter) -> Iterator[Batch]:
        """Up to `size` documents each, and where there are several not more text than fits."""
        batch = Batch(number, 0, [])
        chars = 0
        for item in self._items(unit, meter):
            length = len(item.text) if isinstance(item, Release) else 0
            if batch.items and (len(batch.items) == self.size or chars + length > _CHARS):
                yield batch
                batch, chars = Batch(number, batch.number + 1, []), 0
            batch.items.append(item)
            chars += length
        if batch.items:
            yield batch

    def _items(self, unit: Unit, meter: Meter) -> Iterator[Release | Refusal]:
        for source in unit:
            if isinstance(source, Refusal):
                yield source
            else:
                yield from read(source, self.columns, self.max_chars, meter)


def answers(extract: Any, batch: Batch) -> list[dict[str, Any]]:
    """For each document its result with its id and text, or its id and why there is no result.

    Args:
        extract: the pipeline. Where it fails on one document, that is the document's error.

    Raises:
        ExtractionError: it fails on any text.
    """
    found = iter(_extracted(extract, batch.releases))
    return [item._asdict() if isinstance(item, Refusal) else next(found) for item in batch.items]


def _extracted(extract: Any, releases: Sequence[Release]) -> list[dict[str, Any]]:
    try:
        results = extract([r.text for r in releases], release_date=[r.release_date for r in releases])
    except Exception as error:
        if len(releases) > 1:
            return [line for release in releases for line in _extracted(extract, [release])]
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        try:
            extract(_PROBE)
        except Exception:
            raise ExtractionError(f"the model fails on any text ({reason}); check the device and its memory") from error
        return [
            {"id": r.id, "error": f"{r.id}: the model fails on this text ({reason}); leave it out"} for r in releases
        ]
    return [{"id": r.id, "text": r.text, **result} for r, result in zip(releases, results, strict=True)]
