"""The model card: its blocks come from figures, and the figures from the model and the data that are here."""

from __future__ import annotations

import json
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pharmatriples.arguments import load_config
from pharmatriples.blocks import replace_block
from pharmatriples.card import (
    CardError,
    blocks,
    documents_digest,
    examples,
    model_figures,
    read_figures,
    run_digest,
    update_page,
)
from pharmatriples.confidence import Confidence
from pharmatriples.dataset import read_documents
from pharmatriples.documents import Document, write_jsonl
from pharmatriples.labelstudio import task_from_document
from pharmatriples.loading import load
from pharmatriples.runs import read_splits, run_record
from tiny import ROOT, SCHEMA, acme, tiny_model_dir

MAIN = runpy.run_path(str(ROOT / "scripts" / "evaluate.py"))["main"]
CARD = ROOT / "benchmarks" / "card.json"
RECORD = {
    "config": {"encoder": "a/b", "encoder_layers": 4, "seed": 3},
    "schema": "{}",
    "data_sha256": "d",
    "precision": "fp32",
    "threads": 3,
    "history": [{"seconds": 7.0}, {"seconds": 36.0}],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_model_dir(tmp_path_factory.mktemp("model"))
    (folder / "training.json").write_text(json.dumps(RECORD))
    return folder


@pytest.fixture
def page(tmp_path: Path) -> Path:
    names = ("one", "two", "types", "calibration", "cost", "failures")
    path = tmp_path / "CARD.md"
    path.write_text("".join(f"{n}\n<!-- evaluation:{n} -->\n<!-- /evaluation:{n} -->\nend of {n}\n" for n in names))
    return path


def block(page: Path, name: str) -> list[str]:
    inside = page.read_text().partition(f"<!-- evaluation:{name} -->\n")[2]
    return inside.partition(f"<!-- /evaluation:{name} -->")[0].splitlines()


def run(model: Path, page: Path, name: str, *options: str) -> int:
    data = page.parent / "data.jsonl"
    write_jsonl([acme(), replace(acme(), id="b")], data)
    figures = ["--figures", str(page.parent / "card.json")]
    return int(MAIN([str(model), str(data), "--name", name, *figures, *options, "--update-card", str(page)]))


class TestScript:
    def test_each_set_has_its_block_and_the_others_are_over_all_sets(self, model: Path, page: Path) -> None:
        assert run(model, page, "one", "--examples") == run(model, page, "two") == 0
        overall = block(page, "one")
        assert overall[0] == "|  | precision | recall | F1 | tp | fp | fn |"
        assert {line.count("|") for line in overall} == {8}
        assert [line.split(" | ")[0] for line in overall[2:]] == [
            "| mentions, strict", "| mentions, relaxed", "| mentions, words (seqeval)", "| event type", "| status",
            "| entities, B-cubed", "| entities, B-cubed, end to end", "| relations", "| records",
        ]  # fmt: skip
        types = block(page, "types")
        assert types[0] == "| F1 (number annotated) | one | two |"
        (drug,) = (line for line in types if line.startswith("| mentions: DRUG"))
        assert drug.count("(4)") == 2
        assert block(page, "calibration")[0] == "|  | one | two |"
        cost = "\n".join(block(page, "cost"))
        assert "| encoder | `a/b`, its lowest 4 layers |" in cost
        assert "| training | 36 s in fp32 with 3 threads: 0.03 hours of one; " in cost
        assert "energy was not metered" in cost
        assert len(block(page, "failures")) > 2
        assert page.read_text().count("end of") == 6

    @pytest.mark.parametrize("name", ["quality", "speed", "types", "calibration", "cost", "failures"])
    def test_the_name_of_another_block_is_refused(self, model: Path, page: Path, name: str, capsys: Any) -> None:
        before = page.read_text()
        assert run(model, page, name) == 2
        assert f"{name!r} is the name of another block" in capsys.readouterr().err
        assert page.read_text() == before

    def test_a_page_that_cannot_be_read_is_told_before_the_work(self, model: Path, tmp_path: Path, capsys: Any) -> None:
        assert run(model, tmp_path / "none.md", "one") == 2
        assert "none.md" in capsys.readouterr().err
        assert not (tmp_path / "card.json").exists()

    def test_half_a_surrogate_pair_in_an_example_spoils_no_file(self, model: Path, page: Path) -> None:
        text = acme().text
        for m in acme().mentions:
            text = f"{text[: m.end - 1]}\ud800{text[m.end :]}"
        document = replace(acme(), text=text)
        data, figures = page.parent / "half.jsonl", page.parent / "card.json"
        write_jsonl([document], data)
        options = ["--name", "one", "--examples", "--figures", str(figures), "--update-card", str(page)]
        assert MAIN([str(model), str(data), *options]) == 0
        assert "\\ud800" in figures.read_text()
        assert read_figures(figures)["sets"]["one"]["examples"]

    def test_a_model_that_does_not_tell_its_threads_has_seconds_alone(self, page: Path, tmp_path: Path) -> None:
        older = tiny_model_dir(tmp_path / "older")
        (older / "training.json").write_text(json.dumps({k: v for k, v in RECORD.items() if k != "threads"}))
        assert run(older, page, "one") == 0
        assert "| training | 36 s in fp32; energy was not metered |" in block(page, "cost")

    def test_the_figures_of_another_model_do_not_stay(self, model: Path, page: Path, tmp_path: Path) -> None:
        assert run(model, page, "one") == 0
        other = tiny_model_dir(tmp_path / "other", seed=5)
        (other / "training.json").write_text(json.dumps(RECORD))
        assert run(other, page, "two") == 0
        assert block(page, "types")[0] == "| F1 (number annotated) | two |"
        assert list(read_figures(tmp_path / "card.json")["sets"]) == ["two"]
        (other / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes())
        assert run(other, page, "one") == 0
        assert list(read_figures(tmp_path / "card.json")["sets"]) == ["one"]

    def test_where_nothing_is_kept_nothing_is_written(self, page: Path, tmp_path: Path, capsys: Any) -> None:
        new = tiny_model_dir(tmp_path / "new")
        (new / "training.json").write_text(json.dumps(RECORD))
        task = task_from_document(acme(), SCHEMA)
        task["annotations"][0]["result"][0]["value"]["labels"] = ["UNKNOWN"]
        (tmp_path / "bad.json").write_text(json.dumps([task]))
        before, figures = page.read_text(), tmp_path / "card.json"
        assert MAIN([str(new), str(tmp_path / "bad.json"), "--figures", str(figures), "--update-card", str(page)]) == 2
        assert f"evaluate: {new}: no figures are kept there, so no page is renewed" in capsys.readouterr().err
        assert (page.read_text(), figures.exists()) == (before, False)

    def test_what_cannot_be_written_is_one_line(
        self, model: Path, page: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        bare = tiny_model_dir(tmp_path / "bare")
        for text in ("", "[1]", '{"config": {}, "schema": "", "data_sha256": ""}'):
            (bare / "training.json").write_text(text)
            assert run(bare, page, "one") == 2
        (bare / "training.json").unlink()
        assert run(bare, page, "one") == 2
        assert capsys.readouterr().err.splitlines()[-1].startswith(f"evaluate: {bare}: does not tell how its model was")
        page.write_text("no block")
        assert run(model, page, "one") == 2
        assert "has no block for one" in capsys.readouterr().err
        with pytest.raises(SystemExit):
            run(model, page, "one", "--gold-mentions")


class TestExamples:
    def test_they_are_the_most_confident_errors_that_follow_from_no_other(self) -> None:
        def odd(id_: str, score: float) -> Document:
            mentions = [replace(m, type="DRUG", score=score) if m.type == "TARGET" else m for m in acme().mentions]
            return replace(acme(), id=id_, mentions=tuple(mentions), relations=())

        gold = [replace(acme(), id=id_, relations=()) for id_ in "abc"]
        predicted = [odd("a", 0.5), odd("b", 0.9), odd("c", 0.7)]
        chosen = examples(gold, predicted, SCHEMA, Confidence())
        assert [(e["group"], e["document"], e["count"]) for e in chosen] == [
            ("mention: type", "b", 3), ("mention: type", "c", 3),
        ]  # fmt: skip
        assert "CD19" in chosen[0]["annotated"]

    def test_a_cell_stays_one_cell(self) -> None:
        found = {"group": "g", "count": 1, "document": "x|\ny", "annotated": "a|b\nc", "predicted": ""}
        figures = {"model": _MODEL, "sets": {"one": _SET | {"examples": [found]}}}
        assert blocks(figures)["failures"].splitlines()[-1] == "| g | 1 | x\\| y | a\\|b c | – |"


class TestShippedFigures:
    """The pages of this repository: a change of the data, the schema or the configuration makes them stale."""

    FIGURES = read_figures(CARD)

    @pytest.mark.parametrize("name", ["README.md", "MODEL_CARD.md"])
    def test_the_page_says_what_the_figures_say(self, name: str, tmp_path: Path) -> None:
        page = (ROOT / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(page, encoding="utf-8")
        assert {"test", "real", "seeds"} <= set(update_page(tmp_path / name, self.FIGURES))
        assert (tmp_path / name).read_text(encoding="utf-8") == page
        table = (ROOT / "benchmarks" / "quality.md").read_text(encoding="utf-8").rstrip()
        assert replace_block(page, "quality", table) == page

    def test_the_model_was_trained_by_the_demo_configuration_on_the_data_that_is_here(self) -> None:
        config = load_config(ROOT / "configs" / "demo.yaml")
        config = replace(config, data=str(ROOT / config.data), schema=str(ROOT / config.schema))
        record = run_record(config, *read_splits(config))
        record["config"] |= {"data": "data/releases.json", "schema": "configs/schema.yaml"}
        assert run_digest(record) == self.FIGURES["model"]["run_sha256"], (
            "configs/demo.yaml, configs/schema.yaml or data/ changed since; run make demo, then scripts/evaluate.py "
            "with --update-card on each set"
        )

    @pytest.mark.parametrize(
        ("name", "file", "split"), [("test", "data/releases.json", "test"), ("seeds", "seeds/gold.json", None)]
    )
    def test_it_was_scored_on_the_documents_that_are_here(self, name: str, file: str, split: str | None) -> None:
        documents = read_documents(str(ROOT / file), SCHEMA, split)
        assert self.FIGURES["sets"][name]["documents_sha256"] == documents_digest(documents)
        assert documents_digest(documents[::-1]) == documents_digest(documents) != documents_digest(documents[1:])


def test_figures_of_a_model_tell_its_size(model: Path) -> None:
    loaded = load(model).model
    found = model_figures(model, loaded)
    assert found["parameters"] == sum(p.numel() for p in loaded.parameters())
    assert found["bytes"] == (model / "model.safetensors").stat().st_size
    assert (found["encoder"], found["seed"], found["training_seconds"]) == ("a/b", 3, 36.0)


def test_a_file_that_holds_something_else_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"model": 3}')
    for name in ("x.json", "y.json"):
        with pytest.raises(CardError, match=rf"{name}: .*no figures"):
            read_figures(tmp_path / name)


def test_what_was_not_calibrated_has_no_error() -> None:
    one, two = {**_SET, "calibration": {"mentions": 0.25}}, _SET
    lines = blocks({"model": _MODEL, "sets": {"one": one, "two": two}})["calibration"].splitlines()
    assert lines[2:] == ["| mentions | 0.250 | – |"]


_COUNTS = {"precision": 0.0, "recall": 0.0, "f1": 0.0, "tp": 0, "fp": 0, "fn": 0}
_PART = {"micro": _COUNTS}
_SET = {
    "characters": 1,
    "seconds": 1.0,
    "calibration": {},
    "scores": {
        **dict.fromkeys(("mentions", "mentions_relaxed", "relations"), _PART),
        **dict.fromkeys(("mentions_seqeval", "entities", "entities_end_to_end", "records"), _COUNTS),
        "attributes": {},
    },
}
_MODEL = {
    "parameters": 1, "bytes": 1, "encoder": "e", "machine": "m", "torch": "2", "threads": 1, "training_seconds": None,
}  # fmt: skip
