"""Evaluation: what a model found against the annotation, as counts first and rates derived from them.

- mentions: a mention is right where start, end and type are the gold mention's (strict), or where it overlaps
  one gold mention of its type (relaxed); beside them the strict score on the BIO view, by seqeval.
- attributes: an attribute is right where the mention is strictly right and the value is the gold value.
- entities: B-cubed (Bagga and Baldwin 1998), over the strictly right mentions alone, which scores the grouping
  by itself, and over all mentions (end to end), where a mention that the other side lacks scores 0.
- relations: between entities. A predicted entity stands for one gold entity, the one with which it shares most
  strictly right mentions, one to one, so that cutting an entity in pieces gains nothing. Where a relation type is
  symmetric, head and tail may be either way round.
- records: (drug, event type, status, indication or none), a set in each document, through the same stand-ins.

Recall is over everything in the gold documents, whatever was lost on the way.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from seqeval.scheme import IOB2, Entities

from .blocks import percent
from .documents import Document, Mention, Relation, word_spans
from .records import record_tuples
from .schema import Schema


class EvaluationError(ValueError):
    """Gold and predicted documents that cannot be compared; the message names the document."""


class _Rates:
    """What counts have in common: F1 is the harmonic mean of their precision and recall."""

    @property
    def precision(self) -> float:
        raise NotImplementedError

    @property
    def recall(self) -> float:
        raise NotImplementedError

    @property
    def f1(self) -> float:
        return _ratio(2 * self.precision * self.recall, self.precision + self.recall)

    def to_dict(self) -> dict[str, float]:
        """Rates in [0, 1] and the counts behind them."""
        return {"precision": self.precision, "recall": self.recall, "f1": self.f1, **vars(self)}


@dataclass(frozen=True)
class Counts(_Rates):
    """True positives, false positives, false negatives. A rate over nothing is 0."""

    tp: int = 0
    fp: int = 0
    fn: int = 0

    @property
    def precision(self) -> float:
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        return _ratio(self.tp, self.tp + self.fn)

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)


@dataclass(frozen=True)
class BCubed(_Rates):
    """Sums of the precision of each predicted mention and of the recall of each gold mention."""

    precision_sum: float = 0.0
    predicted: int = 0
    recall_sum: float = 0.0
    gold: int = 0

    @property
    def precision(self) -> float:
        return _ratio(self.precision_sum, self.predicted)

    @property
    def recall(self) -> float:
        return _ratio(self.recall_sum, self.gold)

    def __add__(self, other: BCubed) -> BCubed:
        return BCubed(
            self.precision_sum + other.precision_sum,
            self.predicted + other.predicted,
            self.recall_sum + other.recall_sum,
            self.gold + other.gold,
        )


# Name, whether it is a part of the row above that is none, and the figure.
ScoreRow = tuple[str, bool, Counts | BCubed]


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


@dataclass(frozen=True)
class ByLabel:
    """Counts for each label (type or value); `micro` counts all labels together."""

    labels: Mapping[str, Counts]

    @property
    def micro(self) -> Counts:
        return sum(self.labels.values(), Counts())

    def to_dict(self) -> dict[str, dict[str, float]]:
        """Label -> rates and counts, `micro` first."""
        return {"micro": self.micro.to_dict()} | {label: counts.to_dict() for label, counts in self.labels.items()}


@dataclass(frozen=True)
class Scores:
    """The scores of one set of documents.

    Attributes:
        documents: how many were compared.
        mentions, mentions_relaxed: by entity type.
        mentions_seqeval: all types together, on the BIO tags of words.
        attributes: attribute -> counts by value.
        entities: grouping of the strictly right mentions.
        entities_end_to_end: grouping of all mentions.
        relations: by relation type.
        records: all event types together.
    """

    documents: int
    mentions: ByLabel
    mentions_relaxed: ByLabel
    mentions_seqeval: Counts
    attributes: Mapping[str, ByLabel]
    entities: BCubed
    entities_end_to_end: BCubed
    relations: ByLabel
    records: Counts

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types: each figure as precision, recall, f1 (in [0, 1]) and its counts."""
        figures = {name: figure for name, figure in vars(self).items() if name not in ("documents", "attributes")}
        return {
            "documents": self.documents,
            **{name: figure.to_dict() for name, figure in figures.items()},
            "attributes": {name: by_value.to_dict() for name, by_value in self.attributes.items()},
        }

    @property
    def score(self) -> float:
        """The mean F1 of mentions, relations and records, as far as the documents have them: configurations are
        compared by it."""
        parts = [part for part in (self.mentions.micro, self.relations.micro, self.records) if part.tp + part.fn]
        return sum(part.f1 for part in parts) / max(len(parts), 1)

    def flat(self, prefix: str = "") -> dict[str, float]:
        """`<prefix>score`, and the F1 of each part as `<prefix><part>_f1`: what a Trainer logs."""
        parts: dict[str, _Rates] = {
            "mentions": self.mentions.micro,
            "mentions_relaxed": self.mentions_relaxed.micro,
            **{name: by_value.micro for name, by_value in self.attributes.items()},
            "entities": self.entities,
            "entities_end_to_end": self.entities_end_to_end,
            "relations": self.relations.micro,
            "records": self.records,
        }
        return {f"{prefix}score": self.score} | {f"{prefix}{name}_f1": rates.f1 for name, rates in parts.items()}

    def rows(self) -> Iterator[ScoreRow]:
        """The figures in reading order."""

        def parts(name: str, by_label: ByLabel) -> Iterator[ScoreRow]:
            yield name, False, by_label.micro
            for label, counts in by_label.labels.items():
                yield label, True, counts

        yield from parts("mentions, strict", self.mentions)
        yield from parts("mentions, relaxed", self.mentions_relaxed)
        yield "mentions, words (seqeval)", False, self.mentions_seqeval
        for name, by_value in self.attributes.items():
            yield from parts(name.replace("_", " "), by_value)
        yield "entities, B-cubed", False, self.entities
        yield "entities, B-cubed, end to end", False, self.entities_end_to_end
        yield from parts("relations", self.relations)
        if self.records != Counts():
            yield "records", False, self.records

    def table(self, more: Iterable[ScoreRow] = ()) -> str:
        """A table to read: rates in per cent, then the counts; `more` are further rows."""
        lines = [f"{'':<32}{'precision':>10}{'recall':>8}{'F1':>8}{'tp':>8}{'fp':>7}{'fn':>7}"]
        for name, is_part, figure in [*self.rows(), *more]:
            line = f"{'  ' * is_part + name:<32}{percent(figure.precision):>10}{percent(figure.recall):>8}"
            line += f"{percent(figure.f1):>8}"
            if isinstance(figure, Counts):
                line += f"{figure.tp:>8}{figure.fp:>7}{figure.fn:>7}"
            lines.append(line)
        return "\n".join([*lines, f"{self.documents} documents"])


def evaluate(gold: Sequence[Document], predicted: Sequence[Document], schema: Schema) -> Scores:
    """Score predicted documents against the annotated ones; they are paired by id.

    Raises:
        EvaluationError: an id is missing, foreign or there twice, or the texts of a pair differ.
        DocumentError: a document does not follow the schema.
    """
    pairs = paired(gold, predicted)
    value_names: dict[str, dict[str, None]] = {}
    for attributes in schema.attributes.values():
        for name, values in attributes.items():
            value_names.setdefault(name, {}).update(dict.fromkeys(values))
    mentions, relaxed = _Tally(schema.entities), _Tally(schema.entities)
    values_of = {name: _Tally(values) for name, values in value_names.items()}
    relations, records = _Tally(schema.relations), _Tally(())
    words = Counts()
    grouping, end_to_end = BCubed(), BCubed()
    for g, p in pairs:
        g.check(schema)
        p.check(schema)
        mentions.add_sets({(_span(m), m.type) for m in g.mentions}, {(_span(m), m.type) for m in p.mentions})
        for type_ in schema.entities:
            relaxed.add(type_, _overlaps(_of_type(g, type_), _of_type(p, type_)))
        words += _word_counts(g, p)
        for name, tally in values_of.items():
            tally.add_sets(_valued(g, name), _valued(p, name))
        stand_in = stand_ins(g, p)
        grouping += _b_cubed(g, p, only_right=True)
        end_to_end += _b_cubed(g, p, only_right=False)
        relations.add_sets(
            {(key, key[0]) for key in relation_keys(g, schema)},
            {(key, key[0]) for key in relation_keys(p, schema, stand_in)},
        )
        records.add_sets(
            {(record, "records") for record in record_tuples(g)},
            {(record.standing(stand_in), "records") for record in record_tuples(p)},
        )
    return Scores(
        documents=len(pairs),
        mentions=mentions.by_label(),
        mentions_relaxed=relaxed.by_label(),
        mentions_seqeval=words,
        attributes={name: tally.by_label() for name, tally in values_of.items()},
        entities=grouping,
        entities_end_to_end=end_to_end,
        relations=relations.by_label(),
        records=records.by_label().micro,
    )


def stand_ins(gold: Document, predicted: Document) -> dict[str, str]:
    """Predicted entity id -> the gold entity id it stands for; entities that stand for none are left out.

    Pairs are taken by the number of strictly right mentions that they share, most first (of equals, the one
    whose first shared mention comes first in the text), each entity once.
    """
    gold_of = {_key(m): m.entity for m in gold.mentions}
    shared = Counter((m.entity, gold_of[_key(m)]) for m in predicted.mentions if _key(m) in gold_of)
    chosen: dict[str, str] = {}
    taken: set[str] = set()
    # most_common keeps equals in the order in which they were met, which is that of the text
    for (predicted_id, gold_id), _ in shared.most_common():
        if predicted_id not in chosen and gold_id not in taken:
            chosen[predicted_id] = gold_id
            taken.add(gold_id)
    return chosen


def relation_keys(
    document: Document, schema: Schema, stand_in: Mapping[str, str] | None = None
) -> dict[tuple[str, Hashable], Relation]:
    """`Schema.relation_key` -> relation: the first, where a document says the same both ways round.

    Args:
        stand_in: of a predicted document, from `stand_ins`: its keys are then those of the gold document.
    """
    found: dict[tuple[str, Hashable], Relation] = {}
    for r in document.relations:
        ends = (r.head, r.tail) if stand_in is None else (_stand(stand_in, r.head), _stand(stand_in, r.tail))
        found.setdefault(schema.relation_key(r.type, *ends), r)
    return found


class _Tally:
    """Counts by label, gathered document by document."""

    def __init__(self, labels: Iterable[str]) -> None:
        self._counts: defaultdict[str, Counts] = defaultdict(Counts, {label: Counts() for label in labels})

    def add(self, label: str, counts: Counts) -> None:
        self._counts[label] += counts

    def add_sets(self, gold: AbstractSet[tuple[Hashable, str]], predicted: AbstractSet[tuple[Hashable, str]]) -> None:
        """Items are (what is compared, label)."""
        for _, label in gold & predicted:
            self.add(label, Counts(tp=1))
        for _, label in predicted - gold:
            self.add(label, Counts(fp=1))
        for _, label in gold - predicted:
            self.add(label, Counts(fn=1))

    def by_label(self) -> ByLabel:
        return ByLabel(dict(self._counts))


def paired(gold: Sequence[Document], predicted: Sequence[Document]) -> list[tuple[Document, Document]]:
    """Gold and predicted documents of one id.

    Raises:
        EvaluationError: an id is missing, foreign or there twice, or the texts of a pair differ.
    """
    for side, documents in (("gold", gold), ("predicted", predicted)):
        for id_, count in Counter(d.id for d in documents).items():
            if count > 1:
                raise EvaluationError(f"document {id_!r}: stands {count} times in the {side} documents; keep one")
    by_id = {p.id: p for p in predicted}
    for id_ in by_id.keys() - {g.id for g in gold}:
        raise EvaluationError(f"document {id_!r}: predicted, but it has no gold document; leave it out")
    pairs = []
    for g in gold:
        p = by_id.get(g.id)
        if p is None:
            raise EvaluationError(f"document {g.id!r}: gold, but without a prediction; predict every gold document")
        if p.text != g.text:
            raise EvaluationError(f"document {g.id!r}: the predicted document has another text than the gold one")
        pairs.append((g, p))
    return pairs


def _span(mention: Mention) -> tuple[int, int]:
    return mention.start, mention.end


def _key(mention: Mention) -> tuple[int, int, str]:
    return mention.start, mention.end, mention.type


def _of_type(document: Document, type_: str) -> list[Mention]:
    return [m for m in document.mentions if m.type == type_]


def _valued(document: Document, attribute: str) -> set[tuple[Hashable, str]]:
    return {(_key(m), m.attributes[attribute]) for m in document.mentions if attribute in m.attributes}


def _stand(stand_in: Mapping[str, str], entity: str) -> Hashable:
    """The gold id that `entity` stands for, or what no gold id equals."""
    return stand_in.get(entity, (entity, "stands for none"))


def _overlaps(gold: Sequence[Mention], predicted: Sequence[Mention]) -> Counts:
    """One-to-one pairs of overlapping mentions, as many as there can be.

    Both sides are in the order of the text and free of overlaps, so where two mentions meet, the one that ends
    first meets nothing later: pairing them from the left loses no pair.
    """
    tp = i = j = 0
    while i < len(gold) and j < len(predicted):
        g, p = gold[i], predicted[j]
        if g.start < p.end and p.start < g.end:
            tp, i, j = tp + 1, i + 1, j + 1
        elif g.end <= p.start:
            i += 1
        else:
            j += 1
    return Counts(tp, len(predicted) - tp, len(gold) - tp)


def _b_cubed(gold: Document, predicted: Document, only_right: bool) -> BCubed:
    gold_of = {_key(m): m.entity for m in gold.mentions}
    predicted_of = {_key(m): m.entity for m in predicted.mentions}
    right = [key for key in gold_of if key in predicted_of]  # in order, so that sums of floats are repeatable
    if only_right:
        gold_of = {key: gold_of[key] for key in right}
        predicted_of = {key: predicted_of[key] for key in right}
    gold_sizes, predicted_sizes = Counter(gold_of.values()), Counter(predicted_of.values())
    shared = Counter((gold_of[key], predicted_of[key]) for key in right)
    # each of the `n` shared mentions has precision n / (size of the predicted entity), and recall likewise
    return BCubed(
        precision_sum=sum(n * n / predicted_sizes[p] for (_, p), n in shared.items()),
        predicted=len(predicted_of),
        recall_sum=sum(n * n / gold_sizes[g] for (g, _), n in shared.items()),
        gold=len(gold_of),
    )


def _word_counts(gold: Document, predicted: Document) -> Counts:
    words = list(_words(gold))
    found = [
        set(Entities([_bio(words, document.mentions)], scheme=IOB2).entities[0]) if words else set()
        for document in (gold, predicted)
    ]
    right = len(found[0] & found[1])
    return Counts(right, len(found[1]) - right, len(found[0]) - right)


def _words(document: Document) -> Iterator[tuple[int, int]]:
    """Spans of the words of the text, cut where a mention begins or ends."""
    cuts = {edge for m in document.mentions for edge in _span(m)}
    for start, end in word_spans(document.text):
        yield from pairwise([start, *(i for i in range(start + 1, end) if i in cuts), end])


def _bio(words: Sequence[tuple[int, int]], mentions: Sequence[Mention]) -> list[str]:
    """A word belongs to the first mention that holds any of it."""
    tags = []
    i, last = 0, None
    for start, end in words:
        while i < len(mentions) and mentions[i].end <= start:
            i += 1
        inside = i < len(mentions) and mentions[i].start < end
        tags.append(f"{'I' if last == i else 'B'}-{mentions[i].type}" if inside else "O")
        last = i if inside else None
    return tags
