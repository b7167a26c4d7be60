"""Self-training: what several models agree on in unlabelled texts, as documents to train on.

Lee (2013) takes the confident predictions of one model; those of several, trained from different seeds, disagree
where they are wrong more often than where they are right, so the agreement is asked for, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from .agreement import majority
from .differences import key_of
from .documents import Document
from .evaluation import Counts, evaluate
from .extractor import annotate
from .schema import Schema

SOURCE = "pseudo"


class PseudoError(ValueError):
    """Models that cannot label together; the message says why."""


@dataclass(frozen=True)
class PseudoReport:
    """What became of the texts.

    Attributes:
        texts: how many, without copies.
        disagreed: of them left out because the models disagree.
        empty: left out because nothing is marked with confidence.
        mentions, doubtful: of the documents that were kept, mentions kept, and left out for their low confidence.
    """

    texts: int
    disagreed: int
    empty: int
    mentions: int
    doubtful: int

    def __str__(self) -> str:
        kept = self.texts - self.disagreed - self.empty
        return (
            f"{self.texts} texts: {kept} kept, {self.disagreed} left out because the models disagree, {self.empty} "
            f"because nothing is marked; {self.mentions} mentions, {self.doubtful} more were too doubtful"
        )


def pseudo_label(
    extracts: Sequence[Any], documents: Sequence[Document], agreement: float = 0.8, confidence: float = 0.5
) -> tuple[list[Document], PseudoReport]:
    """Documents of the train split with what most of the models say about the texts of `documents`.

    Args:
        extracts: pipelines; a mention or a relation is kept where more than half of them have it.
        agreement: smallest F1, over mentions and relations together, of one model against another, of a document.
        confidence: smallest mean score, over the models, of a mention; that of a model without it counts as 0.

    Raises:
        PseudoError: there are fewer than two models, their schemas differ, or two texts have one id.
    """
    schemas = [extract.model.schema for extract in extracts]
    if len(schemas) < 2:
        raise PseudoError("agreement needs at least two models, such as one configuration with two seeds")
    if any(schema != schemas[0] for schema in schemas):
        raise PseudoError("the models have different schemas; take models of one schema")
    unlike = list({document.text: document for document in documents}.values())
    if len({document.id for document in unlike}) < len(unlike):
        twice = Counter(document.id for document in unlike).most_common(1)[0][0]
        raise PseudoError(f"two texts have the id {twice!r}; give each its own")
    kept = []
    disagreed = empty = doubtful = 0
    for found in zip(*(annotate(extract, unlike) for extract in extracts), strict=True):
        if _agreement(found, schemas[0]) < agreement:
            disagreed += 1
            continue
        most = majority(found, schemas[0])
        sure = _confident(most, found, confidence)
        if not sure.mentions:
            empty += 1
            continue
        doubtful += len(most.mentions) - len(sure.mentions)
        kept.append(replace(sure, source=SOURCE, split="train"))
    mentions = sum(len(document.mentions) for document in kept)
    return kept, PseudoReport(len(unlike), disagreed, empty, mentions, doubtful)


def _agreement(found: Sequence[Document], schema: Schema) -> float:
    """F1 of the models against each other, all pairs together; 1 where none marks anything."""
    scores = [evaluate([a], [b], schema) for a, b in combinations(found, 2)]
    counts = sum((part for one in scores for part in (one.mentions.micro, one.relations.micro)), Counts())
    return counts.f1 if counts != Counts() else 1.0


def _confident(document: Document, found: Sequence[Document], confidence: float) -> Document:
    """Without mentions of a low mean score, and what hangs on them alone; the others carry theirs."""
    scores: dict[tuple[int, int, str], float] = {}
    for one in found:
        for m in one.mentions:
            scores[key_of(m)] = scores.get(key_of(m), 0.0) + (m.score or 0.0) / len(found)
    rated = [replace(m, score=min(scores[key_of(m)], 1.0)) for m in document.mentions]
    mentions = tuple(m for m in rated if scores[key_of(m)] >= confidence)
    left = {m.entity for m in mentions}
    relations = tuple(r for r in document.relations if r.head in left and r.tail in left)
    return replace(document, mentions=mentions, relations=relations)
