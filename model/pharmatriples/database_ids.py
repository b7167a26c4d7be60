"""Annotations that name what they mark by database ids: to documents, with an account of everything.

What the adapters for PubTator and BioC have in common. The mentions with the same type and ids are one entity, whose
id holds them: `Chemical:D008012`, or `Disease:D006311,D014786` for words that name two things at once (a comma inside
an id is written `%2C`, so that they come back). Mentions without an id are an entity where they are worded alike
(`Disease-1`).

Relations join ids there, entities here. Where an id stands only in mentions of several ids, its relation goes to
these, and so from the entities alone the ids would not come back: they are kept beside the documents.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

from .documents import Document, Mention, Relation
from .import_report import ImportReport, Item, ReadError
from .schema import Schema

NO_ID = frozenset({"", "-", "-1"})
_SEPARATOR = re.compile(r"[,;]")
_INNER = re.compile(r"[|+]")  # parts ids in some corpora, but stands inside the variants of others
_PLAIN = re.compile(r"[A-Za-z_:]*\d\w*\Z")  # D003409, 3175, OMIM:601665, rs74805019, CVCL_0023
_VARIANT = re.compile(r"[A-Za-z]\|")  # p|SUB|V|600|E, c|DEL|436_436+1|AG

IdRelation = tuple[str, str, str]  # relation type, id of the head, id of the tail


class Annotation(NamedTuple):
    """A span as the file gives it; `place` names it there, `text` is what the file says that it holds.

    Where it stands in several `pieces`, start and end are those of the first and the last.
    """

    place: str
    start: int
    end: int
    text: str
    type: str
    ids: str
    pieces: int = 1


class Link(NamedTuple):
    """A relation between ids as the file gives it."""

    place: str
    type: str
    head: str
    tail: str


@dataclass(frozen=True)
class Annotated:
    """A document as the file gives it."""

    place: str
    id: str
    text: str
    annotations: tuple[Annotation, ...]
    links: tuple[Link, ...]


class Corpus(NamedTuple):
    """The documents of a file, what became of everything in it, and per document the relations between ids."""

    documents: list[Document]
    report: ImportReport
    relations: dict[str, frozenset[IdRelation]]


def split_ids(given: str) -> tuple[str, ...]:
    """The ids in a field, sorted; none for `-` and `-1`.

    `,`, `;`, `|` and `+` part ids where each part looks like one; a variant (`c|SUB|G|643|T`, `c|DEL|436_436+1|AG`)
    stays whole.
    """
    parts: list[str] = []
    for part in map(str.strip, _SEPARATOR.split(given)):
        parts += [part] if _VARIANT.match(part) else map(str.strip, _INNER.split(part))
    if not all(part in NO_ID or _PLAIN.match(part) or _VARIANT.match(part) for part in parts):
        parts = [given.strip()]
    return tuple(sorted(set(parts) - NO_ID))


def ids_of(entity: str) -> tuple[str, ...]:
    """The database ids that the id of an entity holds; none where it holds none."""
    held = entity.partition(":")[2]
    parts = (part.replace("%2C", ",").replace("%25", "%") for part in held.split(","))
    return tuple(sorted({id_ for part in parts for id_ in split_ids(part)}))


def read_text(path: Path) -> str:
    """The text of a file, unpacked where its name ends in .gz.

    Raises:
        ReadError: it is missing, damaged, or not UTF-8.
    """
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix.lower() == ".gz" else data).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ReadError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    except (OSError, EOFError, zlib.error) as error:
        raise ReadError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def make_corpus(path: Path, found: Iterable[Annotated], schema: Schema) -> Corpus:
    """The documents of what an adapter found in a file.

    Mentions never overlap: of those that do, the longest is kept and the others are refused. Refused is also what
    the schema does not know and what is not where it says. Of a document that stands twice the first is kept.
    """
    documents: dict[str, Document] = {}
    relations: dict[str, frozenset[IdRelation]] = {}
    items: list[Item] = []
    firsts: dict[str, Annotated] = {}
    for annotated in found:
        first = firsts.setdefault(annotated.id, annotated)
        if first is not annotated:
            same = _content(first) == _content(annotated)
            reason = f"stood at {first.place} already, " + ("just the same" if same else "with other content")
            outcome = "ignored" if same else "refused"
            items.append(Item(outcome, "document", annotated.id, region=annotated.place, reason=reason))
            continue
        reader = _Reader(annotated, schema)
        documents[annotated.id] = replace(reader.document(), source=path.name)
        relations[annotated.id] = frozenset(reader.ids)
        items += [Item("kept", "document", annotated.id, region=annotated.place), *reader.items]
    return Corpus(list(documents.values()), ImportReport(str(path), tuple(items), len(documents)), relations)


def _content(annotated: Annotated) -> tuple[str, list[Annotation], list[Link]]:
    return (
        annotated.text,
        [a._replace(place="") for a in annotated.annotations],
        [link._replace(place="") for link in annotated.links],
    )


class _Refused(Exception):
    pass


class _Reader:
    """Reads one document; `items` says what became of each annotation and relation, `ids` what its ids relate."""

    def __init__(self, annotated: Annotated, schema: Schema):
        self.annotated = annotated
        self.text = annotated.text
        self.schema = schema
        self.items: list[Item] = []
        self.ids: list[IdRelation] = []
        self.wordings: dict[tuple[str, str], str] = {}  # of mentions without id: (type, wording) -> entity

    def document(self) -> Document:
        """The document; where its entities are first mentioned orders the ends of symmetric relations."""
        mentions = list(self._mentions())
        entities = {mention.entity: mention.type for mention in mentions}
        relations: dict[tuple[str, str, str], Relation] = {}
        for link in self.annotated.links:
            try:
                ends, reasons = self._link(link, entities)
            except _Refused as refusal:
                self._tell("refused", link, str(refusal))
                continue
            new = {(link.type, head, tail): Relation(link.type, head, tail) for head, tail in ends}
            if new.keys() <= relations.keys():
                reasons.append("joins what an earlier relation joins")
            relations |= new
            self._tell("repaired" if reasons else "kept", link, "; ".join(reasons))
        return Document(self.annotated.id, self.text, tuple(mentions), tuple(relations.values()))

    def _tell(self, outcome: str, what: Annotation | Link, reason: str = "") -> None:
        item = Item(outcome, "relation", self.annotated.id, region=what.place, reason=reason)
        if isinstance(what, Annotation):
            item = replace(item, kind="mention", start=what.start, end=what.end, text=what.text)
        else:
            item = replace(item, text=f"{what.type} {what.head} {what.tail}")
        self.items.append(item)

    # --- mentions

    def _mentions(self) -> Iterator[Mention]:
        """What is kept, in the order of the text."""
        placed: list[tuple[int, int, Annotation, str]] = []
        for annotation in self.annotated.annotations:
            try:
                placed.append(self._placed(annotation))
            except _Refused as refusal:
                self._tell("refused", annotation, str(refusal))
        # Longest first; of equals, the first in the text, then in the file.
        placed.sort(key=lambda item: (item[0] - item[1], item[0]))
        kept: list[tuple[int, int, Annotation, str]] = []
        ids: dict[tuple[int, int], set[str]] = {}
        for item in placed:
            start, end, annotation, reason = item
            over = next((k for k in kept if start < k[1] and k[0] < end), None)
            if over is None:
                kept.append(item)
                ids[start, end] = set(split_ids(annotation.ids))
                self._tell("repaired" if reason else "kept", annotation, reason)
            elif over[:2] == (start, end) and over[2].type == annotation.type:
                ids[start, end].update(split_ids(annotation.ids))
                self._tell("repaired", annotation, f"stands at {over[2].place} already; their ids are put together")
            else:
                held = f"{over[2].type} {self.text[over[0] : over[1]]!r:.60} at [{over[0]}, {over[1]})"
                self._tell("refused", annotation, f"overlaps {held}, which is kept: mentions do not overlap")
        for start, end, annotation, _ in sorted(kept, key=lambda item: item[0]):
            entity = self._entity(annotation.type, sorted(ids[start, end]), self.text[start:end])
            yield Mention(start, end, annotation.type, entity)

    def _placed(self, annotation: Annotation) -> tuple[int, int, Annotation, str]:
        """Start and end without blanks around, the annotation, and what had to be repaired."""
        start, end, type_ = annotation.start, annotation.end, annotation.type
        if type_ not in self.schema.entities:
            raise _Refused(f"entity type {type_!r} is none of {', '.join(self.schema.entities)}")
        if not 0 <= start < end <= len(self.text):
            raise _Refused(f"empty, or outside the text of {len(self.text)} characters")
        actual = self.text[start:end]
        if not actual.strip():
            raise _Refused("holds nothing but blanks")
        if annotation.pieces > 1 and annotation.text.split() != actual.split():
            raise _Refused(f"stands in {annotation.pieces} pieces, a mention in one")
        if annotation.text and annotation.text.split() != actual.split():
            raise _Refused(f"the text there is {actual!r:.60}; offsets count Unicode code points")
        start += len(actual) - len(actual.lstrip())
        end -= len(actual) - len(actual.rstrip())
        return start, end, annotation, "" if end - start == len(actual) else "blanks around it are cut off"

    def _entity(self, type_: str, ids: Sequence[str], wording: str) -> str:
        if ids:
            return f"{type_}:{','.join(id_.replace('%', '%25').replace(',', '%2C') for id_ in ids)}"
        number = 1 + sum(known == type_ for known, _ in self.wordings)
        return self.wordings.setdefault((type_, " ".join(wording.casefold().split())), f"{type_}-{number}")

    # --- relations

    def _link(self, link: Link, entities: Mapping[str, str]) -> tuple[list[tuple[str, str]], list[str]]:
        """The pairs of entities that a relation joins, and what had to be repaired."""
        if link.type not in self.schema.relations:
            raise _Refused(f"relation type {link.type!r} is none of {', '.join(self.schema.relations) or 'none'}")
        head_ids, tail_ids = split_ids(link.head), split_ids(link.tail)
        try:
            (heads, exact_head), (tails, exact_tail) = _named(head_ids, entities), _named(tail_ids, entities)
            ends, turned = self._oriented(link.type, heads, tails, entities)
        except _Refused:
            self.ids += [(link.type, *pair) for pair in product(head_ids, tail_ids)]  # it counts all the same
            raise
        ordered = (tail_ids, head_ids) if turned else (head_ids, tail_ids)
        self.ids += [(link.type, *pair) for pair in product(*ordered)]
        reasons = []
        if turned and link.type not in self.schema.symmetric:
            reasons.append(f"turned round: {link.type} joins {self.schema.joins(link.type)}")
        if not (exact_head and exact_tail):
            reasons.append(f"goes to mentions of several ids: {' '.join(f'{a} -> {b}' for a, b in ends)}")
        return ends, reasons

    def _oriented(
        self, type_: str, heads: Sequence[str], tails: Sequence[str], entities: Mapping[str, str]
    ) -> tuple[list[tuple[str, str]], bool]:
        signatures = self.schema.relations[type_]
        order = list(entities)
        for turned in (False, True):
            ends = [pair for pair in product(heads, tails) if tuple(entities[e] for e in pair) in signatures]
            if ends and type_ in self.schema.symmetric:
                ends = [
                    (b, a) if entities[a] == entities[b] and order.index(b) < order.index(a) else (a, b)
                    for a, b in ends
                ]
            if ends:
                return list(dict.fromkeys(ends)), turned
            heads, tails = tails, heads
        found = " and ".join(" or ".join(sorted({entities[e] for e in side})) for side in (heads, tails))
        raise _Refused(f"{type_} joins {self.schema.joins(type_)}, found {found}")


def _named(ids: Sequence[str], entities: Iterable[str]) -> tuple[list[str], bool]:
    """The entities with exactly these ids, or with more than these; whether it is exactly these."""
    if not ids:
        raise _Refused("has an end without an id")
    known = [(entity, ids_of(entity)) for entity in entities]
    if exact := [entity for entity, own in known if own == tuple(ids)]:
        return exact, True
    found: dict[str, None] = {}
    for id_ in ids:
        own = [entity for entity, held in known if held == (id_,)] or [entity for entity, held in known if id_ in held]
        if not own:
            raise _Refused(f"no mention that is kept has the id {id_!r}")
        found |= dict.fromkeys(own)
    return list(found), False
