"""What a score is worth: scores made probabilities, and thresholds for a wanted precision, as learned on validation.

A *name* is an entity type (for the scores of its mentions), a relation type, or RECORDS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

RECORDS = "records"
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
        return 1 / (1 + np.exp(-(slope * logit(score) + offset)))

    def threshold(self, name: str, precision: float) -> float:
        """The lowest probability over which `precision` was met on validation.

        Raises:
            ValueError: it was not met at any probability.
        """
        known = {float(p): t for p, t in self.thresholds.get(name, {}).items()}
        enough = [p for p in known if p >= precision]
        if not enough:
            if not known:
                raise ValueError(f"no precision of {name} was measured on validation; give a threshold instead")
            best = f"the highest that was is {max(known)}"
            raise ValueError(f"precision {precision} of {name} was not met on validation; {best}. Ask for less")
        return known[min(enough)]


def logit(score: Any) -> Any:
    clipped = np.clip(score, _EDGE, 1 - _EDGE)
    return np.log(clipped / (1 - clipped))
