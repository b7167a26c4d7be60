"""Scores made probabilities, and thresholds for a wanted precision."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pharmatriples.confidence import Confidence
from pharmatriples.scaling import fit


def sure_of_itself(count: int, seed: int = 0) -> list[tuple[float, bool]]:
    """Scores whose logits are three times what they should be."""
    random = np.random.default_rng(seed)
    logits = random.normal(0.5, 1, count)
    right = random.random(count) < 1 / (1 + np.exp(-logits))
    return list(zip((1 / (1 + np.exp(-3 * logits))).tolist(), right.tolist(), strict=True))


def test_scores_that_are_too_sure_are_drawn_in() -> None:
    confidence = fit({"A": sure_of_itself(4000)}, [["A"]])
    slope, offset = confidence.scales["A"]
    assert slope == pytest.approx(1 / 3, abs=0.04)
    assert offset == pytest.approx(0, abs=0.1)
    assert confidence.probability("A", 0.95) == pytest.approx(1 / (1 + np.exp(-np.log(19) / 3)), abs=0.03)


def test_a_name_with_few_examples_takes_the_scale_of_its_pool() -> None:
    confidence = fit({"A": sure_of_itself(1000), "B": [(0.9, True)] * 5, "C": [(0.9, True)] * 30}, [["A", "B"], ["C"]])
    assert confidence.scales["B"] == pytest.approx(confidence.scales["A"], abs=0.05)
    assert "C" not in confidence.scales
    assert confidence.probability("C", 0.9) == 0.9


def test_scores_that_say_nothing_are_left_as_they_are() -> None:
    upside_down = [(0.9, False)] * 50 + [(0.1, True)] * 50
    assert fit({"A": upside_down}, [["A"]]).scales == {}


def test_the_order_of_scores_stays() -> None:
    confidence = fit({"A": sure_of_itself(500)}, [["A"]])
    scores = np.linspace(0, 1, 101)
    assert (np.diff(confidence.probability("A", scores)) >= 0).all()
    assert 0 < confidence.probability("A", 0.0) < confidence.probability("A", 1.0) < 1


def test_over_its_threshold_a_precision_is_met_and_just_under_it_is_not() -> None:
    rows = sure_of_itself(2000)
    confidence = fit({"A": rows}, [["A"]])
    threshold = confidence.threshold("A", 0.8)
    probabilities = np.array([confidence.probability("A", score) for score, _ in rows])
    right = np.array([right for _, right in rows])
    assert right[probabilities >= threshold].mean() >= 0.8
    assert right[probabilities >= threshold - 0.05].mean() < 0.8


def test_a_precision_between_two_that_were_measured_takes_the_higher() -> None:
    confidence = Confidence(thresholds={"A": {"0.8": 0.5, "0.9": 0.7}})
    assert confidence.threshold("A", 0.83) == 0.7


def test_a_precision_that_was_not_met_says_what_was() -> None:
    confidence = Confidence(thresholds={"A": {"0.8": 0.5}})
    with pytest.raises(ValueError, match=r"precision 0.95 of A .* the highest that was is 0.8"):
        confidence.threshold("A", 0.95)
    with pytest.raises(ValueError, match="no precision of B was measured on validation; give a threshold"):
        confidence.threshold("B", 0.5)


def test_it_travels_as_json() -> None:
    confidence = fit({"A": sure_of_itself(300), "records": []}, [["A"], ["records"]])
    again = Confidence.from_dict(json.loads(json.dumps(confidence.to_dict())))
    assert again.probability("A", 0.7) == confidence.probability("A", 0.7)
    assert again.threshold("A", 0.6) == confidence.threshold("A", 0.6)
    assert Confidence.from_dict(None).probability("A", 0.7) == 0.7
