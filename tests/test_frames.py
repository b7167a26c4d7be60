"""Records as a data frame: one row a record, under the ids given."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pandas as pd
import pytest
from pharmatriples import load
from pharmatriples.confidence import Confidence
from pharmatriples.frames import DTYPES, record_frame
from pharmatriples.pipeline import TriplesPipeline
from pharmatriples.results import result
from pharmatriples.tables import COLUMNS
from tiny import acme, tiny_model_dir

TEXTS = [acme().text[i:] for i in range(0, 90, 3)]


@pytest.fixture(scope="module")
def extract(tmp_path_factory: pytest.TempPathFactory) -> TriplesPipeline:
    return load(tiny_model_dir(tmp_path_factory.mktemp("model")))


def test_a_row_is_a_record_and_a_list_stays_a_list(extract: TriplesPipeline) -> None:
    frame = extract.to_frame(TEXTS)
    records = [(i, record) for i, result in enumerate(extract(TEXTS)) for record in result["records"]]
    assert len(frame) == len(records) > 5
    for row, (number, record) in zip(frame.to_dict("records"), records, strict=True):
        assert row["id"] == number
        for key in ("targets", "indications", "organizations", "dates", "event", "status", "trigger", "score"):
            assert row[key] == record[key]
        assert row["drug"] == record["drug"] or (pd.isna(row["drug"]) and record["drug"] is None)
        assert row["dates_iso"] == [when and when["iso"] for when in record["dates_iso"]]
        assert TEXTS[number][row["start"] : row["end"]] == record["evidence"]["text"]


def test_the_columns_are_those_of_the_csv_but_for_the_error_in_the_plural(extract: TriplesPipeline) -> None:
    plural = {"target": "targets", "indication": "indications"}
    assert list(extract.to_frame(TEXTS[:1]).columns) == [plural.get(column, column) for column in COLUMNS[:-1]]


def test_half_a_surrogate_pair_is_an_escape_as_in_csv() -> None:
    found = result(
        replace(acme(), text=acme().text.replace("-", "\ud800").replace("CD19", "CD\udfff9")),
        Confidence(),
        0.0,
    )
    frame = record_frame(lambda texts: (found for _ in texts), ["a text"])
    assert frame["drug"].tolist() == ["ACM\\ud800101"]
    assert frame["targets"].tolist() == [["CD\\udfff9"]]


@pytest.mark.parametrize("texts", [[], [""], pd.Series([], dtype="object"), iter(())])
def test_without_a_record_columns_and_dtypes_are_the_same(extract: TriplesPipeline, texts: object) -> None:
    empty, full = extract.to_frame(texts), extract.to_frame(TEXTS)
    assert len(empty) == 0
    assert list(empty.columns) == list(full.columns)
    assert (empty[list(DTYPES)].dtypes == full[list(DTYPES)].dtypes).all()


def test_one_text_and_an_iterator_do_as_well(extract: TriplesPipeline) -> None:
    assert extract.to_frame(TEXTS[0]).equals(extract.to_frame(TEXTS[:1]))
    assert extract.to_frame(iter(TEXTS), batch_size=4).equals(extract.to_frame(TEXTS))


def test_the_index_of_a_series_becomes_the_id_and_joins_back(extract: TriplesPipeline) -> None:
    releases = pd.DataFrame({"text": TEXTS, "day": range(len(TEXTS))}, index=[f"r{i}" for i in range(len(TEXTS))])
    frame = extract.to_frame(releases["text"])
    assert frame["id"].dtype == releases.index.dtype
    assert (frame.join(releases, on="id")["day"] == extract.to_frame(TEXTS)["id"]).all()


def test_ids_are_given_for_each_text(extract: TriplesPipeline) -> None:
    numbers = extract.to_frame(TEXTS)["id"]
    assert extract.to_frame(TEXTS, ids=[f"r{i}" for i in range(len(TEXTS))])["id"].tolist() == [
        f"r{i}" for i in numbers
    ]
    assert extract.to_frame(iter(TEXTS), ids=count(100))["id"].tolist() == [100 + i for i in numbers]
    assert set(extract.to_frame(pd.Series(TEXTS), ids=["x"] * len(TEXTS))["id"]) == {"x"}


def test_ids_that_are_not_as_many_as_the_texts_are_refused(extract: TriplesPipeline) -> None:
    with pytest.raises(ValueError, match="there are 1 ids for 2 texts; give one for each text"):
        extract.to_frame(["x", "y"], ids=["a"])
    with pytest.raises(ValueError, match="the ids end after 1 texts"):
        extract.to_frame(iter(["x", "y"]), ids=iter(["a"]))
    for ids in (["a", "b", "c"], pd.Index(["a", "b", "c"])):
        with pytest.raises(ValueError, match="there are 3 ids for 2 texts; give one for each text"):
            extract.to_frame(iter(["x", "y"]), ids=ids)


def test_arguments_of_a_call_are_passed_on(extract: TriplesPipeline) -> None:
    assert len(extract.to_frame(TEXTS, threshold={"records": 1.0})) < len(extract.to_frame(TEXTS))
    with pytest.raises(TypeError, match="unknown argument 'treshold'"):
        extract.to_frame(TEXTS, treshold=0.5)


@pytest.mark.parametrize("texts", [pd.DataFrame({"text": TEXTS}), {"text": TEXTS}, b"x", 3])
def test_what_is_no_column_of_texts_is_refused(extract: TriplesPipeline, texts: object) -> None:
    with pytest.raises(TypeError, match="a Series or an iterator of str, found"):
        extract.to_frame(texts)


def test_a_missing_text_is_named_by_its_place(extract: TriplesPipeline) -> None:
    with pytest.raises(TypeError, match="input 1 must be a str, found"):
        extract.to_frame(pd.Series(["x", None]))
