"""Speeds: what is measured of training, and what stands in the file of figures and on the page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from pharmatriples.arguments import TrainingConfig, TrainingError
from pharmatriples.documents import write_jsonl
from pharmatriples.loading import load
from pharmatriples.onnx_export import export
from pharmatriples.speed_inference import STEPS, STOCK, startup, stock
from pharmatriples.speed_inference import measure as measure_inference
from pharmatriples.speed_scaling import measure as measure_scaling
from pharmatriples.speed_scaling import plot
from pharmatriples.speed_table import SpeedError, keep, summary
from pharmatriples.speed_training import measure
from tiny import ROOT, acme, copies, tiny_encoder_dir, tiny_model_dir
from transformers import BertConfig, BertModel

EXAMPLE, OURS = "transformers' example, fp32", "pharmatriples, fp32"
PART = {"what": "Reading, tokens a second", "base": "stock", "rates": {"stock": [1000.0, 2000.0], "ours": [3000.0] * 2}}


def test_training_is_measured_beside_the_example_in_each_round(tmp_path: Path) -> None:
    tiny_encoder_dir(tmp_path / "encoder")
    splits = ["train"] * 3 + ["validation"]
    write_jsonl(copies(splits), tmp_path / "data.jsonl")
    config = TrainingConfig(
        output_dir=str(tmp_path / "none"),
        data=str(tmp_path / "data.jsonl"),
        schema=str(ROOT / "configs" / "schema.yaml"),
        encoder=str(tmp_path / "encoder"),
        window=64,
        stride=16,
        batch_size=2,
        precision="fp32",
    )
    found = measure(config, rounds=1)
    assert found["base"] == EXAMPLE
    assert {name: len(rates) for name, rates in found["rates"].items()} == {EXAMPLE: 1, OURS: 1}
    assert not (tmp_path / "none").exists()
    cut = measure(replace(config, encoder_layers=1), rounds=1)
    assert (cut["base"], list(cut["rates"])) == (EXAMPLE, [OURS, EXAMPLE, "transformers' example, 1 layers, fp32"])
    with pytest.raises(TrainingError, match="encoder '.*nowhere' cannot be loaded"):
        measure(replace(config, encoder=str(tmp_path / "nowhere")), rounds=1)


def test_a_part_takes_the_place_of_its_earlier_figures_and_the_others_stay(tmp_path: Path) -> None:
    keep(tmp_path, {"reading": PART, "writing": {**PART, "what": "Writing"}}, "python a.py reading writing")
    page = keep(tmp_path, {"reading": {**PART, "rates": {"stock": [1.0], "ours": [5.0]}}}, "python a.py reading")
    assert (tmp_path / "speed.md").read_text() == page
    assert page.index("Reading") < page.index("Writing")
    assert "| ours | 5 | 5.00 x (5.00–5.00) |" in page
    assert "| stock | 1,500 | 1 |\n| ours | 3,000 | 2.25 x (1.50–3.00) |" in page
    figures = json.loads((tmp_path / "speed.json").read_text())
    assert [part["command"] for part in figures.values()] == ["python a.py reading", "python a.py reading writing"]
    assert figures["reading"]["machine"]["cores"] > 0
    assert "torch" in figures["reading"]["machine"]["versions"]


def test_a_file_of_other_figures_is_named_and_stays(tmp_path: Path) -> None:
    (tmp_path / "speed.json").write_text('{"reading": 3}')
    with pytest.raises(SpeedError, match="speed.json: holds no figures of this command"):
        keep(tmp_path, {"writing": PART}, "")
    assert (tmp_path / "speed.json").read_text() == '{"reading": 3}'


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_model_dir(tmp_path_factory.mktemp("speed") / "run")
    export(folder)
    return folder


def test_inference_is_measured_beside_the_pipeline_with_what_the_results_share(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = measure_inference(run, [acme().text, "NMPA accepted ACM-101."], rounds=2)
    assert found["base"] == STOCK
    assert {"torch, fp32", "torch, fp32, one text at a time", "onnx, fp32"} < set(found["rates"])
    assert found["columns"]["mentions as one by one"]["torch, fp32"] == "100.0 %, scores within 0.0000"
    assert "not measured: " in capsys.readouterr().err  # int8, which this export does not have
    (shares,) = found["shares"].values()
    assert list(shares) == list(STEPS)
    assert sum(shares.values()) == pytest.approx(1, abs=0.01)
    page = keep(tmp_path, {"inference": found}, "")
    assert "|  | median | times transformers' pipeline, entities only | mentions as one by one |" in page
    assert "on one thread: tokenise " in page


def test_the_pipeline_reads_with_the_whole_encoder_and_with_the_layers_that_a_model_keeps(tmp_path: Path) -> None:
    tiny_encoder_dir(tmp_path / "encoder")
    run = tiny_model_dir(tmp_path / "run")
    own = stock(load(run)).model.config.num_hidden_layers
    config = json.loads((tmp_path / "encoder" / "config.json").read_text())
    BertModel(BertConfig(**(config | {"num_hidden_layers": own + 1}))).save_pretrained(tmp_path / "encoder")
    (run / "training.json").write_text(json.dumps({"config": {"encoder": str(tmp_path / "encoder")}}))
    assert stock(load(run), run).model.config.num_hidden_layers == own + 1
    rates = measure_inference(run, [acme().text], rounds=1)["rates"]
    assert list(rates)[:2] == [STOCK, f"{STOCK}, {own} layers"]


def test_a_start_is_a_whole_process_with_its_result(run: Path, tmp_path: Path) -> None:
    text = tmp_path / "acme.txt"
    text.write_text(acme().text)
    found = startup(run, text, rounds=1)
    assert {name: len(rates) for name, rates in found["rates"].items()} == dict.fromkeys(found["rates"], 1)
    assert " s | 1 |" in keep(tmp_path, {"startup": found}, "")


def test_growth_is_measured_in_the_length_and_in_the_number_of_texts(run: Path, tmp_path: Path) -> None:
    found = measure_scaling(run, [acme().text] * 9, "onnx", [50, 400], [3])
    assert [row[:2] for row in found["rows"]] == [["one text", 50], ["one text", 400], ["texts of 300", 900]]
    assert all(row[3] > 0 for row in found["rows"])  # characters a second
    plot(found["rows"], tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")
    page = keep(tmp_path, {"scaling": {**found, "plot": "growth.png"}}, "")
    assert "| texts of 300 | 900 | " in page
    assert "![Cost as the work grows (onnx)](growth.png)" in page
    with pytest.raises(ValueError, match="no ONNX export"):
        measure_scaling(tiny_model_dir(tmp_path / "bare"), ["a"], "onnx", [1], [])


def test_the_readme_has_the_figures_that_were_measured() -> None:
    table = summary(ROOT / "benchmarks")
    assert {"inference", "startup", "scaling", "training"} == set(
        json.loads((ROOT / "benchmarks/speed.json").read_text())
    )
    assert f"<!-- evaluation:speed -->\n{table}\n<!-- /evaluation:speed -->" in (ROOT / "README.md").read_text()
