"""Agreement of annotators: what their majority says, how often two say the same, and where they do not.

How much two annotators agree is the F1 of one against the other, which does not depend on who is taken for gold.
For mentions it is what kappa comes to when the words that nobody marks are many (Hripcsak and Rothschild 2005);
for attributes, where every marked mention has a value, Cohen's kappa stands beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Any, NamedTuple

from sklearn.metrics import cohen_kappa_score

from .differences import Difference, Key, differences, key_of, one_line
from .documents import Document, Mention, Relation
from .evaluation import ByLabel, Counts, Scores, evaluate
from .schema import Schema


class AgreementError(ValueError):
    """Annotations that cannot be compared; the message names the task."""


# --- the majority


def majority(documents: Sequence[Document], schema: Schema) -> Document:
    """What more than half of the annotators of one text say, whatever their order.

    A mention is kept where more than half have it with this span and type. Each of its attributes has the value
    of most of those (of equals, the first in the schema). Two mentions are joined where more than half of those
    who have both join them, and so is what is joined to the same. A relation is kept where more than half have it
    between entities of these mentions, a symmetric one whichever way round. Id, group, source and split are the first
    document's.

    Raises:
        AgreementError: there is no document, or the texts differ.
        DocumentError: a document does not follow the schema.
    """
    if not documents:
        raise AgreementError("a majority needs at least one document")
    for document in documents:
        if document.check(schema).text != documents[0].text:
            raise AgreementError(f"documents {documents[0].id!r} and {document.id!r} have different texts")
    marked = [{key_of(m): m for m in document.mentions} for document in documents]
    votes = Counter(key for own in marked for key in own)
    kept = sorted(key for key, count in votes.items() if 2 * count > len(documents))
    leaders = _leaders(kept, marked)
    numbers: Counter[str] = Counter()
    names: dict[Key, str] = {}
    for key in kept:
        if leaders[key] == key:
            numbers[key[2]] += 1
            names[key] = f"{key[2]}-{numbers[key[2]]}"
    mentions = [Mention(*key, names[leaders[key]], _attributes(key, marked, schema)) for key in kept]
    relations = Counter(
        vote
        for document, own in zip(documents, marked, strict=True)
        for vote in _relation_votes(document, own, leaders, schema)
    )
    links = sorted(vote for vote, count in relations.items() if 2 * count > len(documents))
    return replace(
        documents[0],
        mentions=tuple(mentions),
        relations=tuple(Relation(type_, names[head], names[tail]) for head, tail, type_ in links),
    ).check(schema)


def _leaders(kept: Sequence[Key], marked: Sequence[Mapping[Key, Mention]]) -> dict[Key, Key]:
    """Mention -> the first mention of its entity."""
    joined: Counter[tuple[Key, Key]] = Counter()
    for own in marked:
        entities: dict[str, list[Key]] = {}
        for key in kept:
            if key in own:
                entities.setdefault(own[key].entity, []).append(key)
        joined.update(pair for keys in entities.values() for pair in combinations(keys, 2))
    leaders = {key: key for key in kept}
    for (a, b), count in joined.items():
        if leaders[a] != leaders[b] and 2 * count > sum(a in own and b in own for own in marked):
            first, second = sorted((leaders[a], leaders[b]))
            leaders = {key: first if leader == second else leader for key, leader in leaders.items()}
    return leaders


def _attributes(key: Key, marked: Sequence[Mapping[Key, Mention]], schema: Schema) -> dict[str, str]:
    given = [own[key].attributes for own in marked if key in own]
    return {
        name: max(values, key=Counter(attributes[name] for attributes in given).__getitem__)
        for name, values in schema.attributes.get(key[2], {}).items()
    }


def _relation_votes(
    document: Document, own: Mapping[Key, Mention], leaders: Mapping[Key, Key], schema: Schema
) -> set[tuple[Key, Key, str]]:
    entities: dict[str, set[Key]] = {}
    for key, leader in leaders.items():
        if key in own:
            entities.setdefault(own[key].entity, set()).add(leader)
    return {
        (*_in_order(r.type, head, tail, schema), r.type)
        for r in document.relations
        for head, tail in product(entities.get(r.head, ()), entities.get(r.tail, ()))
        if head != tail  # others joined the two
    }


def _in_order(relation: str, head: Key, tail: Key, schema: Schema) -> tuple[Key, Key]:
    """Of two entities of one type that a symmetric relation joins, the first in the text is the head.

    Of two types, the schema allows one direction alone.
    """
    turned = relation in schema.symmetric and head[2] == tail[2] and tail < head
    return (tail, head) if turned else (head, tail)


# --- pairs of annotators


@dataclass(frozen=True)
class Agreement:
    """How much two annotators agree on their common tasks, or all pairs taken together.

    Attributes:
        tasks: how many were compared.
        scores: of the second against the first.
        attributes: attribute -> counts by value over the mentions that both have with one span and type.
        kappa: attribute -> Cohen's kappa over these; None where fewer than two values were used.
    """

    tasks: int
    scores: Scores
    attributes: Mapping[str, ByLabel]
    kappa: Mapping[str, float | None]

    def rows(self) -> Iterator[tuple[str, bool, Counts, float | None]]:
        """(name, whether it is a part of the row above that is none, counts, kappa), in reading order."""

        def parts(
            name: str, by_label: ByLabel, kappa: float | None = None
        ) -> Iterator[tuple[str, bool, Counts, float | None]]:
            yield name, False, by_label.micro, kappa
            for label, counts in by_label.labels.items():
                if counts != Counts():
                    yield label, True, counts, None

        yield from parts("mentions, strict", self.scores.mentions)
        yield from parts("mentions, relaxed", self.scores.mentions_relaxed)
        for name, by_value in self.attributes.items():
            yield from parts(name.replace("_", " "), by_value, self.kappa[name])
        yield from parts("relations", self.scores.relations)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types: for each label F1 in [0, 1], how often both have it, and how often only one."""
        parts = {
            "mentions": self.scores.mentions,
            "mentions_relaxed": self.scores.mentions_relaxed,
            "relations": self.scores.relations,
        }
        attributes = {name: {"kappa": self.kappa[name], **_plain(found)} for name, found in self.attributes.items()}
        return {
            "tasks": self.tasks,
            **{name: _plain(by_label) for name, by_label in parts.items()},
            "attributes": attributes,
        }


def _plain(by_label: ByLabel) -> dict[str, Any]:
    labelled = {"micro": by_label.micro, **by_label.labels}
    return {label: {"f1": c.f1, "both": c.tp, "one": c.fp + c.fn} for label, c in labelled.items()}


class Disagreement(NamedTuple):
    """What two annotators of a task differ about: `first` and `second` of the difference are theirs."""

    task: str
    annotators: tuple[str, str]
    difference: Difference


@dataclass(frozen=True)
class AgreementReport:
    """Agreement of all pairs of annotators with common tasks.

    Attributes:
        micro: all pairs together: what is counted, is counted in every pair.
        pairs: the two annotators -> their agreement.
        disagreements: every place in which two differ: the tasks with the most of them first.
    """

    micro: Agreement
    pairs: Mapping[tuple[str, str], Agreement]
    disagreements: tuple[Disagreement, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "micro": self.micro.to_dict(),
            "pairs": [{"annotators": list(names), **pair.to_dict()} for names, pair in self.pairs.items()],
            "disagreements": [
                {"task": d.task, "annotators": list(d.annotators), **d.difference._asdict()} for d in self.disagreements
            ],
        }

    def table(self, limit: int = 50) -> str:
        """Tables to read: agreement by type in per cent, of each pair, and the first `limit` disagreements."""
        lines = [f"{'':<24}{'F1':>8}{'both':>8}{'one':>8}{'kappa':>8}"]
        for name, is_part, counts, kappa in self.micro.rows():
            figures = f"{100 * counts.f1:>8.1f}{counts.tp:>8}{counts.fp + counts.fn:>8}"
            lines.append(f"{'  ' * is_part + name:<24}{figures}{'' if kappa is None else f'{kappa:>8.2f}'}")
        lines.append("")
        for names, pair in self.pairs.items():
            parts = [
                f"{name} {100 * counts.f1:.1f}" + ("" if kappa is None else f" (kappa {kappa:.2f})")
                for name, is_part, counts, kappa in pair.rows()
                if not is_part
            ]
            lines.append(f"{' and '.join(names)}, {pair.tasks} tasks: {'; '.join(parts)}")
        counted = Counter(d.task for d in self.disagreements)
        lines += ["", f"{len(self.disagreements)} disagreements in {len(counted)} tasks"]
        task = None
        for found in self.disagreements[:limit]:
            if found.task != task:
                task = found.task
                lines.append(f"{task}: {counted[task]}")
            d = found.difference
            sides = (f"{who}: {says or 'nothing'}" for who, says in zip(found.annotators, d[4:], strict=True))
            lines.append(f"  {d.kind} [{d.start}, {d.end}) {one_line(d.text)!r} - {', '.join(map(one_line, sides))}")
        if len(self.disagreements) > limit:
            lines.append(f"  ... and {len(self.disagreements) - limit} more")
        return "\n".join(lines)


def pairwise(documents: Mapping[str, Sequence[Document]], schema: Schema) -> AgreementReport:
    """Compare every two annotators on the tasks that both have.

    Args:
        documents: annotator -> their documents, whose ids are those of the tasks.

    Raises:
        AgreementError: no task has two annotators, an annotator has a task twice, or two have different texts of it.
        DocumentError: a document does not follow the schema.
    """
    tasks = {who: {d.id: d.check(schema) for d in own} for who, own in sorted(documents.items())}
    for who, own in documents.items():
        if len(tasks[who]) < len(own):
            twice = Counter(d.id for d in own).most_common(1)[0][0]
            raise AgreementError(f"task {twice!r}: annotator {who!r} has it twice; keep one of the two")
    common = {
        (a, b): [(tasks[a][id_], tasks[b][id_]) for id_ in sorted(tasks[a].keys() & tasks[b].keys())]
        for a, b in combinations(tasks, 2)
    }
    for (who, other), pairs in common.items():
        for a, b in pairs:
            if a.text != b.text:
                raise AgreementError(f"task {a.id!r}: {who!r} and {other!r} have different texts of it")
    common = {names: pairs for names, pairs in common.items() if pairs}
    if not common:
        raise AgreementError("no task has annotations of two annotators: there is nothing to compare")
    found = [
        Disagreement(a.id, names, difference)
        for names, pairs in common.items()
        for a, b in pairs
        for difference in differences(a, b, schema)
    ]
    counted = Counter(d.task for d in found)
    found.sort(key=lambda d: (-counted[d.task], d.task, d.difference.start, d.difference.end))
    return AgreementReport(
        micro=_agreement([pair for pairs in common.values() for pair in pairs], schema),
        pairs={names: _agreement(pairs, schema) for names, pairs in common.items()},
        disagreements=tuple(found),
    )


def _agreement(pairs: Sequence[tuple[Document, Document]], schema: Schema) -> Agreement:
    # A task that three have read stands in three pairs: each pair needs an id of its own.
    named = [(replace(a, id=str(i)), replace(b, id=str(i))) for i, (a, b) in enumerate(pairs)]
    scores = evaluate([a for a, _ in named], [b for _, b in named], schema)
    shared = [_shared(a, b) for a, b in named]
    attributes = evaluate([a for a, _ in shared], [b for _, b in shared], schema).attributes
    kappa: dict[str, float | None] = {}
    for name in attributes:
        values = [
            [m.attributes[name] for pair in shared for m in pair[side].mentions if name in m.attributes]
            for side in (0, 1)
        ]
        used = {value for side in values for value in side}
        kappa[name] = float(cohen_kappa_score(*values)) if len(used) > 1 else None
    return Agreement(len(pairs), scores, attributes, kappa)


def _shared(first: Document, second: Document) -> tuple[Document, Document]:
    """Both documents with the mentions alone that both have."""
    keys = {key_of(m) for m in first.mentions} & {key_of(m) for m in second.mentions}
    a, b = (
        replace(d, mentions=tuple(m for m in d.mentions if key_of(m) in keys), relations=()) for d in (first, second)
    )
    return a, b
