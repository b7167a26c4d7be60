"""Speeds: what is measured of training, and what stands in the file of figures and on the page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from pharmatriples.arguments import TrainingConfig, TrainingError
from pharmatriples.documents import write_jsonl
from pharmatriples.speed_table import SpeedError, keep
from pharmatriples.speed_training import measure
from tiny import ROOT, acme, tiny_encoder_dir

EXAMPLE, OURS = "transformers' example, fp32", "pharmatriples, fp32"
PART = {"what": "Reading, tokens a second", "base": "stock", "rates": {"stock": [1000.0, 2000.0], "ours": [3000.0] * 2}}


def test_training_is_measured_beside_the_example_in_each_round(tmp_path: Path) -> None:
    tiny_encoder_dir(tmp_path / "encoder")
    splits = ["train"] * 3 + ["validation"]
    write_jsonl((replace(acme(), id=f"d{i}", split=split) for i, split in enumerate(splits)), tmp_path / "data.jsonl")
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
