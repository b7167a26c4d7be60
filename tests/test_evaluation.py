"""Every number here was counted by hand."""

from __future__ import annotations

import json
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
from pharmatriples.documents import Document, DocumentError, Mention, Relation, write_jsonl
from pharmatriples.evaluation import BCubed, Counts, EvaluationError, Scores, evaluate, stand_ins
from pharmatriples.schema import Schema
from test_errors import BIORED, binding, both_ways
from tiny import ROOT, SCHEMA, tiny_model_dir

APPROVED = {"event_type": "approval", "status": "occurred"}
#       0    5    10   15   20   25   30   35   40   45   50   55   60   65   70
TEXT = "AB1 AB1 AB1 CD2 was approved today for lupus nephritis and for gout, said Acme."


def at(wording: str, type_: str, entity: str, occurrence: int = 0, **attributes: str) -> Mention:
    start = -1
    for _ in range(occurrence + 1):
        start = TEXT.index(wording, start + 1)
    return Mention(start, start + len(wording), type_, entity, attributes)


def document(mentions: list[Mention], relations: list[tuple[str, str, str]] | None = None, id_: str = "a") -> Document:
    return Document(id_, TEXT, tuple(mentions), tuple(Relation(*r) for r in relations or []))


def score(gold: Document, predicted: Document) -> Scores:
    return evaluate([gold], [predicted], SCHEMA)


DRUGS = [at("AB1", "DRUG", "ab", n) for n in range(3)] + [at("CD2", "DRUG", "cd")]
EVENT = at("approved", "EVENT", "e", **APPROVED)
LUPUS = at("lupus nephritis", "INDICATION", "lupus")
GOUT = at("gout", "INDICATION", "gout")
GOLD = document(
    [*DRUGS, EVENT, LUPUS, GOUT, at("Acme", "ORGANIZATION", "acme")],
    [
        ("event_drug", "e", "ab"),
        ("event_indication", "e", "lupus"),
        ("event_indication", "e", "gout"),
        ("event_organization", "e", "acme"),
        ("treats", "ab", "lupus"),
    ],
)


def without(gold: Document, *entities: str) -> Document:
    """The document as a model predicts it that misses these entities."""
    return replace(
        gold,
        mentions=tuple(m for m in gold.mentions if m.entity not in entities),
        relations=tuple(r for r in gold.relations if r.head not in entities and r.tail not in entities),
    )


def renamed(gold: Document, mention: int, entity: str) -> Document:
    mentions = list(gold.mentions)
    mentions[mention] = replace(mentions[mention], entity=entity)
    return replace(gold, mentions=tuple(mentions))


class TestCounts:
    def test_rates_come_from_the_counts(self) -> None:
        counts = Counts(tp=3, fp=1, fn=3)
        assert (counts.precision, counts.recall) == (0.75, 0.5)
        assert counts.f1 == pytest.approx(2 * 3 / (2 * 3 + 1 + 3))

    def test_counts_add_up(self) -> None:
        assert Counts(1, 2, 3) + Counts(10, 20, 30) == Counts(11, 22, 33)

    def test_a_rate_over_nothing_is_zero(self) -> None:
        assert (Counts().precision, Counts().recall, Counts().f1) == (0.0, 0.0, 0.0)


class TestMentions:
    def test_the_gold_document_itself_scores_one_everywhere(self) -> None:
        assert set(score(GOLD, GOLD).flat().values()) == {1.0}

    def test_a_boundary_error_counts_as_false_positive_and_as_false_negative(self) -> None:
        predicted = document([at("lupus", "INDICATION", "x")])
        scores = score(document([LUPUS]), predicted)
        assert scores.mentions.labels["INDICATION"] == Counts(0, 1, 1)
        assert scores.mentions_relaxed.labels["INDICATION"] == Counts(1, 0, 0)
        assert scores.mentions_seqeval == Counts(0, 1, 1)

    def test_another_type_on_the_right_span_is_wrong_strict_and_relaxed(self) -> None:
        scores = score(document([GOUT]), document([at("gout", "TARGET", "x")]))
        for by_type in (scores.mentions, scores.mentions_relaxed):
            assert by_type.labels["INDICATION"] == Counts(0, 0, 1)
            assert by_type.labels["TARGET"] == Counts(0, 1, 0)
            assert by_type.micro == Counts(0, 1, 1)

    def test_pieces_of_one_mention_match_it_once(self) -> None:
        predicted = document([at("lupus", "INDICATION", "x"), at("nephritis", "INDICATION", "x")])
        assert score(document([LUPUS]), predicted).mentions_relaxed.micro == Counts(1, 1, 0)

    def test_relaxed_pairs_are_as_many_as_there_can_be(self) -> None:
        # The long prediction meets both gold mentions, the short one only the second.
        gold = document([at("AB1 AB1", "DRUG", "x"), at("AB1 CD2", "DRUG", "x")])
        predicted = document([at("1 AB1 A", "DRUG", "x"), at("CD2", "DRUG", "x")])
        assert score(gold, predicted).mentions_relaxed.micro == Counts(2, 0, 0)

    def test_touching_mentions_do_not_overlap(self) -> None:
        scores = score(document([at("lupus", "INDICATION", "x")]), document([at(" nephritis", "INDICATION", "x")]))
        assert scores.mentions_relaxed.micro == Counts(0, 1, 1)

    def test_seqeval_sees_two_mentions_that_touch_as_two(self) -> None:
        gold = document([at("AB", "DRUG", "x"), at("1 AB1", "DRUG", "x")])
        assert score(gold, gold).mentions_seqeval == Counts(2, 0, 0)
        assert score(gold, document([at("AB1 AB1", "DRUG", "x")])).mentions_seqeval == Counts(0, 1, 2)

    def test_an_empty_text_counts_nothing(self) -> None:
        empty = Document("a", "")
        assert score(empty, empty).mentions.micro == Counts()

    def test_every_type_of_the_schema_has_its_row_also_where_nothing_is_found(self) -> None:
        scores = score(document([]), document([]))
        assert list(scores.mentions.labels) == list(SCHEMA.entities)
        assert list(scores.relations.labels) == list(SCHEMA.relations)


class TestAttributes:
    def test_a_wrong_value_counts_against_both_values(self) -> None:
        predicted = document([at("approved", "EVENT", "e", event_type="launch", status="occurred")])
        attributes = score(document([EVENT]), predicted).attributes
        assert attributes["event_type"].labels["launch"] == Counts(0, 1, 0)
        assert attributes["event_type"].labels["approval"] == Counts(0, 0, 1)
        assert attributes["event_type"].micro == Counts(0, 1, 1)
        assert attributes["status"].micro == Counts(1, 0, 0)

    def test_the_right_value_on_a_wrong_span_is_wrong(self) -> None:
        predicted = document([at("was approved", "EVENT", "e", **APPROVED)])
        assert score(document([EVENT]), predicted).attributes["status"].micro == Counts(0, 1, 1)


class TestEntities:
    def test_a_split_entity_loses_recall_not_precision(self) -> None:
        # ab = {1, 2, 3}, cd = {4} against {1, 2}, {3}, {4}: recalls 2/3, 2/3, 1/3, 1.
        gold = document(DRUGS)
        entities = score(gold, renamed(gold, 2, "other")).entities
        assert entities.precision == 1.0
        assert entities.recall == pytest.approx((2 / 3 + 2 / 3 + 1 / 3 + 1) / 4)

    def test_merged_entities_lose_precision_not_recall(self) -> None:
        # {1, 2, 3, 4} against {1, 2, 3}, {4}: precisions 3/4 three times, 1/4.
        gold = document(DRUGS)
        entities = score(gold, renamed(gold, 3, "ab")).entities
        assert entities.precision == pytest.approx((3 * 3 / 4 + 1 / 4) / 4)
        assert entities.recall == 1.0

    def test_mentions_that_were_not_found_count_end_to_end_alone(self) -> None:
        # Found: two of the three mentions of ab, and Acme, which is no drug.
        gold = document(DRUGS[:3])
        predicted = document([*DRUGS[:2], at("Acme", "DRUG", "x")])
        scores = score(gold, predicted)
        assert scores.entities == BCubed(2.0, 2, 2.0, 2)
        assert scores.entities_end_to_end == BCubed(2.0, 3, pytest.approx(4 / 3), 3)


class TestRelations:
    def test_a_relation_is_right_through_the_stand_ins_of_its_entities(self) -> None:
        predicted = document([*DRUGS, LUPUS], [("treats", "ab", "lupus"), ("treats", "cd", "lupus")])
        scores = score(document([*DRUGS, LUPUS], [("treats", "ab", "lupus")]), predicted)
        assert scores.relations.labels["treats"] == Counts(1, 1, 0)

    def test_the_pieces_of_a_split_entity_gain_nothing(self) -> None:
        gold = document([*DRUGS[:3], LUPUS], [("treats", "ab", "lupus")])
        pieces = document(
            [replace(m, entity=f"piece-{i}") for i, m in enumerate(DRUGS[:3])] + [LUPUS],
            [("treats", f"piece-{i}", "lupus") for i in range(3)],
        )
        assert score(gold, pieces).relations.micro == Counts(1, 2, 0)

    def test_the_piece_with_most_right_mentions_stands_for_the_entity(self) -> None:
        gold = document(DRUGS)
        assert stand_ins(gold, renamed(gold, 0, "piece")) == {"ab": "ab", "cd": "cd"}
        assert stand_ins(gold, renamed(renamed(gold, 0, "piece"), 1, "piece")) == {"piece": "ab", "cd": "cd"}

    def test_of_equal_pieces_the_first_in_the_text_stands_for_the_entity(self) -> None:
        gold = document(DRUGS[:2])
        assert stand_ins(gold, renamed(gold, 0, "zz")) == {"zz": "ab"}

    def test_an_entity_merged_from_two_stands_for_the_greater(self) -> None:
        gold = document(DRUGS)
        assert stand_ins(gold, renamed(gold, 3, "ab")) == {"ab": "ab"}

    def test_an_entity_without_a_strictly_right_mention_makes_its_relations_wrong(self) -> None:
        gold = document([DRUGS[0], LUPUS], [("treats", "ab", "lupus")])
        predicted = document([DRUGS[0], at("lupus", "INDICATION", "lupus")], [("treats", "ab", "lupus")])
        assert score(gold, predicted).relations.micro == Counts(0, 1, 1)

    def test_relations_of_entities_that_were_missed_are_missed(self) -> None:
        assert score(GOLD, without(GOLD, "ab")).relations.micro == Counts(3, 0, 2)

    @pytest.mark.parametrize("predicted", [binding(first=False), both_ways()])
    def test_a_relation_without_direction_is_right_either_way_round_and_counts_once(self, predicted: Document) -> None:
        assert evaluate([binding()], [predicted], BIORED).relations.micro == Counts(1, 0, 0)


class TestRecords:
    def test_an_event_with_two_indications_gives_two_records(self) -> None:
        assert score(GOLD, GOLD).records == Counts(2, 0, 0)

    def test_a_missed_indication_of_two_misses_one_record(self) -> None:
        assert score(GOLD, without(GOLD, "gout")).records == Counts(1, 0, 1)

    def test_a_record_without_an_indication_is_another_record(self) -> None:
        # Gold has (ab, lupus) and (ab, gout), predicted is (ab, none).
        assert score(GOLD, without(GOLD, "lupus", "gout")).records == Counts(0, 1, 2)

    def test_no_indication_where_gold_has_none_is_right(self) -> None:
        gold = without(GOLD, "lupus", "gout")
        assert score(gold, gold).records == Counts(1, 0, 0)

    def test_an_event_alone_is_a_record_too(self) -> None:
        assert score(document([EVENT]), document([EVENT])).records == Counts(1, 0, 0)

    def test_a_missed_drug_makes_its_records_wrong(self) -> None:
        # Predicted are (none, lupus) and (none, gout).
        assert score(GOLD, without(GOLD, "ab")).records == Counts(0, 2, 2)

    def test_a_drug_that_stands_for_nothing_does_not_pass_for_no_drug(self) -> None:
        gold = document([EVENT])
        predicted = document([EVENT, DRUGS[0]], [("event_drug", "e", "ab")])
        assert score(gold, predicted).records == Counts(0, 1, 1)

    def test_a_wrong_status_makes_the_record_wrong(self) -> None:
        predicted = replace(
            GOLD,
            mentions=tuple(
                replace(m, attributes={**m.attributes, "status": "expected"}) if m.attributes else m
                for m in GOLD.mentions
            ),
        )
        assert score(GOLD, predicted).records == Counts(0, 2, 2)

    def test_the_pieces_of_a_split_drug_gain_nothing(self) -> None:
        gold = document([*DRUGS[:3], EVENT], [("event_drug", "e", "ab")])
        pieces = document(
            [replace(m, entity=f"piece-{i}") for i, m in enumerate(DRUGS[:3])] + [EVENT],
            [("event_drug", "e", f"piece-{i}") for i in range(3)],
        )
        assert score(gold, pieces).records == Counts(1, 2, 0)

    def test_a_schema_without_events_has_no_records(self) -> None:
        schema = Schema.from_dict({"name": "t", "version": 1, "entities": {"Gene": ""}})
        gold = document([at("AB1", "Gene", "g")])
        assert evaluate([gold], [gold], schema).records == Counts()


class TestPairing:
    def test_documents_are_paired_by_id_and_counted_together(self) -> None:
        gold = [document([GOUT], id_="a"), document([LUPUS], id_="b")]
        predicted = [document([], id_="b"), document([GOUT], id_="a")]
        scores = evaluate(gold, predicted, SCHEMA)
        assert scores.mentions.micro == Counts(1, 0, 1)
        assert scores.documents == 2

    @pytest.mark.parametrize(
        ("gold", "predicted", "message"),
        [
            ([document([])], [], "'a': gold, but without a prediction"),
            ([], [document([])], "'a': predicted, but it has no gold"),
            ([document([])], [document([]), document([])], "'a': stands 2 times in the predicted"),
            ([document([])], [Document("a", TEXT + " ")], "'a': the predicted document has another text"),
        ],
    )
    def test_documents_that_do_not_pair_are_named(
        self, gold: list[Document], predicted: list[Document], message: str
    ) -> None:
        with pytest.raises(EvaluationError, match=message):
            evaluate(gold, predicted, SCHEMA)

    def test_a_type_that_the_schema_lacks_is_an_error(self) -> None:
        with pytest.raises(DocumentError, match="'Gene' is none of DRUG"):
            score(document([at("AB1", "Gene", "g")]), document([]))


class TestReports:
    SCORES = score(GOLD, without(GOLD, "gout"))

    def test_json_holds_rates_and_counts_of_each_part(self) -> None:
        data = json.loads(json.dumps(self.SCORES.to_dict()))
        assert data["mentions"]["INDICATION"] == {
            "precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "tp": 1, "fp": 0, "fn": 1,
        }  # fmt: skip
        assert data["mentions"]["micro"]["tp"] == 7
        assert data["attributes"]["event_type"]["approval"]["tp"] == 1
        assert data["records"]["recall"] == 0.5
        assert data["entities_end_to_end"]["gold"] == 8
        assert data["documents"] == 1

    def test_flat_names_what_a_trainer_logs(self) -> None:
        flat = self.SCORES.flat("eval_")
        assert flat["eval_records_f1"] == pytest.approx(2 / 3)
        assert {f"eval_{part}_f1" for part in ("mentions", "event_type", "status", "entities", "relations")} < set(flat)

    def test_the_table_shows_rates_in_per_cent_with_their_counts(self) -> None:
        lines = {line[:32].strip(): line[32:].split() for line in self.SCORES.table().splitlines()}
        assert lines["INDICATION"] == ["100.0", "50.0", "66.7", "1", "0", "1"]
        assert lines["records"] == ["100.0", "50.0", "66.7", "1", "0", "1"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_model_dir(tmp_path_factory.mktemp("model")))


class TestScript:
    """scripts/evaluate.py on a model that knows nothing."""

    MAIN = staticmethod(runpy.run_path(str(ROOT / "scripts" / "evaluate.py"))["main"])

    def test_it_prints_the_table_and_writes_json(
        self, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        data, figures = tmp_path / "data.jsonl", tmp_path / "scores.json"
        write_jsonl([replace(GOLD, split="test"), replace(GOLD, id="b", split="train")], data)
        options = ["--split", "test", "--json", str(figures)]
        assert self.MAIN([model, str(data), *options]) == 0
        printed = capsys.readouterr().out
        told = printed.splitlines()
        end = told.index("1 documents")
        assert [line.split("  ")[0] for line in told[end - 3 : end]] == [
            "relations, same sentence", "relations, across sentences", "relations, across windows",
        ]  # fmt: skip
        assert told[end + 1].startswith("pairs that merely stand together in a sentence: ")
        scores = json.loads(figures.read_text())
        assert scores["relations_by_distance"]["micro"] == scores["relations"]["micro"]
        assert scores["together"].keys() == {"pairs", "joined", "rate"}
        assert 0 <= scores["calibration"]["mentions"]["error"] <= 1
        assert scores["documents"] == 1
        counts = scores["mentions"]["micro"]
        assert counts["tp"] + counts["fn"] == len(GOLD.mentions)

    def test_given_the_mentions_they_are_all_right_and_the_report_is_written(
        self, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        data, figures = tmp_path / "data.jsonl", tmp_path / "scores.json"
        write_jsonl([GOLD], data)
        options = ["--gold-mentions", "--json", str(figures), "--report", str(tmp_path / "report")]
        assert self.MAIN([model, str(data), *options]) == 0
        scores = json.loads(figures.read_text())
        assert scores["mentions"]["micro"]["f1"] == scores["entities_end_to_end"]["f1"] == 1.0
        assert scores["attributes"]["status"]["micro"]["tp"] + scores["attributes"]["status"]["micro"]["fn"] == 1
        printed = capsys.readouterr().out
        assert "mentions and entities were given: their scores say nothing" in printed
        assert printed.endswith(f"report: {tmp_path / 'report' / 'report.html'}\n")
        assert "attribute" in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")

    def test_data_that_is_not_there_is_one_line(self, model: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.MAIN([model, "no.jsonl"]) == 2
        told = capsys.readouterr().err.splitlines()
        assert told[-1].startswith("evaluate: no.jsonl: no such file")
