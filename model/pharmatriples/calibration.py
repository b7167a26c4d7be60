"""Whether scores are probabilities: of the things scored 0.8, eight of ten should be right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .confidence import RECORDS, Confidence
from .documents import Document
from .judgement import judged
from .schema import Schema

BINS = 10


@dataclass(frozen=True)
class Reliability:
    """Scores against how often what has them is right, in bins of rising score; empty bins are left out.

    Attributes:
        scores: [B] mean score; right: [B] share that is right; counts: [B] things.
    """

    scores: np.ndarray
    right: np.ndarray
    counts: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error: the distance of score and share, averaged over all things."""
        total = self.counts.sum()
        return float(self.counts @ np.abs(self.scores - self.right) / total) if total else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"error": self.error, **{name: values.tolist() for name, values in vars(self).items()}}


def reliability(scores: Sequence[float], right: Sequence[bool], bins: int = BINS) -> Reliability:
    """Bins of nearly equal mass.

    Most scores are near 1: bins of equal width (Guo et al. 2017, section 2) would leave the lower ones nearly empty.
    Bins of equal mass (Nguyen and O'Connor 2015, section 3.2) are cut at quantiles; equal scores share a bin.

    Args:
        scores: in [0, 1]; right: whether each thing is.
    """
    values, outcomes = np.array(scores, dtype=float), np.array(right, dtype=float)
    if not len(values):
        return Reliability(values, outcomes, np.zeros(0, dtype=np.int64))
    edges = np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1])
    _, owner, counts = np.unique(np.searchsorted(edges, values, side="right"), return_inverse=True, return_counts=True)
    return Reliability(np.bincount(owner, values) / counts, np.bincount(owner, outcomes) / counts, counts)


def calibration(
    gold: Sequence[Document], predicted: Sequence[Document], schema: Schema, confidence: Confidence
) -> dict[str, Reliability]:
    """The reliability of the scores of mentions, relations and records, as `judgement.judged` finds them right.

    What has no score, as an annotation, is left out; what then has none at all is not in the result. A model scores
    only the relations that it keeps: theirs begin at its threshold.

    Args:
        confidence: of the model, which makes probabilities of the scores of records; those of mentions and relations
            are probabilities in `predicted` already.

    Raises:
        EvaluationError: the documents cannot be paired.
    """
    by_name = judged(gold, predicted, schema)
    by_name[RECORDS] = [(float(confidence.probability(RECORDS, score)), right) for score, right in by_name[RECORDS]]
    kinds = {"mentions": schema.entities, "relations": schema.relations, RECORDS: (RECORDS,)}
    things = {kind: [thing for name in names for thing in by_name[name]] for kind, names in kinds.items()}
    return {
        kind: reliability([score for score, _ in rows], [right for _, right in rows])
        for kind, rows in things.items()
        if rows
    }
