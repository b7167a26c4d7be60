"""The bench: what is trained, what is not trained again, and what stands in the table."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType

import pytest
from pharmatriples.arguments import TrainingConfig
from pharmatriples.bench import Bench, BenchError, Run, curve_entries, entry, perform, stock_entry
from pharmatriples.bench_table import Row, columns, curve_markdown, markdown, summarize
from pharmatriples.documents import write_jsonl
from pharmatriples.evaluation import evaluate
from pharmatriples.extractor import annotate
from pharmatriples.loading import load
from pharmatriples.schema import Schema
from tiny import ROOT, SCHEMA, copies, tiny_encoder_dir

CEILING = {"real": {"label": "two annotators", "f1": {"mentions": 97.0, "mentions/EVENT": 90.8}}}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_script", ROOT / "scripts" / "benchmark.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration of a few steps with a tiny encoder, on copies of one release."""
    folder = tmp_path_factory.mktemp("bench")
    tiny_encoder_dir(folder / "encoder")
    splits = ["train"] * 6 + ["validation"] * 2 + ["test"] * 3
    write_jsonl(copies(splits), folder / "data.jsonl")
    made = TrainingConfig(
        output_dir=str(folder / "unused"),
        data=str(folder / "data.jsonl"),
        schema=str(ROOT / "configs" / "schema.yaml"),
        encoder=str(folder / "encoder"),
        window=64,
        stride=16,
        mention_size=16,
        pair_size=8,
        batch_size=3,
        max_steps=2,
        precision="fp32",
    )
    path = folder / "tiny.yaml"
    path.write_text(json.dumps(asdict(made)))
    return path


def counts(*values: tuple[int, int, int]) -> dict[str, dict[str, list[int]]]:
    """Every figure of documents a, b, ... has these counts."""
    figures = ("mentions", "relations", "records")
    return {id_: dict.fromkeys(figures, list(value)) for id_, value in zip("abcdefgh", values, strict=False)}


def test_an_entry_is_a_file_with_a_name_and_overrides(config: Path) -> None:
    assert entry(str(config)).name == "tiny"
    made = entry(f"long={config},epochs=3,seed=4")
    assert (made.name, made.config.epochs, made.config.seed) == ("long", 3.0, 4)
    with pytest.raises(BenchError, match="name 'a/b' must be of letters"):
        entry(f"a/b={config}")
    with pytest.raises(BenchError, match="two configurations are named 'tiny'"):
        Bench([entry(str(config)), entry(f"{config},seed=3")], [13], {})
    with pytest.raises(BenchError, match="a seed stands twice among 13, 14, 13"):
        Bench([entry(str(config))], [13, 14, 13], {})
    with pytest.raises(BenchError, match="'test' is the name of a split of the data itself"):
        Bench([entry(str(config))], [13], {"test": ("a.jsonl", None)})
    with pytest.raises(BenchError, match="schema.yaml and .*bc5cdr-schema.yaml are different schemas"):
        Bench([entry(str(config)), entry(f"o={config},schema={ROOT / 'configs' / 'bc5cdr-schema.yaml'}")], [13], {})


def test_each_entry_is_trained_over_the_seeds_and_stands_on_every_set(config: Path, tmp_path: Path) -> None:
    sets = {"real": (str(config.parent / "data.jsonl"), "train")}
    made = entry(str(config))
    bench = Bench([stock_entry(made.config), made], [13, 14], sets, tmp_path)
    for run in bench.runs():
        run.perform()
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == [
        *("stock-13", "stock-14", "tiny-13", "tiny-14")
    ]
    rows = bench.rows()
    assert [(row.set, row.documents, row.name) for row in rows] == [
        *(("validation", 2, "stock"), ("validation", 2, "tiny")),
        *(("test", 3, "stock"), ("test", 3, "tiny")),
        *(("real", 6, "stock"), ("real", 6, "tiny")),
    ]
    lines = markdown(rows, columns(SCHEMA), CEILING).splitlines()
    assert lines[0] == "| set |  | mentions | EVENT | event type | status | relations | records | score |"
    assert lines[2].startswith("| validation, 2 documents | stock | ")
    assert lines[8] == "|  | two annotators | 97.0 | 90.8 |  |  |  |  |  |"
    assert {line.count("|") for line in lines[:9]} == {10}
    assert "mean of 2 seeds" in lines[10]


def test_the_mean_over_one_seed_is_the_score_of_the_whole_set(config: Path, tmp_path: Path) -> None:
    made = entry(f"{config},max_steps=40,learning_rate=5e-3,head_learning_rate=5e-3")
    bench = Bench([made], [13], {}, tmp_path)
    (run,) = bench.runs()
    run.perform()
    documents = run.documents()["test"]
    scores = evaluate(documents, list(annotate(load(run.config.output_dir), documents)), SCHEMA)
    figures = next(row for row in bench.rows() if row.set == "test").figures
    assert figures["mentions"].mean == pytest.approx(scores.mentions.micro.f1)
    assert figures["score"].mean == pytest.approx(scores.score)
    assert scores.score > 0.5


def test_what_is_finished_is_neither_trained_nor_scored_again(config: Path, tmp_path: Path) -> None:
    (run,) = Bench([entry(str(config))], [13], {}, tmp_path).runs()
    assert not run.finished()
    run.perform()
    assert run.finished()
    model, found = tmp_path / "tiny-13" / "model.safetensors", tmp_path / "tiny-13.json"
    model.write_bytes(b"")  # whoever reads it fails
    cut = replace(run, config=replace(run.config, output_dir=str(tmp_path / "other")))
    cut.file(".json").write_text("[1]")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "training.json").write_text("[]")
    assert cut.counts() == {}
    before = found.read_bytes()
    run.perform()
    assert found.read_bytes() == before
    more = replace(run, sets={"real": (str(config.parent / "data.jsonl"), "train")})
    assert not more.finished()
    assert more.counts().keys() == {"validation", "test"}
    assert not replace(run, config=replace(run.config, epochs=3.0)).finished()


def test_runs_are_processes_of_their_own_and_one_that_fails_stops_no_other(config: Path, tmp_path: Path) -> None:
    said: list[str] = []
    bench = Bench([entry(f"bad={config},encoder=nowhere/at/all"), entry(str(config))], [13], {}, tmp_path)
    failed = perform(bench.runs(), jobs=2, say=said.append)
    assert [run.name for run in failed] == ["bad-13"]
    assert any(line.startswith("bad-13: failed: encoder 'nowhere/at/all' cannot be loaded") for line in said)
    assert {row.name for row in bench.rows()} == {"tiny"}
    assert perform(bench.runs()[1:], jobs=1, say=said.append) == []
    assert said[-1] == "1 of 1 runs are finished"


def test_a_killed_bench_goes_on_where_it_was(config: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "benchmark.py"), "quality", f"{config},max_steps=-1,epochs=40"]
    command += ["--seeds", "13", "--folder", str(tmp_path), "-o", str(tmp_path / "out.json")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not list(tmp_path.glob("tiny-13.partial/checkpoint-*/trainer_state.json")):
        assert process.poll() is None, "the bench ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out.json").exists()
    time.sleep(1)  # its training ends with it
    last = max(int(path.name[11:]) for path in tmp_path.glob("tiny-13.partial/checkpoint-*"))
    assert last < 80
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    log = (tmp_path / "tiny-13.log").read_text()
    assert "starting from the beginning" not in log
    assert "80/80" in log
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert [(row["set"], row["name"], len(row["figures"]["score"]["seeds"])) for row in rows] == [
        ("validation", "tiny", 1),
        ("test", "tiny", 1),
    ]


def test_the_table_goes_into_the_block_of_a_page(config: Path, tmp_path: Path, script: ModuleType) -> None:
    page = tmp_path / "PAGE.md"
    page.write_text("before\n<!-- evaluation:quality -->\nold\n<!-- /evaluation:quality -->\nafter\n")
    files = ["--folder", str(tmp_path), "--table", str(tmp_path / "table.md"), "--update-readme", str(page)]
    agreement = ["--agreement", str(ROOT / "benchmarks" / "agreement.json")]
    (run,) = Bench([entry(str(config))], [13], {}, tmp_path).runs()
    run.perform()
    assert script.main(["quality", str(config), "--seeds", "13", *files, *agreement]) == 0
    table = (tmp_path / "table.md").read_text()
    assert page.read_text() == f"before\n<!-- evaluation:quality -->\n{table}<!-- /evaluation:quality -->\nafter\n"
    assert script.main(["quality", str(config), "--seeds", "13", *files, "--agreement", str(page)]) == 2
    before = page.read_text(), (tmp_path / "table.md").read_text()
    bad = f"bad={config},encoder=nowhere/at/all"
    assert script.main(["quality", bad, str(config), "--seeds", "13", *files, *agreement]) == 1
    assert (page.read_text(), (tmp_path / "table.md").read_text()) == before


def test_the_interval_is_the_same_each_time_and_holds_the_mean() -> None:
    runs = [counts((5, 1, 1), (2, 3, 0), (0, 1, 4), (7, 0, 0)), counts((4, 1, 2), (3, 3, 0), (1, 1, 3), (7, 0, 0))]
    first, second = summarize(runs), summarize(runs)
    assert first == second
    figure = first["mentions"]
    assert figure.low < figure.mean < figure.high
    assert figure.seeds == pytest.approx((28 / 38, 30 / 40))
    assert first["score"].seeds == pytest.approx(figure.seeds)


def test_documents_that_are_all_alike_leave_no_doubt_and_nothing_at_all_is_0() -> None:
    figure = summarize([counts(*[(2, 1, 1)] * 5)])["records"]
    assert figure.low == figure.high == pytest.approx(figure.mean) == pytest.approx(2 / 3)
    assert str(figure) == "66.7 (67–67)"
    assert summarize([counts((0, 0, 0))])["records"].mean == 0


def test_draws_without_what_is_rare_leave_it_out() -> None:
    plain = {"mentions": [8, 1, 1], "relations": [4, 1, 1], "records": [0, 0, 0]}
    found = {"a": {**plain, "records": [1, 0, 0]}, **dict.fromkeys("bcdefghij", plain)}
    records, score = (summarize([found])[name] for name in ("records", "score"))
    assert (records.mean, records.low, records.high) == (1, 1, 1)
    assert score.mean == pytest.approx((8 / 9 + 0.8 + 1) / 3)
    assert score.low == pytest.approx((8 / 9 + 0.8) / 2)  # as `Scores.score` of documents without records
    assert score.high == pytest.approx(score.mean)


def test_what_is_found_where_nothing_is_annotated_is_no_part_of_the_score() -> None:
    found = {"a": {"mentions": [4, 0, 0], "relations": [1, 1, 1], "records": [0, 3, 0]}}
    assert summarize([found])["score"].mean == pytest.approx(0.75)
    assert summarize([found])["records"].mean == 0


def test_a_row_of_other_documents_tells_how_many() -> None:
    figures = summarize([counts((1, 1, 1))])
    rows = [Row("test", number, f"n{number}", "", 0, figures) for number in (6, 6, 1)]
    titles = [line.split(" | ")[0] for line in markdown(rows, ["mentions"], {}).splitlines()[2:5]]
    assert titles == ["| test, 6 documents", "| ", "| test, 1 documents"]


def test_the_score_of_a_schema_without_records_is_of_what_it_has() -> None:
    found = {"a": {"mentions": [4, 0, 0], "relations": [1, 1, 1], "records": [0, 0, 0]}}
    assert summarize([found])["score"].mean == pytest.approx(0.75)
    assert "records" in columns(SCHEMA)
    assert "records" not in columns(Schema.from_yaml(ROOT / "configs" / "bc5cdr-schema.yaml"))


def test_a_run_without_documents_of_a_split_is_refused(config: Path, tmp_path: Path) -> None:
    sets = {"real": (str(config.parent / "data.jsonl"), "none")}
    run: Run = Bench([entry(str(config))], [13], sets, tmp_path).runs()[0]
    with pytest.raises(BenchError, match="real: .*data.jsonl has no documents of the split 'none'"):
        run.documents()


def test_a_curve_is_of_nested_parts_with_the_same_number_of_steps(config: Path, script: ModuleType) -> None:
    full = entry(f"part={config},max_steps=-1,epochs=3.5,batch_size=4")
    entries = curve_entries(full, [4, 2, 6])
    assert [(e.name, e.config.train_limit, e.config.max_steps) for e in entries] == [
        *(("part-2", 2, 7), ("part-4", 4, 7), ("part-6", 6, 7))
    ]
    with pytest.raises(BenchError, match="size 7: the train split of .* has 6 documents"):
        curve_entries(full, [7])
    assert script.main(["curve", str(config), "--sizes", "7"]) == 2
    assert script.main(["curve", str(config), "--sizes", "2", "--on", "a=b.jsonl", "a=c.jsonl"]) == 2


def test_the_curve_tells_what_each_hundred_adds() -> None:
    rows = [
        Row("test", 1, f"part-{size}", "", size, summarize([counts((right, 1, 1))])) for size, right in ((2, 1), (6, 3))
    ]
    lines = curve_markdown(rows, ["mentions", "score"]).splitlines()
    assert lines[0] == "| set | trained on | mentions | score |"
    assert lines[2] == "| test, 1 documents | 2 | 50.0 (50–50) | 50.0 (50–50) |"
    assert lines[3] == "|  | 6 | 75.0 (75–75), +625.0 | 75.0 (75–75), +625.0 |"
