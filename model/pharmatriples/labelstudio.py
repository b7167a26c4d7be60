"""Label Studio: the labeling configuration, documents to tasks, JSON exports to documents, the committed form.

Pure functions over the JSON of tasks; nothing here talks to a server. Mentions become regions with the id
`ENTITY·K`, the K-th mention of the entity, so that entity ids survive the round trip and stay readable.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping
from itertools import pairwise, product
from pathlib import Path
from typing import Any, Literal, NamedTuple

from .documents import Document, Mention, Relation
from .files import write_text
from .import_report import ImportReport, Item, LabelStudioError
from .labelstudio_offsets import Utf16Text, trimmed
from .labelstudio_result import TEXT, kind_of, offset_of, region_id, text_of
from .labelstudio_task import (
    LONG_AGO,
    Policy,
    TaskReader,
    annotator_of,
    document_id,
    everyone,
    in_units,
    listed,
    time_of,
)
from .schema import Schema

LABELS = "label"  # name of the span control in the labeling configuration
COLOURS = (
    *("#1f77b4", "#2ca02c", "#d62728", "#ff7f0e", "#9467bd", "#8c564b", "#e377c2", "#17becf", "#bcbd22", "#7f7f7f"),
    *("#393b79", "#637939", "#843c39", "#8c6d31", "#7b4173", "#3182bd", "#31a354", "#e6550d", "#756bb1", "#636363"),
)

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


def missing_controls(config: str, schema: Schema) -> list[str]:
    """What a labeling configuration lacks of the one that the schema makes, each as `Tag name`.

    Raises:
        LabelStudioError: it is no XML.
    """
    try:
        return sorted(_controls(labeling_config(schema)) - _controls(config))
    except ElementTree.ParseError as error:
        raise LabelStudioError(f"the labeling configuration is not XML: {error}") from None


def _controls(config: str) -> set[str]:
    elements = ElementTree.fromstring(config).iter()
    return {f"{element.tag} {name}" for element in elements if (name := element.get("name") or element.get("value"))}


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


# --- exports to documents


class Import(NamedTuple):
    """The documents of an export, and what became of everything in it."""

    documents: list[Document]
    report: ImportReport


def read_export(source: str | Path | Iterable[Any], schema: Schema, policy: Policy = everyone) -> Import:
    """The documents of a JSON export, and a report on every item in it.

    `labelstudio_result.read_result` says how an annotation is read. Annotations that were cancelled are none. Where
    a task gives several documents, their ids are `ID@ANNOTATOR` and they share a group.

    Args:
        source: a file (a JSON list of tasks, or one task a line), or the tasks themselves.
        policy: which annotations of a task become documents; see `annotators.policy`.

    Raises:
        LabelStudioError: the file cannot be read. What is wrong inside a task is refused, in the report.
    """
    name, tasks = (str(source), read_tasks(source)) if isinstance(source, (str, Path)) else ("export", source)
    documents: dict[str, Document] = {}
    items: list[Item] = []
    for position, task in enumerate(tasks, 1):
        reader = TaskReader(task, position, schema, policy, documents)
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


# --- the committed form


def export_task(task: Any, position: int = 0, people: bool = False) -> dict[str, Any]:
    """A task of a server's export without what changes from server to server: ids, times, people, counters,
    drafts, predictions, and `value.text`, which the server bends. It imports into Label Studio as it is.

    Where a task has several annotators, who they are and when they were done stays; offsets that count UTF-16
    units, which only `value.text` tells, become code points. What is damaged inside stays as it is.

    Args:
        people: whether it stays who annotated a task that has one annotation; of an export, `export_text` decides.

    Raises:
        LabelStudioError: the task has no data.
    """
    data = task.get("data") if isinstance(task, Mapping) else None
    if not isinstance(data, Mapping):
        raise LabelStudioError(f"task {document_id(task, position)!r}: a task must be an object with 'data'")
    kept: dict[str, Any] = {"data": {**data, "id": document_id(task, position)}}
    annotations = task.get("annotations")
    if not isinstance(annotations, list):
        return kept | ({"annotations": annotations} if annotations else {})
    text = text_of(data, "text")
    several = len(annotators(task)) > 1
    if annotations:
        kept["annotations"] = [
            _export_annotation(one, text, own, people or several, several)
            for one, own in sorted(in_units(text, annotations), key=lambda pair: _number(pair[0]))
        ]
    return kept


def annotators(task: Any) -> list[str]:
    """Who made the annotations of a task, one name for each that was not cancelled."""
    annotations = [one for one in listed(task, "annotations") if isinstance(one, Mapping)]
    return [annotator_of(one) for one in annotations if not one.get("was_cancelled")]


def _number(annotation: Any) -> int:
    given = annotation.get("id") if isinstance(annotation, Mapping) else None
    return given if isinstance(given, int) else 0


def _export_annotation(annotation: Any, text: str, utf16: Utf16Text | None, people: bool, times: bool) -> Any:
    if not isinstance(annotation, Mapping):
        return annotation
    kept: dict[str, Any] = {"result": annotation["result"]} if "result" in annotation else {}
    if isinstance(kept.get("result"), list):  # no list is refused: as an empty one it would be a reviewed negative
        kept["result"] = _in_order([_export_item(item, utf16) for item in kept["result"]], text)
    if "ground_truth" in annotation:  # always said: the server takes an import that does not say it as true
        kept["ground_truth"] = bool(annotation["ground_truth"])
    if annotation.get("was_cancelled"):
        kept["was_cancelled"] = True
    if people and (who := annotator_of(annotation)):
        kept["completed_by"] = {"email": who} if "@" in who else who
    if times and (time := time_of(annotation)) != LONG_AGO:
        kept["updated_at"] = time.isoformat()
    return kept


def _in_order(items: list[Any], text: str) -> list[Any]:
    """Spans in the order of the text, each with its choices; then arrows in the order of their ends.

    What reading chooses from by its order stays in its order: spans of one region, spans that are one place after
    trimming, and choices of one region and name, of all of which the first counts.
    """
    places: dict[str, tuple[int, int]] = {}  # region id -> the place of its first span
    for item in items:
        if kind_of(item) == "region" and (id_ := text_of(item, "id")):
            places.setdefault(id_, _trimmed_place(item, text))

    def order(item: Any) -> tuple[Any, ...]:
        kind = kind_of(item)
        if kind == "relation":
            ends = [places.get(text_of(item, key), (-1, -1)) for key in ("from_id", "to_id")]
            return True, *ends, json.dumps(item)
        place = places.get(text_of(item, "id")) or _trimmed_place(item, text)
        if kind == "region":
            return False, place, 0, ""
        if kind == "choice":
            return False, place, 1, json.dumps([text_of(item, key) for key in ("from_name", "id")])
        return False, place, 2, json.dumps(item)

    return sorted(items, key=order)


def _place(item: Any) -> tuple[int, int]:
    start, end = offset_of(item, "start"), offset_of(item, "end")
    return (-1 if start is None else start, -1 if end is None else end)


def _trimmed_place(item: Any, text: str) -> tuple[int, int]:
    """The place as reading takes it; as it is given where it is no span of the text."""
    start, end = _place(item)
    return trimmed(text, start, end) if 0 <= start < end <= len(text) else (start, end)


def _export_item(item: Any, utf16: Utf16Text | None) -> Any:
    if not isinstance(item, Mapping):
        return item
    kept = {key: value for key, value in sorted(item.items()) if key not in ("origin", "score") and value is not None}
    if kind_of(item) in ("region", "choice") and isinstance(item.get("value"), Mapping):
        kept["value"] = {key: value for key, value in item["value"].items() if key != "text"}
        if utf16:  # what is refused, as no place of the text, must not become one
            start, end = utf16.span(*_place(item)) or (None, None)
            kept["value"] |= {"start": start, "end": end}
    return kept


def export_text(tasks: Iterable[Any]) -> str:
    """The committed form of an export: a JSON list, one task a line, in the order of `data.id`.

    Who annotated stays everywhere or nowhere: it stays where the export has several annotators, or a task of it several
    annotations. So a policy chooses the same from it as from the export, but that `by:EMAIL` finds nothing where there
    is but one annotator, whom it does not name.
    """
    tasks = list(tasks)
    made = [annotators(task) for task in tasks]
    people = any(len(own) > 1 for own in made) or len({who for own in made for who in own}) > 1
    exported = [export_task(task, position, people) for position, task in enumerate(tasks, 1)]
    exported.sort(key=lambda task: task["data"]["id"])
    return "[\n" + ",\n".join(json.dumps(task, ensure_ascii=False, sort_keys=True) for task in exported) + "\n]\n"


def write_export(tasks: Iterable[Any], path: str | Path) -> None:
    """Write the committed form of an export; the file is replaced whole or not at all."""
    write_text(export_text(tasks), path)
