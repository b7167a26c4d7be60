"""Label Studio: the labeling configuration, documents to tasks, JSON exports to documents, the committed form.

Pure functions over the JSON of tasks; nothing here talks to a server. Mentions become regions with the id
`ENTITY·K`, the K-th mention of the entity, so that entity ids survive the round trip and stay readable.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any, Literal, NamedTuple

from .documents import Document, Mention, Relation
from .labelstudio_result import Verdict, kind_of, offset_of, read_result, region_id, text_of
from .schema import Schema

LABELS, TEXT = "label", "text"  # names of the span control and of the text in the labeling configuration
COLOURS = (
    *("#1f77b4", "#2ca02c", "#d62728", "#ff7f0e", "#9467bd", "#8c564b", "#e377c2", "#17becf", "#bcbd22", "#7f7f7f"),
    *("#393b79", "#637939", "#843c39", "#8c6d31", "#7b4173", "#3182bd", "#31a354", "#e6550d", "#756bb1", "#636363"),
)
OUTCOMES = ("kept", "repaired", "refused", "ignored")
KINDS = ("task", "annotation", "region", "choice", "relation", "other", "draft", "prediction")


class LabelStudioError(ValueError):
    """An export that cannot be read, or not whole; the message names file, task and region."""


# --- the labeling configuration


def labeling_config(schema: Schema) -> str:
    """The labeling configuration (XML) of a schema.

    Spans are the control `label`, each attribute is a per-region choice named as the attribute, each relation
    type and the alias relation is a value of the arrows. Choices stand above the text: below a long one they
    are off screen.
    """
    view = ElementTree.Element("View")
    arrows = [*schema.relations, *([schema.alias] if schema.alias else [])]
    if arrows:
        relations = ElementTree.SubElement(view, "Relations")
        for name in arrows:
            ElementTree.SubElement(relations, "Relation", value=name)
    labels = ElementTree.SubElement(view, "Labels", name=LABELS, toName=TEXT)
    for number, (type_, description) in enumerate(schema.entities.items()):
        colour = COLOURS[number % len(COLOURS)]
        ElementTree.SubElement(labels, "Label", value=type_, background=colour, hint=description)
    for type_, attributes in schema.attributes.items():
        shown = {"whenTagName": LABELS, "whenLabelValue": type_}
        panel = ElementTree.SubElement(view, "View", {"visibleWhen": "region-selected", **shown})
        for name, values in attributes.items():
            control = {"name": name, "toName": TEXT, "perRegion": "true", **shown}
            choices = ElementTree.SubElement(panel, "Choices", control, choice="single-radio", required="false")
            for value, description in values.items():
                ElementTree.SubElement(choices, "Choice", value=value, hint=description)
    ElementTree.SubElement(view, "Text", name=TEXT, value="$text")
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


# --- documents to tasks


def task_from_document(
    document: Document,
    schema: Schema,
    as_: Literal["annotations", "predictions"] | None = "annotations",
    model_version: str = "",
) -> dict[str, Any]:
    """A task for `projects.import_tasks`: the text with the document's annotation, as one annotation or one
    prediction (with scores and model version), or bare where `as_` is None.

    Raises:
        DocumentError: the document does not fit the schema; the server would take it without a word.
    """
    data = {key: value for key in ("id", "text", "split", "group", "source") if (value := getattr(document, key))}
    task: dict[str, Any] = {"data": {"text": "", **data}}
    if as_ is None:
        return task
    result = _result(document.check(schema), schema)
    if as_ == "annotations":
        task["annotations"] = [{"ground_truth": True, "result": result}]
    else:
        scores = [m.score for m in document.mentions if m.score is not None]
        score = {"score": sum(scores) / len(scores)} if scores else {}
        task["predictions"] = [{"model_version": model_version, **score, "result": result}]
    return task


def _result(document: Document, schema: Schema) -> list[dict[str, Any]]:
    regions: dict[str, list[tuple[str, Mention]]] = {}  # entity -> its regions in the order of the text
    result: list[dict[str, Any]] = []
    for mention in document.mentions:
        own = regions.setdefault(mention.entity, [])
        region = region_id(mention.entity, len(own) + 1)
        own.append((region, mention))
        shared = {"id": region, "to_name": TEXT} | _score(mention)
        span = {"start": mention.start, "end": mention.end}
        result.append(shared | {"from_name": LABELS, "type": "labels", "value": {**span, "labels": [mention.type]}})
        for name, value in mention.attributes.items():
            result.append(shared | {"from_name": name, "type": "choices", "value": {**span, "choices": [value]}})
    for own in regions.values():
        if own[0][1].type in schema.alias_types:
            result += [_arrow(later, earlier, schema.alias) for (earlier, _), (later, _) in pairwise(own)]
    for relation in document.relations:
        (head, _), (tail, _) = min(product(regions[relation.head], regions[relation.tail]), key=_distance)
        result.append(_arrow(head, tail, relation.type) | _score(relation))
    return result


def _arrow(head: str, tail: str, label: str) -> dict[str, Any]:
    return {"type": "relation", "from_id": head, "to_id": tail, "direction": "right", "labels": [label]}


def _score(item: Mention | Relation) -> dict[str, Any]:
    return {} if item.score is None else {"score": item.score}


def _distance(pair: tuple[tuple[str, Mention], tuple[str, Mention]]) -> int:
    (_, a), (_, b) = pair
    return max(a.start - b.end, b.start - a.end)


# --- the report


@dataclass(frozen=True)
class Item:
    """What became of one item of an export.

    Attributes:
        outcome: kept; repaired or refused, for `reason`; ignored, where it is no annotation (a draft, a
            prediction, a skipped task).
        kind: task, annotation, region, choice, relation, other, draft or prediction.
        task: id of the document that the task holds. annotation: number of the annotation in its task, from 1.
        region: its region id, for a relation `FROM -> TO`.
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
        place = f" [{self.start}, {self.end})" if self.start is not None else ""
        number = f", annotation {self.annotation}" if self.annotation is not None else ""
        words = f" {self.text!r}" if self.text else ""
        return f"{self.outcome} {self.kind}: task {self.task!r}{number}, {self.region}{place}{words}: {self.reason}"


@dataclass(frozen=True)
class ImportReport:
    """Every item of an export with its outcome; the counts add up to the export's items."""

    source: str
    items: tuple[Item, ...]
    documents: int

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Kind -> outcome -> how many, for the kinds that the export has."""
        found = Counter((item.kind, item.outcome) for item in self.items)
        kinds = [kind for kind in KINDS if any((kind, outcome) in found for outcome in OUTCOMES)]
        return {kind: {outcome: found[kind, outcome] for outcome in OUTCOMES} for kind in kinds}

    def of(self, *outcomes: str) -> list[Item]:
        """The items with one of these outcomes, in the order of the export."""
        return [item for item in self.items if item.outcome in outcomes]

    def check(self) -> ImportReport:
        """The report itself, if nothing was refused.

        Raises:
            LabelStudioError: naming what was refused.
        """
        if refused := self.of("refused"):
            raise LabelStudioError(f"{self.source}: {len(refused)} items of the export are refused:\n" + _list(refused))
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types: source, documents, counts, items (empty fields left out)."""
        items = [{key: value for key, value in asdict(item).items() if value not in ("", None)} for item in self.items]
        return {"source": self.source, "documents": self.documents, "counts": self.counts, "items": items}

    def __str__(self) -> str:
        rows = [("", *OUTCOMES), *((kind, *map(str, found.values())) for kind, found in self.counts.items())]
        table = [f"{row[0]:<12}" + "".join(f"{cell:>10}" for cell in row[1:]) for row in rows]
        listed = self.of("refused") + self.of("repaired")
        return "\n".join([f"{self.source}: {self.documents} documents", *table, *([_list(listed)] if listed else [])])


def _list(items: Sequence[Item], limit: int = 20) -> str:
    lines = [f"  {item}" for item in items[:limit]]
    return "\n".join([*lines, *([f"  ... and {len(items) - limit} more"] if len(items) > limit else [])])


# --- exports to documents


class Import(NamedTuple):
    """The documents of an export, and what became of everything in it."""

    documents: list[Document]
    report: ImportReport


def read_export(source: str | Path | Iterable[Any], schema: Schema) -> Import:
    """The documents of a JSON export, and a report on every item in it.

    Each annotation that was not cancelled is a document; where a task has several, their ids are
    `ID@ANNOTATOR` and they share a group. `labelstudio_result.read_result` says how an annotation is read.

    Args:
        source: a file (a JSON list of tasks, or one task a line), or the tasks themselves.

    Raises:
        LabelStudioError: the file cannot be read. What is wrong inside a task is refused, in the report.
    """
    name, tasks = (str(source), read_tasks(source)) if isinstance(source, (str, Path)) else ("export", source)
    documents: dict[str, Document] = {}
    items: list[Item] = []
    for position, task in enumerate(tasks, 1):
        reader = _TaskReader(task, position, schema, documents)
        documents |= {document.id: document for document in reader.documents}
        items += reader.items
    return Import(list(documents.values()), ImportReport(name, tuple(items), len(documents)))


def read_tasks(path: str | Path) -> list[Any]:
    """The tasks of a file that holds a JSON list of tasks, or one task a line.

    Raises:
        LabelStudioError: the file is missing or not of this kind; with its line.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise LabelStudioError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise LabelStudioError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    parts = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not parts or text.lstrip().startswith("[") or not _is_json(parts[0][1]):
        parts = [(1, text)]
    tasks: list[Any] = []
    for number, part in parts:
        try:
            parsed = json.loads(part)
        except json.JSONDecodeError as error:
            line = number + error.lineno - 1
            raise LabelStudioError(f"{path}:{line}: not a JSON export: {error.msg}, column {error.colno}") from None
        except (ValueError, RecursionError) as error:
            raise LabelStudioError(f"{path}:{number}: not a JSON export: {error}") from None
        tasks += parsed if isinstance(parsed, list) else [parsed]
    return tasks


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def document_id(task: Any, position: int = 0) -> str:
    """The id of the document that a task holds: `data.id`, else from the server's id, else from the position."""
    data = task.get("data") if isinstance(task, Mapping) else None
    for holder, prefix in ((data, ""), (task, "task-")):
        given = holder.get("id") if isinstance(holder, Mapping) else None
        if isinstance(given, (str, int)) and not isinstance(given, bool) and given != "":
            return f"{prefix}{given}"
    return f"task-at-{position}"


class _TaskReader:
    """Reads one task: `documents`, and in `items` the outcome of everything in it."""

    def __init__(self, task: Any, position: int, schema: Schema, earlier: Container[str]):
        self.task = task
        self.schema = schema
        self.name = document_id(task, position)
        self.items: list[Item] = []
        self.documents: list[Document] = []
        try:
            self._read_task()
            if double := next((document.id for document in self.documents if document.id in earlier), None):
                raise LabelStudioError(f"document {double!r} stood in an earlier task")
        except ValueError as fault:  # DocumentError is one, too
            self.documents = []
            self.items = [Item("refused", "task", self.name, reason=str(fault))]
            for number, annotation in enumerate(_listed(task, "annotations"), 1):
                self._pass_over(annotation, number, "refused", "its task is refused")
        for kind in ("draft", "prediction"):
            others = _listed(task, f"{kind}s")
            self.items += [Item("ignored", kind, self.name, reason=f"a {kind} is no annotation") for _ in others]

    def _read_task(self) -> None:
        data = self.task.get("data") if isinstance(self.task, Mapping) else None
        if not isinstance(data, Mapping) or not isinstance(data.get("text"), str):
            raise LabelStudioError("a task must be an object whose 'data' has a 'text'")
        annotations = self.task.get("annotations") or []
        if not isinstance(annotations, list):
            raise LabelStudioError(f"'annotations' must be a list, found {annotations!r:.60}")
        for key in ("split", "group", "source"):
            if not isinstance(data.get(key) or "", str):
                raise LabelStudioError(f"'{key}' must be a text, found {data[key]!r:.60}")
        several = sum(isinstance(a, Mapping) and not a.get("was_cancelled") for a in annotations) > 1
        bare = Document(
            id=self.name,
            text=data["text"],
            group=data.get("group") or (self.name if several else ""),
            source=data.get("source") or "",
            split=data.get("split") or None,
        )
        for number, annotation in enumerate(annotations, 1):
            self._read_annotation(annotation, number, bare, several)
        if self.documents:
            item = Item("kept", "task", self.name)
        else:
            item = Item(
                "ignored", "task", self.name, reason="no annotation to read" if annotations else "not annotated"
            )
        self.items.insert(0, item)

    def _read_annotation(self, annotation: Any, number: int, bare: Document, several: bool) -> None:
        if not isinstance(annotation, Mapping):
            return self._pass_over(annotation, number, "refused", f"must be an object, found {annotation!r:.60}")
        if annotation.get("was_cancelled"):
            return self._pass_over(annotation, number, "ignored", "skipped by the annotator")
        result = annotation.get("result")
        if not isinstance(result, list):
            return self._pass_over(annotation, number, "refused", f"'result' must be a list, found {result!r:.60}")
        marked = read_result(result, bare.text, self.schema)
        id_ = self._annotator_id(annotation, number) if several else self.name
        self.documents.append(replace(bare, id=id_, mentions=marked.mentions, relations=marked.relations))
        self.items.append(Item("kept", "annotation", self.name, number))
        return self._report(result, number, marked.verdicts)

    def _annotator_id(self, annotation: Mapping[str, Any], number: int) -> str:
        who = annotation.get("completed_by")
        if isinstance(who, Mapping):
            who = who.get("email") or who.get("id")
        id_ = f"{self.name}@{number if who is None else who}"
        while id_ in {document.id for document in self.documents}:
            id_ += f"-{number}"
        return id_

    def _pass_over(self, annotation: Any, number: int, outcome: str, reason: str) -> None:
        self.items.append(Item(outcome, "annotation", self.name, number, reason=reason))
        result = _listed(annotation, "result")
        self._report(result, number, [Verdict(outcome, f"its annotation is {outcome}")] * len(result))

    def _report(self, result: list[Any], number: int, verdicts: Sequence[Verdict]) -> None:
        text = text_of(self.task.get("data"), "text")
        for item, (outcome, reason) in zip(result, verdicts, strict=True):
            kind = kind_of(item)
            start, end = offset_of(item, "start"), offset_of(item, "end")
            words = text[start:end] if start is not None and end is not None and 0 <= start < end else ""
            ends = f"{text_of(item, 'from_id')} -> {text_of(item, 'to_id')}"
            region = ends if kind == "relation" else text_of(item, "id")
            self.items.append(Item(outcome, kind, self.name, number, region, start, end, words, reason))


def _listed(mapping: Any, key: str) -> list[Any]:
    value = mapping.get(key) if isinstance(mapping, Mapping) else None
    return value if isinstance(value, list) else []


# --- the committed form


def export_task(task: Mapping[str, Any]) -> dict[str, Any]:
    """A task of a server's export without what changes from server to server: ids, times, people, counters,
    drafts, predictions, and `value.text`, which the server bends. It imports into Label Studio as it is."""
    kept: dict[str, Any] = {"data": {**task["data"], "id": document_id(task)}}
    annotations = sorted(_listed(task, "annotations"), key=lambda annotation: annotation.get("id") or 0)
    if annotations:
        kept["annotations"] = [_export_annotation(annotation) for annotation in annotations]
    return kept


def _export_annotation(annotation: Mapping[str, Any]) -> dict[str, Any]:
    items = [_export_item(item) for item in _listed(annotation, "result")]
    places = {text_of(item, "id"): _place(item) for item in items}

    def order(item: dict[str, Any]) -> tuple[Any, ...]:
        """Spans in the order of the text, each with its choices; then arrows in the order of their ends."""
        is_arrow = kind_of(item) == "relation"
        ends = [places.get(text_of(item, key), (-1, -1)) for key in ("from_id", "to_id")]
        return is_arrow, *(ends if is_arrow else [_place(item)]), kind_of(item) != "region", json.dumps(item)

    kept: dict[str, Any] = {"result": sorted(items, key=order)}
    if "ground_truth" in annotation:  # always said: the server takes an import that does not say it as true
        kept["ground_truth"] = bool(annotation["ground_truth"])
    if annotation.get("was_cancelled"):
        kept["was_cancelled"] = True
    return kept


def _place(item: dict[str, Any]) -> tuple[int, int]:
    start, end = offset_of(item, "start"), offset_of(item, "end")
    return (-1 if start is None else start, -1 if end is None else end)


def _export_item(item: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in sorted(item.items()) if key not in ("origin", "score") and value is not None}
    if kind_of(item) in ("region", "choice"):
        kept["value"] = {key: value for key, value in item["value"].items() if key != "text"}
    return kept


def export_text(tasks: Iterable[Mapping[str, Any]]) -> str:
    """The committed form of an export: a JSON list, one task a line, in the order of `data.id`."""
    exported = sorted(map(export_task, tasks), key=lambda task: task["data"]["id"])
    return "[\n" + ",\n".join(json.dumps(task, ensure_ascii=False, sort_keys=True) for task in exported) + "\n]\n"


def write_export(tasks: Iterable[Mapping[str, Any]], path: str | Path) -> None:
    """Write the committed form of an export; the file is replaced whole or not at all."""
    draft = Path(f"{path}.part")
    # A lone surrogate has no UTF-8 form; its backslash escape is what JSON writes for it.
    draft.write_bytes(export_text(tasks).encode("utf-8", "backslashreplace"))
    draft.replace(path)
