"""Relations between database ids, document by document: how corpora whose annotations carry ids are scored.

With gold mentions the ids are the annotation's. A predicted mention has the ids that training documents give most
often to a mention of its type with its wording, a predicted entity those of most of its mentions. What no training
document names has no id, and its relations count for nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from .database_ids import IdRelation, ids_of
from .documents import Document, Mention
from .evaluation import ByLabel, Counts, EvaluationError
from .schema import Schema

Ids = tuple[str, ...]
Names = Mapping[tuple[str, str], Ids]  # entity type and wording -> ids


def known_names(documents: Iterable[Document]) -> dict[tuple[str, str], Ids]:
    """The ids that annotated documents give most often to each wording of each type; of equals, the first."""
    found: defaultdict[tuple[str, str], Counter[Ids]] = defaultdict(Counter)
    for document in documents:
        for mention in document.mentions:
            if ids := ids_of(mention.entity):
                found[_name(document, mention)][ids] += 1
    return {name: counts.most_common(1)[0][0] for name, counts in found.items()}


def annotated_ids(document: Document) -> dict[str, Ids]:
    """Entity -> the ids that its annotation holds."""
    return {entity: ids_of(entity) for entity in document.entities}


def matched_ids(document: Document, names: Names) -> dict[str, Ids]:
    """Entity -> the ids that its wordings have in `names`."""
    found: dict[str, Ids] = {}
    for id_, entity in document.entities.items():
        votes = Counter(names[key] for m in entity.mentions if (key := _name(document, m)) in names)
        found[id_] = votes.most_common(1)[0][0] if votes else ()
    return found


def _name(document: Document, mention: Mention) -> tuple[str, str]:
    return mention.type, " ".join(document.wording(mention).casefold().split())


def related_ids(document: Document, ids: Mapping[str, Ids]) -> frozenset[IdRelation]:
    """The relations of a document, between the ids of its entities."""
    return frozenset((r.type, a, b) for r in document.relations for a in ids[r.head] for b in ids[r.tail])


def score_ids(
    gold: Mapping[str, AbstractSet[IdRelation]], predicted: Mapping[str, AbstractSet[IdRelation]], schema: Schema
) -> ByLabel:
    """Counts by relation type of the relations (type, id, id) of each document, by document id.

    Raises:
        EvaluationError: a document is on one side only.
    """
    for id_ in gold.keys() ^ predicted.keys():
        raise EvaluationError(f"document {id_!r} is only {'annotated' if id_ in gold else 'predicted'}")
    counts = dict.fromkeys(schema.relations, Counts())
    for id_, relations in gold.items():
        ours, theirs = _keys(relations, schema), _keys(predicted[id_], schema)
        for type_, own in ((type_, ours.get(type_, set())) for type_ in counts):
            other = theirs.get(type_, set())
            counts[type_] += Counts(len(own & other), len(other - own), len(own - other))
    return ByLabel(counts)


def _keys(relations: Iterable[IdRelation], schema: Schema) -> dict[str, set[Hashable]]:
    """Relation type -> its pairs of ids, without an order where the relation has none."""
    keys: defaultdict[str, set[Hashable]] = defaultdict(set)
    for type_, head, tail in relations:
        keys[type_].add(schema.relation_key(type_, head, tail))
    return keys


def table(scores: Mapping[str, ByLabel]) -> str:
    """A table to read: for each name all types together, then each type that there is; rates in per cent."""
    lines = [f"{'':<36}{'precision':>10}{'recall':>8}{'F1':>8}{'tp':>8}{'fp':>7}{'fn':>7}"]
    for name, by_type in scores.items():
        rows: Sequence[tuple[str, Counts]] = [
            (name, by_type.micro),
            *((f"  {t}", c) for t, c in by_type.labels.items()),
        ]
        for label, c in rows:
            rates = f"{100 * c.precision:>10.1f}{100 * c.recall:>8.1f}{100 * c.f1:>8.1f}"
            lines.append(f"{label:<36}{rates}{c.tp:>8}{c.fp:>7}{c.fn:>7}")
    return "\n".join(lines)
