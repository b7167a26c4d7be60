"""One task of a Label Studio export -> documents, with the outcome of everything in it."""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, NamedTuple

from .documents import Document, Mention
from .import_report import Item, LabelStudioError
from .labelstudio_offsets import Utf16Text, utf16_text
from .labelstudio_result import Marked, Verdict, kind_of, offset_of, read_result, text_of, value_of
from .schema import Schema

LONG_AGO = datetime.min.replace(tzinfo=timezone.utc)


class Annotated(NamedTuple):
    """What one annotator made of a task.

    Attributes:
        document: with the id of the task.
        annotator: email where the export says it, else the server's number, else empty.
        ground_truth: marked so in the server.
        time: of the last change; `LONG_AGO` where the export does not say it.
    """

    document: Document
    annotator: str = ""
    ground_truth: bool = False
    time: datetime = LONG_AGO


# Of the annotations of a task, at least one, those that become documents; or one made of all of them.
Policy = Callable[[Sequence[Annotated]], Sequence[Annotated]]


def everyone(annotated: Sequence[Annotated]) -> Sequence[Annotated]:
    """The policy that makes a document of each annotation."""
    return annotated


def document_id(task: Any, position: int = 0) -> str:
    """The id of the document that a task holds: `data.id`, else from the server's id, else from the position."""
    data = task.get("data") if isinstance(task, Mapping) else None
    for holder, prefix in ((data, ""), (task, "task-")):
        given = holder.get("id") if isinstance(holder, Mapping) else None
        if isinstance(given, (str, int)) and not isinstance(given, bool) and given != "":
            return f"{prefix}{given}"
    return f"task-at-{position}"


def given_text(task: Any) -> Any:
    """What a task has as its text, `data.text`, which may be no text; None where there is nothing."""
    data = task.get("data") if isinstance(task, Mapping) else None
    return data.get("text") if isinstance(data, Mapping) else None


def annotator_of(annotation: Mapping[str, Any]) -> str:
    """Email, else number, of who made an annotation; empty where it is not said."""
    who = annotation.get("completed_by")
    if isinstance(who, Mapping):
        who = who.get("email") or who.get("id")
    return str(who) if isinstance(who, (str, int)) and not isinstance(who, bool) else ""


def time_of(annotation: Mapping[str, Any]) -> datetime:
    """When an annotation was changed last."""
    for key in ("updated_at", "created_at"):
        try:  # Python 3.10 does not read the Z
            time = datetime.fromisoformat(text_of(annotation, key).replace("Z", "+00:00"))
        except ValueError:
            continue
        return time if time.tzinfo else time.replace(tzinfo=timezone.utc)
    return LONG_AGO


def listed(mapping: Any, key: str) -> list[Any]:
    """`mapping[key]` where that is a list, else an empty one."""
    value = mapping.get(key) if isinstance(mapping, Mapping) else None
    return value if isinstance(value, list) else []


class _Read(NamedTuple):
    result: list[Any]
    marked: Marked
    annotated: Annotated


class TaskReader:
    """Reads one task: `documents`, and in `items` the outcome of everything in it.

    Never raises for what the task holds: what is wrong is refused in `items`.

    Args:
        position: of the task in its export, from 1; names it where it has no id.
        earlier: ids of documents of earlier tasks.
    """

    def __init__(self, task: Any, position: int, schema: Schema, policy: Policy, earlier: Container[str]):
        self.task = task
        self.schema = schema
        self.policy = policy
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
            for number, annotation in enumerate(listed(task, "annotations"), 1):
                self._pass_over("annotation", annotation, number, "refused", "its task is refused")
        for kind in ("draft", "prediction"):
            for other in listed(task, f"{kind}s"):
                self._pass_over(kind, other, None, "ignored", f"a {kind} is no annotation")

    def _read_task(self) -> None:
        data = self.task.get("data") if isinstance(self.task, Mapping) else None
        if not isinstance(data, Mapping) or not isinstance(data.get("text"), str):
            known = data if isinstance(data, Mapping) else self.task
            keys = (
                f"its keys are {', '.join(map(repr, known)):.80}"
                if isinstance(known, Mapping)
                else f"it is {known!r:.40}"
            )
            raise LabelStudioError(
                f"a task must be an object whose 'data' has a 'text', and {keys}; export the project as JSON (not "
                "JSON-MIN), and call the text 'text'"
            )
        if "completions" in self.task:
            raise LabelStudioError("'completions' are of Label Studio before 1.0; export the project anew")
        annotations = self.task.get("annotations") or []
        if not isinstance(annotations, list):
            raise LabelStudioError(f"'annotations' must be a list, found {annotations!r:.60}")
        for key in ("split", "group", "source"):
            if not isinstance(data.get(key) or "", str):
                raise LabelStudioError(f"'{key}' must be a text, found {data[key]!r:.60}")
        bare = Document(
            id=self.name,
            text=data["text"],
            group=data.get("group") or "",
            source=data.get("source") or "",
            split=data.get("split") or None,
        )
        read = [self._read_annotation(one, bare, utf16) for one, utf16 in in_units(bare.text, annotations)]
        given = [found.annotated for found in read if isinstance(found, _Read)]
        chosen = list(self.policy(given)) if given else []
        self._take(chosen)
        reason = "" if chosen else "no annotation that was asked for" if given else "not annotated"
        self.items.append(Item("kept" if chosen else "ignored", "task", self.name, reason=reason))
        for number, (annotation, found) in enumerate(zip(annotations, read, strict=True), 1):
            if isinstance(found, Verdict):
                self._pass_over("annotation", annotation, number, *found)
            elif any(found.annotated is one for one in chosen):
                self._report(found.result, number, found.marked.verdicts)
            elif any(not any(own is one for own in given) for one in chosen):
                self._report(found.result, number, list(_outvoted(found, chosen[0].document, self.schema)))
            else:
                reason = "not the one that was asked for" + ("" if found.annotated.annotator else ", or not said whose")
                self._pass_over("annotation", annotation, number, "ignored", reason)

    def _read_annotation(self, annotation: Any, bare: Document, utf16: Utf16Text | None) -> _Read | Verdict:
        if not isinstance(annotation, Mapping):
            return Verdict("refused", f"must be an object, found {annotation!r:.60}")
        if annotation.get("was_cancelled"):
            return Verdict("ignored", "skipped by the annotator")
        result = annotation.get("result")
        if not isinstance(result, list):
            return Verdict("refused", f"'result' must be a list, found {result!r:.60}")
        marked = read_result(result, bare.text, self.schema, utf16)
        document = replace(bare, mentions=marked.mentions, relations=marked.relations)
        gold = bool(annotation.get("ground_truth"))
        return _Read(result, marked, Annotated(document, annotator_of(annotation), gold, time_of(annotation)))

    def _take(self, chosen: Sequence[Annotated]) -> None:
        if len(chosen) < 2:
            self.documents = [one.document for one in chosen]
            return
        used: set[str] = set()
        for number, one in enumerate(chosen, 1):
            id_ = f"{self.name}@{one.annotator or number}"
            while id_ in used:
                id_ += f"-{number}"
            used.add(id_)
            self.documents.append(replace(one.document, id=id_, group=one.document.group or self.name))

    def _pass_over(self, kind: str, holder: Any, number: int | None, outcome: str, reason: str) -> None:
        """Give one outcome to an annotation, draft or prediction and to all that is in it."""
        result = listed(holder, "result")
        verdicts = [Verdict(outcome, reason if kind != "annotation" else f"its annotation is {outcome}")] * len(result)
        self.items.append(Item(outcome, kind, self.name, number, reason=reason))
        self._report_items(result, number, verdicts)

    def _report(self, result: list[Any], number: int, verdicts: Sequence[Verdict]) -> None:
        self.items.append(Item("kept", "annotation", self.name, number))
        self._report_items(result, number, verdicts)

    def _report_items(self, result: list[Any], number: int | None, verdicts: Sequence[Verdict]) -> None:
        data = self.task.get("data") if isinstance(self.task, Mapping) else None
        text = text_of(data, "text")
        for item, (outcome, reason) in zip(result, verdicts, strict=True):
            kind = kind_of(item)
            start, end = offset_of(item, "start"), offset_of(item, "end")
            words = text[start:end] if start is not None and end is not None and 0 <= start < end else ""
            ends = f"{text_of(item, 'from_id')} -> {text_of(item, 'to_id')}"
            region = ends if kind == "relation" else text_of(item, "id")
            self.items.append(Item(outcome, kind, self.name, number, region, start, end, words, reason))


def in_units(text: str, annotations: Sequence[Any]) -> list[tuple[Any, Utf16Text | None]]:
    """The annotations of a task, each with a converter where its offsets count UTF-16 units.

    Its own spans tell, or else those of all.
    """
    task = utf16_text(text, _spans(annotations))
    return [(one, utf16_text(text, _spans([one]), task)) for one in annotations]


def _spans(annotations: Iterable[Any]) -> Iterator[tuple[int, int, str]]:
    """Start, end and `value.text` of the spans of a task that say all three."""
    for annotation in annotations:
        for item in listed(annotation, "result"):
            start, end, given = offset_of(item, "start"), offset_of(item, "end"), value_of(item, "text")
            if kind_of(item) == "region" and start is not None and end is not None and isinstance(given, str):
                yield start, end, given


def _outvoted(found: _Read, agreed: Document, schema: Schema) -> Iterator[Verdict]:
    """The verdicts on the items of an annotation of whose mentions and relations only what is in `agreed` stays."""
    entities = {(m.start, m.end, m.type): m for m in agreed.mentions}
    links = {schema.relation_key(r.type, r.head, r.tail) for r in agreed.relations}
    for item, verdict, about in zip(found.result, found.marked.verdicts, found.marked.about, strict=True):
        there = [other for m in about if (other := entities.get((m.start, m.end, m.type)))]
        stays = len(there) == len(about)
        if stays and kind_of(item) == "choice" and about:
            name = text_of(item, "from_name")
            stays = there[0].attributes.get(name) == about[0].attributes.get(name)
        elif stays and len(about) == 2:
            stays = _linked(there[0], there[1], links, schema)
        yield verdict if stays else Verdict("ignored", "the majority says otherwise")


def _linked(head: Mention, tail: Mention, links: Container[tuple[str, Hashable]], schema: Schema) -> bool:
    if head.type == tail.type and head.type in schema.alias_types and head.entity == tail.entity:
        return True
    return any(schema.relation_key(name, head.entity, tail.entity) in links for name in schema.relations)
