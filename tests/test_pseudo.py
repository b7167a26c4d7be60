"""Self-training: what several models agree on is labelled, and can be trained on."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pharmatriples import Document, load
from pharmatriples.arguments import TrainingConfig, TrainingError
from pharmatriples.confidence import Confidence
from pharmatriples.documents import read_jsonl, write_jsonl
from pharmatriples.pseudo import PseudoError, pseudo_label
from pharmatriples.results import result
from pharmatriples.runs import read_splits
from test_errors import BIORED, binding
from tiny import ROOT, SCHEMA, acme, copies, tiny_model_dir


@dataclass
class Says:
    """A pipeline that finds the same in every text."""

    document: Document
    model: Any = field(default_factory=lambda: SimpleNamespace(schema=SCHEMA))

    def __call__(self, texts: Iterable[str]) -> Iterator[dict[str, Any]]:
        return (result(self.document, Confidence(), 0.0) for _ in texts)


def scored(score: float, without: str = "", document: Document | None = None) -> Document:
    """The release, or another document, as a model finds it, with this score on all of it but a type."""
    document = document or acme()
    mentions = tuple(replace(m, score=score) for m in document.mentions if m.type != without)
    left = {m.entity for m in mentions}
    relations = tuple(replace(r, score=score) for r in document.relations if {r.head, r.tail} <= left)
    return replace(document, mentions=mentions, relations=relations)


def bare(id_: str = "news", text: str = acme().text) -> Document:
    return Document(id_, text)


def test_what_most_models_find_is_kept() -> None:
    models = [Says(scored(0.9)), Says(scored(0.9)), Says(scored(0.9, without="DATE"))]
    (found,), report = pseudo_label(models, [bare()])
    assert (found.id, found.split, found.source) == ("news", "train", "pseudo")
    assert [(m.start, m.end, m.type) for m in found.mentions] == [(m.start, m.end, m.type) for m in acme().mentions]
    assert len(found.relations) == len(acme().relations)
    assert found.mentions[-1].score == pytest.approx(0.6)
    assert (report.texts, report.mentions, report.doubtful) == (1, 8, 0)


def test_a_relation_without_direction_that_most_models_find_is_kept() -> None:
    schema = SimpleNamespace(schema=BIORED)
    models = [Says(scored(0.9, document=document), schema) for document in (binding(), binding(first=False))]
    ((found,), _) = pseudo_label(models, [bare(text=binding().text)])
    (kept,) = found.relations
    assert [m.entity for m in found.mentions] == [kept.head, kept.tail]


def test_a_doubtful_mention_goes_with_what_hangs_on_it() -> None:
    models = [Says(scored(0.9)), Says(scored(0.9)), Says(scored(0.9, without="DATE"))]
    (found,), report = pseudo_label(models, [bare()], confidence=0.7)
    assert {m.type for m in found.mentions} == {m.type for m in acme().mentions} - {"DATE"}
    assert "event_date" not in {r.type for r in found.relations}
    assert report.doubtful == 1


def test_a_text_about_which_the_models_disagree_is_left_out_and_so_is_one_with_nothing_in_it() -> None:
    models = [Says(scored(0.9)), Says(scored(0.9, without="EVENT"))]
    kept, report = pseudo_label(models, [bare()], agreement=0.9)
    assert (kept, report.disagreed) == ([], 1)
    kept, report = pseudo_label([Says(scored(0.3))] * 2, [bare()])
    assert (kept, report.empty) == ([], 1)
    assert "0 kept, 0 left out because the models disagree, 1 because nothing is marked" in str(report)


def test_copies_of_a_text_are_labelled_once() -> None:
    kept, report = pseudo_label([Says(scored(0.9))] * 2, [bare("a"), bare("b")])
    assert len(kept) == report.texts == 1


def test_two_texts_of_one_id_are_refused_before_any_is_labelled() -> None:
    with pytest.raises(PseudoError, match="two texts have the id 'a'"):
        pseudo_label([Says(scored(0.9))] * 2, [bare("a"), replace(bare("a"), text="another")])


def test_one_model_or_models_of_two_schemas_are_refused() -> None:
    with pytest.raises(PseudoError, match="at least two models"):
        pseudo_label([Says(scored(0.9))], [bare()])
    other = Says(scored(0.9), SimpleNamespace(schema=replace(SCHEMA, name="other")))
    with pytest.raises(PseudoError, match="different schemas"):
        pseudo_label([Says(scored(0.9)), other], [bare()])


def test_two_models_label_texts_that_training_then_takes(tmp_path: Path) -> None:
    models = [tiny_model_dir(tmp_path / name, seed=8) for name in ("one", "two")]
    (tmp_path / "news").mkdir()
    (tmp_path / "news" / "first.txt").write_text(acme().text)
    out = tmp_path / "pseudo.jsonl"
    spec = importlib.util.spec_from_file_location("pseudo_script", ROOT / "scripts" / "pseudo_label.py")
    assert spec
    assert spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    arguments = [*map(str, models), str(tmp_path / "news"), "-o", str(out), "--confidence", "0"]
    assert script.main(arguments) == 0
    (labelled,) = read_jsonl(out)
    assert (labelled.id, labelled.split) == ("first", "train")
    assert len(labelled.mentions) == sum(len(e["mentions"]) for e in load(models[0])(acme().text)["entities"])
    assert script.main([*map(str, models), str(tmp_path / "nowhere.txt"), "-o", str(out)]) == 2
    before = out.read_text()
    assert script.main([*arguments[:-1], "1"]) == 1  # nothing is that sure
    assert script.main([*arguments[:3], "-o", str(tmp_path / "no" / "out.jsonl")]) == 2
    for wrong in ("80", "nan", "much"):
        with pytest.raises(SystemExit):
            script.main([*arguments, "--agreement", wrong])
    assert out.read_text() == before

    own = copies(["train"] * 7)[1:]  # the pseudo-labelled text is the first of them
    other = Document("v", "Another company reports that nothing has come of its trial in asthma.", split="validation")
    write_jsonl([*own, other], tmp_path / "data.jsonl")
    config = TrainingConfig(
        output_dir="unused",
        data=str(tmp_path / "data.jsonl"),
        schema=str(ROOT / "configs" / "schema.yaml"),
        pseudo=str(out),
    )
    assert [d.id for d in read_splits(config)[1]["train"]] == [*(f"d{i}" for i in range(1, 7)), "first"]
    for split in ("validation", "test"):
        held_out = replace(acme(), id="first", text=acme().text + " (Updated)", split=split)
        write_jsonl([*own, other, held_out], tmp_path / "data.jsonl")
        with pytest.raises(TrainingError, match=rf"'first' \({split}\) and 'pseudo: first' \(train\) share 9\d%"):
            read_splits(config)
    write_jsonl([*own, other], tmp_path / "data.jsonl")
    parts = [{d.id for d in read_splits(replace(config, pseudo="", train_limit=n))[1]["train"]} for n in (2, 4, 6)]
    assert [len(part) for part in parts] == [2, 4, 6]
    assert parts[0] < parts[1] < parts[2]
