from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from pharmatriples.confidence import RECORDS, Confidence
from pharmatriples.documents import Document, Mention, Relation
from pharmatriples.errors import Finding, findings
from pharmatriples.evaluation import Counts, evaluate
from pharmatriples.schema import Schema
from tiny import ROOT, SCHEMA, acme

GOLD = acme()
BIORED = Schema.from_yaml(ROOT / "configs" / "biored-schema.yaml")  # its relations have no direction


def binding(first: bool = True) -> Document:
    """A relation without direction; who lacks the first mention of AAA meets BBB first, and has it the other way."""
    spans = [(0, 3, "a"), (10, 13, "b"), (18, 21, "a")]
    mentions = tuple(Mention(start, end, "GeneOrGeneProduct", entity) for start, end, entity in spans)
    ends = ("a", "b") if first else ("b", "a")
    relation = Relation("Association", *ends)
    return Document("binding", "AAA binds BBB and AAA", mentions if first else mentions[1:], (relation,))


def both_ways() -> Document:
    """The same, with the relation twice."""
    return replace(binding(), relations=binding().relations + binding(first=False).relations)


def wrong(predicted: Document, gold: Document = GOLD, schema: Schema = SCHEMA) -> list[Finding]:
    return [finding for finding in findings(gold, predicted, schema) if finding.error]


def labels(predicted: Document, gold: Document = GOLD) -> Counter[str]:
    return Counter(finding.label for finding in wrong(predicted, gold))


def changed(wording: str, nth: int = 0, **values: object) -> Document:
    """What a model predicts that sees one mention of GOLD otherwise."""
    mentions = list(GOLD.mentions)
    i = [i for i, m in enumerate(mentions) if GOLD.wording(m) == wording][nth]
    mentions[i] = replace(mentions[i], **values)  # type: ignore[arg-type]
    types = {m.entity: m.type for m in mentions}
    kept = [r for r in GOLD.relations if (types.get(r.head), types.get(r.tail)) in SCHEMA.relations[r.type]]
    return replace(GOLD, mentions=tuple(mentions), relations=tuple(kept))


def without(*entities: str) -> Document:
    return replace(
        GOLD,
        mentions=tuple(m for m in GOLD.mentions if m.entity not in entities),
        relations=tuple(r for r in GOLD.relations if not {r.head, r.tail} & set(entities)),
    )


def test_gold_itself_has_no_errors_and_every_thing_is_found_right() -> None:
    found = findings(GOLD, GOLD, SCHEMA)
    assert not [finding for finding in found if finding.error or finding.follows]
    assert Counter(finding.part for finding in found) == Counter(
        {"mention": 8, "attribute": 2, "entity": 7, "relation": 7, "record": 1}
    )


def test_the_score_of_a_record_is_its_probability() -> None:
    scored = replace(GOLD, mentions=tuple(replace(m, score=0.9) for m in GOLD.mentions))
    raw = [f.score for f in findings(GOLD, scored, SCHEMA) if f.part == "record"]
    confidence = Confidence({RECORDS: (1.0, -1.0)})
    sure = [f.score for f in findings(GOLD, scored, SCHEMA, confidence) if f.part == "record"]
    assert len(raw) == 1
    assert sure[0] == pytest.approx(1 / (1 + np.exp(1) * (1 - raw[0]) / raw[0]))


def test_a_shorter_mention_is_a_boundary_error_and_what_hangs_on_it_follows() -> None:
    end = GOLD.text.index(" nephritis")
    predicted = changed("lupus nephritis", end=end)
    errors = {finding.label: finding for finding in wrong(predicted)}
    assert errors.keys() == {"mention: boundary", "relation: wrong argument", "record: wrong"}
    boundary = errors["mention: boundary"]
    assert (boundary.gold, boundary.predicted, boundary.type) == ("lupus nephritis", "lupus", "INDICATION")
    assert errors["relation: wrong argument"].follows == errors["record: wrong"].follows == "boundary"


def test_another_type_on_the_same_words_is_a_type_error_that_names_both() -> None:
    plain = replace(GOLD, relations=())
    predicted = replace(changed("CD19", type="DRUG"), relations=())
    (error,) = wrong(predicted, plain)
    assert (error.label, error.gold, error.predicted) == ("mention: type", "TARGET: CD19", "DRUG: CD19")


def test_what_only_one_side_has_is_missed_or_spurious() -> None:
    expected = Counter({"mention: missed": 1, "relation: missed": 1})
    assert labels(without("g1")) == expected
    other = Counter({label.replace("missed", "spurious"): n for label, n in expected.items()})
    assert labels(GOLD, without("g1")) == other
    assert {finding.follows for finding in wrong(without("g1")) if finding.part == "relation"} == {"missed"}


def test_a_wrong_value_is_an_error_of_its_attribute_from_which_the_record_follows() -> None:
    predicted = changed("accepted", attributes={"event_type": "acceptance", "status": "expected"})
    attribute, record = wrong(predicted)
    assert (attribute.label, attribute.gold, attribute.predicted) == ("attribute: status", "occurred", "expected")
    assert (record.label, record.follows) == ("record: wrong", "status")
    assert (record.gold, record.predicted) == tuple(
        f"ACM-101 · acceptance · {status} · lupus nephritis" for status in ("occurred", "expected")
    )


def test_an_entity_in_pieces_is_split_and_two_in_one_are_merged() -> None:
    predicted = changed("ACM-101", 1, entity="other")
    (error,) = wrong(predicted)
    assert (error.label, error.gold, error.predicted) == (
        "entity: split", "ACM-101 (2)", "ACM-101 (1) | ACM-101 (1)",
    )  # fmt: skip
    assert labels(GOLD, predicted)["entity: merged"] == 1


@pytest.mark.parametrize(
    ("relations", "expected"),
    [
        ([], {"relation: missed": 1}),
        ([Relation("treats", "d1", "i2", 0.7)], {"relation: wrong argument": 1}),
        ([Relation("treats", "d1", "i1"), Relation("treats", "d1", "i2")], {"relation: spurious": 1}),
        ([Relation("treats", "d2", "i2")], {"relation: missed": 1, "relation: spurious": 1}),
    ],
)
def test_relations_of_right_entities_are_errors_of_their_own(
    relations: list[Relation], expected: dict[str, int]
) -> None:
    text = "A1 B2 gout lupus"
    spans = [("d1", "DRUG", 0, 2), ("d2", "DRUG", 3, 5), ("i1", "INDICATION", 6, 10), ("i2", "INDICATION", 11, 16)]
    gold = Document("a", text, tuple(Mention(a, b, t, e) for e, t, a, b in spans), (Relation("treats", "d1", "i1"),))
    predicted = replace(gold, relations=tuple(relations))
    assert labels(predicted, gold) == Counter(expected)
    assert {finding.follows for finding in wrong(predicted, gold)} == {""}


def test_a_record_with_right_entities_follows_from_its_relation() -> None:
    predicted = replace(GOLD, relations=tuple(r for r in GOLD.relations if r.type != "event_indication"))
    (record,) = [finding for finding in wrong(predicted) if finding.part == "record"]
    assert (record.follows, record.predicted) == ("relation", "ACM-101 · acceptance · occurred · –")


def test_places_are_those_of_the_nearest_mentions() -> None:
    predicted = replace(GOLD, relations=tuple(r for r in GOLD.relations if r.type != "targets"))
    (error,) = wrong(predicted)
    assert [GOLD.text[a:b] for a, b in error.places] == ["ACM-101", "CD19"]
    assert error.places[0][0] == GOLD.text.rindex("ACM-101")


@pytest.mark.parametrize(
    "predicted",
    [
        GOLD,
        without("d1"),
        without("e1", "o2"),
        changed("lupus nephritis", type="TARGET", entity="x"),
        changed("ACM-101", 0, entity="x"),
        changed("accepted", attributes={"event_type": "approval", "status": "expected"}),
        Document("acme", GOLD.text),
    ],
)
@pytest.mark.parametrize("swap", [False, True])
def test_errors_add_up_to_the_counts_of_the_evaluation(predicted: Document, swap: bool) -> None:
    first, second = GOLD, predicted
    if swap:
        first, second = second, first
    add_up(first, second, SCHEMA)


@pytest.mark.parametrize(
    ("gold", "predicted"),
    [(binding(), binding(first=False)), (binding(), both_ways()), (both_ways(), binding(first=False))],
)
def test_a_relation_without_direction_is_right_either_way_round(gold: Document, predicted: Document) -> None:
    assert [finding for finding in wrong(predicted, gold, BIORED) if finding.part == "relation"] == []
    add_up(gold, predicted, BIORED)


def test_a_wrong_argument_is_found_either_way_round_too() -> None:
    mentions = tuple(Mention(i, i + 1, "GeneOrGeneProduct", entity) for i, entity in ((0, "a"), (2, "b"), (4, "c")))
    gold = Document("x", "A B C", mentions, (Relation("Association", "a", "b"),))
    predicted = replace(gold, relations=(Relation("Association", "b", "c"),))
    (error,) = wrong(predicted, gold, BIORED)
    assert (error.label, error.gold, error.predicted) == ("relation: wrong argument", "A → B", "B → C")
    add_up(gold, predicted, BIORED)


def add_up(gold: Document, predicted: Document, schema: Schema) -> None:
    """Errors and evaluation count the same."""
    scores = evaluate([gold], [predicted], schema)
    found = findings(gold, predicted, schema)
    for part, counts in {
        "mention": scores.mentions.micro, "relation": scores.relations.micro, "record": scores.records,
    }.items():  # fmt: skip
        errors = Counter(finding.error for finding in found if finding.part == part)
        confused = sum(n for error, n in errors.items() if error not in ("", "missed", "spurious"))
        assert counts == Counts(errors[""], errors["spurious"] + confused, errors["missed"] + confused), part
