"""Agreement of annotators: the majority, what two agree on, and where they differ. Numbers were counted by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pharmatriples.agreement import AgreementError, majority, pairwise
from pharmatriples.annotators import policy
from pharmatriples.differences import Difference, differences
from pharmatriples.documents import Document, DocumentError, Mention, Relation
from pharmatriples.evaluation import evaluate
from pharmatriples.labelstudio import read_export, task_from_document
from pharmatriples.schema import Schema
from strategies import SCHEMA as SMALL
from strategies import documents
from test_errors import BIORED, binding, both_ways
from tiny import SCHEMA, acme

DRUG, LUPUS, EVENT, CD19 = 3, 4, 2, 6  # places of these mentions in acme()


def changed(document: Document, place: int, **values: object) -> Document:
    mentions = list(document.mentions)
    mentions[place] = replace(mentions[place], **values)  # type: ignore[arg-type]
    return replace(document, mentions=tuple(mentions))


def without(document: Document, *entities: str) -> Document:
    return replace(
        document,
        mentions=tuple(m for m in document.mentions if m.entity not in entities),
        relations=tuple(r for r in document.relations if r.head not in entities and r.tail not in entities),
    )


def unrelated(document: Document, type_: str) -> Document:
    return replace(document, relations=tuple(r for r in document.relations if r.type != type_))


def same(a: Document, b: Document, schema: Schema = SCHEMA) -> bool:
    """Whether two documents say the same, whatever their entities are called."""
    return differences(a, b, schema) == []


BAD_EVENT = changed(acme(), EVENT, attributes={"event_type": "approval", "status": "occurred"})
SHORT_LUPUS = changed(acme(), LUPUS, end=acme().mentions[LUPUS].start + len("lupus"))
OTHER_TYPE = changed(unrelated(acme(), "targets"), CD19, type="DRUG")
CUT = changed(acme(), 5, entity="d2")  # the second ACM-101 is another drug
# NMPA is Acme: one relation of the event to both
JOINED = changed(replace(acme(), relations=acme().relations[:5] + acme().relations[6:]), 1, entity="o1")


# --- differences


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (without(acme(), "g1"), ("mention", "CD19", "TARGET", "")),
        (BAD_EVENT, ("event_type", "accepted", "acceptance", "approval")),
        (SHORT_LUPUS, ("boundary", "lupus nephritis", "INDICATION", "INDICATION 'lupus'")),
        (OTHER_TYPE, ("type", "CD19", "TARGET", "DRUG")),
        (unrelated(acme(), "treats"), ("relation", "ACM-101 -> lupus nephritis", "treats", "")),
        (CUT, ("entity", "ACM-101", "ACM-101 (2)", "ACM-101 (1)")),
        (JOINED, ("entity", "NMPA", "NMPA (1)", "Acme (1) = NMPA (1)")),
    ],
)
def test_each_kind_of_difference_is_told_with_its_place(other: Document, expected: tuple[str, ...]) -> None:
    found = differences(acme(), other, SCHEMA)
    assert [(d.kind, d.text, d.first, d.second) for d in found] == [expected]
    for d in found:
        words = acme().text[d.start : d.end]
        assert words == d.text or all(part in words for part in d.text.split(" -> "))


def test_differences_turned_round_tell_the_same() -> None:
    for other in (without(acme(), "g1"), BAD_EVENT, SHORT_LUPUS, OTHER_TYPE, unrelated(acme(), "treats")):
        turned = [Difference(*d[:4], d.second, d.first) for d in differences(other, acme(), SCHEMA)]
        assert turned == differences(acme(), other, SCHEMA)


def test_mentions_that_overlap_are_told_once_and_others_each() -> None:
    text = "alpha beta gamma delta"
    one = Document("a", text, (Mention(0, 10, "DRUG", "1"), Mention(11, 16, "DRUG", "2")))
    other = Document("a", text, (Mention(6, 16, "TARGET", "1"), Mention(17, 22, "DRUG", "2")))
    assert differences(one, other, SCHEMA) == [
        Difference("type", 0, 16, "alpha beta gamma", "DRUG 'alpha beta'", "TARGET 'beta gamma'"),
        Difference("mention", 11, 16, "gamma", "DRUG", ""),
        Difference("mention", 17, 22, "delta", "", "DRUG"),
    ]


def test_a_relation_without_direction_is_no_difference_either_way_round() -> None:
    (missing,) = differences(binding(), binding(first=False), BIORED)
    assert missing.kind == "mention"
    assert same(binding(), both_ways(), BIORED)
    none = replace(binding(first=False), relations=())
    assert ("relation", "BBB -> AAA") in [(d.kind, d.text) for d in differences(none, binding(first=False), BIORED)]


# --- the majority


def test_the_majority_of_three_keeps_what_two_say() -> None:
    votes = [
        changed(without(acme(), "i1"), EVENT, attributes={"event_type": "approval", "status": "expected"}),
        unrelated(BAD_EVENT, "treats"),
        unrelated(SHORT_LUPUS, "targets"),
    ]
    result = majority(votes, SCHEMA)
    # one of three has the whole indication, and one the short one: neither is kept, nor is what hangs on them
    assert same(result, without(BAD_EVENT, "i1"))
    assert {r.type for r in result.relations} == {"targets", "event_drug", "event_organization", "event_date"}
    assert dict(result.mentions[EVENT].attributes) == {"event_type": "approval", "status": "occurred"}


def test_the_majority_of_two_is_what_both_say_and_the_schema_decides_between_their_values() -> None:
    result = majority([without(acme(), "g1"), BAD_EVENT], SCHEMA)
    assert same(result, without(acme(), "g1"))  # acceptance stands before approval in the schema
    assert same(majority([BAD_EVENT, without(acme(), "g1")], SCHEMA), result)


def test_a_relation_is_kept_whichever_mentions_its_voters_joined() -> None:
    # Two of three join both mentions of the drug; the third relates only the second one.
    result = majority([unrelated(acme(), "targets"), acme(), changed(acme(), 5, entity="d2")], SCHEMA)
    assert result.mentions[DRUG].entity == result.mentions[5].entity
    assert {r.type for r in result.relations} == {r.type for r in acme().relations}


@pytest.mark.parametrize(
    ("voices", "wording"),
    [
        ([binding(), binding(first=False)], "BBB"),
        ([binding(), binding(), binding(first=False)], "AAA"),
        ([binding(), binding(first=False), binding(first=False)], "BBB"),
        ([both_ways()], "AAA"),
    ],
)
def test_a_relation_without_direction_is_kept_whichever_way_round_and_in_the_order_of_the_text(
    voices: list[Document], wording: str
) -> None:
    for order in permutations(voices):
        result = majority(order, BIORED)
        assert [(r.type, r.head) for r in result.relations] == [("Association", result.mentions[0].entity)]
        assert result.wording(result.mentions[0]) == wording


def test_a_relation_without_direction_keeps_the_way_that_its_types_have() -> None:
    mentions = (Mention(0, 3, "GeneOrGeneProduct", "g"), Mention(10, 13, "ChemicalEntity", "c"))
    voice = Document("a", "BBB binds AAA", mentions, (Relation("Association", "c", "g"),))
    (kept,) = majority([voice, voice], BIORED).relations
    assert (kept.head, kept.tail) == ("ChemicalEntity-1", "GeneOrGeneProduct-1")


def test_no_arrow_is_outvoted_for_its_direction() -> None:
    tasks = [task_from_document(document, BIORED) for document in (binding(), binding(), binding(first=False))]
    annotations = [
        task["annotations"][0] | {"completed_by": {"email": f"{who}@example.com"}}
        for who, task in zip(("anna", "ben", "cleo"), tasks, strict=True)
    ]
    _, report = read_export([tasks[0] | {"annotations": annotations}], BIORED, policy("agreement", BIORED))
    assert [(item.kind, item.reason) for item in report.items if item.outcome != "kept"] == []


def test_entities_that_others_join_do_not_relate_to_themselves() -> None:
    def said(*entities: str) -> Document:
        spans = [(0, 3), (10, 13), (18, 21)]
        mentions = tuple(
            Mention(start, end, "GeneOrGeneProduct", entity)
            for (start, end), entity in zip(spans, entities, strict=True)
        )
        relations = (Relation("Association", "a", "b"),) if "b" in entities else ()
        return Document("x", "AAA binds BBB and AAA", mentions, relations)

    result = majority([said("a", "b", "a"), said("a", "a", "a"), said("a", "b", "b")], BIORED)
    assert len({m.entity for m in result.mentions}) == 1
    assert result.relations == ()


def test_joins_are_carried_over() -> None:
    text = "ab ab ab"
    spans = [(0, 2), (3, 5), (6, 8)]

    def grouped(*entities: str) -> Document:
        pairs = zip(spans, entities, strict=True)
        return Document("a", text, tuple(Mention(*span, "DRUG", entity) for span, entity in pairs))

    # 1+2 by the first two, 2+3 by the last two: no one else says 1+3, yet it follows
    for voices in permutations([grouped("x", "x", "y"), grouped("x", "x", "x"), grouped("y", "x", "x")]):
        assert {m.entity for m in majority(voices, SCHEMA).mentions} == {"DRUG-1"}
    apart = majority([grouped("x", "x", "y"), grouped("x", "y", "z"), grouped("y", "x", "x")], SCHEMA)
    assert [m.entity for m in apart.mentions] == ["DRUG-1", "DRUG-2", "DRUG-3"]


def test_those_who_lack_a_mention_do_not_vote_on_its_entity() -> None:
    alone = replace(acme(), mentions=(acme().mentions[DRUG],), relations=())
    result = majority([acme(), acme(), CUT, alone, alone], SCHEMA)
    assert len({m.entity for m in result.mentions if m.type == "DRUG"}) == 1


@given(documents(), st.integers(1, 4))
def test_a_majority_of_one_voice_says_the_same(document: Document, voices: int) -> None:
    result = majority([document] * voices, SMALL)
    assert same(result, document, SMALL)
    assert (result.id, result.group, result.split) == (document.id, document.group, document.split)


@given(documents(), st.data())
def test_a_majority_does_not_depend_on_the_order(document: Document, data: st.DataObject) -> None:
    entities = sorted(document.entities)
    some = st.sets(st.sampled_from(entities)) if entities else st.just(set())
    voices = [without(document, *data.draw(some)) for _ in range(3)]
    results = [majority(order, SMALL) for order in permutations(voices)]
    assert all(result == results[0] for result in results)


def test_voices_that_cannot_be_counted_are_refused() -> None:
    with pytest.raises(AgreementError, match="at least one"):
        majority([], SCHEMA)
    with pytest.raises(AgreementError, match="'acme' and 'b' have different texts"):
        majority([acme(), Document("b", "other")], SCHEMA)
    with pytest.raises(DocumentError, match="entity type 'X'"):
        majority([Document("b", "other", (Mention(0, 2, "X", "x"),))], SCHEMA)


# --- pairs


def test_two_annotators_agree_as_far_as_was_counted() -> None:
    first = [acme(), replace(acme(), id="again")]
    second = [SHORT_LUPUS, replace(without(BAD_EVENT, "t1"), id="again"), replace(acme(), id="alone")]
    report = pairwise({"anna": first, "ben": second}, SCHEMA)
    (pair,) = report.pairs.values()
    assert list(report.pairs) == [("anna", "ben")]
    assert pair == report.micro
    assert pair.tasks == 2
    strict, relaxed = pair.scores.mentions.micro, pair.scores.mentions_relaxed.micro
    assert (strict.tp, strict.fp, strict.fn) == (14, 1, 2)
    assert (relaxed.tp, relaxed.fp, relaxed.fn) == (15, 0, 1)
    assert pair.scores.mentions.labels["INDICATION"].tp == 1
    assert pair.attributes["status"].micro.f1 == 1.0
    assert pair.attributes["event_type"].labels["acceptance"].tp == 1
    assert pair.attributes["event_type"].micro.f1 == 0.5
    # of two mentions one agrees, and by chance half would (1 * 0.5 + 0 * 0.5): kappa is 0
    assert pair.kappa == {"event_type": pytest.approx(0.0), "status": None}
    assert [d.difference.kind for d in report.disagreements] == ["event_type", "mention", "boundary"]


def test_attributes_are_compared_over_the_mentions_that_both_have() -> None:
    report = pairwise({"anna": [acme()], "ben": [without(acme(), "e1")]}, SCHEMA)
    assert report.micro.attributes["event_type"].micro.tp == 0
    assert report.micro.attributes["event_type"].micro.fn == 0
    assert report.micro.scores.attributes["event_type"].micro.fn == 1


def test_three_annotators_make_three_pairs_and_micro_counts_all() -> None:
    read = {"cleo": [acme()], "anna": [acme()], "ben": [without(acme(), "g1")]}
    report = pairwise(read, SCHEMA)
    assert list(report.pairs) == [("anna", "ben"), ("anna", "cleo"), ("ben", "cleo")]
    assert report.pairs["anna", "cleo"].scores.mentions.micro.f1 == 1.0
    assert (report.micro.scores.mentions.micro.tp, report.micro.scores.mentions.micro.fn) == (7 + 8 + 7, 1)
    assert [d.annotators for d in report.disagreements] == [("anna", "ben"), ("ben", "cleo")]


@given(documents(), st.data())
def test_no_difference_is_found_where_all_scores_are_full(document: Document, data: st.DataObject) -> None:
    entities = sorted(document.entities)
    other = without(document, *data.draw(st.sets(st.sampled_from(entities)) if entities else st.just(set())))
    scores = evaluate([document], [other], SMALL)
    counts = [scores.mentions.micro, scores.relations.micro]
    assert same(document, other, SMALL) == (not any(c.fp or c.fn for c in counts))


def test_annotators_who_differ_in_a_direction_that_is_none_agree() -> None:
    report = pairwise({"anna": [binding()], "ben": [binding(first=False)]}, BIORED)
    assert report.micro.scores.relations.micro.f1 == 1.0
    assert [d.difference.kind for d in report.disagreements] == ["mention"]


def test_the_worst_tasks_come_first() -> None:
    worse = replace(unrelated(without(BAD_EVENT, "g1", "t1"), "treats"), id="worse")
    better = replace(without(acme(), "g1"), id="better")
    first = [replace(acme(), id=id_) for id_ in ("better", "equal", "worse")]
    report = pairwise({"anna": first, "ben": [worse, replace(acme(), id="equal"), better]}, SCHEMA)
    assert [d.task for d in report.disagreements] == ["worse"] * 4 + ["better"]
    starts = [d.difference.start for d in report.disagreements[:4]]
    assert starts == sorted(starts)


def test_the_report_is_a_table_and_plain_json() -> None:
    report = pairwise({"anna": [acme()], "ben": [without(BAD_EVENT, "t1")]}, SCHEMA)
    table = report.table()
    assert "mentions, strict            93.3       7       1" in table
    assert "  DATE                       0.0       0       1" in table
    assert "anna and ben, 1 tasks: mentions, strict 93.3; mentions, relaxed 93.3; event type 0.0 (kappa 0.00)" in table
    assert "acme: 2" in table
    assert "  event_type [28, 36) 'accepted' - anna: acceptance, ben: approval" in table
    assert "'May 2025' - anna: DATE, ben: nothing" in table
    assert "... and 1 more" in report.table(limit=1)
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["micro"]["mentions"]["DATE"] == {"f1": 0.0, "both": 0, "one": 1}
    assert plain["pairs"][0]["annotators"] == ["anna", "ben"]
    assert plain["disagreements"][0]["text"] == "accepted"
    assert len(plain["disagreements"]) == 2


def test_a_release_cannot_steer_the_terminal() -> None:
    text = "AB\x1b[2J\n CD"
    marked = Document("a", text, (Mention(0, len(text), "DRUG", "d"),))
    table = pairwise({"x": [marked], "y": [Document("a", text)]}, SCHEMA).table()
    assert "\x1b" not in table
    assert "'AB [2J CD'" in table


def test_what_cannot_be_compared_is_named() -> None:
    with pytest.raises(AgreementError, match="no task has annotations of two"):
        pairwise({"anna": [acme()], "ben": [replace(acme(), id="b")]}, SCHEMA)
    with pytest.raises(AgreementError, match="task 'acme': annotator 'anna' has it twice"):
        pairwise({"anna": [acme(), acme()], "ben": [acme()]}, SCHEMA)
    with pytest.raises(AgreementError, match="task 'acme': 'anna' and 'ben' have different texts"):
        pairwise({"anna": [acme()], "ben": [Document("acme", "other")]}, SCHEMA)


def test_relations_without_an_entity_on_the_other_side_count_but_are_not_listed() -> None:
    report = pairwise({"anna": [acme()], "ben": [without(acme(), "g1")]}, SCHEMA)
    assert report.micro.scores.relations.micro.fn == 1
    assert [d.difference.kind for d in report.disagreements] == ["mention"]
    assert Relation("targets", "d1", "g1") in acme().relations
