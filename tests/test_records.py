"""Records: assembled from entities and relations."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date

from pharmatriples import Document, Mention, Relation
from pharmatriples.records import NO_DRUG, NO_INDICATION, dated, record_sources, record_tuples, records
from tiny import acme


def test_a_record_holds_what_the_relations_say() -> None:
    (record,) = records(acme())
    assert record == {
        "drug": "ACM-101",
        "targets": ["CD19"],
        "indications": ["lupus nephritis"],
        "organizations": ["Acme", "NMPA"],
        "dates": ["May 2025"],
        "dates_iso": [{"iso": "2025-05", "precision": "month", "start": "2025-05-01", "end": "2025-05-31"}],
        "event": "acceptance",
        "status": "occurred",
        "trigger": "accepted",
        "score": 1.0,
        "evidence": {"start": 0, "end": 76, "text": acme().text[:76]},
        "entity_ids": {
            "drug": "d1",
            "targets": ["g1"],
            "indications": ["i1"],
            "event": "e1",
            "organizations": ["o1", "o2"],
            "dates": ["t1"],
        },
    }
    assert json.loads(json.dumps(record)) == record


def test_an_event_without_a_drug_is_a_record_without_a_drug_and_targets() -> None:
    document = acme()
    alone = replace(document, relations=tuple(r for r in document.relations if r.type != "event_drug"))
    (record,) = records(alone)
    assert record["drug"] is None
    assert record["targets"] == []
    assert record["indications"] == ["lupus nephritis"]


def test_an_event_of_two_drugs_is_two_records() -> None:
    document = acme()
    second = Mention(105, 106, "DRUG", "d2")
    both = replace(
        document,
        mentions=(*(m for m in document.mentions if m.type != "DATE"), second),
        relations=(*(r for r in document.relations if r.type != "event_date"), Relation("event_drug", "e1", "d2", 0.5)),
    )
    first, other = records(both)
    assert (first["drug"], other["drug"]) == ("ACM-101", "5")
    assert other["targets"] == []
    assert other["score"] == 0.5
    assert record_tuples(both) == [("d1", "acceptance", "occurred", "i1"), ("d2", "acceptance", "occurred", "i1")]


def test_evidence_spans_the_sentences_from_the_trigger_to_the_nearest_mention_of_the_drug() -> None:
    text = "X1 is new. It rains.\nToday it was approved. That is good. X1 helps."
    document = Document(
        id="far",
        text=text,
        mentions=(
            Mention(0, 2, "DRUG", "d1"),
            Mention(34, 42, "EVENT", "e1", {"event_type": "approval", "status": "occurred"}),
            Mention(58, 60, "DRUG", "d1"),
        ),
        relations=(Relation("event_drug", "e1", "d1"),),
    )
    (record,) = records(document)
    assert record["evidence"]["text"] == "Today it was approved. That is good. X1 helps."


def test_an_event_of_blanks_is_its_own_evidence() -> None:
    happened = {"event_type": "approval", "status": "occurred"}
    for text, start in (("Acme approved. \n", 15), ("It rains.  Acme.", 9), ("\n\n", 0)):
        (record,) = records(Document("b", text, (Mention(start, start + 1, "EVENT", "e", happened),)))
        assert record["evidence"] == {"start": start, "end": start + 1, "text": text[start : start + 1]}


def release(text: str, *, status: str, dates: list[str]) -> Document:
    """A release with one event and its date, of which each wording is a mention; a dateline is another date."""
    start = text.index("approv")
    mentions = [Mention(start, start + 8, "EVENT", "e", {"event_type": "approval", "status": status})]
    for wording in dates:
        mentions.append(Mention(text.index(wording), text.index(wording) + len(wording), "DATE", "t"))
    if text.startswith("BASEL, May 2, 2026"):
        mentions.append(Mention(7, 18, "DATE", "dateline"))
    return Document("r", text, tuple(mentions), (Relation("event_date", "e", "t"),))


def iso(document: Document, day: date | None = None) -> str | None:
    (record,) = records(document, day)
    (when,) = record["dates_iso"]
    return when and when["iso"]


def test_a_date_without_a_year_is_read_against_the_day_of_the_release_and_the_status() -> None:
    happened = release("BASEL, May 2, 2026 - X was approved in August.", status="occurred", dates=["August"])
    planned = release("BASEL, May 2, 2026 - X approval is due in August.", status="expected", dates=["August"])
    assert dated(happened) == date(2026, 5, 2)
    assert iso(happened, dated(happened)) == "2025-08"
    assert iso(planned, dated(planned)) == "2026-08"
    assert iso(happened) is None


def test_a_date_takes_its_year_from_another_of_its_mentions() -> None:
    document = release("In December X was approved (on 2/Dec, i.e. Dec. 2025).", status="occurred", dates=["December"])
    both = release("In December X was approved. 2025-12: done.", status="occurred", dates=["December", "2025-12"])
    assert iso(document) is None
    assert iso(both) == "2025-12"
    assert iso(both, date(2027, 1, 1)) == "2025-12"


def test_a_document_of_another_schema_has_no_records() -> None:
    assert records(Document("x", "aspirin", (Mention(0, 7, "Chemical", "c1"),))) == []
    assert records(Document("x", "")) == []


def test_a_prediction_that_leaves_out_drug_or_indication_is_seldom_right() -> None:
    document = replace(acme(), mentions=tuple(replace(m, score=1.0) for m in acme().mentions))

    def score(*left_out: str) -> float:
        kept = tuple(r for r in document.relations if r.type not in left_out)
        return records(replace(document, relations=kept))[0]["score"]

    assert score() == 1.0
    assert score("event_indication") == NO_INDICATION
    assert score("event_drug") == NO_DRUG
    assert score("event_drug", "event_indication") == NO_DRUG * NO_INDICATION


def test_what_the_evaluation_counts_has_the_score_of_its_record() -> None:
    document = acme()
    document = replace(
        document,
        mentions=tuple(replace(m, score=0.9) for m in (*document.mentions[:-1], Mention(105, 106, "INDICATION", "i2"))),
        relations=(
            *(replace(r, score=0.9) for r in document.relations if r.type != "event_date"),
            Relation("event_indication", "e1", "i2", 0.5),
        ),
    )
    shown = {(r["entity_ids"]["drug"], r["entity_ids"]["event"]): r["score"] for r in records(document)}
    counted = record_sources(document)
    assert len(counted) > len(shown)  # an event with two indications counts twice
    assert all(source.score == shown[record.drug, source.entity] for record, source in counted.items())
