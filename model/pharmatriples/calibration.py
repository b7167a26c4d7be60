"""Whether scores are probabilities: of the things scored 0.8, eight of ten should be right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .differences import key_of
from .documents import Document
from .evaluation import paired, stand_ins
from .records import RECORD_ENTITIES, record_sources

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


def calibration(gold: Sequence[Document], predicted: Sequence[Document]) -> dict[str, Reliability]:
    """The reliability of the scores of mentions, relations and records, each right as `evaluation.evaluate` counts it.

    What has no score, as an annotation, is left out; what then has none at all is not in the result. A model scores
    only the relations that it keeps: theirs begin at its threshold.

    Raises:
        EvaluationError: the documents cannot be paired.
    """
    found: dict[str, list[tuple[float | None, bool]]] = {"mentions": [], "relations": [], "records": []}
    for g, p in paired(gold, predicted):
        stand_in = stand_ins(g, p)
        keys, relations = {key_of(m) for m in g.mentions}, {(r.type, r.head, r.tail) for r in g.relations}
        found["mentions"] += [(m.score, key_of(m) in keys) for m in p.mentions]
        found["relations"] += [
            (r.score, (r.type, stand_in.get(r.head), stand_in.get(r.tail)) in relations) for r in p.relations
        ]
        records = record_sources(g)
        for record, source in record_sources(p).items():
            entities = {name: getattr(record, name) for name in RECORD_ENTITIES}
            known = all(id_ is None or id_ in stand_in for id_ in entities.values())
            named = record._replace(**{name: id_ and stand_in.get(id_) for name, id_ in entities.items()})
            found["records"].append((source.score, known and named in records))
    scored = {name: [(score, right) for score, right in things if score is not None] for name, things in found.items()}
    return {name: reliability(*zip(*things, strict=True)) for name, things in scored.items() if things}
