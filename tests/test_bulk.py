"""bulk: a run that is stopped at any point goes on, and gives what a run without a stop gives."""

from __future__ import annotations

import csv
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pharmatriples.batches import Batch, ExtractionError, Reading, answers
from pharmatriples.bulk import Journal, JournalError
from pharmatriples.cli import main
from pharmatriples.releases import Columns, Meter, Refusal, Release, Source
from pharmatriples.tables import COLUMNS
from pyarrow import parquet
from tiny import ROOT, tiny_model_dir

TEXT = "Acme said that the NMPA has accepted its NDA for ACM-101 in lupus nephritis (May 2025). "


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_model_dir(tmp_path_factory.mktemp("model")))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def inputs(count: int = 8) -> list[str]:
    """Files of every kind with documents that can be read and some that cannot."""
    Path("texts").mkdir()
    for number in range(count):
        Path(f"texts/{number}.txt").write_bytes(f"{number}. {TEXT}".encode() if number % 5 else b"caf\xe9")
    lines = [json.dumps({"id": f"j{n}", "text": f"{n} {TEXT * (n % 4)}"}) for n in range(count)]
    Path("a.jsonl").write_text("\n".join([*lines[:3], "{", *lines[3:]]))
    with gzip.open("b.csv.gz", "wt", newline="") as out:
        writer = csv.writer(out)
        writer.writerows(
            [["key", "text", "release_date"], *([f"c{n}", TEXT, "" if n % 3 else "soon"] for n in range(count))]
        )
    parquet.write_table(pyarrow.table({"text": [f"{n} {TEXT}" for n in range(count)]}), "c.parquet")
    return ["texts", "a.jsonl", "missing.txt", "b.csv.gz", "c.parquet"]


def lines(path: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_bytes().splitlines()]


class TestAccount:
    """Each document is one result or one error, in the order of the input."""

    def test_in_every_format(self, model: str, capsys: pytest.CaptureFixture[str]) -> None:
        names = inputs()
        for output in ("out.jsonl", "out.jsonl.gz", "out.csv", "out.csv.gz", "out.parquet", "out.html", "out.txt"):
            assert main(["extract", *names, "--model", model, "-o", output]) == 1
        told = capsys.readouterr().err.splitlines()
        found = lines("out.jsonl")
        bad = {line["id"]: line["error"] for line in found if "error" in line}
        ids = [*map(str, range(8)), "j0", "j1", "j2", "a:4", *(f"j{n}" for n in range(3, 8)), "missing"]
        ids += [*(f"b:{n}" for n in range(2, 10)), *(f"c:{n}" for n in range(1, 9))]
        assert [line["id"] for line in found] == ids
        assert list(bad) == ["0", "5", "a:4", "missing", "b:2", "b:5", "b:8"]
        assert told == [f"pharmatriples: {error}" for error in bad.values()] * 7
        assert all(line.keys() == {"id", "error"} for line in found if "error" in line)
        assert gzip.decompress(Path("out.jsonl.gz").read_bytes()) == Path("out.jsonl").read_bytes()
        assert gzip.decompress(Path("out.csv.gz").read_bytes()) == Path("out.csv").read_bytes()

        with open("out.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert tuple(rows[0]) == COLUMNS
        assert {row["id"]: row["error"] for row in rows if row["error"]} == bad
        table = parquet.read_table("out.parquet")
        assert {row["id"]: row["error"] for row in table.to_pylist() if row["error"]} == bad
        records = [(line["id"], record) for line in found for record in line.get("records", ())]
        assert len(records) > 10
        rows = [row for row in table.to_pylist() if row["error"] is None]
        assert [(row["id"], row["drug"], row["targets"], row["score"]) for row in rows] == [
            (id_, record["drug"], record["targets"], record["score"]) for id_, record in records
        ]
        assert table.schema.field("dates_iso").type == pyarrow.list_(pyarrow.string())
        assert not list(Path().glob("*.partial"))

    def test_release_dates_are_those_of_their_documents(self, model: str) -> None:
        days = [None, "2024-05-01", "2026-01-15"]
        rows = [{"id": str(n), "text": TEXT.replace(" 2025", ""), "release_date": day} for n, day in enumerate(days)]
        Path("a.jsonl").write_text("\n".join(map(json.dumps, rows)))
        assert main(["extract", "a.jsonl", "--model", model, "-o", "out.jsonl"]) == 0
        from pharmatriples import load

        extract = load(model)
        for row, line in zip(rows, lines("out.jsonl"), strict=True):
            assert line["records"] == extract([row["text"]], release_date=row["release_date"])[0]["records"]

    def test_where_nothing_can_be_read_no_model_is_loaded_and_nothing_written(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("a.jsonl").write_text("{\n" * 50)
        assert main(["extract", "a.jsonl", "no.csv", "--model", "none", "-o", "out.jsonl"]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 51
        Path("a.jsonl").write_text("")
        assert main(["extract", "a.jsonl", "--model", "none", "-o", "out.jsonl"]) == 2
        assert capsys.readouterr().err == "pharmatriples: nothing to read: the inputs hold no release\n"
        assert not list(Path().glob("out*"))

    def test_nothing_is_written_either_where_that_takes_long_to_find_out(self, model: str) -> None:
        Path("a.jsonl").write_text("{\n" * 101)
        assert main(["extract", "a.jsonl", "--model", model, "-o", "out.jsonl", "--batch-size", "1"]) == 2
        assert not list(Path().glob("out*"))

    def test_an_output_in_the_folder_of_inputs_is_no_input(
        self, model: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("in").mkdir()
        Path("in/a.jsonl").write_text('{"text": "x"}')
        assert main(["extract", "in", "--model", model, "-o", "in/out.jsonl"]) == 0
        assert main(["extract", "in", "--model", model, "-o", "in/out.jsonl"]) == 2
        assert "is an input, too" in capsys.readouterr().err


class Fragile:
    """A pipeline that fails on some texts."""

    def __init__(self, *bad: str):
        self.bad = bad

    def __call__(self, texts: Any, release_date: Any = None) -> list[dict[str, Any]]:
        if any(bad in texts for bad in self.bad):
            raise RuntimeError("out of\nmemory")
        return [{"records": [len(text)]} for text in texts]


class TestAnswers:
    BATCH = Batch(0, 0, [Release("1", "x"), Refusal("2", "bad"), Release("3", "yy"), Release("4", "zzz")])

    def test_a_failure_of_the_model_is_the_error_of_its_document(self) -> None:
        found = answers(Fragile("yy"), self.BATCH)
        assert found[:2] == [{"id": "1", "text": "x", "records": [1]}, {"id": "2", "error": "bad"}]
        assert found[2] == {
            "id": "3",
            "error": "3: the model fails on this text (RuntimeError: out of memory); leave it out",
        }
        assert found[3]["records"] == [3]

    def test_a_model_that_fails_on_everything_ends_the_run(self) -> None:
        with pytest.raises(ExtractionError, match=r"fails on any text \(RuntimeError: out of memory\)"):
            answers(Fragile("x", "yy", "zzz", "A"), self.BATCH)

    def test_an_interrupt_goes_through(self) -> None:
        def interrupted(texts: Any, release_date: Any = None) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            answers(interrupted, self.BATCH)


class TestBatches:
    def sizes(self, *found: Source | Refusal, size: int = 3) -> list[tuple[int, int, int]]:
        batches = Reading(size, Columns(), 10**7).batches(found, Meter())
        return [(batch.unit, batch.number, len(batch.items)) for batch in batches]

    def test_texts_share_batches_and_data_do_not(self) -> None:
        Path("a.jsonl").write_text('{"text": "x"}\n' * 7)
        texts = [Source("no.txt", "no"), Refusal("r", "r")]
        found = [*texts, *texts, Source("a.jsonl", "a"), *texts]
        assert self.sizes(*found) == [(0, 0, 3), (1, 0, 1), (2, 0, 3), (2, 1, 3), (2, 2, 1), (3, 0, 2)]

    def test_long_texts_are_few_in_a_batch(self) -> None:
        lengths = (120_000, 100_000, 100_000, 400_000, 1)
        Path("a.jsonl").write_text("\n".join(json.dumps({"text": "x" * length}) for length in lengths))
        assert [count for *_, count in self.sizes(Source("a.jsonl", "a"))] == [1, 2, 1, 1]


def batch(*texts: str) -> list[Batch]:
    return [Batch(0, number, [Release(text, text)]) for number, text in enumerate(texts)]


def echo(batch: Batch) -> list[dict[str, Any]]:
    return [{"id": item.id, "text": item.id} for item in batch.items]


def run(output: str, batches: list[Batch], **settings: Any) -> None:
    with Journal(Path(output), settings) as journal:
        for _ in journal.fill(batches, echo):
            pass
        journal.finish(None)


@pytest.fixture
def stopped() -> Path:
    """What a run over a, b, c leaves that was stopped within c."""

    def stop(batch: Batch) -> list[dict[str, Any]]:
        if batch.items[0].id == "c":
            raise RuntimeError("stopped")
        return echo(batch)

    with pytest.raises(RuntimeError, match="stopped"), Journal(Path("out"), {"model": "m"}) as journal:
        for _ in journal.fill(batch("a", "b", "c"), stop):
            pass
    folder = Path("out.partial")
    with open(folder / "results.jsonl", "a") as file:
        file.write('{"id": "c", "te')
    return folder


class TestJournal:
    def test_a_stopped_run_goes_on_behind_its_last_whole_line(self, stopped: Path) -> None:
        asked = []

        def asking(batch: Batch) -> list[dict[str, Any]]:
            asked.append(batch.items[0].id)
            return echo(batch)

        with Journal(Path("out"), {"model": "m"}) as journal:
            told = [line["id"] for found in journal.fill(batch("a", "b", "c", "d"), asking) for line in found]
            assert not Path("out").exists()
            journal.finish(None)
        assert asked == ["c", "d"]
        assert told == [line["id"] for line in lines("out")] == ["a", "b", "c", "d"]
        assert not stopped.exists()

    def test_a_batch_that_was_cut_is_answered_as_a_whole(self, stopped: Path) -> None:
        whole = Batch(0, 0, [item for one in batch("a", "b", "c") for item in one.items])
        asked = []

        def asking(batch: Batch) -> list[dict[str, Any]]:
            asked.append(len(batch.items))
            return echo(batch)

        with Journal(Path("out"), {"model": "m"}) as journal:
            assert [len(found) for found in journal.fill([whole], asking)] == [3]
            assert [line["id"] for line in journal.lines()] == ["a", "b", "c"]
        assert asked == [3]

    @pytest.mark.parametrize("long", [b"", b"x" * 200_000])
    def test_half_a_line_of_any_length_is_cut(self, stopped: Path, long: bytes) -> None:
        with open(stopped / "results.jsonl", "ab") as file:
            file.write(long)
        with Journal(Path("out"), {"model": "m"}) as journal:
            assert [line["id"] for line in journal.lines()] == ["a", "b"]
        (stopped / "results.jsonl").write_bytes(long)
        with Journal(Path("out"), {"model": "m"}) as journal:
            assert list(journal.lines()) == []

    @pytest.mark.parametrize(
        ("documents", "message"),
        [
            (["a", "x", "c"], "where it has 'b', they have 'x'"),
            (["a"], "holds more documents than the inputs"),
        ],
    )
    def test_other_inputs_are_refused(self, stopped: Path, documents: list[str], message: str) -> None:
        with pytest.raises(JournalError, match=f"{message}.*--restart"):
            run("out", batch(*documents), model="m")
        assert len(list(stopped.iterdir())) == 4

    @pytest.mark.parametrize(
        "changed",
        [Release("a", "b"), Release("a", "a", date(2025, 3, 3)), Refusal("a", "a"), Release("\ud83d", "a")],
    )
    def test_another_text_or_date_under_the_same_id_is_refused(self, stopped: Path, changed: Release | Refusal) -> None:
        with pytest.raises(JournalError, match="or its text, its release date or why it is refused changed"):
            run("out", [Batch(0, 0, [changed])], model="m")

    @pytest.mark.parametrize("was", [Refusal("a", "bad"), Release("a", "too much", date(2025, 3, 3))])
    def test_an_error_stays_only_that_of_the_same_document(self, was: Release | Refusal) -> None:
        def fail(batch: Batch) -> list[dict[str, Any]]:
            if batch.number:
                raise RuntimeError("stopped")
            return [{"id": item.id, "error": "bad"} for item in batch.items]

        def again(*items: Release | Refusal) -> None:
            with Journal(Path("out"), {}) as journal:
                for _ in journal.fill([Batch(0, n, [item]) for n, item in enumerate(items)], fail):
                    pass

        for _ in range(2):
            with pytest.raises(RuntimeError, match="stopped"):
                again(was, Release("b", "b"))
        others = [Refusal("a", "worse"), Release("a", "too much"), Release("a", "repaired", date(2025, 3, 3))]
        for changed in others:
            with pytest.raises(JournalError, match=r"was made of other inputs.*--restart"):
                again(changed, Release("b", "b"))

    def test_a_folder_that_does_not_say_what_it_was_made_of_is_refused(self, stopped: Path) -> None:
        (stopped / "inputs.txt").unlink()
        done = (stopped / "results.jsonl").read_bytes()
        for _ in range(2):
            with pytest.raises(JournalError, match=r"out.partial: was made of other inputs, .*--restart"):
                run("out", batch("a", "b", "c"), model="m")
        assert (stopped / "results.jsonl").read_bytes() == done
        with Journal(Path("out"), {"model": "m"}, restart=True) as journal:
            assert list(journal.lines()) == []

    @pytest.mark.parametrize("cut", [0, 1, 32, 33, 40])
    def test_a_result_whose_document_was_not_noted_whole_is_made_again(self, stopped: Path, cut: int) -> None:
        noted = stopped / "inputs.txt"
        noted.write_bytes(noted.read_bytes()[:cut])
        with Journal(Path("out"), {"model": "m"}) as journal:
            assert len(list(journal.lines())) == cut // 33
        run("out", batch("a", "b", "c"), model="m")
        assert [line["id"] for line in lines("out")] == ["a", "b", "c"]

    def test_other_settings_are_named(self, stopped: Path) -> None:
        with pytest.raises(JournalError, match=r'another model \("m", now "n"\).*--restart'):
            run("out", batch("a"), model="n")
        with pytest.raises(JournalError, match="another threshold"):
            run("out", batch("a"), model="m", threshold=0.5)

    @pytest.mark.parametrize("name", ["run.json", "results.jsonl"])
    def test_damage_is_told(self, stopped: Path, name: str) -> None:
        (stopped / name).write_bytes(b"\0\0\n")
        with pytest.raises(JournalError, match=rf"{name}.*is damaged; start it again with --restart"):
            run("out", batch("a"), model="m")

    def test_restart_throws_away_what_is_done(self, stopped: Path) -> None:
        with Journal(Path("out"), {"model": "n"}, restart=True) as journal:
            assert list(journal.lines()) == []

    def test_a_second_run_is_refused_while_one_lasts(self) -> None:
        with Journal(Path("out"), {}), pytest.raises(JournalError, match="another run is writing it"):
            run("out", [], restart=True)
        run("out", batch("a"))
        assert len(lines("out")) == 1

    def test_a_link_stays_a_link(self) -> None:
        Path("real").write_text("old")
        Path("out").symlink_to("real")
        run("out", batch("a"))
        assert Path("out").is_symlink()
        assert len(lines("real")) == 1


@pytest.fixture
def file_limit() -> Iterator[Any]:
    """Sets how long files can get here; a longer one is an error, as on a full disk."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, before)


class TestStops:
    OPTIONS = ("--batch-size", "2")

    def whole(self, names: list[str], model: str) -> bytes:
        """What a run without a stop gives."""
        assert main(["extract", *names, "--model", model, "-o", "whole.jsonl", *self.OPTIONS]) == 1
        return Path("whole.jsonl").read_bytes()

    @pytest.mark.parametrize("size", [0, 3000])
    def test_a_full_disk_is_one_line_and_the_next_start_goes_on(
        self, model: str, file_limit: Any, size: int, capsys: pytest.CaptureFixture[str]
    ) -> None:
        names = inputs()
        whole = self.whole(names, model)
        capsys.readouterr()
        command = ["extract", *names, "--model", model, "-o", "out.jsonl", *self.OPTIONS]
        file_limit(size)
        assert main(command) == 2
        file_limit(2**30)
        *_, last = capsys.readouterr().err.splitlines()
        assert last.startswith("pharmatriples: out.jsonl: cannot be written (")
        assert "the same command goes on" in last
        assert not Path("out.jsonl").exists()
        assert main(command) == 1
        assert Path("out.jsonl").read_bytes() == whole

    def test_what_is_done_stays_where_only_the_end_failed(self, model: str) -> None:
        names = inputs()
        command = ["extract", *names, "--model", model, "-o", "out.csv", *self.OPTIONS]
        Path("out.csv.partial/converted").mkdir(parents=True)  # the output cannot be written there
        assert main(command) == 2
        done = Path("out.csv.partial/results.jsonl")
        whole = self.whole(names, model)
        assert done.read_bytes() == whole
        assert main(command) == 2
        assert done.read_bytes() == whole
        Path("out.csv.partial/converted").rmdir()
        assert main(command) == 1
        with open("out.csv", encoding="utf-8", newline="") as rows:
            assert next(csv.reader(rows)) == list(COLUMNS)

    def test_fifty_kills_at_random_moments_lose_nothing_and_double_nothing(self, model: str) -> None:
        command = [sys.executable, str(ROOT / "tests" / "kills.py"), model, "50", "13", *inputs()]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        killed, finished = map(int, done.stdout.split())
        assert killed == 50
        assert finished > 1

    def test_the_command_itself_goes_on_after_a_kill(self, model: str) -> None:
        names = inputs(20)
        whole = self.whole(names, model)
        command = [sys.executable, "-m", "pharmatriples", "extract", *names, "--model", model, "-o", "out.jsonl"]
        command += self.OPTIONS
        journal = Path("out.jsonl.partial/results.jsonl")
        size = 0
        for _ in range(2):
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            while process.poll() is None and not (journal.exists() and journal.stat().st_size > size):
                time.sleep(0.005)
            os.kill(process.pid, signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
            size = journal.stat().st_size
        assert 0 < size < len(whole)
        assert main(command[3:]) == 1
        assert Path("out.jsonl").read_bytes() == whole
