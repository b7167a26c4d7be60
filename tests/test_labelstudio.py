from __future__ import annotations

import copy
import json
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from exports import ACCEPTED, BARE, RELEASE, ROOT, SCHEMA, TEXT, arrow, at, count_of, items, same, span, task
from hypothesis import HealthCheck, given, settings
from pharmatriples.annotators import policy
from pharmatriples.documents import Document, DocumentError, Mention, Relation
from pharmatriples.import_report import ReadError
from pharmatriples.labelstudio import (
    LabelStudioError,
    export_text,
    labeling_config,
    read_export,
    read_tasks,
    task_from_document,
    write_export,
)
from pharmatriples.labelstudio_result import entity_of, region_id
from pharmatriples.schema import Schema
from strategies import documents_of


def read_one(result: list[Any]) -> tuple[Document, list[str]]:
    """The document of a result, and what was not simply kept, as `outcome kind: reason`."""
    documents, report = read_export([task(result)], SCHEMA)
    assert len(report.items) == 2 + len(result)
    return documents[0], [f"{i.outcome} {i.kind}: {i.reason}" for i in report.items if i.outcome != "kept"]


# --- the labeling configuration


def test_the_configuration_names_everything_of_the_schema() -> None:
    view = ElementTree.fromstring(labeling_config(SCHEMA))
    labels = view.findall("Labels[@name='label']/Label")
    assert [label.get("value") for label in labels] == list(SCHEMA.entities)
    assert len({label.get("background") for label in labels}) == len(labels)
    assert [r.get("value") for r in view.findall("Relations/Relation")] == [*SCHEMA.relations, SCHEMA.alias]
    for name, values in SCHEMA.attributes["EVENT"].items():
        choices = view.find(f".//Choices[@name='{name}']")
        assert choices is not None
        assert (choices.get("perRegion"), choices.get("whenLabelValue")) == ("true", "EVENT")
        assert [choice.get("value") for choice in choices] == list(values)


def test_choices_stand_above_the_text() -> None:
    tags = [element.tag for element in ElementTree.fromstring(labeling_config(SCHEMA)).iter()]
    assert max(place for place, tag in enumerate(tags) if tag == "Choices") < tags.index("Text")


def test_a_schema_without_relations_or_attributes_has_a_configuration_too() -> None:
    plain = Schema.from_dict({"name": "n", "version": 1, "entities": {"A": "", "B": ""}})
    assert [e.tag for e in ElementTree.fromstring(labeling_config(plain))] == ["Labels", "Text"]


def test_descriptions_are_escaped() -> None:
    schema = Schema.from_dict({"name": "n", "version": 1, "entities": {"A": 'less < "than" & more'}})
    label = ElementTree.fromstring(labeling_config(schema)).find("Labels/Label")
    assert label is not None
    assert label.get("hint") == 'less < "than" & more'


# --- documents to tasks


def test_a_task_has_data_regions_choices_and_arrows() -> None:
    made = task_from_document(RELEASE, SCHEMA)
    assert made["data"] == {"id": "acme", "text": TEXT, "group": "g", "source": "s", "split": "train"}
    result = made["annotations"][0]["result"]
    assert result[:4] == [
        *span("o2·1", at("NMPA"), "ORGANIZATION"),
        *span("e1·1", at("accepts"), "EVENT", event_type="acceptance", status="occurred"),
    ]
    assert arrow("o2·2", "o2·1", "alias_of") in result
    assert arrow("e1·2", "e1·1", "alias_of") in result


def test_a_relation_is_one_arrow_between_the_nearest_mentions() -> None:
    arrows = [item for item in items() if item["type"] == "relation" and item["labels"] != ["alias_of"]]
    assert arrows == [
        arrow("d1·2", "g1·1", "targets"),
        arrow("e1·1", "d1·1", "event_drug"),
        arrow("e1·2", "o2·2", "event_organization"),
    ]


def test_a_prediction_carries_scores_and_version() -> None:
    mentions = (
        Mention(*at("ACM-101"), "DRUG", "d1", score=0.5),
        Mention(*at("CD19"), "TARGET", "g1", score=1.0),
    )
    document = Document("p", TEXT, mentions, (Relation("targets", "d1", "g1", score=0.25),))
    made = task_from_document(document, SCHEMA, as_="predictions", model_version="m-1")
    (prediction,) = made["predictions"]
    assert "annotations" not in made
    assert (prediction["model_version"], prediction["score"]) == ("m-1", 0.75)
    assert [item["score"] for item in prediction["result"]] == [0.5, 1.0, 0.25]


def test_a_bare_task_has_data_alone() -> None:
    assert task_from_document(Document("x", "A text."), SCHEMA, as_=None) == {"data": {"id": "x", "text": "A text."}}


def test_a_document_that_does_not_fit_the_schema_is_not_sent() -> None:
    with pytest.raises(DocumentError, match=r"document 'x'.*'GENE'"):
        task_from_document(Document("x", "abc", (Mention(0, 1, "GENE", "a"),)), SCHEMA)


# --- the round trip


def round_trip(document: Document, schema: Schema) -> Document:
    text = export_text([task_from_document(document, schema)])
    documents, report = read_export(json.loads(text), schema)
    assert {item.outcome for item in report.items} == {"kept"}
    return documents[0]


def test_every_annotated_release_comes_back_as_it_was() -> None:
    for name in ("data/releases.json", "seeds/gold.json"):
        documents, report = read_export(ROOT / name, SCHEMA)
        assert documents
        assert {item.outcome for item in report.items} == {"kept"}
        for document in documents:
            assert same(round_trip(document, SCHEMA), document)


@settings(deadline=None, max_examples=1500, suppress_health_check=list(HealthCheck))
@given(documents_of(SCHEMA))
def test_any_document_comes_back_as_it_was(document: Document) -> None:
    assert same(round_trip(document, SCHEMA), document)


@settings(deadline=None, max_examples=500, suppress_health_check=list(HealthCheck))
@given(documents_of(BARE))
def test_entities_come_back_where_the_schema_has_no_alias(document: Document) -> None:
    assert same(round_trip(document, BARE), document)


# --- entities


def test_a_drawn_region_joins_the_entity_of_its_wording() -> None:
    document, notes = read_one(
        [*span("d1·1", at("ACM-101"), "DRUG"), *span("kX3", at("ACM-101", 2), "DRUG"), *span("q", at("CD19"), "TARGET")]
    )
    assert [m.entity for m in document.mentions] == ["d1", "d1", "TARGET-1"]
    assert notes == []


def test_drawn_regions_of_one_wording_are_one_entity_without_any_arrow() -> None:
    document, _ = read_one([*span("a", at("NMPA"), "ORGANIZATION"), *span("b", at("NMPA", 2), "ORGANIZATION")])
    assert [m.entity for m in document.mentions] == ["ORGANIZATION-1", "ORGANIZATION-1"]


def test_drawn_occurrences_of_one_wording_stay_apart() -> None:
    text = "accepted and accepted"
    drawn = span("a", (0, 8), "EVENT", **ACCEPTED) + span("b", (13, 21), "EVENT", **ACCEPTED)
    made = {"data": {"id": "x", "text": text}, "annotations": [{"result": drawn}]}
    (document,) = read_export([made], SCHEMA).documents
    assert [m.entity for m in document.mentions] == ["EVENT-1", "EVENT-2"]


def test_regions_of_our_own_are_not_joined_by_wording() -> None:
    document, _ = read_one([*span("d1·1", at("ACM-101"), "DRUG"), *span("d2·1", at("ACM-101", 2), "DRUG")])
    assert [m.entity for m in document.mentions] == ["d1", "d2"]


def test_an_arrow_is_stronger_than_the_wording() -> None:
    drawn = [
        *span("o1·1", at("NMPA"), "ORGANIZATION"),
        *span("o2·1", at("Acme"), "ORGANIZATION"),
        *span("x", at("NMPA", 2), "ORGANIZATION"),
        arrow("x", "o2·1", "alias_of"),
    ]
    assert [m.entity for m in read_one(drawn)[0].mentions] == ["o1", "o2", "o2"]


def test_drawn_names_of_one_thing_join_one_entity_and_never_two() -> None:
    drawn = [
        *span("o1·1", at("NMPA"), "ORGANIZATION"),
        *span("o2·1", at("ACM-101"), "ORGANIZATION"),
        *span("x", at("NMPA", 2), "ORGANIZATION"),
        *span("y", at("ACM-101", 2), "ORGANIZATION"),
        arrow("y", "x", "alias_of", direction="left"),
    ]
    assert [m.entity for m in read_one(drawn)[0].mentions] == ["o1", "o2", "o1", "o1"]


def test_an_entity_whose_arrow_was_taken_away_becomes_two() -> None:
    without = [item for item in items() if item != arrow("o2·2", "o2·1", "alias_of")]
    document, _ = read_one(without)
    assert [m.entity for m in document.mentions if m.type == "ORGANIZATION"] == ["o2", "ORGANIZATION-1", "o1"]
    assert Relation("event_organization", "e1", "ORGANIZATION-1") in document.relations


def test_an_entity_stays_one_where_a_mention_in_its_middle_is_drawn_again() -> None:
    release = replace(
        RELEASE,
        text=f"{TEXT} ACM-101.",
        mentions=(*RELEASE.mentions, Mention(len(TEXT) + 1, len(TEXT) + 8, "DRUG", "d1")),
    )
    # With the region the browser takes its arrows away.
    left = [item for item in items(release) if "d1·2" not in (item.get("id"), item.get("from_id"), item.get("to_id"))]
    for drawn in ([], span("kX3", at("ACM-101", 2), "DRUG")):
        made = {"data": {"id": "x", "text": release.text}, "annotations": [{"result": left + drawn}]}
        (document,) = read_export([made], SCHEMA).documents
        assert {m.entity for m in document.mentions if m.type == "DRUG"} == {"d1"}


def test_what_is_marked_in_another_text_is_refused() -> None:
    other = span("t", at("CD19"), "TARGET")
    document, notes = read_one([*items(), *[item | {"to_name": "title"} for item in other]])
    assert document == read_one(items())[0]
    assert notes == [
        "refused region: marks 'title'; what is marked must be called 'text' in the labeling configuration"
    ]


def test_a_later_change_makes_an_annotation_the_latest() -> None:
    old = {"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-03-01T00:00:00Z"}
    new = {"created_at": "2026-02-01T00:00:00Z", "updated_at": "2026-02-01T00:00:00Z"}
    annotations = [{"result": items(), "completed_by": 1, **old}, {"result": [], "completed_by": 2, **new}]
    made = {"data": {"id": "acme", "text": TEXT}, "annotations": annotations}
    (document,) = read_export([made], SCHEMA, policy("latest", SCHEMA)).documents
    assert len(document.mentions) == len(RELEASE.mentions)


def test_entities_joined_by_an_arrow_take_the_name_of_the_first() -> None:
    document, _ = read_one([*items(), arrow("o1·1", "o2·1", "alias_of")])
    assert [m.entity for m in document.mentions if m.type == "ORGANIZATION"] == ["o2", "o2", "o2"]


def test_a_fresh_name_is_never_a_name_in_use() -> None:
    drawn = [*span("x", at("NMPA"), "ORGANIZATION"), *span("ORGANIZATION-1·1", at("Acme"), "ORGANIZATION")]
    assert [m.entity for m in read_one(drawn)[0].mentions] == ["ORGANIZATION-2", "ORGANIZATION-1"]


@pytest.mark.parametrize(
    ("entity", "region"),
    [("o1", "o1·1"), ("DRUG-1", "DRUG-1·1"), ("", "·1"), ("a b.c#", "a·20·b·2e·c·23··1"), ("·1", "·b7·1·1")],
)
def test_region_ids_are_safe_in_the_browser_and_lead_back(entity: str, region: str) -> None:
    assert region_id(entity, 1) == region
    assert entity_of(region) == entity


@pytest.mark.parametrize("region", ["kX3_-aB9Zq", "o1-1", "o1.1", "o1·0", "o1·x", "a b·1", "·110000··1", "", "#3"])
def test_other_region_ids_were_drawn_by_a_person(region: str) -> None:
    assert entity_of(region) is None


# --- relations


@pytest.mark.parametrize(
    ("ends", "direction", "notes"),
    [
        (("e", "d"), "right", []),
        (("e", "d"), None, []),
        (("d", "e"), "left", []),
        (("d", "e"), "right", ["repaired relation: turned round: event_drug joins EVENT -> DRUG"]),
        (("e", "d"), "left", ["repaired relation: turned round: event_drug joins EVENT -> DRUG"]),
        (("d", "e"), "bi", ["repaired relation: drawn both ways: event_drug joins EVENT -> DRUG"]),
    ],
)
def test_the_direction_of_an_arrow_is_read(ends: tuple[str, str], direction: str | None, notes: list[str]) -> None:
    drawn = [*span("e", at("accepts"), "EVENT", **ACCEPTED), *span("d", at("ACM-101"), "DRUG")]
    document, found = read_one([*drawn, arrow(*ends, "event_drug", direction=direction)])
    assert document.relations == (Relation("event_drug", "EVENT-1", "DRUG-1"),)
    assert found == notes


def test_an_arrow_both_ways_within_one_type_is_two_relations() -> None:
    drawn = [
        *span("a", at("NMPA"), "GENE"),
        *span("b", at("CD19"), "GENE"),
        arrow("a", "b", "regulates", direction="bi"),
    ]
    (document,) = read_export([task(drawn)], BARE).documents
    assert document.relations == (Relation("regulates", "GENE-1", "GENE-2"), Relation("regulates", "GENE-2", "GENE-1"))


def test_arrows_that_say_the_same_of_two_mentions_are_one_relation() -> None:
    document, notes = read_one([*items(), arrow("e1·2", "d1·2", "event_drug")])
    assert [r for r in document.relations if r.type == "event_drug"] == [Relation("event_drug", "e1", "d1")]
    assert notes == []


def test_an_arrow_without_label_takes_the_only_one_that_fits() -> None:
    drawn = [*span("d", at("ACM-101"), "DRUG"), *span("g", at("CD19"), "TARGET"), arrow("d", "g")]
    document, notes = read_one(drawn)
    assert document.relations == (Relation("targets", "DRUG-1", "TARGET-1"),)
    assert notes == ["repaired relation: without label; only targets fits DRUG and TARGET"]


# --- what is refused, or mended


def changed(place: int, **values: Any) -> Callable[[list[dict[str, Any]]], None]:
    def change(result: list[dict[str, Any]]) -> None:
        result[place]["value"] |= values

    return change


REGION, TYPE, STATUS, DRUG = 1, 2, 3, 4  # places in items(): "accepts" with its two choices, "ACM-101"


@pytest.mark.parametrize(
    ("change", "notes"),
    [
        (changed(0, labels=["GENE"]), ["refused region: label 'GENE' is none of DRUG, TARGET"]),
        (changed(0, labels=["DRUG", "TARGET"]), ["refused region: more than one label: DRUG, TARGET"]),
        (changed(0, labels=[]), ["refused region: without label"]),
        (changed(0, start=4, end=4), ["refused region: the span is empty, inverted or outside the text of 98"]),
        (changed(0, start=4, end=0), ["refused region: the span is empty, inverted or outside"]),
        (changed(0, end=1000), ["refused region: the span is empty, inverted or outside"]),
        (changed(0, start=-1), ["refused region: the span is empty, inverted or outside"]),
        (changed(0, start="0"), ["refused region: offsets must be whole numbers, found '0' and 4"]),
        (changed(0, start=None), ["refused region: offsets must be whole numbers"]),
        (
            changed(TYPE, choices=["lunch"]),
            [
                "refused region: EVENT without event_type",
                "refused choice: event_type 'lunch' is none of trial_clearance",
                "refused choice: EVENT without event_type",
            ],
        ),
        (
            changed(STATUS, choices=["occurred", "expected"]),
            [
                "refused region: EVENT without status",
                "refused choice: EVENT without status",
                "refused choice: more than one value of status: occurred, expected",
            ],
        ),
        (lambda r: r.pop(TYPE), ["refused region: EVENT without event_type", "refused choice: EVENT without event_t"]),
        (lambda r: r.pop(REGION), ["refused choice: its region 'e1·1' is not in the annotation"] * 2),
        (
            lambda r: r[REGION].update(type="choices"),
            ["refused choice: its region 'e1·1' is not in the annotation"] * 3,
        ),
        (
            lambda r: r.append({**r[STATUS], "value": {**r[STATUS]["value"], "choices": ["expected"]}}),
            ["refused choice: status 'expected' contradicts 'occurred' of the same region"],
        ),
        (lambda r: r.append(copy.deepcopy(r[STATUS])), ["repaired choice: stands twice; merged"]),
        (lambda r: r.append(copy.deepcopy(r[REGION])), ["repaired region: stands twice; merged"]),
        (
            lambda r: r.append({**r[STATUS], "id": "d1·1"}),
            ["refused choice: DRUG carries no attribute 'status'"],
        ),
        (
            lambda r: r.append({**r[STATUS], "from_name": "mood"}),
            ["refused choice: EVENT carries no attribute 'mood'"],
        ),
        (
            lambda r: r.append({**r[DRUG], "value": {**r[DRUG]["value"], "labels": ["TARGET"]}}),
            ["refused region: another span or label of the same", "refused region: region 'd1·1' is DRUG at [19, 26)"],
        ),
        (
            lambda r: r.extend(span("z", at("ACM-101"), "DRUG")),
            ["repaired region: double of region 'd1·1'; merged"],
        ),
        (
            lambda r: r.extend(span("z", at("accepts"), "EVENT", event_type="launch", status="occurred")),
            ["refused region: contradicts region 'e1·1'"] + ["refused choice: contradicts region 'e1·1'"] * 2,
        ),
        (lambda r: r.extend(span("z", at("-101"), "DRUG")), ["refused region: overlaps the longer 'd1·1' at [19, 26)"]),
        (lambda r: r.append(arrow("e1·1", "d1·1", "cures")), ["refused relation: relation 'cures' is none of targets"]),
        (lambda r: r.append(arrow("e1·1", "gone", "event_drug")), ["refused relation: its region 'gone' is not in"]),
        (
            lambda r: r.append(arrow("o1·1", "g1·1", "targets")),
            ["refused relation: targets joins DRUG -> TARGET, found ORGANIZATION and TARGET"],
        ),
        (
            lambda r: r.append(arrow("o1·1", "g1·1", "alias_of")),
            ["refused relation: alias_of joins mentions of one type"],
        ),
        (
            lambda r: r.append(arrow("o1·1", "o1·1", "alias_of")),
            ["repaired relation: alias_of from a mention to itself"],
        ),
        (lambda r: r.append(arrow("o1·1", "g1·1")), ["refused relation: without label, and none fits"]),
        (
            lambda r: r.append(arrow("e1·1", "d1·1", "event_drug", direction="up")),
            ["refused relation: direction 'up' is none of right, left, bi"],
        ),
        (
            lambda r: r.append(arrow("e1·1", "d1·1", "event_drug", "event_date")),
            ["refused relation: more than one label: event_drug, event_date"],
        ),
        (
            lambda r: r.append({"type": "rating", "value": {"rating": 5}}),
            ["refused other: a result holds spans, choices"],
        ),
        (lambda r: r.append(None), ["refused other: a result holds spans, choices and relations, found None"]),
    ],
)
def test_what_is_wrong_is_said_and_the_rest_is_kept(change: Callable[[list[Any]], Any], notes: list[str]) -> None:
    once = [
        m for number, m in enumerate(RELEASE.mentions) if m.entity not in {n.entity for n in RELEASE.mentions[:number]}
    ]
    result = items(replace(RELEASE, mentions=tuple(once), relations=()))
    change(result)
    document, found = read_one(result)
    assert len(found) == len(notes), found
    assert all(note.startswith(expected) for note, expected in zip(found, notes, strict=True)), found
    assert Mention(*at("CD19"), "TARGET", "g1") in document.mentions
    document.check(SCHEMA)


def test_of_overlapping_spans_the_longer_stays_and_what_hung_on_the_other_is_named() -> None:
    drawn = [
        *span("short", at("an anti-CD19"), "TARGET"),
        *span("long", at("anti-CD19 antibody"), "DRUG"),
        arrow("long", "short", "targets"),
    ]
    document, notes = read_one(drawn)
    assert [document.wording(m) for m in document.mentions] == ["anti-CD19 antibody"]
    assert notes == [
        "refused region: overlaps the longer 'long' at [73, 91)",
        "refused relation: its region 'short' is refused",
    ]


def test_a_double_that_has_the_missing_choice_completes_its_twin() -> None:
    drawn = span("a", at("accepts"), "EVENT", status="occurred") + span("b", at("accepts"), "EVENT", **ACCEPTED)
    document, notes = read_one(drawn)
    assert [m.attributes for m in document.mentions] == [ACCEPTED]
    assert Counter(note.split(":")[0] for note in notes) == {"repaired region": 1, "repaired choice": 2}


def test_the_report_names_task_region_text_and_offsets() -> None:
    result = items()
    result[0]["value"]["labels"] = ["GENE"]
    report = read_export([task(result)], SCHEMA).report
    item = report.of("refused")[0]
    assert (item.task, item.annotation, item.region, item.start, item.end, item.text) == (
        "acme",
        1,
        "o2·1",
        0,
        4,
        "NMPA",
    )
    assert "refused region: task 'acme', annotation 1, o2·1 [0, 4) 'NMPA': label 'GENE'" in str(report)
    assert json.loads(json.dumps(report.to_dict()))["counts"]["region"] == {
        "kept": 8,
        "repaired": 0,
        "refused": 1,
        "ignored": 0,
    }
    assert len(report.to_dict()["items"]) == count_of([task(result)])
    with pytest.raises(ReadError, match=r"task 'acme'.*o2·1 \[0, 4\) 'NMPA'"):
        report.check()


def test_a_text_that_was_edited_under_its_spans_is_told() -> None:
    result = items()
    for item in result:
        if item["type"] == "labels":
            item["value"]["text"] = TEXT[item["value"]["start"] : item["value"]["end"]]
    assert read_export([task(result)], SCHEMA).report.warnings == []
    edited = task(result)
    edited["data"]["text"] = "Today: " + TEXT
    report = read_export([edited], SCHEMA).report
    (line,) = report.warnings
    assert line.startswith("warning: task 'acme': ")
    assert line in str(report)


def test_an_annotation_of_which_no_span_is_left_is_told() -> None:
    result = items()
    for item in result:
        if item["type"] == "labels":
            item["value"]["labels"] = ["GENE"]
    report = read_export([task(result)], SCHEMA).report
    (line,) = report.warnings
    assert line.startswith("warning: every span of 1 annotations is refused, of 'acme'; ")
    assert line in str(report)
    several = task(result)
    several["annotations"] = [{"result": items(), "completed_by": 3}, {"result": result, "completed_by": 4}]
    assert len(read_export([several], SCHEMA).report.warnings) == 1
    several["annotations"] = [{"result": items(), "completed_by": 3}, {"result": [], "completed_by": 4}]
    assert read_export([several], SCHEMA).report.warnings == []


def test_what_was_passed_over_is_listed_where_nothing_else_is_there() -> None:
    report = read_export([{**task([]), "annotations": []}], SCHEMA).report
    assert report.documents == 0
    assert "ignored task: task 'acme': " in str(report)


def test_a_clean_report_passes_its_check() -> None:
    report = read_export([task(items())], SCHEMA).report
    assert report.check() is report


# --- tasks and annotators


def test_each_annotator_is_a_document_of_one_group() -> None:
    several = task([])
    several["annotations"] = [
        {"result": items(), "completed_by": 3},
        {"result": [], "completed_by": {"id": 4, "email": "b@x.org"}},
        {"result": [], "completed_by": 3},
    ]
    documents, report = read_export([several], SCHEMA)
    assert [(d.id, d.group, len(d.mentions)) for d in documents] == [
        ("acme@3", "acme", 9),
        ("acme@b@x.org", "acme", 0),
        ("acme@3-3", "acme", 0),
    ]
    assert len(report.items) == count_of([several])


def test_skipped_and_unannotated_tasks_give_no_document_and_are_counted() -> None:
    skipped = {**task([], "skipped"), "annotations": [{"result": items(), "was_cancelled": True}]}
    untouched = {
        "data": {"id": "untouched", "text": "x"},
        "drafts": [{"result": []}],
        "predictions": [7, {"result": []}],
    }
    documents, report = read_export([skipped, untouched, task([], "negative")], SCHEMA)
    assert [(d.id, d.mentions) for d in documents] == [("negative", ())]
    assert report.counts["task"] == {"kept": 1, "repaired": 0, "refused": 0, "ignored": 2}
    assert report.counts["region"]["ignored"] == 9
    assert (report.counts["draft"]["ignored"], report.counts["prediction"]["ignored"]) == (1, 2)
    assert len(report.items) == count_of([skipped, untouched, task([])])
    report.check()


def test_a_skipped_annotation_beside_a_real_one_does_not_make_two_annotators() -> None:
    both = {**task([]), "annotations": [{"result": [], "was_cancelled": True}, {"result": items()}]}
    (document,) = read_export([both], SCHEMA).documents
    assert (document.id, len(document.mentions)) == ("acme", 9)


def test_a_task_without_id_is_named_after_the_servers_id() -> None:
    made = {"id": 17, "data": {"text": "x"}, "annotations": [{"result": []}]}
    assert read_export([made], SCHEMA).documents[0].id == "task-17"


@pytest.mark.parametrize(
    ("damaged", "reason"),
    [
        (7, "must be an object"),
        ({"data": {"id": "acme"}, "annotations": [{"result": items()}]}, "must be an object whose 'data' has a 'text'"),
        ({"data": {"id": "acme", "text": TEXT, "split": "dev"}}, "split 'dev' is none of train, validation, test"),
        ({"data": {"id": "acme", "text": TEXT, "group": 3}}, "'group' must be a text"),
        ({"data": {"id": "acme", "text": TEXT}, "annotations": {}}, None),
        ({"data": {"id": "acme", "text": TEXT}, "annotations": 5}, "'annotations' must be a list"),
        ({"data": {"id": "acme", "text": TEXT}, "annotations": ["x"]}, "must be an object, found 'x'"),
        ({"data": {"id": "acme", "text": TEXT}, "annotations": [{"result": "x"}]}, "'result' must be a list"),
        (task([], "other"), "document 'other' stood in an earlier task"),
    ],
)
def test_a_damaged_task_is_refused_with_everything_in_it(damaged: Any, reason: str | None) -> None:
    documents, report = read_export([task([], "other"), damaged], SCHEMA)
    assert [d.id for d in documents] == ["other"]
    assert len(report.items) == count_of([task([]), damaged])
    if reason is not None:
        assert reason in report.of("refused")[0].reason


# --- files


def test_all_shapes_of_a_file_are_read(tmp_path: Path) -> None:
    one, two = task(items()), task([], "two")
    shapes = {
        "list": json.dumps([one, two]),
        "lines": json.dumps(one) + "\r\n\n" + json.dumps(two),
        "bom": "\ufeff" + json.dumps([one, two], indent=2),
    }
    for name, text in shapes.items():
        path = tmp_path / name
        path.write_bytes(text.encode("utf-8"))
        assert read_tasks(path) == [one, two], name
    path.write_text(json.dumps(one, indent=1))
    assert read_tasks(path) == [one]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"x.json:1: not a JSON export"),
        (b'[\n{"data": {}},\n{"data": {"text": "a}\n]', r"x.json:3: not a JSON export: .*column"),
        (b'{"data": {}}\n{"data": {\n', r"x.json:2: not a JSON export"),
        (b'{"data": \xff}', r"x.json: not UTF-8 text .*byte 9"),
        (b"[" * 100_000, r"x.json.*not a JSON export"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(LabelStudioError, match=message):
        read_export(tmp_path / "x.json", SCHEMA)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabelStudioError, match=r"gone.json: cannot be read: No such file"):
        read_export(tmp_path / "gone.json", SCHEMA)


def server_export() -> list[dict[str, Any]]:
    """What a server makes of RELEASE and two more tasks."""
    result = [{**item, "origin": "prediction", "score": 0.4, "parentID": None} for item in reversed(items())]
    for item in result:
        if "value" in item:
            item["value"] = {**item["value"], "text": "collapsed"}
    first = {
        **{
            "id": 9,
            "data": {"text": TEXT, "id": "acme", "title": "kept"},
            "created_at": "2025-01-01",
            "total_annotations": 1,
        },
        "annotations": [
            {"id": 5, "result": [], "completed_by": 2, "was_cancelled": True, "ground_truth": False},
            {
                "id": 4,
                "result": result,
                "completed_by": 1,
                "lead_time": 3.5,
                "ground_truth": False,
                "was_cancelled": False,
            },
        ],
        **{"drafts": [{"id": 1}], "predictions": [3], "updated_by": 1, "meta": {}},
    }
    return [first, {"id": 8, "data": {"text": "x"}, "annotations": []}, {"id": 7, "data": {"text": "y", "id": "a"}}]


def test_the_committed_form_keeps_what_is_annotated_and_nothing_that_changes() -> None:
    lines = export_text(server_export()).splitlines()
    assert (lines[0], lines[-1], len(lines)) == ("[", "]", 5)
    tasks = json.loads("\n".join(lines))
    assert tasks[0] == {"data": {"id": "a", "text": "y"}}
    assert tasks[2] == {"data": {"id": "task-8", "text": "x"}}
    assert tasks[1]["data"] == {"id": "acme", "text": TEXT, "title": "kept"}
    done, skipped = tasks[1]["annotations"]
    assert skipped == {"result": [], "ground_truth": False, "was_cancelled": True}
    assert done.keys() == {"result", "ground_truth"}
    assert len(done["result"]) == len(items())
    assert all(item in done["result"] for item in items())
    assert [item["type"] for item in done["result"][:4]] == ["labels", "labels", "choices", "choices"]
    document = read_export(tasks, SCHEMA).documents[0]
    assert same(document, replace(RELEASE, group="", source="", split=None))


def test_the_committed_form_leaves_the_first_of_doubles_first() -> None:
    region = {"to_name": "text", "from_name": "label", "type": "labels"}
    region["value"] = {"start": 0, "end": 1, "labels": ["DRUG"]}
    for result in ([{**region, "id": "e·1"}, {**region, "added": 1}], [{**region, "id": "u"}, {**region, "id": "e·1"}]):
        exported = [{"data": {"id": "d", "text": "0"}, "annotations": [{"result": result}]}]
        (document,), _ = read_export(exported, SCHEMA)
        (again,), _ = read_export(json.loads(export_text(exported)), SCHEMA)
        assert again.mentions == document.mentions


def committed(tasks: list[Any]) -> list[Any]:
    found: list[Any] = json.loads(export_text(tasks))
    return found


def assert_committed_reads_the_same(tasks: list[Any], name: str = "all") -> None:
    """Under a policy the committed form gives the same documents and report; relations and items in any order."""
    documents, report = read_export(tasks, SCHEMA, policy(name, SCHEMA))
    again, reported = read_export(committed(tasks), SCHEMA, policy(name, SCHEMA))
    assert [d.id for d in again] == [d.id for d in documents], name
    assert all(same(*both) for both in zip(again, documents, strict=True)), name
    assert Counter(reported.items) == Counter(report.items), name


NO_RESULT: list[Any] = [{"result": None}, {"result": "x"}, {"result": {}}, {}, "x", None]


@pytest.mark.parametrize("annotation", NO_RESULT)
def test_the_committed_form_of_an_annotation_that_is_refused_is_refused(annotation: Any) -> None:
    for beside in ([], [{"result": items()}]):
        tasks = [{"data": {"id": "acme", "text": TEXT}, "annotations": [annotation, *beside]}]
        assert [item.kind for item in read_export(tasks, SCHEMA).report.of("refused")] == ["annotation"]
        assert_committed_reads_the_same(tasks)
        assert committed(tasks)[0]["annotations"][0] == annotation


@pytest.mark.parametrize("annotations", [5, "x", {"result": []}])
def test_the_committed_form_of_a_task_whose_annotations_are_no_list_is_refused(annotations: Any) -> None:
    tasks = [{"data": {"id": "acme", "text": TEXT}, "annotations": annotations}]
    assert len(read_export(tasks, SCHEMA).report.of("refused")) == 1
    assert_committed_reads_the_same(tasks)


def by(who: str, result: list[Any], day: int = 1, **more: Any) -> dict[str, Any]:
    return {"result": result, "completed_by": {"email": who}, "updated_at": f"2025-01-{day:02}T10:00:00Z", **more}


ALICE, BOB = "alice@x.org", "bob@x.org"
ONE, OTHER = by(ALICE, items(), day=2), by(BOB, [], day=3, ground_truth=True)
SKIPPED = by(BOB, [], was_cancelled=True)


@pytest.mark.parametrize(
    "annotated",
    [
        {"a": [ONE], "b": [ONE, OTHER]},
        {"a": [OTHER], "b": [ONE, OTHER]},
        {"a": [ONE], "b": [OTHER]},
        {"a": [ONE], "b": [{"result": []}]},
        {"a": [ONE], "b": [ONE, by(ALICE, [], day=1)]},
        {"a": [ONE], "b": [SKIPPED, ONE, OTHER], "c": []},
    ],
)
def test_a_policy_chooses_the_same_from_the_committed_form(annotated: dict[str, list[Any]]) -> None:
    tasks = [{"data": {"id": id_, "text": TEXT}, "annotations": given} for id_, given in annotated.items()]
    for name in ("all", "ground_truth", "latest", "agreement", f"by:{ALICE}", f"by:{BOB}"):
        assert_committed_reads_the_same(tasks, name)
    assert export_text(committed(tasks)) == export_text(tasks)


def test_the_committed_form_names_nobody_where_one_annotator_did_each_task_once() -> None:
    tasks = [
        {"data": {"id": "a", "text": TEXT}, "annotations": [ONE, SKIPPED]},
        {**task([], "b"), "annotations": [ONE]},
    ]
    people = [one for made in committed(tasks) for one in made["annotations"]]
    assert [one.keys() & {"completed_by", "updated_at"} for one in people] == [set()] * 3


DRUG_THERE, DATE_THERE = span("b", at("accepts"), "DRUG"), span("a", at("accepts "), "DATE")  # one place when cut
STOP = span("e", at("accepts"), "EVENT", event_type="trial_stop", status="occurred")
LICENSING = span("e", at("accepts"), "EVENT", event_type="licensing")
ELSEWHERE = span("e", at("NMPA"), "EVENT", event_type="licensing")
TORN = [*span("x", at("ACM-101", 2), "DRUG"), *span("x", at("accepts"), "DRUG")]


@pytest.mark.parametrize(
    ("result", "mention"),
    [
        ([*STOP, LICENSING[1]], ("EVENT", "trial_stop")),
        ([STOP[0], STOP[2], LICENSING[1], STOP[1]], ("EVENT", "licensing")),
        ([*STOP, ELSEWHERE[1]], ("EVENT", "trial_stop")),
        ([*DATE_THERE, *DRUG_THERE], ("DATE", None)),
        ([*DRUG_THERE, *DATE_THERE], ("DRUG", None)),
        ([*TORN, *DATE_THERE, *DRUG_THERE], ("DATE", None)),
    ],
)
def test_the_committed_form_leaves_the_first_that_counts_first(
    result: list[Any], mention: tuple[str, str | None]
) -> None:
    tasks = [task(result)]
    (document,) = read_export(tasks, SCHEMA).documents
    assert [(m.type, m.attributes.get("event_type")) for m in document.mentions] == [mention]
    assert read_export(committed(tasks), SCHEMA).documents == [document]
    assert_committed_reads_the_same(tasks)


def test_the_committed_form_does_not_depend_on_the_order_of_the_export() -> None:
    tasks = server_export()
    text = export_text(tasks)
    tasks[0]["annotations"][1]["result"].reverse()
    tasks[0]["annotations"].reverse()
    assert export_text(tasks[::-1]) == text
    assert export_text(json.loads(text)) == text


def test_a_written_export_is_whole_and_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    tasks = [{"data": {"id": "x", "text": "a\ud83d\u2028\r\n\x00é"}, "annotations": [{"result": []}]}]
    write_export(tasks, path)
    assert read_tasks(path) == tasks
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]
    assert "é".encode() in path.read_bytes()


def test_several_relations_of_one_pair_need_their_label_and_a_symmetric_one_is_drawn_either_way() -> None:
    schema = Schema.from_dict(
        {
            "name": "x",
            "version": 1,
            "entities": {"GENE": "", "DRUG": ""},
            "relations": {"hits": [["DRUG", "GENE"], ["GENE", "GENE"]], "misses": ["DRUG", "GENE"]},
            "symmetric": ["hits"],
        }
    )
    document = Document(
        "a",
        "A1 B2 C3",
        (Mention(0, 2, "GENE", "g1"), Mention(3, 5, "GENE", "g2"), Mention(6, 8, "DRUG", "d1")),
        (Relation("hits", "d1", "g1"), Relation("misses", "d1", "g1"), Relation("hits", "g1", "g2")),
    )
    made = task_from_document(document, schema)
    assert set(read_export([made], schema).documents[0].relations) == set(document.relations)
    arrows = [item for item in made["annotations"][0]["result"] if item["type"] == "relation"]
    arrows[2]["direction"] = "bi"
    again = read_export([made], schema)
    assert set(again.documents[0].relations) == set(document.relations)
    assert not again.report.of("repaired", "refused")
    del arrows[0]["labels"]
    (refused,) = read_export([made], schema).report.of("refused")
    assert refused.reason == "without label, and hits or misses fits DRUG and GENE"
