from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pytest
from pharmatriples.frames import DTYPES
from pharmatriples.tables import COLUMNS, print_table, record_rows, write_csv, write_parquet
from pyarrow import parquet


def record(**changes: Any) -> dict[str, Any]:
    return {
        "drug": "ACM-101",
        "targets": ["CD19", "CD20"],
        "indications": ["lupus nephritis", "myasthenia gravis"],
        "event": "acceptance",
        "status": "occurred",
        "trigger": "accepted",
        "organizations": ["NMPA", "Acme"],
        "dates": ["May 2025"],
        "dates_iso": [{"iso": "2025-05", "precision": "month", "start": "2025-05-01", "end": "2025-05-31"}],
        "score": 0.93,
        "evidence": {"start": 7, "end": 61, "text": "..."},
    } | changes


def result(*records: dict[str, Any], id_: str = "a") -> dict[str, Any]:
    return {"id": id_, "text": "", "entities": [], "relations": [], "records": list(records)}


BARE = record(drug=None, targets=[], indications=[], organizations=[], dates=[], dates_iso=[])


class TestRecordRows:
    def test_a_record_is_a_row_for_each_target_and_indication(self) -> None:
        rows = record_rows(result(record()))
        assert [(row["target"], row["indication"]) for row in rows] == [
            ("CD19", "lupus nephritis"),
            ("CD19", "myasthenia gravis"),
            ("CD20", "lupus nephritis"),
            ("CD20", "myasthenia gravis"),
        ]
        assert rows[0] == {
            **{"id": "a", "drug": "ACM-101", "target": "CD19", "indication": "lupus nephritis"},
            **{"event": "acceptance", "status": "occurred", "trigger": "accepted"},
            **{"organizations": "NMPA; Acme", "dates": "May 2025", "dates_iso": "2025-05"},
            **{"score": 0.93, "start": 7, "end": 61, "error": None},
        }

    def test_a_record_without_target_and_indication_is_one_row_with_none_there(self) -> None:
        (row,) = record_rows(result(BARE))
        assert {key for key, value in row.items() if value is None} == {
            *("drug", "target", "indication", "organizations", "dates", "dates_iso", "error")
        }

    def test_dates_in_iso_8601_are_as_many_as_their_wordings(self) -> None:
        (sure,) = record()["dates_iso"]
        dates = ["spring", "May 2025", "FY26"]
        (row, *_) = record_rows(result(record(dates=dates, dates_iso=[None, sure, None])))
        assert row["dates_iso"].split("; ") == ["", "2025-05", ""]
        assert record_rows(result(record(dates=dates, dates_iso=[None] * 3)))[0]["dates_iso"] is None

    def test_the_columns_are_those_of_the_design_in_their_order(self) -> None:
        (row,) = record_rows(result(BARE))
        assert tuple(row) == COLUMNS

    def test_a_release_without_records_has_no_rows(self) -> None:
        assert record_rows(result()) == []

    def test_an_error_is_a_row(self) -> None:
        (row,) = record_rows({"id": "a", "error": "why"})
        assert {key: value for key, value in row.items() if value is not None} == {"id": "a", "error": "why"}
        assert tuple(row) == COLUMNS


class TestCsv:
    def test_what_is_written_reads_back_the_same(self) -> None:
        nasty = record(drug='A "B", C\nD', targets=[], indications=["α;β"], trigger="=1+1")
        out = io.StringIO()
        write_csv([result(nasty), result(), result(BARE, id_="b")], out)
        rows = list(csv.DictReader(io.StringIO(out.getvalue(), newline="")))
        assert [row["id"] for row in rows] == ["a", "b"]
        assert rows[0]["drug"] == 'A "B", C\nD'
        assert rows[0]["indication"] == "α;β"
        assert rows[0]["trigger"] == "=1+1"
        assert rows[1]["drug"] == ""

    def test_a_bare_carriage_return_ends_no_row(self, tmp_path: Path) -> None:
        """Also before Python 3.13, for csv and pandas."""
        values = ["a\rb", "\r", "\r\n", "\n", "x\r", '"\r"', "a,\rb", "plain"]
        with open(tmp_path / "a.csv", "w", encoding="utf-8", newline="") as out:
            write_csv([result(record(drug=value, targets=[], indications=[]), id_=value) for value in values], out)
        with open(tmp_path / "a.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [(row["id"], row["drug"], row["error"]) for row in rows] == [(value, value, "") for value in values]
        frame = pandas.read_csv(tmp_path / "a.csv", dtype=str, keep_default_na=False)
        assert frame.to_dict("records") == rows
        last = (tmp_path / "a.csv").read_bytes().splitlines(keepends=True)[-1]
        assert last.startswith(b"plain,plain,")
        assert not last.endswith(b"\r\n")

    def test_no_results_are_a_header(self) -> None:
        out = io.StringIO()
        write_csv([], out)
        assert out.getvalue() == ",".join(COLUMNS) + "\n"


class TestParquet:
    def table(self, *results: dict[str, Any]) -> pyarrow.Table:
        out = io.BytesIO()
        write_parquet(results, out)
        return parquet.read_table(io.BytesIO(out.getvalue()))

    def test_a_record_is_a_row_with_lists_and_so_is_an_error(self) -> None:
        nasty = record(drug="A \ud83d 😀", dates_iso=[None])
        first, second, third = self.table(result(nasty, BARE), {"id": "b", "error": "why"}).to_pylist()
        assert (first["id"], first["drug"], first["targets"]) == ("a", "A \\ud83d 😀", ["CD19", "CD20"])
        assert (first["dates_iso"], first["score"], first["start"], first["end"]) == ([None], 0.93, 7, 61)
        assert (second["drug"], second["indications"], second["error"]) == (None, [], None)
        assert {key: value for key, value in third.items() if value is not None} == {"id": "b", "error": "why"}

    def test_the_schema_does_not_depend_on_the_results(self) -> None:
        assert self.table().schema == self.table(result(BARE)).schema == self.table(result(record())).schema

    def test_the_columns_are_those_of_a_frame_and_the_error(self) -> None:
        assert self.table().column_names == ["id", *DTYPES, "error"]

    def test_rows_are_written_in_groups(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pharmatriples.tables.GROUP", 3)
        out = io.BytesIO()
        write_parquet([result(BARE, id_=str(n)) for n in range(8)], out)
        file = parquet.ParquetFile(io.BytesIO(out.getvalue()))
        assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [3, 3, 2]
        assert file.read().column("id").to_pylist() == list("01234567")


def printed(*results: dict[str, Any], width: int) -> str:
    out = io.StringIO()
    print_table(results, out, width)
    return out.getvalue()


class TestPrintTable:
    LONG = record(
        drug="zanidatamab zovodotin",
        indications=["platinum-resistant recurrent epithelial ovarian cancer"],
        trigger="BREAKTHROUGH-THERAPY-DESIGNATED",
        organizations=["National Medical Products Administration", "Jiangsu Hansoh Pharmaceutical Group Co., Ltd."],
    )

    @pytest.mark.parametrize("width", [48, 80, 111, 125, 140, 160, 200, 300])
    def test_every_word_is_whole_and_every_line_fits(self, width: int) -> None:
        text = printed(result(self.LONG, record(), BARE), width=width)
        assert max(map(len, text.splitlines())) <= width
        names = [self.LONG["drug"], *self.LONG["indications"], self.LONG["trigger"], *self.LONG["organizations"]]
        assert {word for name in names for word in name.split()} <= set(text.split())

    def test_a_wide_terminal_shows_a_record_in_a_line_and_a_narrow_one_in_a_block(self) -> None:
        one = record(targets=["CD19"], indications=["gout"], organizations=["NMPA"])
        wide = [line.split() for line in printed(result(one), width=160).splitlines()]
        assert ["ACM-101", "CD19", "gout", "acceptance,", "occurred", "accepted", "NMPA", "May", "2025", "0.93"] in wide
        narrow = [line.split() for line in printed(result(one), width=60).splitlines()]
        assert ["drug", "ACM-101"] in narrow
        assert ["event", "acceptance,", "occurred"] in narrow

    def test_each_release_has_its_heading_also_without_records(self) -> None:
        lines = printed(result(record(), id_="x y"), result(id_="b"), width=120).splitlines()
        assert lines[0] == "x y  1 record"
        assert "b  0 records" in lines

    def test_an_error_stands_beside_its_id(self) -> None:
        lines = printed({"id": "a\n", "error": "not\x1b UTF-8"}, result(id_="b"), width=120).splitlines()
        assert lines == ["a  not UTF-8", "", "b  0 records", ""]

    def test_brackets_are_no_markup(self) -> None:
        assert "[bold]X[/bold]" in printed(result(record(drug="[bold]X[/bold]"), id_="[red]"), width=160)

    def test_a_release_cannot_steer_the_terminal(self) -> None:
        text = printed(result(record(drug="A\x1b[31mB\x07\nC"), id_="a\x1b]0;b"), width=160)
        assert "\x1b" not in text
        assert "\x07" not in text
        assert "A [31mB C" in text

    def test_releases_are_printed_as_they_come(self) -> None:
        out = io.StringIO()

        def results() -> Any:
            yield result(record(), id_="first")
            assert "first" in out.getvalue()

        print_table(results(), out, 100)
