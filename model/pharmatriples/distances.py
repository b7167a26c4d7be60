"""Relations by how far apart their entities stand, and pairs of entities that merely stand together.

The distance of two entities is that of the mentions that come nearest to each other: in one sentence, else in one
window of the encoder (no layer of it sees the two together elsewhere), else neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np

from .documents import Document, Mention
from .evaluation import ByLabel, Counts, ScoreRow, paired, relation_keys, stand_ins
from .schema import Schema
from .windows import EncodedText, Windower

DISTANCES = ("same sentence", "across sentences", "across windows")


@dataclass(frozen=True)
class Together:
    """Pairs of predicted entities that share a sentence, that a relation could join, and that gold does not join.

    Attributes:
        pairs: how many there are.
        joined: how many the model joins.
    """

    pairs: int = 0
    joined: int = 0

    @property
    def rate(self) -> float:
        return self.joined / self.pairs if self.pairs else 0.0

    def __str__(self) -> str:
        return f"pairs that merely stand together in a sentence: {self.joined} of {self.pairs} joined ({self.rate:.1%})"


@dataclass(frozen=True)
class Distances:
    """Counts of relations by distance, and of pairs that merely stand together.

    A gold relation has the distance of its gold mentions, a wrong one that of its predicted mentions.
    """

    relations: ByLabel
    together: Together

    def rows(self) -> Iterator[ScoreRow]:
        """Rows for the table of `Scores`."""
        for label, counts in self.relations.labels.items():
            yield f"relations, {label}", False, counts

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        together = {**vars(self.together), "rate": self.together.rate}
        return {"relations_by_distance": self.relations.to_dict(), "together": together}


def measure(gold: Sequence[Document], predicted: Sequence[Document], schema: Schema, windower: Windower) -> Distances:
    """Relations by distance; they are matched as `evaluation.evaluate` does.

    Raises:
        EvaluationError: the documents cannot be paired.
    """
    counts = dict.fromkeys(DISTANCES, Counts())
    pairs = 0
    for g, p in paired(gold, predicted):
        text = windower.encode(g.text)
        in_gold, in_predicted = _Places(g, text), _Places(p, text)
        stand_in = stand_ins(g, p)
        wanted, found = relation_keys(g, schema), relation_keys(p, schema, stand_in)
        for key, r in wanted.items():
            counts[in_gold.distance(r.head, r.tail)] += Counts(tp=1) if key in found else Counts(fn=1)
        for key, r in found.items():
            if key not in wanted:
                counts[in_predicted.distance(r.head, r.tail)] += Counts(fp=1)
        pairs += sum(
            schema.relation_key(type_, stand_in.get(head), stand_in.get(tail)) not in wanted
            for type_, signatures in schema.relations.items()
            for (i, (head, one)), (j, (tail, other)) in permutations(enumerate(p.entities.items()), 2)
            if (one.type, other.type) in signatures
            # Without direction, the one that is mentioned first is the head of two of a type.
            and not (type_ in schema.symmetric and one.type == other.type and i > j)
            and in_predicted.share_sentence(head, tail)
        )
    return Distances(ByLabel(counts), Together(pairs, counts[DISTANCES[0]].fp))


class _Places:
    """In which sentences, and wholly in which windows, the mentions of each entity of a document stand."""

    def __init__(self, document: Document, text: EncodedText):
        self.sentences: dict[str, set[int]] = {}
        self.windows: dict[str, set[int]] = {}
        for m in document.mentions:
            sentences, windows = _places(m, text)
            self.sentences.setdefault(m.entity, set()).update(sentences)
            self.windows.setdefault(m.entity, set()).update(windows)

    def share_sentence(self, head: str, tail: str) -> bool:
        return not self.sentences[head].isdisjoint(self.sentences[tail])

    def distance(self, head: str, tail: str) -> str:
        """One of DISTANCES."""
        if self.share_sentence(head, tail):
            return DISTANCES[0]
        return DISTANCES[2 if self.windows[head].isdisjoint(self.windows[tail]) else 1]


def _places(mention: Mention, text: EncodedText) -> tuple[set[int], set[int]]:
    first, last = text.words(mention.start, mention.end)
    pieces = np.flatnonzero((text.piece_words >= first) & (text.piece_words <= last))
    windows = {i for i, w in enumerate(text.windows) if len(pieces) and w.start <= pieces[0] and pieces[-1] < w.end}
    return set(text.sentences[first : last + 1].tolist()), windows
