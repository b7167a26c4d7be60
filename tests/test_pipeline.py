"""The pipeline: the contract of its results, and what it does with unusual input."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import date
from itertools import repeat
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pharmatriples import Document, load
from pharmatriples.confidence import Confidence
from pharmatriples.dates import DateError
from pharmatriples.pipeline import TriplesPipeline
from pharmatriples.results import result
from tiny import SCHEMA, acme, tiny_model_dir
from transformers import AutoModel, AutoTokenizer, pipeline
from transformers.pipelines.pt_utils import KeyDataset

TEXTS = [acme().text[i:] for i in range(0, 90, 3)]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_dir(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def extract(model_dir: Path) -> TriplesPipeline:
    return load(model_dir)


def check(text: str, result: dict) -> None:
    """The guarantees that hold for every text."""
    assert json.loads(json.dumps(result)) == result
    document = Document.from_dict({**result, "id": "x", "text": text}).check(SCHEMA)
    for entity in result["entities"]:
        assert entity["name"] in [m["text"] for m in entity["mentions"]]
        assert all(text[m["start"] : m["end"]] == m["text"] for m in entity["mentions"])
        assert all(0 <= m["score"] <= 1 for m in entity["mentions"])
    for record in result["records"]:
        assert record["evidence"]["text"] == text[record["evidence"]["start"] : record["evidence"]["end"]]
        assert record["entity_ids"]["event"] in document.entities


@pytest.mark.parametrize(
    "text",
    [
        acme().text,
        "",
        " ",
        "😀\r\n👩‍🔬 NMPA\r\n\r\n\taccepted 𝔸\x00 X\u202eabc" * 20,
        "x" * 5000,
        "\ud800 lone \udfff surrogates",
        "国家药品监督管理局受理了 NDA。",
    ],
    ids=["release", "empty", "blank", "signs", "one word", "surrogates", "ideographs"],
)
def test_the_guarantees_hold_for_any_text(extract: TriplesPipeline, text: str) -> None:
    check(text, extract(text))


def test_the_tiny_model_marks_something(extract: TriplesPipeline) -> None:
    """Else the other tests of this file would show nothing."""
    results = extract(TEXTS)
    assert sum(len(r["entities"]) for r in results) > 40
    assert sum(len(r["relations"]) for r in results) > 5


def test_an_empty_text_gives_empty_lists(extract: TriplesPipeline) -> None:
    assert extract("") == {"entities": [], "relations": [], "records": []}


def test_a_release_date_is_given_for_all_texts_or_for_each(
    extract: TriplesPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pharmatriples.extractor.result", lambda document, confidence, lowest, day: day)
    third, fourth = date(2025, 3, 3), date(2025, 3, 4)
    assert extract("x", release_date="2025-03-03") == third
    assert extract(["x", "y"], release_date=third) == [third, third]
    assert extract(["x", "y"], release_date=["2025-03-03", None]) == [third, None]
    assert list(extract(iter(["x", "y"]), release_date=iter([None, "2025-03-04"]))) == [None, fourth]


def test_a_date_without_a_year_is_read_against_the_day_of_the_release() -> None:
    document = acme()
    text = document.text.replace("May 2025", "on May 8")
    start = text.index("May 8")
    mentions = [replace(m, start=start, end=start + 5) if m.type == "DATE" else m for m in document.mentions]
    found = result(replace(document, text=text, mentions=tuple(mentions)), Confidence(), 0.0, date(2024, 6, 1))
    assert [record["dates_iso"][0]["iso"] for record in found["records"]] == ["2024-05-08"]


def test_a_release_date_that_is_none_or_too_few_of_them_are_errors(extract: TriplesPipeline) -> None:
    with pytest.raises(DateError, match="a text such as 2025-03-03, found 'March'"):
        extract("x", release_date="March")
    with pytest.raises(DateError, match="found \\['2025-03-03'\\]"):
        extract("x", release_date=["2025-03-03"])
    for texts in (["x", "y"], iter(["x", "y"])):
        with pytest.raises(DateError, match="ends after 1 texts; give one for each"):
            list(extract(texts, release_date=["2025-03-03"]))


def test_more_release_dates_than_texts_are_an_error_unless_they_may_be_endless(extract: TriplesPipeline) -> None:
    days = ["2025-03-03", None]
    for texts in (["x"], ("x",), iter(["x"])):
        with pytest.raises(DateError, match="release_date has 2 dates for 1 texts; give one for each"):
            list(extract(texts, release_date=days))
    with pytest.raises(DateError, match="release_date has 2 dates for 0 texts"):
        extract([], release_date=days)
    assert len(extract(["x"], release_date=repeat(None))) == 1


def test_results_do_not_depend_on_the_batch_or_the_order(extract: TriplesPipeline) -> None:
    together = extract(TEXTS)
    assert extract(TEXTS[::-1], batch_size=3)[::-1] == together
    assert [extract(text) for text in TEXTS] == together


def test_a_thousand_texts_come_back_in_order(extract: TriplesPipeline) -> None:
    texts = [f"NMPA accepted X{i}." for i in range(1000)]
    results = extract(texts)
    assert len(results) == 1000
    for i in (0, 31, 32, 500, 999):
        assert results[i] == extract(texts[i])


def test_a_text_of_two_hundred_thousand_characters_is_read_whole(extract: TriplesPipeline) -> None:
    text = (acme().text + "\r\n") * 1900
    result = extract(text)
    assert len(text) > 200_000
    check(text, result)
    assert max(m["end"] for e in result["entities"] for m in e["mentions"]) > 199_000


def test_an_iterator_gives_an_iterator_and_is_read_as_needed(extract: TriplesPipeline) -> None:
    read = []

    def texts():  # noqa: ANN202
        for text in TEXTS:
            read.append(text)
            yield text

    results = extract(texts(), batch_size=4)
    first = next(results)
    assert first == extract(TEXTS[0])
    assert len(read) <= 8
    assert len(list(results)) == len(TEXTS) - 1


def test_an_empty_list_gives_an_empty_list(extract: TriplesPipeline) -> None:
    assert extract([]) == []


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["fine", None], "input 1 must be a str, found NoneType"),
        (b"bytes", "found bytes"),
        (3, "found int 3"),
        ({"text": "x"}, "found dict"),
        ([{"text": "x"}], "input 0 must be a str, found dict .*; give the texts alone, such as data"),
        (pd.DataFrame({"id": ["a"], "text": ["x"]}), "found DataFrame"),
        (np.array([["x"]]), "found ndarray"),
    ],
)
def test_what_is_no_text_is_a_type_error_that_names_its_place(
    extract: TriplesPipeline, inputs: object, message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        extract(inputs)


def test_a_threshold_keeps_what_is_at_least_as_probable(extract: TriplesPipeline) -> None:
    kept = extract(TEXTS, threshold=0.9)
    scores = [m["score"] for r in kept for e in r["entities"] for m in e["mentions"]]
    assert scores
    assert min(scores) >= 0.9
    no_drugs = extract(TEXTS, threshold={"DRUG": 1.0})
    assert not [e for r in no_drugs for e in r["entities"] if e["type"] == "DRUG" and e["score"] < 1.0]


@pytest.mark.parametrize(
    ("threshold", "message"),
    [({"DRUGS": 0.5}, "unknown type 'DRUGS'"), (1.5, "from 0 to 1, found 1.5"), ({"DRUG": "x"}, "for DRUG")],
)
def test_a_threshold_that_means_nothing_is_refused(extract: TriplesPipeline, threshold: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        extract("x", threshold=threshold)


def test_a_mistyped_argument_is_refused(extract: TriplesPipeline) -> None:
    with pytest.raises(TypeError, match="unknown argument 'treshold'"):
        extract("x", treshold=0.5)


def test_the_stock_ways_of_transformers_load_the_same_model(model_dir: Path, extract: TriplesPipeline) -> None:
    assert type(AutoModel.from_pretrained(model_dir)).__name__ == "TriplesModel"
    stock = pipeline("pharmatriples", model=str(model_dir), pipeline_class=TriplesPipeline)
    assert stock(TEXTS[0]) == extract(TEXTS[0])


def test_a_folder_without_a_model_is_refused_with_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"config.json, model.safetensors, tokenizer.json missing"):
        load(tmp_path)
    with pytest.raises(ValueError, match=f"{tmp_path}/nowhere: no such folder"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize("device", ["cuda:99", "abacus", "meta", 99, "cpu:x", 0.5])
def test_a_device_that_is_not_there_is_refused_in_one_line(model_dir: Path, device: object) -> None:
    with pytest.raises(ValueError, match=r"device must be cpu, or a GPU that is there .*, found .*") as refused:
        load(model_dir, device=device)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("device", ["cpu", -1, torch.device("cpu")])
def test_a_device_is_named_as_torch_or_transformers_do(model_dir: Path, device: object) -> None:
    assert load(model_dir, device=device).model.device.type == "cpu"


@pytest.mark.parametrize("dtype", ["float", "int8", None, torch.float64, torch.int8])
def test_a_dtype_that_is_none_of_those_is_refused(model_dir: Path, dtype: object) -> None:
    with pytest.raises(ValueError, match="dtype must be auto, fastest, float32, float16, bfloat16, found "):
        load(model_dir, dtype=dtype)


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16])
def test_the_encoder_is_loaded_in_the_dtype_asked_for_and_the_heads_in_fp32(model_dir: Path, dtype: object) -> None:
    model = load(model_dir, dtype=dtype).model
    assert {p.dtype for p in model.encoder.parameters()} == {torch.bfloat16}
    assert model.tagger.weight.dtype == torch.float32
    assert load(model_dir).model.encoder.dtype == torch.float32


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_stock_ways_give_the_same_in_another_dtype(model_dir: Path, dtype: str) -> None:
    expected = load(model_dir, dtype=dtype, device="cpu")(TEXTS[0])
    model = AutoModel.from_pretrained(model_dir, dtype=dtype)
    assert model.extract(TEXTS[0], AutoTokenizer.from_pretrained(model_dir)) == expected
    stock = pipeline("pharmatriples", model=str(model_dir), pipeline_class=TriplesPipeline, dtype=dtype, device="cpu")
    assert stock(TEXTS[0]) == expected


def test_the_column_of_a_data_set_is_an_input(extract: TriplesPipeline) -> None:
    rows = KeyDataset([{"text": text} for text in TEXTS], "text")
    assert list(extract(rows)) == extract(TEXTS)


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, "8", True])
def test_a_batch_size_that_is_no_count_is_refused(model_dir: Path, batch_size: object) -> None:
    with pytest.raises(ValueError, match="batch_size must be a whole number above 0, found"):
        load(model_dir, batch_size=batch_size)


def test_an_argument_that_load_does_not_take_is_refused(model_dir: Path) -> None:
    with pytest.raises(TypeError, match="trust_remote_code"):
        load(model_dir, trust_remote_code=True)


@pytest.fixture(scope="module")
def calibrated_dir(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with scales that halve the logits of drugs, and thresholds for precisions of records and drugs."""
    path = tmp_path_factory.mktemp("calibrated") / "model"
    shutil.copytree(model_dir, path)
    config = json.loads((path / "config.json").read_text())
    config["calibration"] = {
        "scales": {"DRUG": [0.5, -0.5], "records": [0.5, 1.5]},
        "thresholds": {"records": {"0.5": 0.45, "0.9": 0.6}, "DRUG": {"0.9": 0.5}},
    }
    (path / "config.json").write_text(json.dumps(config))
    return path


def scores(results: list[dict], type_: str) -> list[float]:
    return [m["score"] for r in results for e in r["entities"] if e["type"] == type_ for m in e["mentions"]]


def test_a_calibrated_model_gives_other_scores_and_the_same_mentions(
    extract: TriplesPipeline, calibrated_dir: Path
) -> None:
    calibrated = load(calibrated_dir)(TEXTS)
    plain = extract(TEXTS)
    assert len(scores(calibrated, "DRUG")) == len(scores(plain, "DRUG")) > 0
    assert scores(calibrated, "EVENT") == scores(plain, "EVENT")
    assert all(c < p for c, p in zip(scores(calibrated, "DRUG"), scores(plain, "DRUG"), strict=True))


def test_a_wanted_precision_takes_the_threshold_that_met_it(calibrated_dir: Path) -> None:
    extract = load(calibrated_dir)
    everything = extract(TEXTS)
    kept = extract(TEXTS, precision=0.9)
    assert kept == extract(TEXTS, threshold={"records": 0.6}) == load(calibrated_dir, precision=0.9)(TEXTS)
    records = [record["score"] for r in everything for record in r["records"]]
    left = [record["score"] for r in kept for record in r["records"]]
    assert left == [score for score in records if score >= 0.6]
    assert 0 < len(left) < len(records)
    assert [r["entities"] for r in kept] == [r["entities"] for r in everything]
    assert min(scores(extract(TEXTS, precision={"DRUG": 0.8}), "DRUG")) >= 0.5 > min(scores(everything, "DRUG"))


def test_a_precision_that_was_not_met_is_refused(extract: TriplesPipeline, calibrated_dir: Path) -> None:
    with pytest.raises(ValueError, match=r"precision 0.95 of records was not met on validation; the highest .* 0.9"):
        load(calibrated_dir, precision=0.95)
    with pytest.raises(ValueError, match="no precision of .* was measured"):
        extract(TEXTS, precision=0.5)
    with pytest.raises(ValueError, match="precision for unknown type 'DRUGS'"):
        load(calibrated_dir)("x", precision={"DRUGS": 0.5})
