"""Each thing that the annotation or a model says, whether it is right, and what is wrong with it.

Things are matched as `evaluation` does, so that the errors add up to its counts: what is missed or confused is a
false negative, what is spurious or confused a false positive.

- mention: boundary or type, where it overlaps one of the other side; else missed or spurious.
- attribute: the name of the attribute, at a mention that is right.
- entity: split, where its mentions are shared out among several; merged, where those of several are put together.
- relation: wrong argument, where one of the same type shares its other argument; else missed or spurious.
- record: wrong, where there is one of the same event; else missed or spurious.

An error of a relation or record that follows from an earlier one, of a mention, attribute or entity, names it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from .confidence import RECORDS, Confidence
from .differences import Key, align, key_of, nearest, wordings
from .documents import Document, Entity, Mention, Relation
from .evaluation import relation_keys, stand_ins
from .records import RECORD_ENTITIES, RecordTuple, Source, record_sources
from .schema import Schema

A = TypeVar("A")
B = TypeVar("B")
Span = tuple[int, int]
_Record = tuple[RecordTuple, Source]
PARTS = ("mention", "attribute", "entity", "relation", "record")
MISSED, SPURIOUS = "missed", "spurious"
SAME = 9  # more alike than anything that is not the same


class Finding(NamedTuple):
    """A thing that the annotation or the prediction says, or both.

    Attributes:
        part: one of PARTS.
        error: what is wrong; empty where both say the same.
        type: of the mention, entity or relation, as the annotation has it; of a record that of its event's entity.
        places: the stretches of the text to look at, the first first; code points, half-open.
        gold, predicted: what each says, in words; empty where it says nothing.
        follows: the errors before it that it follows from; empty where it is the first.
        score: of the prediction, where it has one.
    """

    part: str
    error: str
    type: str
    places: tuple[Span, ...]
    gold: str
    predicted: str
    follows: str = ""
    score: float | None = None

    @property
    def label(self) -> str:
        """Part and error: errors with one label are a group."""
        return f"{self.part}: {self.error}" if self.error else ""


def findings(
    gold: Document, predicted: Document, schema: Schema, confidence: Confidence | None = None
) -> list[Finding]:
    """All findings about two documents of one text: part by part, each in the order of the text.

    Args:
        confidence: of the model, which makes probabilities of the scores of records.
    """
    pair = _Pair.of(gold, predicted)
    found = [*_mentions(pair), *_entities(pair), *_relations(pair, schema), *_records(pair, confidence or Confidence())]
    return sorted(found, key=lambda f: (PARTS.index(f.part), f.places))


@dataclass(frozen=True)
class _Pair:
    """Two documents of one text, and how they fit.

    Attributes:
        aligned: pairs of overlapping mentions.
        stand_in: predicted entity -> gold entity.
        gold_faults, predicted_faults: entity that stands for none -> why.
    """

    gold: Document
    predicted: Document
    aligned: tuple[tuple[Mention | None, Mention | None], ...]
    stand_in: Mapping[str, str]
    gold_faults: Mapping[str, str]
    predicted_faults: Mapping[str, str]

    @classmethod
    def of(cls, gold: Document, predicted: Document) -> _Pair:
        aligned = tuple(align(gold.mentions, predicted.mentions))
        stand_in = stand_ins(gold, predicted)
        errors = [(a, b, mention_error(a, b)) for a, b in aligned]
        ours = _faults(gold, {key_of(a): e for a, _, e in errors if a}, stand_in.values(), "merged")
        theirs = _faults(predicted, {key_of(b): e for _, b, e in errors if b}, stand_in.keys(), "split")
        return cls(gold, predicted, aligned, stand_in, ours, theirs)

    def faults(self, ours: Iterable[str], theirs: Iterable[str]) -> list[str]:
        """What is wrong with some gold and some predicted entities."""
        found = [*map(self.gold_faults.get, ours), *map(self.predicted_faults.get, theirs)]
        return list(dict.fromkeys(fault for fault in found if fault))

    def attributes(self, ours: Iterable[str], theirs: Iterable[str]) -> list[str]:
        """In which attributes some gold or predicted entities differ from those that they stand for."""
        stands = {b: a for a, b in self.stand_in.items()}
        both = [(id_, stands.get(id_)) for id_ in ours] + [(self.stand_in.get(id_), id_) for id_ in theirs]
        found: dict[str, None] = {}
        for a, b in both:
            if a is not None and b is not None:
                values, others = self.gold.entities[a].attributes, self.predicted.entities[b].attributes
                found.update(dict.fromkeys(name for name in values if values[name] != others.get(name)))
        return list(found)

    def places(self, ours: Sequence[str], theirs: Sequence[str]) -> tuple[Span, ...]:
        """Of the first of some gold entities, and of some predicted ones, a mention; of the others the nearest."""
        found: dict[Span, None] = {}
        for document, ids in ((self.gold, ours), (self.predicted, theirs)):
            entities = [document.entities[id_] for id_ in ids]
            first = entities[0].mentions if entities else ()
            for other in entities[1:]:
                first = nearest(first, other.mentions)[:1]
                found.update(dict.fromkeys((m.start, m.end) for m in nearest(first, other.mentions)))
            found.update(dict.fromkeys((m.start, m.end) for m in first[:1]))
        return tuple(found)


def mention_error(gold: Mention | None, predicted: Mention | None) -> str:
    """What is wrong between two mentions that `differences.align` paired; empty where they are the same."""
    if gold is None or predicted is None:
        return SPURIOUS if gold is None else MISSED
    if gold.type != predicted.type:
        return "type"
    return "" if key_of(gold) == key_of(predicted) else "boundary"


def _faults(document: Document, errors: Mapping[Key, str], standing: Iterable[str], regrouped: str) -> dict[str, str]:
    """Why the other entities of a document than those in `standing` fit none of the other side."""
    faults = {}
    for id_ in document.entities.keys() - set(standing):
        own = Counter(errors[key_of(m)] for m in document.entities[id_].mentions)
        faults[id_] = regrouped if "" in own else own.most_common(1)[0][0]
    return faults


def _mentions(pair: _Pair) -> Iterator[Finding]:
    for a, b in pair.aligned:
        error = mention_error(a, b)
        given = [m for m in (a, b) if m is not None]
        gold, predicted = (
            "" if m is None else pair.gold.wording(m) if error != "type" else f"{m.type}: {pair.gold.wording(m)}"
            for m in (a, b)
        )
        places = tuple(dict.fromkeys((m.start, m.end) for m in given))
        yield Finding("mention", error, given[0].type, places, gold, predicted, score=b.score if b else None)
        if a is not None and b is not None and not error:
            for name in sorted(a.attributes.keys() | b.attributes.keys()):
                values = a.attributes.get(name, ""), b.attributes.get(name, "")
                yield Finding("attribute", name if values[0] != values[1] else "", a.type, places, *values)


def _entities(pair: _Pair) -> Iterator[Finding]:
    """Of an entity without a right mention nothing is told: its mentions are."""
    gold, predicted = pair.gold, pair.predicted
    pieces: dict[str, dict[str, Span]] = {}  # gold entity -> predicted entity -> first mention that both have
    sources: dict[str, dict[str, Span]] = {}  # and the other way
    for a, b in pair.aligned:
        if a is not None and b is not None and not mention_error(a, b):
            pieces.setdefault(a.entity, {}).setdefault(b.entity, (a.start, a.end))
            sources.setdefault(b.entity, {}).setdefault(a.entity, (a.start, a.end))

    def finding(error: str, ours: Iterable[str], theirs: Iterable[str], places: Iterable[Span]) -> Finding:
        first, second = [gold.entities[i] for i in ours], [predicted.entities[i] for i in theirs]
        return Finding(
            "entity",
            error,
            first[0].type,
            tuple(places),
            " | ".join(wordings(gold, entity) for entity in first),
            " | ".join(wordings(predicted, entity) for entity in second),
        )

    for id_, parts in pieces.items():
        if len(parts) > 1:
            yield finding("split", [id_], parts, parts.values())
        elif all(len(sources[part]) == 1 for part in parts):
            yield finding("", [id_], parts, parts.values())
    for id_, parts in sources.items():
        if len(parts) > 1:
            yield finding("merged", parts, [id_], parts.values())


def _relations(pair: _Pair, schema: Schema) -> Iterator[Finding]:
    gold, predicted = pair.gold, pair.predicted

    def likeness_of(a: Relation, head: str, tail: str) -> int:
        """One argument must be the same; the more alike where the others touch each other in the text."""
        unlike = [(i, j) for i, j in ((a.head, head), (a.tail, tail)) if pair.stand_in.get(j) != i]
        if len(unlike) == 2:
            return 0
        return SAME if not unlike else 1 + _touch(gold.entities[unlike[0][0]], predicted.entities[unlike[0][1]])

    def alike(a: Relation, b: Relation) -> int:
        if a.type != b.type:
            return 0
        turned = likeness_of(a, b.tail, b.head) if a.type in schema.symmetric else 0
        return max(likeness_of(a, b.head, b.tail), turned)

    said, found = [*relation_keys(gold, schema).values()], [*relation_keys(predicted, schema).values()]
    for a, b, likeness in _pairs(said, found, alike):
        ours, theirs = [a.head, a.tail] if a else [], [b.head, b.tail] if b else []
        yield Finding(
            "relation",
            _error(a, b, likeness, "wrong argument"),
            a.type if a else b.type if b else "",
            pair.places(ours, theirs),
            " → ".join(gold.entities[i].name(gold.text) for i in ours),
            " → ".join(predicted.entities[i].name(predicted.text) for i in theirs),
            "" if likeness == SAME else ", ".join(pair.faults(ours, theirs)),
            b.score if b else None,
        )


def _records(pair: _Pair, confidence: Confidence) -> Iterator[Finding]:
    gold, predicted, stand_in = pair.gold, pair.predicted, pair.stand_in

    def alike(a: _Record, b: _Record) -> int:
        """The more alike, the more of two records of one event is the same."""
        equal = sum(x == y for x, y in zip(a[0], b[0].standing(stand_in), strict=True))
        return SAME if equal == len(a[0]) else (1 + equal) * (stand_in.get(b[1].entity) == a[1].entity)

    for a, b, likeness in _pairs([*record_sources(gold).items()], [*record_sources(predicted).items()], alike):
        ours, theirs = ([d[1].entity, *filter(None, _ids(d))] if d else [] for d in (a, b))
        follows = [] if likeness == SAME else [*pair.faults(ours, theirs), *pair.attributes(ours, theirs)]
        yield Finding(
            "record",
            _error(a, b, likeness, "wrong"),
            gold.entities[ours[0]].type if ours else predicted.entities[theirs[0]].type,
            pair.places(ours, theirs),
            _record_words(gold, a),
            _record_words(predicted, b),
            ", ".join(follows or ([] if likeness == SAME else ["relation"])),
            float(confidence.probability(RECORDS, b[1].score)) if b else None,
        )


def _ids(record: _Record) -> list[str | None]:
    return [getattr(record[0], name) for name in RECORD_ENTITIES]


def _record_words(document: Document, record: _Record | None) -> str:
    if record is None:
        return ""
    fields = record[0]._asdict().items()
    return " · ".join(
        "–" if value is None else document.entities[value].name(document.text) if name in RECORD_ENTITIES else value
        for name, value in fields
    )


def _touch(one: Entity, other: Entity) -> bool:
    return any(a.start < b.end and b.start < a.end for a in one.mentions for b in other.mentions)


def _error(gold: Any, predicted: Any, likeness: int, wrong: str) -> str:
    if gold is None or predicted is None:
        return SPURIOUS if gold is None else MISSED
    return "" if likeness == SAME else wrong


def _pairs(
    ours: Sequence[A], theirs: Sequence[B], alike: Callable[[A, B], int]
) -> Iterator[tuple[A | None, B | None, int]]:
    """Pairs with their likeness, the most alike first, each once; with None and 0 what is like nothing that is left."""
    likeness = [(alike(a, b), i, j) for i, a in enumerate(ours) for j, b in enumerate(theirs)]
    left, right = dict(enumerate(ours)), dict(enumerate(theirs))
    for value, i, j in sorted(likeness, key=lambda item: (-item[0], item[1], item[2])):
        if value and i in left and j in right:
            yield left.pop(i), right.pop(j), value
    yield from ((a, None, 0) for a in left.values())
    yield from ((None, b, 0) for b in right.values())
