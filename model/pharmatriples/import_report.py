"""What became of everything in a file of annotations: a value, a table, and JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

OTHER_WORDS = "value.text says"  # how the reason of a span begins whose words are not those that were marked
BARE = "not annotated: its line has no 'mentions'"  # the reason of a document of JSON lines that is left out
SPANS = ("mention", "region")
OUTCOMES = ("kept", "repaired", "refused", "ignored")
KINDS = (
    *("document", "mention"),
    *("task", "annotation", "region", "choice", "relation", "other", "draft", "prediction"),  # of Label Studio
)


class ReadError(ValueError):
    """A file of annotations that cannot be read, or not whole; the message names file and place."""


class LabelStudioError(ReadError):
    """An export that cannot be read, or not whole; the message names file, task and region."""


@dataclass(frozen=True)
class Item:
    """What became of one item of an export.

    Attributes:
        outcome: kept; repaired or refused, for `reason`; ignored, where it is no annotation that was asked for (a
            draft, a prediction, a skipped task, another annotator's).
        kind: document, mention or relation; in an export of Label Studio task, annotation, region, choice, relation,
            other, draft or prediction.
        task: id of the document, or of the one that the task holds.
        annotation: number of the annotation in its task, from 1.
        region: its region id, for a relation `FROM -> TO`; outside Label Studio its line or its id.
        start, end, text: the span as given, and the words there where it is in the text.
    """

    outcome: str
    kind: str
    task: str
    annotation: int | None = None
    region: str = ""
    start: int | None = None
    end: int | None = None
    text: str = ""
    reason: str = ""

    def __str__(self) -> str:
        number = f", annotation {self.annotation}" if self.annotation is not None else ""
        region = f", {printable(self.region)}" if self.region else ""
        place = f" [{self.start}, {self.end})" if self.start is not None else ""
        words = f" {self.text!r:.80}" if self.text else ""
        holder = "document" if self.kind in ("document", "mention") or self._is_link else "task"
        return f"{self.outcome} {self.kind}: {holder} {self.task!r}{number}{region}{place}{words}: {self.reason}"

    @property
    def _is_link(self) -> bool:
        return self.kind == "relation" and self.annotation is None


@dataclass(frozen=True)
class ImportReport:
    """Every item of a file with its outcome; the counts add up to the file's items."""

    source: str
    items: tuple[Item, ...]
    documents: int

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Kind -> outcome -> how many, for the kinds that the file has."""
        found = Counter((item.kind, item.outcome) for item in self.items)
        kinds = [kind for kind in KINDS if any((kind, outcome) in found for outcome in OUTCOMES)]
        return {kind: {outcome: found[kind, outcome] for outcome in OUTCOMES} for kind in kinds}

    def of(self, *outcomes: str) -> list[Item]:
        """The items with one of these outcomes, in the order of the file."""
        return [item for item in self.items if item.outcome in outcomes]

    @property
    def warnings(self) -> list[str]:
        """What the outcomes say together: tasks that look shifted, annotations of which no span is left, and documents
        that nobody annotated."""
        return [*self._shifted(), *self._emptied(), *self._bare()]

    def _shifted(self) -> list[str]:
        """One line for each task most of whose spans were other words when they were marked."""
        spans = Counter(item.task for item in self.items if item.kind == "region" and item.start is not None)
        other = Counter(item.task for item in self.items if item.kind == "region" and OTHER_WORDS in item.reason)
        return [
            f"warning: task {task!r}: {count} of {spans[task]} spans were other words when they were marked; where its "
            "text was edited since, they are shifted: restore the text, or mark it anew"
            for task, count in other.items()
            if 2 * count > spans[task]
        ]

    def _emptied(self) -> list[str]:
        """A line for the annotations whose spans are all refused."""
        spans = [(item.outcome, (item.task, item.annotation)) for item in self.items if item.kind in SPANS]
        read = {place for outcome, place in spans if outcome in ("kept", "repaired")}
        emptied = {place: None for outcome, place in spans if outcome == "refused" and place not in read}
        if not emptied:
            return []
        tasks = list(dict.fromkeys(task for task, _ in emptied))
        return [
            f"warning: every span of {len(emptied)} annotations is refused, of {_named(tasks)}; they are read as "
            "documents without mentions, and teach a model that there are none: mend them, or leave them out"
        ]

    def _bare(self) -> list[str]:
        """A line for the documents of JSON lines that are left out."""
        bare = [item.task for item in self.items if item.reason == BARE]
        if not bare:
            return []
        return [
            f"warning: {self.source}: {len(bare)} documents are left out: they are not annotated, {_named(bare)}; "
            'where nothing is to be marked, write "mentions": []'
        ]

    def check(self) -> ImportReport:
        """The report itself, if nothing was refused.

        Raises:
            ReadError: naming what was refused.
        """
        if refused := self.of("refused"):
            raise ReadError(f"{self.source}: {len(refused)} items of the file are refused:\n" + _list(refused))
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types: source, documents, counts, items (empty fields left out)."""
        items = [{key: value for key, value in asdict(item).items() if value not in ("", None)} for item in self.items]
        return {"source": self.source, "documents": self.documents, "counts": self.counts, "items": items}

    def __str__(self) -> str:
        rows = [("", *OUTCOMES), *((kind, *map(str, found.values())) for kind, found in self.counts.items())]
        table = [f"{row[0]:<12}" + "".join(f"{cell:>10}" for cell in row[1:]) for row in rows]
        listed = self.of("refused") + self.of("repaired")
        if not self.documents:
            listed += self.of("ignored")
        told = [*([_list(listed)] if listed else []), *self.warnings]
        return "\n".join([f"{self.source}: {self.documents} documents", *table, *told])


def _named(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def printable(name: str) -> str:
    """A name from a file; where it holds what cannot be printed, that is written out."""
    return name if name.isprintable() else repr(name)


def _list(items: Sequence[Item], limit: int = 20) -> str:
    lines = [f"  {item}" for item in items[:limit]]
    return "\n".join([*lines, *([f"  ... and {len(items) - limit} more"] if len(items) > limit else [])])
