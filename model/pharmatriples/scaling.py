"""Learning what a score is worth: `Confidence` fitted to predictions that were judged right or wrong.

Apart from `confidence`, which travels with a model and must not ask for scikit-learn where the model is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from sklearn.linear_model import LogisticRegression

from .confidence import Confidence, logit

_PRECISIONS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99)
_ENOUGH = 20  # right and wrong ones that a name needs for a scale of its own
_KEPT = 10  # things over a threshold without which its precision says nothing


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
    right = rows[:, 1] > 0.5
    if min(right.sum(), (~right).sum()) < _ENOUGH:
        return None
    model = LogisticRegression().fit(logit(rows[:, :1]), right)
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
