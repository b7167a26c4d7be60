from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from pharmatriples.cli import MODEL_VARIABLE, main
from pharmatriples.tables import COLUMNS
from tiny import tiny_model_dir

TEXT = "NMPA has accepted\r\nits NDA 😀 for ACM-101 in lupus nephritis.\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_dir(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, without a default model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(MODEL_VARIABLE, raising=False)
    return tmp_path


def write(path: str, text: str = TEXT) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(text.encode())
    return path


def extracted(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


class TestErrors:
    """Each is one line that says what to do; nearly all are told before anything slow begins."""

    @pytest.mark.parametrize("arguments", [["--help"], ["extract", "--help"], ["--version"]])
    def test_help_and_version_import_nothing_heavy(self, arguments: list[str]) -> None:
        code = (
            "import sys\nfrom pharmatriples.cli import main\n"
            f"try:\n    main({arguments!r})\nfinally:\n"
            "    assert not {'torch', 'transformers', 'numpy', 'rich', 'jinja2', 'pyarrow'} & set(sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout

    def test_the_version_is_that_of_the_package(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as stop:
            main(["--version"])
        assert stop.value.code == 0
        assert capsys.readouterr().out == f"pharmatriples {version('pharmatriples')}\n"

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"caf\xe9", "not UTF-8 text (byte 3"),
            (None, "no such file"),
        ],
    )
    def test_a_text_that_cannot_be_read_is_one_line(
        self, content: bytes | None, message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        if content is not None:
            Path("a.txt").write_bytes(content)
        assert main(["extract", "a.txt"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("pharmatriples: a.txt: ")
        assert message in line

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("{", "not JSON"),
            ("[" * 100_000, "not JSON"),
            ('{"id": "x"}', "no text"),
            ('{"text": null}', "no text"),
            ('["text"]', "no text"),
            ('{"text": "", "id": [1]}', "the id is [1]"),
        ],
    )
    def test_a_json_line_that_cannot_be_used_is_named_by_its_number(
        self, line: str, message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write("a.jsonl", f"\n{line}\n")
        assert main(["extract", "a.jsonl"]) == 2
        (told,) = capsys.readouterr().err.splitlines()
        assert told.startswith("pharmatriples: a.jsonl:2: ")
        assert message in told

    def test_a_cut_off_gzip_file_is_one_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("a.jsonl.gz").write_bytes(gzip.compress(b"")[:-4])
        assert main(["extract", "a.jsonl.gz"]) == 2
        assert capsys.readouterr().err.startswith("pharmatriples: a.jsonl.gz: cannot be read")

    def test_a_folder_without_texts_is_one_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        write("folder/a.md")
        assert main(["extract", "folder"]) == 2
        assert capsys.readouterr().err.startswith("pharmatriples: folder: the folder holds no text and no data (.txt, ")

    @pytest.mark.parametrize(
        ("output", "message"),
        [
            ("out.xlsx", "its suffix names no format"),
            ("no/out.csv", "there is no folder no"),
            (".", "is a folder"),
            ("a.txt", "is an input, too"),
        ],
    )
    def test_an_output_that_cannot_be_is_refused_at_once(
        self, output: str, message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write("a.txt")
        assert main(["extract", "a.txt", "-o", output]) == 2
        assert message in capsys.readouterr().err

    @pytest.mark.parametrize(
        "option",
        [
            *("--threshold=1.5", "--threshold=x", "--batch-size=0", "--batch-size=x"),
            *("--max-chars=0", "--max-chars=1000000001", f"--max-chars={10**19}"),
        ],
    )
    def test_a_number_out_of_its_range_is_told_with_the_range(
        self, option: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as stop:
            main(["extract", option])
        assert stop.value.code == 2
        assert re.search("must be a (whole )?number from", capsys.readouterr().err)

    def test_no_model_at_all_tells_the_ways_to_one(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["extract", write("a.txt")]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "runs/default" in line
        assert "--model" in line
        assert MODEL_VARIABLE in line

    def test_a_model_that_is_none_is_one_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("empty").mkdir()
        assert main(["extract", write("a.txt"), "--model", "empty"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("pharmatriples: the model cannot be loaded: empty: ")

    @pytest.mark.parametrize("device", ["cuda:99", "abacus"])
    def test_a_device_that_is_not_there_is_one_line(
        self, device: str, model: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["extract", write("a.txt"), "--model", str(model), "--device", device]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("pharmatriples: the model cannot be loaded: ")


class TestInputs:
    def run(self, model: Path, *files: str) -> list[dict[str, Any]]:
        assert main(["extract", *files, "--model", str(model), "-o", "out.jsonl"]) == 0
        return extracted("out.jsonl")

    def test_a_text_file_keeps_its_text_and_gives_its_stem_as_id(self, model: Path) -> None:
        (result,) = self.run(model, write("news/one.txt"))
        assert (result["id"], result["text"]) == ("one", TEXT)
        assert {"entities", "relations", "records"} < set(result)
        for entity in result["entities"]:
            for mention in entity["mentions"]:
                assert TEXT[mention["start"] : mention["end"]] == mention["text"]

    def test_stems_that_clash_give_paths_as_ids(self, model: Path) -> None:
        results = self.run(model, write("a/one.txt"), write("b/one.txt"), write("b/two.txt"))
        assert [result["id"] for result in results] == ["a/one.txt", "b/one.txt", "two"]

    def test_a_folder_stands_for_its_txt_files_in_order(self, model: Path) -> None:
        for name in ("b.txt", "a.txt", "c.md"):
            write(f"folder/{name}", f"Text of {name}")
        assert [result["text"] for result in self.run(model, "folder")] == ["Text of a.txt", "Text of b.txt"]

    @pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
    def test_json_lines_keep_their_ids_and_get_one_where_they_have_none(self, model: Path, suffix: str) -> None:
        lines = [{"id": "x", "text": "One."}, {"text": TEXT, "more": 1}, {"id": 7, "text": ""}]
        content = "\n".join(map(json.dumps, lines)).encode()
        Path(f"a.{suffix}").write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
        results = self.run(model, f"a.{suffix}")
        assert [(result["id"], result["text"]) for result in results] == [("x", "One."), ("a:2", TEXT), ("7", "")]

    def test_half_a_surrogate_pair_comes_back_as_it_was(self, model: Path) -> None:
        write("a.jsonl", '{"text": "A \\ud83d b 😀"}')
        assert self.run(model, "a.jsonl")[0]["text"] == "A \ud83d b 😀"

    def test_a_byte_order_mark_is_no_part_of_the_text(self, model: Path) -> None:
        Path("a.txt").write_bytes("One.".encode("utf-8-sig"))
        Path("b.jsonl").write_bytes('{"text": "Two."}'.encode("utf-8-sig"))
        assert [result["text"] for result in self.run(model, "a.txt", "b.jsonl")] == ["One.", "Two."]

    def test_order_is_that_of_the_arguments(self, model: Path) -> None:
        write("a.jsonl", "".join(f'{{"id": "{n}", "text": "{"word " * (9 - n)}"}}\n' for n in range(9)))
        results = self.run(model, write("z.txt"), "a.jsonl", write("b.txt"))
        assert [result["id"] for result in results] == ["z", *map(str, range(9)), "b"]

    @pytest.mark.parametrize("files", [[], ["-"]])
    def test_standard_input_is_one_text(self, model: Path, files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
        (result,) = self.run(model, *files)
        assert (result["id"], result["text"]) == ("stdin", TEXT)

    def test_bad_documents_are_told_and_the_others_extracted(
        self, model: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write("a.jsonl", '{"text": "One."}\nnonsense\n{"text": "Three."}\n')
        code = main(["extract", "no.txt", "a.jsonl", write("b.txt"), "--model", str(model), "-o", "out.jsonl"])
        assert code == 1
        results = extracted("out.jsonl")
        assert [result["id"] for result in results] == ["no", "a:1", "a:2", "a:3", "b"]
        errors = [result["error"] for result in results if "error" in result]
        assert errors[0] == "no.txt: no such file; check the name"
        assert errors[1].startswith("a.jsonl:2: not JSON")
        told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("pharmatriples: ")]
        assert [line.split()[1] for line in told] == ["no.txt:", "a.jsonl:2:"]


class TestOutputs:
    def test_the_suffix_chooses_the_format_and_format_overrides_it(self, model: Path) -> None:
        text = write("in/a.txt")
        for output, options in {"out.csv": [], "out.html": [], "out.txt": [], "out": ["--format", "csv"]}.items():
            assert main(["extract", text, "--model", str(model), "-o", output, *options]) == 0
        for name in ("out.csv", "out"):
            with open(name, encoding="utf-8", newline="") as rows:
                assert next(csv.reader(rows)) == list(COLUMNS)
        assert Path("out.html").read_text(encoding="utf-8").startswith("<!doctype html>")
        assert re.match(r"a  \d+ records?\n", Path("out.txt").read_text(encoding="utf-8"))

    def test_the_table_is_printed_by_default(self, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["extract", write("a.txt"), "--model", str(model)]) == 0
        assert re.match(r"a  \d+ records?\n", capsys.readouterr().out)

    def test_the_model_is_found_in_the_environment_and_in_runs(
        self, model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Path("runs").mkdir()
        Path("runs/demo").symlink_to(model)
        assert main(["extract", write("a.txt"), "-o", "out.jsonl"]) == 0
        monkeypatch.setenv(MODEL_VARIABLE, "no/such/model")
        assert main(["extract", "a.txt", "-o", "out.jsonl"]) == 2

    def test_json_lines_do_not_depend_on_the_batch_size(self, model: Path) -> None:
        write("a.jsonl", "".join(f'{{"text": "{"ACM-101 was approved. " * n}"}}\n' for n in (9, 1, 30, 4, 2)))
        for size in ("1", "5"):
            assert main(["extract", "a.jsonl", "--model", str(model), "-o", f"{size}.jsonl", "--batch-size", size]) == 0
        rounded = [re.sub(r"(0\.\d{3})\d+", r"\1", Path(f"{size}.jsonl").read_text()) for size in (1, 5)]
        assert rounded[0] == rounded[1]

    def test_a_higher_threshold_keeps_less(self, model: Path) -> None:
        text = write("a.txt", "ACM-101 was approved for lupus nephritis by NMPA. " * 5)
        kept = []
        for threshold in ("0", "1"):
            main(["extract", text, "--model", str(model), "-o", "out.jsonl", "--threshold", threshold])
            kept.append(len(extracted("out.jsonl")[0]["entities"]))
        assert kept[0] > kept[1] == 0

    def test_an_older_file_stays_where_nothing_could_be_done(self, model: Path) -> None:
        write("out.csv", "old")
        assert main(["extract", "no.txt", "--model", str(model), "-o", "out.csv"]) == 2
        assert Path("out.csv").read_text() == "old"

    def test_a_link_to_a_file_stays_a_link(self, model: Path, here: Path) -> None:
        write("real.csv", "old")
        Path("out.csv").symlink_to("real.csv")
        assert main(["extract", write("a.txt"), "--model", str(model), "-o", "out.csv"]) == 0
        assert Path("out.csv").is_symlink()
        assert Path("real.csv").read_text().startswith("id,")
        assert sorted(path.name for path in here.iterdir()) == ["a.txt", "out.csv", "real.csv"]

    @pytest.mark.parametrize("name", ["out.csv.gz", "out.jsonl.gz"])
    def test_what_a_link_is_called_says_whether_it_is_packed(self, model: Path, name: str) -> None:
        Path(name).symlink_to("store.bin")
        assert main(["extract", write("a.txt"), "--model", str(model), "-o", name]) == 0
        assert gzip.decompress(Path("store.bin").read_bytes())

    def test_a_device_is_written_as_it_is(self, model: Path) -> None:
        assert main(["extract", write("a.txt"), "--model", str(model), "-o", os.devnull, "--format", "csv"]) == 0
        assert not Path(os.devnull).is_file()

    def test_a_pipe_is_written_as_it_is(self, model: Path) -> None:
        command = [sys.executable, "-m", "pharmatriples", "extract", write("a.txt"), "--model", str(model)]
        done = subprocess.run([*command, "--format", "csv", "-o", "/dev/stdout"], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("id,")

    def test_what_standard_output_cannot_be_is_one_line(self, model: Path) -> None:
        write("in/a.jsonl", json.dumps({"text": TEXT}))
        command = f"{sys.executable} -m pharmatriples extract in --model {model} --format jsonl"
        for redirected, message in (
            (">> in/a.jsonl", "in/a.jsonl: is an input, too; write to another file"),
            ("> /dev/full", "[Errno 28] No space left on device"),
            (">&-", "standard output is closed; name a file with -o"),
        ):
            done = subprocess.run(f"{command} {redirected}", shell=True, capture_output=True, text=True)
            assert (done.returncode, done.stderr) == (2, f"pharmatriples: {message}\n")
        done = subprocess.run(f"{command.replace(' in ', ' - ')} <&-", shell=True, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (2, "pharmatriples: standard input is closed; name files to read\n")

    def test_a_name_that_cannot_be_is_one_line(self, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for option in ("-o", "--model"):
            assert main(["extract", write("a.txt"), "--model", str(model), option, f"{'x' * 300}.csv"]) == 2
            (line,) = capsys.readouterr().err.splitlines()
            assert "File name too long" in line


class TestBeingStopped:
    @pytest.fixture(autouse=True)
    def more_than_is_ever_read(self) -> None:
        write("a.jsonl", f"{json.dumps({'text': TEXT})}\n" * 20_000)

    def test_results_come_one_by_one_and_a_closed_pipe_ends_quietly(self, model: Path) -> None:
        command = [sys.executable, "-m", "pharmatriples", "extract", "a.jsonl", "--model", str(model)]
        process = subprocess.Popen(
            [*command, "--format", "jsonl", "--batch-size", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        assert line, process.stderr.read().decode()
        assert json.loads(line)["id"] == "a:1"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141

    def test_an_interrupt_leaves_no_half_file_and_what_is_done(
        self, model: Path, here: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write("out.jsonl", "old")

        def interrupt() -> None:
            while not any(path.stat().st_size for path in here.glob("out.jsonl.partial/results.jsonl")):
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)
            while not done.wait(5):  # Python drops an interrupt that falls into a finalizer
                os.kill(os.getpid(), signal.SIGINT)

        done = threading.Event()
        # A suite that a shell started in the background ignores interrupts.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        threading.Thread(target=interrupt, daemon=True).start()
        try:
            code = main(["extract", "a.jsonl", "--model", str(model), "-o", "out.jsonl", "--batch-size", "2"])
        finally:
            done.set()
            signal.signal(signal.SIGINT, before)
        assert code == 130
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("pharmatriples: stopped; what is done stays in ")
        assert Path("out.jsonl").read_text() == "old"
        assert sorted(path.name for path in here.iterdir()) == ["a.jsonl", "out.jsonl", "out.jsonl.partial"]
