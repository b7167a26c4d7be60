"""What a score is worth: scores made probabilities, and thresholds for a wanted precision, as learned on validation.

A *name* is an entity type (for the scores of its mentions), a relation type, or RECORDS.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

RECORDS = "records"
_PRECISIONS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99)
_ENOUGH = 20  # right and wrong ones that a name needs for a scale of its own
_KEPT = 10  # things over a threshold without which its precision says nothing
_EDGE = 1e-4  # scores are kept with four digits


@dataclass(frozen=True)
class Confidence:
    """Platt scaling (Platt 1999, section 2.1) of logits by name; scores of an unknown name stay as they are.

    Attributes:
        scales: name -> (slope, offset): probability = sigmoid(slope * logit(score) + offset).
        thresholds: name -> precision, as a text such as "0.9" -> the lowest probability over which it was met.
    """

    scales: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    thresholds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None) -> Confidence:
        """From the configuration of a model; one without calibration leaves scores as they are."""
        return cls(**values) if values else cls()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, for the configuration of a model."""
        return {"scales": {k: list(v) for k, v in self.scales.items()}, "thresholds": dict(self.thresholds)}

    def probability(self, name: str, score: Any) -> Any:
        """The probability that what has this score is right; of a number or an array of any shape."""
        if name not in self.scales:
            return score
        slope, offset = self.scales[name]
        return 1 / (1 + np.exp(-(slope * _logit(score) + offset)))

    def threshold(self, name: str, precision: float) -> float:
        """The lowest probability over which `precision` was met on validation.

        Raises:
            ValueError: it was not met at any probability.
        """
        known = {float(p): t for p, t in self.thresholds.get(name, {}).items()}
        enough = [p for p in known if p >= precision]
        if not enough:
            best = f"the highest that was is {max(known)}" if known else "none was measured"
            raise ValueError(f"precision {precision} of {name} was not met on validation; {best}. Ask for less")
        return known[min(enough)]


def fit(judged: Mapping[str, Iterable[tuple[float, bool]]], pools: Iterable[Iterable[str]]) -> Confidence:
    """Scales and thresholds from judged predictions.

    Args:
        judged: name -> (score, whether it was right) of the predictions on documents that were not trained on.
        pools: sets of names; one with too few right or wrong ones takes the scale of its pool.
    """
    things = {name: np.array(list(rows), dtype=float).reshape(-1, 2) for name, rows in judged.items()}
    scales: dict[str, tuple[float, float]] = {}
    for pool in pools:
        names = [name for name in pool if name in things]
        shared = _scale(np.concatenate([things[name] for name in names])) if names else None
        for name in names:
            scale = _scale(things[name]) or shared
            if scale:
                scales[name] = scale
    found = Confidence(scales)
    thresholds = {name: _thresholds(found.probability(name, rows[:, 0]), rows[:, 1]) for name, rows in things.items()}
    return Confidence(scales, thresholds)


def _scale(rows: np.ndarray) -> tuple[float, float] | None:
    """Slope and offset for rows of (score, right); None where there are too few, or where higher is not better."""
    from sklearn.linear_model import LogisticRegression  # not needed where a trained model is used

    right = rows[:, 1] > 0.5
    if min(right.sum(), (~right).sum()) < _ENOUGH:
        return None
    model = LogisticRegression().fit(_logit(rows[:, :1]), right)
    slope, offset = float(model.coef_[0, 0]), float(model.intercept_[0])
    return (round(slope, 4), round(offset, 4)) if slope > 0 else None


def _thresholds(probabilities: np.ndarray, right: np.ndarray) -> dict[str, float]:
    order = np.argsort(-probabilities, kind="stable")
    kept = np.arange(1, len(order) + 1)
    precision = np.cumsum(right[order]) / kept
    # Of equal probabilities all are kept or none.
    last = np.append(np.diff(probabilities[order]) != 0, True) & (kept >= _KEPT) if len(order) else np.zeros(0, bool)
    found = {}
    for wanted in _PRECISIONS:
        places = np.flatnonzero((precision >= wanted) & last)
        if len(places):
            found[str(wanted)] = float(np.floor(probabilities[order][places[-1]] * 1e4) / 1e4)
    return found


def _logit(score: Any) -> Any:
    clipped = np.clip(score, _EDGE, 1 - _EDGE)
    return np.log(clipped / (1 - clipped))
