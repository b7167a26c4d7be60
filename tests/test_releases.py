"""releases: every kind of file to releases, what is bad as a refusal in its place, memory for a document at a time."""

from __future__ import annotations

import csv
import gzip
import json
import tracemalloc
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pharmatriples.releases import MOST_CHARS, Columns, Meter, Refusal, Release, Source, read, sources
from pyarrow import parquet


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(path: str, content: bytes | str) -> str:
    content = content.encode() if isinstance(content, str) else content
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(gzip.compress(content) if path.endswith(".gz") else content)
    return path


def table(path: str, **columns: list[Any]) -> str:
    parquet.write_table(pyarrow.table(columns), path, row_group_size=3)
    return path


def items(*names: str, **options: Any) -> list[Release | Refusal]:
    found: list[Release | Refusal] = []
    for source in sources(names):
        found += [source] if isinstance(source, Refusal) else read(source, **options)
    return found


def refusal(*names: str, **options: Any) -> Refusal:
    (found,) = items(*names, **options)
    assert isinstance(found, Refusal), found
    assert "\n" not in found.error
    return found


ROWS = [("a", 'One, "two"\r\nthree 😀', "2025-03-03"), ("b", "", ""), ("7", "Four", None)]
READ = [Release("a", ROWS[0][1], date(2025, 3, 3)), Release("b", ""), Release("7", "Four")]


class TestKinds:
    @pytest.mark.parametrize("path", ["a.jsonl", "a.jsonl.gz"])
    def test_json_lines(self, path: str) -> None:
        lines = [json.dumps({"id": i, "text": t, "release_date": d, "more": [1]}) for i, t, d in ROWS]
        written(path, "\n\n".join(lines))
        assert items(path) == READ

    @pytest.mark.parametrize("mark", ["", "\ufeff"])
    @pytest.mark.parametrize("path", ["a.csv", "a.csv.gz"])
    def test_csv(self, path: str, mark: str) -> None:
        with open("plain", "w", encoding="utf-8", newline="") as out:
            out.write(mark)
            writer = csv.writer(out)
            writer.writerow(["more", "id", "text", "release_date"])
            writer.writerows(["x", *row] for row in ROWS)
        written(path, Path("plain").read_bytes())
        assert items(path) == READ

    def test_parquet(self) -> None:
        ids, texts, _ = map(list, zip(*ROWS, strict=True))
        table("a.parquet", more=[1, 2, 3], text=texts, release_date=[datetime(2025, 3, 3, 9), None, None], id=ids)
        assert items("a.parquet") == READ

    @pytest.mark.parametrize("path", ["a.txt", "a.txt.gz", "a.md", "a"])
    def test_a_text(self, path: str) -> None:
        assert items(written(path, "One\r\ntwo 😀")) == [Release("a", "One\r\ntwo 😀")]

    def test_ids_that_are_not_there_are_the_file_and_the_line_or_row(self) -> None:
        written("a.jsonl", '{"text": "1"}\n\n{"text": "2", "id": null}\n{"text": "3", "id": ""}\n')
        assert [item.id for item in items("a.jsonl")] == ["a:1", "a:3", "a:4"]
        written("b.csv", 'text\n"1\n1"\n2\n')
        assert [item.id for item in items("b.csv")] == ["b:2", "b:4"]
        assert [item.id for item in items(table("c.parquet", text=["1", "2"], id=[5, None]))] == ["5", "c:2"]

    def test_columns_have_other_names(self) -> None:
        columns = Columns("body", "key", "day")
        expected = [Release("k", "B", date(2025, 1, 2))]
        written("a.jsonl", '{"body": "B", "key": "k", "day": "2025-01-02", "text": "T", "id": "i"}')
        written("a.csv", "text,body,key,day\nT,B,k,2025-01-02\n")
        table("a.parquet", text=["T"], body=["B"], key=["k"], day=["2025-01-02"])
        for path in ("a.jsonl", "a.csv", "a.parquet"):
            assert items(path, columns=columns) == expected


class TestFolders:
    def test_a_folder_stands_for_the_texts_in_it_and_below(self) -> None:
        for path in ("in/b.txt", "in/a/z.txt.gz", "in/a.jsonl", "in/note.md", "in/out.csv.partial/c.txt"):
            written(path, path)
        assert [source[0] for source in sources(["in"])] == ["in/b.txt", "in/a/z.txt.gz"]

    def test_without_texts_it_stands_for_its_data(self) -> None:
        for path in ("in/b.csv", "in/a/z.jsonl.gz", "in/c.parquet", "in/out.jsonl.partial/results.jsonl"):
            written(path, "")
        assert [source[0] for source in sources(["in"])] == ["in/b.csv", "in/c.parquet", "in/a/z.jsonl.gz"]

    def test_a_link_to_a_folder_is_followed_once(self) -> None:
        written("in/a.txt", b"one")
        written("other/b.txt", b"two")
        Path("in/linked").symlink_to(Path("other").resolve(), target_is_directory=True)
        Path("other/back").symlink_to(Path("in").resolve(), target_is_directory=True)
        assert [source[1] for source in sources(["in"])] == ["a", "b"]

    def test_a_folder_of_neither_is_refused(self) -> None:
        written("in/a.md", "")
        assert "holds no text and no data" in refusal("in").error

    def test_files_of_one_name_have_their_paths_as_ids(self) -> None:
        found = sources(["x/a.jsonl", "y/a.txt", "y/b.csv.gz", "y/b.txt.gz", "-", "c.d.txt"])
        assert [source.id for source in found] == ["x/a.jsonl", "y/a.txt", "y/b.csv.gz", "y/b.txt.gz", "stdin", "c.d"]

    def test_whole_numbers_that_pandas_made_floats_are_ids(self) -> None:
        written("a.jsonl", '{"id": 1.0, "text": "x"}\n{"id": NaN, "text": "y"}\n{"id": null, "text": "z"}')
        assert items("a.jsonl") == [Release("1", "x"), Release("a:2", "y"), Release("a:3", "z")]
        assert items(table("b.parquet", id=[1.0, None], text=["x", "y"])) == [Release("1", "x"), Release("b:2", "y")]


class TestBadDocuments:
    """The id and the place of each, and the others are read."""

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"caf\xe9", "not UTF-8 text (byte 3: "),
            (b"a\0b", "not text (character 1 is NUL)"),
            (b"x" * 11, "longer than 10 characters"),
            (b"x" * 100, "longer than 10 characters"),
        ],
    )
    def test_a_text(self, content: bytes, message: str) -> None:
        for path in ("a.txt", "a.txt.gz"):
            found = refusal(written(path, content), max_chars=10)
            assert found.id == "a"
            assert found.error.startswith(f"{path}: ")
            assert message in found.error

    def test_the_longest_text_is_read(self) -> None:
        assert items(written("a.txt", "\ufeff" + "😀" * 10), max_chars=10) == [Release("a", "😀" * 10)]

    @pytest.mark.parametrize(
        ("line", "id_", "message"),
        [
            (b"{", "a:2", "not JSON"),
            (b"[" * 70_000, "a:2", "not JSON"),
            (b'{"text": "caf\xe9"}', "a:2", "not UTF-8"),
            (b'["text"]', "a:2", "no text"),
            (b'{"id": "x"}', "x", "no text ('text' holds nothing)"),
            (b'{"id": "x", "text": 7}', "x", "no text ('text' holds int)"),
            (b'{"id": [1], "text": ""}', "a:2", "the id is [1]"),
            (b'{"id": true, "text": ""}', "a:2", "the id is True"),
            (b'{"id": 1.5, "text": ""}', "a:2", "the id is 1.5; give a text or a whole number"),
            (b'{"id": "x", "text": "", "release_date": "soon"}', "x", "found 'soon'"),
            (b'{"id": "x", "text": "", "release_date": [1]}', "x", "found [1]"),
            (b'{"id": "x", "text": "%s"}' % (b"x" * 1001), "x", "longer than 1000 characters"),
            (b'{"id": "x", "text": "%s"}' % (b"x" * 1_000_000), "a:2", "longer than 71536 bytes"),
        ],
    )
    def test_a_json_line(self, line: bytes, id_: str, message: str) -> None:
        before, after = b'{"id": "1", "text": "1"}', b'{"id": "3", "text": "3"}'
        first, found, last = items(written("a.jsonl", b"\n".join((before, line, after))), max_chars=1000)
        assert (first, last) == (Release("1", "1"), Release("3", "3"))
        assert isinstance(found, Refusal)
        assert found.id == id_
        assert found.error.startswith("a.jsonl:2: ")
        assert message in found.error

    @pytest.mark.parametrize(
        ("record", "id_", "message"),
        [
            (b"x,caf\xe9", "x", "not UTF-8"),
            (b"caf\xe9,x", "a:3", "not UTF-8"),
            (b"x", "x", "no text ('text' holds nothing)"),
            (b"x,Acme, the company", "x", "3 cells below 2 names; put a text with commas or line breaks in quotes"),
            (b'x,"Acme "the" company"', "a:3", "not CSV"),
            (b'x,"say\ny,"The FDA said"', "a:3", "not CSV"),
            (b"x," + b"y" * 1001, "x", "longer than 1000 characters"),
            (b"x," + b"y" * 1_000_000, "x", "longer than 67536 characters"),
            (b'x,"' + b'y, ""z""\r\n' * 20_000 + b'",more', "x", "longer than 67536 characters"),
            (b'x,"' + b"y" * 70_000 + b"\n\nz\n" * 9 + b'"', "x", "longer than 67536 characters"),
        ],
    )
    def test_a_csv_record(self, record: bytes, id_: str, message: str) -> None:
        content = b"id,text\n1,o\n" + record + b'\n3,"th\nree"\n'
        first, found, last = items(written("a.csv", content), max_chars=1000)
        assert (first, last) == (Release("1", "o"), Release("3", "th\nree"))
        assert isinstance(found, Refusal)
        assert found.id == id_
        assert found.error.startswith("a.csv:3: ")
        assert message in found.error

    @pytest.mark.parametrize("rest", ['"abc\nx,y\n', '"abc', '"' + "y\n" * 1_000_000])
    def test_an_open_quote_swallows_no_releases(self, rest: str) -> None:
        first, found = items(written("a.csv", f"id,text\n1,o\n2,{rest}"), max_chars=1000)
        assert first == Release("1", "o")
        assert found == Refusal("a:3", "a.csv:3: " + found[1].partition(": ")[2])
        assert "a quote is open from here to the end of the file" in found[1]

    @pytest.mark.parametrize(
        ("header", "message"),
        [
            (b"id;text", "the cells seem to be separated by ';'; separate them by commas"),
            (b"id\ttext", "the cells seem to be separated by '\\t'"),
            (b"id|Text", "the cells seem to be separated by '|'"),
            (b"Text", "no column 'text'; its columns are 'Text'"),
            ("id,text".encode("utf-16"), "not UTF-8 text; convert the file to UTF-8"),
        ],
    )
    def test_a_csv_header(self, header: bytes, message: str) -> None:
        (found,) = items(written("a.csv", header + b"\n1,x\n"))
        assert isinstance(found, Refusal)
        assert found.error.startswith(f"a.csv: {message}")

    @pytest.mark.parametrize("suffix", [".json", ".tsv", ".xlsx", ".HTML", ".json.gz", ".ndjson"])
    def test_a_file_of_another_form_is_no_text(self, suffix: str) -> None:
        (found,) = sources([written(f"a{suffix}", "NMPA accepted it.")])
        assert isinstance(found, Refusal)
        assert f"a{suffix}: " in found.error
        assert "is neither text nor data" in found.error

    def test_a_parquet_file_whose_columns_have_no_names(self) -> None:
        columns = pyarrow.table({"AB": ["a"], "text": ["b"]})
        parquet.write_table(columns, "z.parquet", compression="none", store_schema=False)
        Path("z.parquet").write_bytes(Path("z.parquet").read_bytes().replace(b"AB", b"\xff\xfe"))
        (found,) = items("z.parquet")
        assert isinstance(found, Refusal)
        assert "z.parquet" in found.error

    def test_a_parquet_row(self) -> None:
        bad = pyarrow.array([b"1", b"caf\xe9", None, b"4"]).view(pyarrow.string())
        found = items(table("a.parquet", id=["1", None, "x", "4"], text=bad))
        assert (found[0], found[3]) == (Release("1", "1"), Release("4", "4"))
        assert [item.id for item in found] == ["1", "a:2", "x", "4"]
        assert "a.parquet, row 2: not UTF-8" in found[1][1]
        assert "a.parquet, row 3: no text" in found[2][1]

    @pytest.mark.parametrize(
        ("type_", "value", "shown"),
        [
            (pyarrow.date32(), 10**8, "date32[day]"),
            (pyarrow.date64(), 10**17 // 86_400_000 * 86_400_000, "date32[day]"),
            (pyarrow.timestamp("s"), 2**40, "timestamp[ms]"),
            (pyarrow.timestamp("ms", "UTC"), -(2**60), "timestamp[ms, tz=UTC]"),
            (pyarrow.timestamp("us", "Mars/Olympus"), 1, "timestamp[us, tz=Mars/Olympus]"),
        ],
    )
    def test_a_parquet_day_that_cannot_be_is_the_error_of_its_row(
        self, type_: pyarrow.DataType, value: int, shown: str
    ) -> None:
        width = pyarrow.int32() if type_ == pyarrow.date32() else pyarrow.int64()
        days = pyarrow.array([None, value, None], width).view(type_)
        table("a.parquet", release_date=days, text=["1", "2", "3"], id=["x", "y", "z"])
        what = f"a.parquet, row 2: what 'release_date' holds ({shown}) is out of range, or its time zone is not known "
        expected = [Release("x", "1"), Refusal("y", f"{what}here; write it as text"), Release("z", "3")]
        assert items("a.parquet") == expected
        found = items(table("b.parquet", id=days, text=["1", "2", "3"]))
        assert [item.id for item in found] == ["b:1", "b:2", "b:3"]
        assert f"b.parquet, row 2: what 'id' holds ({shown}) is out of range" in found[1][1]


class TestBadFiles:
    @pytest.mark.parametrize("path", ["a.txt", "a.txt.gz", "a.jsonl", "a.csv.gz", "a.parquet"])
    def test_a_file_that_is_not_there(self, path: str) -> None:
        assert refusal(path) == Refusal("a", f"{path}: no such file; check the name")

    @pytest.mark.parametrize("path", ["a.txt.gz", "a.jsonl.gz", "a.csv.gz"])
    @pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b"text\n" * 99)[:-9]])
    def test_what_is_no_gzip_or_cut_off(self, path: str, content: bytes) -> None:
        Path(path).write_bytes(content)
        assert "cannot be read" in items(path)[-1][1]

    def test_a_gzip_that_is_damaged_in_its_middle(self) -> None:
        packed = bytearray(gzip.compress(json.dumps({"text": "".join(map(chr, range(99, 9999)))}).encode()))
        packed[500:520] = bytes(20)
        Path("a.jsonl.gz").write_bytes(packed)
        assert "cannot be read" in refusal("a.jsonl.gz").error

    @pytest.mark.parametrize("content", [b"", b"PAR1", b"no Parquet at all", b"PAR1" + bytes(99) + b"PAR1"])
    def test_what_is_no_parquet(self, content: bytes) -> None:
        assert "a.parquet: cannot be read" in refusal(written("a.parquet", content)).error

    @pytest.mark.parametrize("content", ["", "\n\n"])
    def test_an_empty_csv_names_what_it_lacks(self, content: str) -> None:
        assert "its first line must name the columns" in refusal(written("a.csv", content)).error

    def test_a_missing_text_column_is_one_error_that_names_those_there(self) -> None:
        written("a.csv", "id,body\n1,x\n2,y\n")
        for path in ("a.csv", table("a.parquet", id=["1", "2"], body=["x", "y"])):
            expected = f"{path}: no column 'text'; its columns are 'id', 'body'; name one with --text-column"
            assert refusal(path) == Refusal("a", expected)

    def test_a_named_column_must_be_there_and_a_column_must_not_stand_there_twice(self) -> None:
        written("a.csv", "id,text,text\n1,x,y\n")
        assert "no column 'day'" in refusal("a.csv", columns=Columns("id", release_date="day")).error
        assert "name one with --date-column" in refusal("a.csv", columns=Columns("id", release_date="day")).error
        assert "2 columns are named 'text'" in refusal("a.csv").error


class TestSize:
    """What is read takes memory for a document, not for the file."""

    def peak(self, path: str, **options: Any) -> tuple[int, int]:
        """Documents, and the most bytes that Python held."""
        tracemalloc.start()
        try:
            count = sum(1 for _ in read(Source(path, "a"), **options))
            return count, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    @pytest.mark.parametrize("path", ["a.jsonl", "a.jsonl.gz", "a.csv", "a.csv.gz", "a.parquet"])
    def test_many_documents(self, path: str) -> None:
        text = "word " * 400
        if path.endswith(".parquet"):
            parquet.write_table(
                pyarrow.table({"text": [f"{n} {text}" for n in range(1500)]}), path, use_dictionary=False
            )
        elif "csv" in path:
            written(path, "text\n" + f"{text}\n" * 1500)
        else:
            written(path, f"{json.dumps({'text': text})}\n" * 1500)
        count, most = self.peak(path)
        assert count == 1500
        assert most < 1_000_000

    @pytest.mark.parametrize(
        ("path", "line"),
        [
            *((path, b"word " * 100) for path in ("a.txt", "a.txt.gz", "a.jsonl", "a.jsonl.gz", "a.csv", "a.csv.gz")),
            *((path, b"word " * 99 + b"word\n") for path in ("a.txt", "a.csv", "a.csv.gz")),
        ],
    )
    def test_an_absurd_document(self, path: str, line: bytes) -> None:
        written(path, (b'text\n"' if "csv" in path else b"") + line * 10_000)
        count, most = self.peak(path, max_chars=1000)
        assert count == 1
        assert most < 1_000_000

    @pytest.mark.parametrize("path", ["a.txt", "a.txt.gz", "a.jsonl", "a.jsonl.gz", "a.csv", "a.csv.gz"])
    def test_a_small_document_where_large_ones_are_allowed(self, path: str) -> None:
        written(path, 'text\n"x"\n' if "csv" in path else '{"text": "x"}\n')
        count, most = self.peak(path, max_chars=MOST_CHARS)
        assert count == 1
        assert most < 3_000_000

    @pytest.mark.parametrize("path", ["a.txt", "a.txt.gz"])
    @pytest.mark.parametrize("size", [2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20])
    def test_a_text_is_whole_however_it_is_divided_for_reading(self, path: str, size: int) -> None:
        text = "".join(map(str, range(size)))[:size]
        assert items(written(path, text)) == [Release("a", text)]
        assert items(path, max_chars=size) == [Release("a", text)]
        assert f"longer than {size - 1} characters" in refusal(path, max_chars=size - 1).error

    def test_the_bytes_read_are_those_of_the_files(self) -> None:
        written("a.jsonl", '{"text": "x"}\n' * 20_000)
        written("b.csv.gz", "text\n" + "x\n" * 100)
        meter = Meter()
        reading = read(Source("a.jsonl", "a"), meter=meter)
        next(reading)
        size = Path("a.jsonl").stat().st_size
        assert 0 < meter.bytes_read < size
        assert sum(1 for _ in reading) == 19_999
        assert meter.bytes_read == size
        assert sum(1 for _ in read(Source("b.csv.gz", "b"), meter=meter)) == 100
        assert meter.bytes_read == size + Path("b.csv.gz").stat().st_size
