"""Documents: a text with its mentions, entities and relations, checked when it is made.

Offsets are Unicode code points into the text as given, half-open: `text[m.start:m.end]` is the mention.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from .files import writing
from .schema import Schema

SPLITS = ("train", "validation", "test")
# A word is a run of letters and digits, one ideograph or kana, or one other sign. An x between two names (EGFRxHER3)
# is a word by itself: each name can be a mention. A code in capitals is a word with its hyphens (B7-H4, HS-20089, but
# CD20 in anti-CD20 and CD20-targeted), so that it is not marked in part.
CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_LETTER = rf"(?:[^\W_{CJK}][\u0300-\u036f]*)"  # or digit, with the marks that combine with it
_SPLIT = r"x(?=[A-Z][A-Z0-9]|\d-\d)"
_TAIL = rf"(?:(?!{_SPLIT}){_LETTER})"
_HYPHENATED = rf"(?!ANTI-)(?=[A-Z0-9]*[A-Z])[A-Z0-9]+(?:[-\u2010\u2011][A-Z]?[0-9]{_TAIL}*)+(?!{_TAIL})"
_WORD = re.compile(rf"{_HYPHENATED}|[{CJK}]|{_SPLIT}|{_LETTER}+?(?={_SPLIT})|{_LETTER}+|[^\w\s]|_")
_BRACKETS = {")": "(", "]": "[", "}": "{", "）": "（", "】": "【", "］": "［"}


def word_spans(text: str) -> list[tuple[int, int]]:
    """Code point offsets, half-open, of the words of a text: the units that are tagged."""
    return [match.span() for match in _WORD.finditer(text)]


def unmatched_brackets(signs: Sequence[str]) -> set[int]:
    """Places of the brackets, of the characters or words of a span, whose other half is not in it."""
    open_: list[int] = []
    single: set[int] = set()
    for place, sign in enumerate(signs):
        if sign in _BRACKETS.values():
            open_.append(place)
        elif sign in _BRACKETS:
            if open_ and signs[open_[-1]] == _BRACKETS[sign]:
                open_.pop()
            else:
                single.add(place)
    return single.union(open_)


class DocumentError(ValueError):
    """A document that contradicts itself or its schema; the message names the document and the place."""


@dataclass(frozen=True)
class Mention:
    """A span of the text that names something.

    Attributes:
        start, end: code points into the text, half-open, not empty.
        type: its entity type.
        entity: id of the entity it belongs to, unique in the document.
        attributes: attribute -> value, for the types that carry attributes.
        score: probability of the prediction; None for an annotation.
    """

    start: int
    end: int
    type: str
    entity: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    score: float | None = None


@dataclass(frozen=True)
class Relation:
    """A typed link from the entity `head` to the entity `tail` (entity ids)."""

    type: str
    head: str
    tail: str
    score: float | None = None


@dataclass(frozen=True)
class Entity:
    """The mentions of one thing in one document, in the order of the text.

    `attributes` holds for each attribute the value of most mentions (of equals, the first in the text).
    """

    id: str
    type: str
    mentions: tuple[Mention, ...]

    @property
    def attributes(self) -> dict[str, str]:
        names = dict.fromkeys(name for mention in self.mentions for name in mention.attributes)
        return {
            name: Counter(m.attributes[name] for m in self.mentions if name in m.attributes).most_common(1)[0][0]
            for name in names
        }

    def name(self, text: str) -> str:
        """The most informative mention.

        That is the longest; where more than half of the mentions use one wording, the longest that holds this one:
        `platinum-resistant ovarian cancer` of `ovarian cancer`, but not the spelled-out form of `NMOSD`.
        """
        wordings = [text[m.start : m.end] for m in self.mentions]
        folded, count = Counter(w.casefold() for w in wordings).most_common(1)[0]
        if 2 * count > len(wordings):
            wordings = [w for w in wordings if folded in w.casefold()]
        # Of equally long ones the one that is used most: `Acme` rather than the ACME of a headline.
        return max(Counter(wordings).items(), key=lambda item: (len(item[0]), item[1]))[0]


@dataclass(frozen=True)
class Document:
    """One release with what is marked in it.

    Mentions are kept in the order of the text and never overlap; all mentions of an entity have its type;
    a relation joins two entities of the document and stands once.

    Attributes:
        id: names the document in its corpus.
        text: the release as given.
        mentions, relations: what is marked.
        group: documents of one group (syndicated copies, several annotators) never fall into two splits.
        source: where the document comes from.
        split: train, validation or test, None where it is not assigned.

    Raises:
        DocumentError: a rule above is broken.
    """

    id: str
    text: str
    mentions: tuple[Mention, ...] = ()
    relations: tuple[Relation, ...] = ()
    group: str = ""
    source: str = ""
    split: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not self.id:
            raise DocumentError(f"a document's id must be a text that is not empty, found {self.id!r:.60}")
        for name in ("text", "group", "source"):
            if not isinstance(getattr(self, name), str):
                raise self._error(f"the {name} must be a text, found {type(getattr(self, name)).__name__}")
        if self.split is not None and self.split not in SPLITS:
            raise self._error(f"split {self.split!r} is none of {', '.join(SPLITS)}")
        object.__setattr__(self, "mentions", tuple(sorted(self.mentions, key=lambda m: (m.start, m.end))))
        object.__setattr__(self, "relations", tuple(self.relations))
        self._check_mentions()
        self._check_relations()

    def _error(self, message: str) -> DocumentError:
        return DocumentError(f"document {self.id!r}: {message}")

    def _check_mentions(self) -> None:
        types: dict[str, Mention] = {}
        last: Mention | None = None
        for m in self.mentions:
            if not 0 <= m.start < m.end <= len(self.text):
                raise self._error(
                    f"mention [{m.start}, {m.end}) of type {m.type} is empty or outside the text of "
                    f"{len(self.text)} characters"
                )
            if last is not None and m.start < last.end:
                raise self._error(
                    f"mentions {self.wording(last)!r} at [{last.start}, {last.end}) and {self.wording(m)!r} at "
                    f"[{m.start}, {m.end}) overlap; keep one"
                )
            first = types.setdefault(m.entity, m)
            if first.type != m.type:
                raise self._error(
                    f"entity {m.entity!r} is {first.type} at [{first.start}, {first.end}) and {m.type} at "
                    f"[{m.start}, {m.end}); an entity has one type"
                )
            last = m

    def _check_relations(self) -> None:
        known = {m.entity for m in self.mentions}
        seen = set()
        for r in self.relations:
            for role, entity in (("head", r.head), ("tail", r.tail)):
                if entity not in known:
                    raise self._error(f"relation {r.type}: its {role} {entity!r} is no entity of the document")
            if (r.type, r.head, r.tail) in seen:
                raise self._error(f"relation {r.type} from {r.head!r} to {r.tail!r} stands twice")
            seen.add((r.type, r.head, r.tail))

    def wording(self, mention: Mention) -> str:
        """The words of a mention, exactly as in the text."""
        return self.text[mention.start : mention.end]

    @cached_property
    def entities(self) -> dict[str, Entity]:
        """Entity id -> entity, in the order of their first mentions."""
        grouped: dict[str, list[Mention]] = {}
        for mention in self.mentions:
            grouped.setdefault(mention.entity, []).append(mention)
        return {id_: Entity(id_, mentions[0].type, tuple(mentions)) for id_, mentions in grouped.items()}

    def check(self, schema: Schema) -> Document:
        """The document itself, if each type, attribute and signature in it is the schema's.

        Raises:
            DocumentError: naming the first place that is not.
        """
        for m in self.mentions:
            where = f"mention {self.wording(m)!r} at [{m.start}, {m.end})"
            if m.type not in schema.entities:
                raise self._error(f"{where}: entity type {m.type!r} is none of {', '.join(schema.entities)}")
            expected = schema.attributes.get(m.type, {})
            for name, values in expected.items():
                if m.attributes.get(name) not in tuple(values):
                    raise self._error(
                        f"{where}: {name} is {m.attributes.get(name)!r}, must be one of {', '.join(values)}"
                    )
            for name in m.attributes:
                if name not in expected:
                    raise self._error(f"{where}: {m.type} carries no attribute {name!r}")
        for r in self.relations:
            signature = (self.entities[r.head].type, self.entities[r.tail].type)
            if r.type not in schema.relations:
                raise self._error(f"relation type {r.type!r} is none of {', '.join(schema.relations)}")
            if signature not in schema.relations[r.type]:
                raise self._error(
                    f"relation {r.type} from {r.head!r} to {r.tail!r} joins {' -> '.join(signature)}, "
                    f"must join {schema.joins(r.type)}"
                )
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; empty and unset fields are left out."""
        data: dict[str, Any] = {"id": self.id, "text": self.text}
        data["mentions"] = [
            {
                "start": m.start,
                "end": m.end,
                "type": m.type,
                "entity": m.entity,
                **m.attributes,
                "text": self.wording(m),
            }
            | ({} if m.score is None else {"score": m.score})
            for m in self.mentions
        ]
        data["relations"] = [
            {"type": r.type, "head": r.head, "tail": r.tail} | ({} if r.score is None else {"score": r.score})
            for r in self.relations
        ]
        data |= {key: getattr(self, key) for key in ("group", "source", "split") if getattr(self, key)}
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Document:
        """Read what `to_dict` gave, or a line that the extraction commands wrote (with `entities`).

        Raises:
            DocumentError: a field is missing, of the wrong kind, or contradicts the text.
        """
        if not isinstance(data, Mapping):
            raise DocumentError(f"a document is a JSON object, found {type(data).__name__}")
        name = data.get("id")
        if isinstance(name, int) and not isinstance(name, bool):
            name = str(name)  # as the extraction takes it
        if not _is_marked(data) and (other := [key for key in _ELSEWHERE if _marks(data.get(key))]):
            raise DocumentError(f"document {name!r}: what is marked stands in 'mentions', found {other[0]!r}")
        if data.get("mentions") is None and "entities" in data:
            data = {**data, "mentions": list(_flat_mentions(_list(data, "entities", name), name))}
        mentions = [_mention(m, name) for m in _list(data, "mentions", name)]
        relations = [_relation(r, name) for r in _list(data, "relations", name)]
        document = cls(
            id=name,  # type: ignore[arg-type]  # checked by the class
            text=data.get("text"),  # type: ignore[arg-type]
            mentions=tuple(mentions),
            relations=tuple(relations),
            **{key: data[key] for key in ("group", "source", "split") if data.get(key)},
        )
        for given in _list(data, "mentions", name):
            actual = document.text[given["start"] : given["end"]]
            if given.get("text", actual) != actual:
                raise document._error(
                    f"mention [{given['start']}, {given['end']}) says {given['text']!r} but the text there is "
                    f"{actual!r}; offsets count Unicode code points"
                )
        return document

    def with_split(self, split: str) -> Document:
        """The same document, assigned to a split."""
        return replace(self, split=split)


# Where other tools keep what is marked: such a line is no document without mentions.
_ELSEWHERE = ("spans", "labels", "label", "ents", "annotations")
_MENTION_KEYS = ("start", "end", "type", "entity", "text", "score")


def _is_marked(data: Mapping[str, Any]) -> bool:
    """Whether it says what is marked, be it nothing."""
    return any(data.get(key) is not None for key in ("mentions", "entities"))


def _marks(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, list | Mapping) for item in value)


def _list(data: Mapping[str, Any], key: str, name: Any) -> list[Any]:
    value = data.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise DocumentError(f"document {name!r}: {key!r} must be a list of objects")
    return value


def _flat_mentions(entities: Iterable[Mapping[str, Any]], name: Any) -> Iterator[dict[str, Any]]:
    for entity in entities:
        if "id" not in entity:
            raise DocumentError(f"document {name!r}: an entity without an id: {entity!r:.80}")
        shared = {k: v for k, v in entity.items() if k not in ("id", "name", "score", "mentions")}
        for mention in _list(entity, "mentions", name):
            yield {**shared, **mention, "entity": entity["id"]}


def _mention(data: Mapping[str, Any], name: Any) -> Mention:
    for key, kind in (("start", int), ("end", int), ("type", str), ("entity", str)):
        if not isinstance(data.get(key), kind) or isinstance(data.get(key), bool):
            raise DocumentError(f"document {name!r}: a mention's {key!r} must be {kind.__name__}: {dict(data)!r:.120}")
    attributes = {key: value for key, value in data.items() if key not in _MENTION_KEYS}
    for key, value in attributes.items():
        if not isinstance(value, str):
            raise DocumentError(f"document {name!r}: a mention's {key!r} must be a text: {dict(data)!r:.120}")
    return Mention(data["start"], data["end"], data["type"], data["entity"], attributes, _score(data, name))


def _relation(data: Mapping[str, Any], name: Any) -> Relation:
    for key in ("type", "head", "tail"):
        if not isinstance(data.get(key), str):
            raise DocumentError(f"document {name!r}: a relation's {key!r} must be str: {dict(data)!r:.120}")
    return Relation(data["type"], data["head"], data["tail"], _score(data, name))


def _score(data: Mapping[str, Any], name: Any) -> float | None:
    score = data.get("score")
    if score is not None and (isinstance(score, bool) or not isinstance(score, (int, float)) or not 0 <= score <= 1):
        raise DocumentError(f"document {name!r}: a score is a probability: {dict(data)!r:.120}")
    return score


def read_jsonl(path: str | Path) -> Iterator[Document]:
    """Documents of a JSON lines file (`.gz` is unpacked), one a line; empty lines are passed over.

    Raises:
        DocumentError: with file and line.
    """
    return (document for document, _ in read_lines(path))


def read_lines(path: str | Path) -> Iterator[tuple[Document, bool]]:
    """`read_jsonl`, and with each document whether its line says what is marked in it, be it nothing.

    Raises:
        DocumentError: with file and line.
    """
    path = Path(path)
    seen: dict[str, int] = {}
    try:
        # utf-8-sig: editors on Windows put a byte order mark before the first line.
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig", newline="\n") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    data = json.loads(line)
                    document = Document.from_dict(data)
                except DocumentError as error:
                    raise DocumentError(f"{path}:{number}: {error}") from None
                except (ValueError, RecursionError) as error:
                    raise DocumentError(f"{path}:{number}: not JSON: {error}") from None
                if document.id in seen:
                    raise DocumentError(
                        f"{path}:{number}: document {document.id!r} stood in line {seen[document.id]} already"
                    )
                seen[document.id] = number
                yield document, _is_marked(data)
    except FileNotFoundError:
        raise DocumentError(f"{path}: no such file") from None
    except (UnicodeDecodeError, OSError, EOFError, zlib.error) as error:
        raise DocumentError(f"{path}: cannot be read as UTF-8 text: {error}") from None


def write_jsonl(documents: Iterable[Document], path: str | Path) -> int:
    """Write one document a line (`.gz` is packed), whole or not at all; returns how many.

    Raises:
        OutputError: the file cannot be written.
    """
    count = 0
    with writing(Path(path)) as out:
        for document in documents:
            out.write(json.dumps(document.to_dict(), ensure_ascii=False) + "\n")
            count += 1
    return count
