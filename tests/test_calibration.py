from __future__ import annotations

from dataclasses import replace

import pytest
from pharmatriples.calibration import calibration, reliability
from pharmatriples.confidence import Confidence
from tiny import SCHEMA, acme


def test_scores_that_come_true_have_no_error() -> None:
    found = reliability([0.75] * 4 + [1.0] * 4, [True] * 3 + [False] + [True] * 4)
    assert found.error == pytest.approx(0)
    assert found.counts.tolist() == [4, 4]


def test_the_error_is_the_mean_distance_of_score_and_share() -> None:
    # Six at 0.9 of which half are right, two at 0.2 of which all are: (6 * 0.4 + 2 * 0.8) / 8
    found = reliability([0.9] * 6 + [0.2] * 2, [True, False] * 3 + [True, True])
    assert found.error == pytest.approx(0.5)
    assert found.scores.tolist() == pytest.approx([0.2, 0.9])


def test_bins_hold_equally_many_and_the_order_does_not_matter() -> None:
    scores = [i / 100 for i in range(100)]
    right = [i % 3 == 0 for i in range(100)]
    found = reliability(scores, right)
    assert found.counts.tolist() == [10] * 10
    assert reliability(scores[::-1], right[::-1]).error == pytest.approx(found.error)


def test_nothing_has_no_error() -> None:
    assert reliability([], []).error == 0.0


def test_mentions_relations_and_records_are_right_as_the_evaluation_counts_them() -> None:
    gold = acme()
    mentions = [replace(m, score=0.9) for m in gold.mentions if m.entity != "g1"]
    relations = [replace(r, score=0.5) for r in gold.relations if r.type != "targets"]
    wrong = replace(mentions[2], attributes={"event_type": "approval", "status": "occurred"})
    assert wrong.type == "EVENT"
    found = calibration(
        [gold], [replace(gold, mentions=tuple(mentions), relations=tuple(relations))], SCHEMA, Confidence()
    )
    assert {name: (r.right.tolist(), r.counts.tolist()) for name, r in found.items()} == {
        "mentions": ([1.0], [7]), "relations": ([1.0], [6]), "records": ([1.0], [1]),
    }  # fmt: skip
    assert found["records"].scores[0] == pytest.approx(
        0.9**3 * 0.5 * 0.5, abs=1e-4
    )  # trigger, drug, indication, two links
    mentions[2] = replace(wrong, score=0.9)
    found = calibration(
        [gold], [replace(gold, mentions=tuple(mentions), relations=tuple(relations))], SCHEMA, Confidence()
    )
    assert (found["mentions"].right.tolist(), found["records"].right.tolist()) == ([1.0], [0.0])


def test_what_has_no_score_is_left_out() -> None:
    assert list(calibration([acme()], [acme()], SCHEMA, Confidence())) == ["records"]


def test_scores_of_records_are_judged_as_the_model_would_give_them() -> None:
    confidence = Confidence({"records": (1.0, 1.0)})
    found = calibration([acme()], [acme()], SCHEMA, confidence)["records"]
    assert found.scores[0] == pytest.approx(confidence.probability("records", 1.0))
