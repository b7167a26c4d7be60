"""Which predictions are right, and the calibration that follows."""

from __future__ import annotations

from dataclasses import replace

from pharmatriples import Document, Mention, Relation
from pharmatriples.confidence import RECORDS
from pharmatriples.judgement import LOWEST, THRESHOLDS, judged, scales_and_thresholds
from test_errors import BIORED, binding
from tiny import SCHEMA, acme


def scored(document: Document, score: float) -> Document:
    return replace(
        document,
        mentions=tuple(replace(m, score=score) for m in document.mentions),
        relations=tuple(replace(r, score=score) for r in document.relations),
    )


def test_all_of_a_gold_document_is_right() -> None:
    found = judged([acme()], [scored(acme(), 0.9)], SCHEMA)
    assert found["DRUG"] == [(0.9, True)] * 2
    assert found["event_organization"] == [(0.9, True)] * 2
    assert [right for _, right in found[RECORDS]] == [True]


def test_what_has_no_score_is_not_judged() -> None:
    found = judged([acme()], [acme()], SCHEMA)
    assert found["DRUG"] == found["treats"] == []


def test_a_wrong_span_makes_its_mention_its_relations_and_its_record_wrong() -> None:
    predicted = scored(acme(), 0.9)
    shorter = tuple(replace(m, end=m.end - 1) if m.type == "INDICATION" else m for m in predicted.mentions)
    found = judged([acme()], [replace(predicted, mentions=shorter)], SCHEMA)
    assert found["INDICATION"] == [(0.9, False)]
    assert found["treats"] == found["event_indication"] == [(0.9, False)]
    assert found["targets"] == [(0.9, True)]
    assert [right for _, right in found[RECORDS]] == [False]


def test_a_relation_without_direction_is_right_either_way_round() -> None:
    found = judged([binding()], [scored(binding(first=False), 0.9)], BIORED)
    assert found["Association"] == [(0.9, True)]


def test_a_record_that_leaves_out_a_drug_is_wrong() -> None:
    predicted = scored(acme(), 0.9)
    predicted = replace(predicted, relations=tuple(r for r in predicted.relations if r.type != "event_drug"))
    assert [right for _, right in judged([acme()], [predicted], SCHEMA)[RECORDS]] == [False]


def test_the_threshold_of_relations_leaves_the_wrong_ones_under_it() -> None:
    """Right relations have 0.9, and wrong ones 0.4: the threshold lies between, on the scale of probabilities."""
    gold, predicted = [], []
    for i in range(40):
        document = replace(scored(acme(), 0.9), id=str(i))
        wrong = replace(document.relations[0], type="treats", tail="i1", score=0.4)
        gold.append(replace(acme(), id=str(i), relations=tuple(r for r in acme().relations if r.type != "treats")))
        kept = tuple(r for r in document.relations if r.type != "treats")
        predicted.append(replace(document, relations=(*kept, wrong)))
    confidence, thresholds = scales_and_thresholds(gold, predicted, SCHEMA)
    assert set(thresholds) == set(SCHEMA.relations)
    lowest = thresholds["treats"]
    assert lowest in THRESHOLDS
    assert confidence.probability("treats", 0.4) < lowest <= confidence.probability("targets", 0.9)
    assert confidence.threshold(RECORDS, 0.9) <= 1


def test_a_threshold_lets_in_nothing_that_was_not_judged() -> None:
    """The scores of `treats` say little, so what is far under LOWEST is probable, too."""
    gold, predicted = [], []
    for i, (score, right) in enumerate([(0.9, True), (0.03, True), (0.03, True), (0.9, True), (0.03, False)] * 25):
        document = replace(scored(acme(), 0.9), id=str(i))
        relations = tuple(replace(r, score=score) if r.type == "treats" else r for r in document.relations)
        predicted.append(replace(document, relations=relations))
        kept = tuple(r for r in acme().relations if right or r.type != "treats")
        gold.append(replace(acme(), id=str(i), relations=kept))
    confidence, thresholds = scales_and_thresholds(gold, predicted, SCHEMA)
    assert confidence.probability("treats", LOWEST / 10) > min(THRESHOLDS)
    assert confidence.probability("treats", LOWEST / 2) < thresholds["treats"]
    assert thresholds["treats"] <= confidence.probability("treats", 0.03)


def test_a_record_with_one_wrong_indication_is_wrong() -> None:
    predicted = scored(acme(), 0.9)
    drug, event = (next(m.entity for m in acme().mentions if m.type == type_) for type_ in ("DRUG", "EVENT"))
    more = Relation("event_indication", event, "other", 0.9)
    start = acme().text.index("has")
    other = Mention(start, start + 3, "INDICATION", "other", score=0.9)
    mentions = tuple(sorted((*predicted.mentions, other), key=lambda m: m.start))
    predicted = replace(predicted, mentions=mentions, relations=(*predicted.relations, more))
    assert {r.head for r in predicted.relations if r.type == "event_drug" and r.tail == drug} == {event}
    assert [right for _, right in judged([acme()], [predicted], SCHEMA)[RECORDS]] == [False]
