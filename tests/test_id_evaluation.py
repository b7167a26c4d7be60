"""Relations between database ids: names to ids, scores, and the whole way from a PubTator file to the figures."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from pharmatriples import Document, Mention, Relation, load
from pharmatriples.arguments import TrainingConfig
from pharmatriples.cli import main as command
from pharmatriples.evaluation import Counts, EvaluationError
from pharmatriples.id_evaluation import annotated_ids, known_names, matched_ids, related_ids, score_ids, table
from pharmatriples.prediction import complete
from pharmatriples.training import train
from test_pubtator import LINES, SCHEMA
from tiny import ROOT, tiny_encoder_dir, tiny_model, tiny_windower

TEXT = "Zolpimine gave pain; zolpimine  again, ZP too, and pain."
DOCUMENT = Document(
    "a",
    TEXT,
    (
        Mention(0, 9, "Chemical", "Chemical:D1"),
        Mention(15, 19, "Disease", "Disease:D5,D6"),
        Mention(21, 30, "Chemical", "Chemical:D1"),
        Mention(39, 41, "Chemical", "Chemical:D2"),
        Mention(51, 55, "Disease", "Disease:D5,D6"),
    ),
    (Relation("induces", "Chemical:D1", "Disease:D5,D6"),),
)


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_wordings_have_the_ids_that_most_of_their_mentions_have() -> None:
    other = replace(DOCUMENT, id="b", mentions=(Mention(39, 41, "Chemical", "Chemical:D1"),), relations=())
    names = known_names([DOCUMENT, other, replace(other, id="c")])
    assert names[("Chemical", "zolpimine")] == ("D1",)
    assert names[("Chemical", "zp")] == ("D1",), "two against one"
    assert names[("Disease", "pain")] == ("D5", "D6")
    assert ("Disease", "zp") not in names


def test_a_predicted_entity_has_the_ids_of_most_of_its_wordings() -> None:
    names = {("Chemical", "zolpimine"): ("D1",), ("Chemical", "zp"): ("D2",)}
    found = Document("a", TEXT, tuple(replace(m, entity=m.type) for m in DOCUMENT.mentions))
    assert matched_ids(found, names) == {"Chemical": ("D1",), "Disease": ()}


def test_a_relation_of_entities_relates_all_their_ids() -> None:
    assert related_ids(DOCUMENT, annotated_ids(DOCUMENT)) == {("induces", "D1", "D5"), ("induces", "D1", "D6")}


def test_ids_are_scored_per_document_and_without_order_where_there_is_none() -> None:
    gold = {"a": {("induces", "D1", "D5"), ("binds", "7", "8")}, "b": {("induces", "D1", "D5")}}
    none: set[tuple[str, str, str]] = set()
    predicted = {
        "a": {("induces", "D5", "D1"), ("binds", "8", "7"), ("binds", "7", "8")},
        "b": none,
    }
    scores = score_ids(gold, predicted, SCHEMA)
    assert scores.labels == {"induces": Counts(0, 1, 2), "binds": Counts(1, 0, 0)}
    assert "induces" in table({"gold mentions": scores})
    with pytest.raises(EvaluationError, match="document 'b' is only annotated"):
        score_ids(gold, {"a": predicted["a"]}, SCHEMA)


def test_relations_are_predicted_between_the_entities_of_the_documents() -> None:
    model = tiny_model(SCHEMA)
    empty = Document("empty", "")
    documents = [DOCUMENT, empty, replace(DOCUMENT, id="b", mentions=(), relations=())]
    sure = list(complete(model, tiny_windower(model), documents, thresholds={"induces": 0.0, "binds": 0.0}))
    assert [(d.id, d.mentions) for d in sure] == [(d.id, d.mentions) for d in documents]
    assert {(r.type, r.head, r.tail) for r in sure[0].relations} == {
        ("induces", chemical, "Disease:D5,D6") for chemical in ("Chemical:D1", "Chemical:D2")
    }
    none = list(complete(model, tiny_windower(model), documents, thresholds={"induces": 1.1, "binds": 1.1}))
    assert all(not d.relations for d in none)


def test_a_symmetric_relation_of_one_type_is_asked_for_once() -> None:
    model = tiny_model(SCHEMA)
    genes = tuple(Mention(a, b, "Gene", f"Gene:{a}") for a, b in ((0, 9), (15, 19), (39, 41)))
    document = replace(DOCUMENT, mentions=genes, relations=())
    (found,) = complete(model, tiny_windower(model), [document], thresholds={"binds": 0.0})
    assert [(r.head, r.tail) for r in found.relations] == [
        ("Gene:0", "Gene:15"),
        ("Gene:0", "Gene:39"),
        ("Gene:15", "Gene:39"),
    ]


def test_a_schema_without_records_goes_from_pubtator_to_training_figures_and_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, ids in (("train", range(8)), ("dev", range(8, 11))):
        # Each a text of its own: near-duplicates would fall into one split.
        text = [[line.replace("caused", f"caus{i:02}").replace("holds", f"hol{i:02}") for line in LINES] for i in ids]
        lines = [line.replace("1", str(i), 1) for i, own in zip(ids, text, strict=True) for line in own]
        (tmp_path / f"{name}.PubTator").write_text("\n".join(lines), encoding="utf-8")
    schema = tmp_path / "schema.yaml"
    schema.write_text(json.dumps(SCHEMA.to_dict()))
    data = tmp_path / "data"
    files = [str(tmp_path / f"{name}.PubTator") for name in ("train", "dev")]
    convert = [files[0], "--validation", files[1], "--schema", str(schema), "-o", str(data)]
    assert script("convert").main(convert) == 0
    assert "train 7, validation 3, test 1" in capsys.readouterr().out
    config = TrainingConfig(
        output_dir=str(tmp_path / "model"),
        data=str(data),
        schema=str(schema),
        encoder=str(tiny_encoder_dir(tmp_path / "encoder")),
        window=32,
        stride=8,
        mention_size=16,
        pair_size=8,
        batch_size=4,
        epochs=2.0,
        precision="fp32",
    )
    metrics = train(config)
    parts = [metrics["eval_mentions_f1"], metrics["eval_relations_f1"]]
    assert metrics["eval_score"] == pytest.approx(sum(parts) / 2), "there are no records to score"
    out = tmp_path / "ids.json"
    assert script("evaluate_ids").main([config.output_dir, files[1], files[0], "--json", str(out)]) == 0
    assert list(json.loads(out.read_text())) == ["gold mentions, gold ids", "end to end, ids by wording"]
    capsys.readouterr()
    assert script("evaluate").main([config.output_dir, files[1]]) == 0
    assert "records" not in capsys.readouterr().out
    assert load(config.output_dir)("Zolpimine gave pain.")["records"] == []
    (tmp_path / "one.txt").write_text("Zolpimine gave pain.")
    for format_ in ("html", "jsonl", "csv", "table"):
        written = tmp_path / f"out.{format_}"
        options = ["--model", config.output_dir, "--format", format_, "-o", str(written)]
        assert command(["extract", str(tmp_path / "one.txt"), *options]) == 0
        assert written.read_text(encoding="utf-8")


def test_a_file_without_database_ids_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tiny import tiny_model_dir

    tiny_model_dir(tmp_path / "model")
    export = str(ROOT / "data" / "releases.json")
    assert script("evaluate_ids").main([str(tmp_path / "model"), export, export]) == 2
    assert "database ids are read from PubTator or BioC" in capsys.readouterr().err
