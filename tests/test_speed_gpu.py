"""The benchmark for a GPU: what it counts, what it does where memory ends, and the command, on the CPU."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from pharmatriples.decoding import NAME_ALIAS, OTHER_ALIAS
from pharmatriples.gpu_work import Encoder, GpuError, Work, read_releases, stored_encoder
from pharmatriples.labelstudio import task_from_document
from pharmatriples.speed_gpu import (
    EXAMPLE,
    TINY,
    Meter,
    Row,
    Way,
    attempt,
    compare,
    flops_per_token,
    markdown,
    matrix_limit,
    mean_length,
    measure,
    products,
)
from tiny import ROOT, SCHEMA, acme, tiny_encoder_config, tiny_encoder_dir, tiny_tokenizer
from transformers import BertConfig, BertModel, set_seed

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_script", ROOT / "scripts" / "benchmark.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small work waits longer for threads than it works where others keep the cores busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    tasks = [task_from_document(replace(acme(), id=f"d{i}"), SCHEMA) for i in range(3)]
    path = tmp_path / "releases.json"
    path.write_text(json.dumps(tasks))
    return path


def way(make: Any, what: str = "ours") -> Way:
    return Way(what, "2 things", [10], 1, ("fp32",), make)


def passing(precision: str, device: torch.device) -> Any:
    return lambda: 7


def full(precision: str, device: torch.device) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_operations_are_those_of_the_linear_layers_and_of_attention() -> None:
    config = BertConfig(hidden_size=8, num_hidden_layers=3, num_attention_heads=2, intermediate_size=16)
    # A layer has 4 weights of 8 x 8 and two of 8 x 16: 512. Scores and means over 10 tokens: 2 x 2 x 10 x 8 = 320.
    assert flops_per_token(config, 10) == 3 * (2 * 512 + 320)
    assert flops_per_token(config, 0) == 3 * 2 * 512


def test_a_length_is_the_mean_over_the_tokens_of_a_row() -> None:
    assert mean_length([5, 5]) == 5
    assert mean_length([1, 3]) == 2.5
    assert mean_length([]) == 0


def test_the_limit_is_the_best_of_square_products_and_of_the_encoders_own() -> None:
    shapes = products([tiny_encoder_config(), tiny_encoder_config()], TINY)
    assert shapes == [(128, 128, 128), (256, 32, 32), (256, 32, 64), (256, 64, 32)]
    found = matrix_limit(Meter(CPU, 0.01), shapes, "fp32")
    assert len(found["products"]) == 4
    assert found["limit"] == max(found["products"].values()) == found["products"][found["product"]] > 0


def test_a_share_is_rate_times_operations_over_the_limit() -> None:
    encoder = Encoder("tiny", tiny_encoder_config(), None)
    row = measure(Meter(CPU, 0.01), encoder, way(passing), "fp32", limit=2.0)
    assert row.tokens_per_second
    assert row.share == pytest.approx(row.tokens_per_second * flops_per_token(encoder.config, 10) / 2e12)
    assert row.peak_memory is None


def test_what_does_not_fit_is_told_in_its_row_and_the_rest_goes_on() -> None:
    meter, encoder = Meter(CPU, 0.01), Encoder("tiny", tiny_encoder_config(), None)
    rows = [measure(meter, encoder, way(make), "fp32", 1.0) for make in (full, passing)]
    assert rows[0] == Row("tiny", "ours", "fp32", "2 things")
    assert rows[1].tokens_per_second
    with pytest.raises(ZeroDivisionError):  # nothing else is swallowed
        attempt(lambda: 1 // 0)


def test_the_fastest_that_fits_is_compared() -> None:
    meter, encoder = Meter(CPU, 0.01), Encoder("tiny", tiny_encoder_config(), None)
    tried = [(measure(meter, encoder, way(make), "fp32", 1.0), way(make)) for make in (full, passing)]
    stock = way(passing, "stock")
    against = [(measure(meter, encoder, stock, "fp32", 1.0), stock)]
    found = compare(meter, tried, against)
    assert (found["what"], found["against"]) == ("ours", "stock")
    assert found["ratio"]["low"] <= found["ratio"]["median"] <= found["ratio"]["high"]
    assert compare(meter, tried[:1], against)["ratio"] is None


def test_a_table_shows_every_figure() -> None:
    row = {"encoder": "BioBERT", "what": "predict", "precision": "bf16", "batch": "2,048 pieces"}
    figures = {
        **{"device": "A GPU", "memory": 80 << 30, "torch": "2.13.0", "cuda": "13.0", "transformers": "5.23.0"},
        "attention": "sdpa",
        "limits": [{"precision": "bf16", "limit": 612.3, "product": "8 x 8 x 8"}],
        "rows": [
            {**row, "tokens_per_second": 12345.6, "share": 0.4142, "peak_memory": 3 << 29},
            {**row, "tokens_per_second": None, "share": None, "peak_memory": None},
        ],
        "comparisons": [
            {**row, "against": "stock", "its_batch": "8 windows", "ratio": {"median": 2, "low": 1.5, "high": 3}},
            {**row, "against": "stock", "its_batch": "8 windows", "ratio": None},
        ],
    }
    lines = markdown(figures).splitlines()
    assert lines[0] == "A GPU with 80.0 GiB; torch 2.13.0 with CUDA 13.0; transformers 5.23.0, attention sdpa"
    assert "| bf16 | 612 | 8 x 8 x 8 |" in lines
    assert "| BioBERT | predict | bf16 | 2,048 pieces | 12,346 | 41.4 | 1.5 |" in lines
    assert "| BioBERT | predict | bf16 | 2,048 pieces | out of memory |  |  |" in lines
    shared = "| BioBERT | predict, 2,048 pieces | stock, 8 windows | bf16 |"
    assert f"{shared} 2.00 x (1.50–3.00) |" in lines
    assert f"{shared} out of memory |" in lines


def test_the_command_measures_everything_and_writes_both_files(
    script: ModuleType, export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    out, table = tmp_path / "gpu.json", tmp_path / "gpu.md"
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    files = ["--data", str(export), "-o", str(out), "--table", str(table)]
    assert script.main(["gpu", "--device", "cpu", "--tiny", "--seconds", "0.01", *files]) == 0
    figures = json.loads(out.read_text())
    assert [found["precision"] for found in figures["limits"]] == ["bf16", "tf32", "fp32"]
    assert len({(r["what"], r["precision"], r["batch"]) for r in figures["rows"]}) == len(figures["rows"]) == 18
    assert all(r["tokens_per_second"] > 0 and r["share"] > 0 for r in figures["rows"])
    assert [(c["against"], c["precision"]) for c in figures["comparisons"]][2:] == [
        (EXAMPLE, "bf16"),
        (EXAMPLE, "fp32"),
    ]
    assert all(c["ratio"]["median"] > 0 for c in figures["comparisons"])
    assert table.read_text() == markdown(figures) + "\n"
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == before


@pytest.fixture
def work(export: Path, tmp_path: Path) -> Work:
    """That of three copies of one release, with an encoder from a folder."""
    config = tiny_encoder_config()
    config.max_position_embeddings = 512
    set_seed(0)
    BertModel(config).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    return Work(stored_encoder("own", str(tmp_path)), read_releases(str(export), SCHEMA), SCHEMA)


def test_a_random_tagger_marks_as_many_words_as_the_annotators_did(work: Work) -> None:
    read = work.examples[0]
    with torch.no_grad():
        found = work.model(**work.windower.batch([read.text], 512)).tag_logits.argmax(-1)
    assert abs(int((found > 0).sum()) - int((read.targets.tags > 0).sum())) <= 1


def test_random_aliases_join_nothing(work: Work) -> None:
    read, model = work.examples[0], work.model
    with torch.no_grad():
        states = model(**work.windower.batch([read.text], 512)).word_states
        logits = model.structure(states, read.targets.spans, read.text).alias_logits
    assert len(logits)
    assert logits.sigmoid().max() < min(NAME_ALIAS, OTHER_ALIAS)


def test_each_pass_counts_the_pieces_of_its_texts_once(work: Work) -> None:
    pieces = len(work.examples[0].text.pieces)
    assert work.predict(512, 3, "fp32", CPU)() == work.pipe(2, 3, "bf16", CPU)() == 3 * pieces
    assert work.train(2, 512, False, "bf16", CPU)() == work.train(2, 512, True, "fp32", CPU)() == 2 * pieces
    assert work.read(pieces, "bf16", CPU)() == 2 * pieces
    # All sentences; the line breaks, which are pieces to us, are none there: this release has none.
    assert work.train_stock(len(work.sentences), "fp32", CPU)() == 3 * pieces


def test_predict_reads_by_the_budget_that_it_is_measured_with(work: Work) -> None:
    forwards: list[int] = []
    work.model.encoder.register_forward_hook(lambda *_: forwards.append(1))
    work.predict(len(work.examples[0].text.pieces), 3, "fp32", CPU)()
    assert len(forwards) == 3
    work.predict(2048, 3, "fp32", CPU)()
    assert len(forwards) == 3 + 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "cuda:99"], "device 'cuda:99': "),
        (
            ["--device", "meta"],
            "device 'meta': only CUDA devices and the CPU are measured; without a GPU, --device cpu",
        ),
        (["--device", "cpu", "--encoder", "a=nowhere"], "encoder a=nowhere cannot be loaded: "),
        (["--device", "cpu", "--data", "nowhere.json"], "nowhere.json: "),
    ],
)
def test_what_is_not_there_is_told_in_one_line(
    script: ModuleType,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(ROOT)
    assert script.main(["gpu", *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith(f"benchmark: {message}")
    assert "\n" not in error


def test_an_encoder_that_reads_too_little_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GpuError, match="reads fewer than 512 pieces at once; give one of BERT's kind"):
        stored_encoder("small", str(tiny_encoder_dir(tmp_path / "encoder")))
