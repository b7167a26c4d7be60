"""The export to ONNX: the same results, without torch, and what is refused."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import shutil
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from pharmatriples import load
from pharmatriples.dataset import read_documents
from pharmatriples.golden import INPUTS
from pharmatriples.onnx_export import ExportError, compare, export
from pharmatriples.onnx_model import EXPORT, FOLDER
from pharmatriples.safety import ModelError
from tiny import RIVALS, ROOT, SCHEMA, acme, tiny_model_dir

SCRIPT = ROOT / "scripts" / "export_onnx.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_model_dir(tmp_path_factory.mktemp("onnx") / "run")
    assert export(folder) <= 1e-3
    return folder


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


def test_the_export_gives_what_the_model_gives(run: Path) -> None:
    documents = read_documents(ROOT / "data" / "releases.json", SCHEMA, "test")
    texts = [*INPUTS, acme().text, "\x00", *(d.text for d in documents[:8])]
    expected, found = load(run, device="cpu")(texts), load(run, backend="onnx")(texts)
    assert sum(len(result["relations"]) for result in expected) > 50
    assert compare(expected, found) <= 1e-3


def test_relations_that_may_join_one_pair_share_its_probability_as_with_torch(tmp_path: Path) -> None:
    folder = tiny_model_dir(tmp_path / "run", RIVALS)
    export(folder)
    texts = [d.text for d in read_documents(ROOT / "data" / "releases.json", SCHEMA, "test")[:8]]
    assert load(folder, device="cpu").model.relation_head.own is not None
    one, other = (load(folder, threshold=0.0, **way)(texts) for way in ({"device": "cpu"}, {"backend": "onnx"}))
    assert compare(one, other) <= 1e-3
    scores: dict[tuple[int, str, str], list[float]] = {}
    for number, result in enumerate(one):
        for relation in result["relations"]:
            if relation["type"] in ("treats", "worsens"):
                scores.setdefault((number, relation["head"], relation["tail"]), []).append(relation["score"])
    assert len(scores) >= 8
    assert all(len(pair) == 2 and sum(pair) <= 1.0001 for pair in scores.values())


def test_the_tags_of_a_crf_are_as_with_torch(tmp_path: Path) -> None:
    run = tiny_model_dir(tmp_path / "run", crf=True)
    assert export(run) <= 1e-3
    texts = [acme().text, "", acme().text.replace(". ", ".\n")]
    expected, found = load(run, device="cpu")(texts), load(run, backend="onnx")(texts)
    assert expected[0]["entities"]
    assert compare(expected, found) <= 1e-3


def test_it_takes_neither_torch_nor_transformers(run: Path) -> None:
    code = (
        "import sys\nfrom pharmatriples import load\n"
        "found = load(sys.argv[1], backend='onnx')(['NMPA accepted ACM-101 for lupus.'] * 3)\n"
        "print(len(found), *{'torch', 'transformers', 'sklearn', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["3"]


def test_thresholds_frames_and_streams_are_as_with_torch(run: Path) -> None:
    one, other = load(run, device="cpu", threshold=0.2), load(run, backend="onnx", threshold=0.2)
    text = acme().text
    assert compare([one(text)], [other(text)]) <= 1e-3
    assert one.to_frame([text]).drop(columns="score").equals(other.to_frame([text]).drop(columns="score"))
    assert [len(found["entities"]) for found in other(iter([text, ""]))] == [len(one(text)["entities"]), 0]


def _result(*entities: dict[str, Any]) -> dict[str, Any]:
    return {"entities": list(entities), "relations": [], "records": []}


def test_it_can_be_pickled_copied_and_used_in_a_forked_process(run: Path) -> None:
    extract = load(run, backend="onnx")
    texts = [acme().text] * 40
    expected = extract(texts)
    assert pickle.loads(pickle.dumps(extract))(texts) == expected
    assert deepcopy(extract)(texts) == expected
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(extract, (texts,)).get(timeout=60) == expected


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("calibration", 3, "calibration is not as training leaves it"),
        ("thresholds", {"treats": None}, "thresholds must map names to numbers"),
        ("window", "x", "window must be a whole number"),
        ("stride", -5, "stride must be a whole number"),
    ],
)
def test_a_damaged_configuration_is_refused(copy: Path, key: str, value: Any, message: str) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(ModelError, match=f"^{copy}: config.json: {message}"):
        load(copy, backend="onnx")


def test_results_that_differ_are_told() -> None:
    result = _result({"id": "DRUG-1", "score": 0.5})
    assert compare([result], [_result({"id": "DRUG-1", "score": 0.5001})]) == pytest.approx(1e-4)
    one, other = ({**result, "records": [{"score": score}]} for score in (0.5, 0.5009))
    assert compare([one], [other]) == pytest.approx(9e-4)
    wrong = ({"id": "DRUG-1", "score": 0.501}, {"id": "DRUG-1", "score": float("nan")}, {"id": "DRUG-2", "score": 0.5})
    for other in (*map(_result, wrong), _result()):
        with pytest.raises(ExportError, match="text 0"):
            compare([result], [other])


def test_an_export_of_other_weights_is_none(copy: Path) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ValueError, match=f"{copy}: no ONNX export of these weights; make one with: .*export_onnx.py"):
        load(copy, backend="onnx")


def test_the_command_takes_an_export_that_fits_and_else_torch(copy: Path) -> None:
    (copy / "acme.txt").write_text(acme().text)
    code = (
        "import sys\nfrom pharmatriples.cli import main\n"
        "print(main(['extract', sys.argv[1] + '/acme.txt', '--model', sys.argv[1], '-o', sys.argv[1] + '/out.csv']))\n"
        "print('torch' in sys.modules)"
    )

    def run() -> list[str]:
        done = subprocess.run([sys.executable, "-c", code, str(copy)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    assert run() == ["0", "False"]
    about = copy / FOLDER / EXPORT
    about.write_text(about.read_text().replace('"weights_sha256": "', '"weights_sha256": "0'))
    assert run() == ["0", "True"]


def test_a_missing_or_damaged_graph_is_named(copy: Path) -> None:
    (copy / FOLDER / "tags.onnx").write_bytes(b"no graph")
    with pytest.raises(ValueError, match=r"onnx/tags\.onnx is no graph that onnxruntime reads"):
        load(copy, backend="onnx")
    (copy / FOLDER / "tags.onnx").unlink()
    with pytest.raises(ValueError, match=r"onnx/tags\.onnx is missing"):
        load(copy, backend="onnx")
    (copy / FOLDER / EXPORT).write_text("{}")
    with pytest.raises(ValueError, match=r"was not written by scripts/export_onnx\.py"):
        load(copy, backend="onnx")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backend": "jax"}, "backend must be torch or onnx, found 'jax'"),
        ({"backend": "onnx", "device": "cuda:0"}, "runs on the cpu"),
        ({"backend": "onnx", "verify": True}, "verifies nothing"),
        ({"backend": "onnx", "dtype": "bfloat16"}, "dtype must be auto, float32, int8, found 'bfloat16'"),
        ({"backend": "onnx", "dtype": "int8"}, "its export has no int8 encoder"),
    ],
)
def test_what_onnx_cannot_do_is_said(run: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(run, **arguments)


def test_an_int8_encoder_comes_with_what_it_loses(copy: Path) -> None:
    data = copy / "acme.jsonl"
    data.write_text(json.dumps(acme().to_dict()) + "\n")
    command = [sys.executable, str(SCRIPT), str(copy), "--check", str(data), "--int8", str(data)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "as the model on 1 texts" in done.stdout
    assert "int8, F1 on 1 documents: mentions" in done.stdout
    about = json.loads((copy / FOLDER / EXPORT).read_text())["int8"]
    assert about["documents"] == 1
    assert set(about["float32"]) == set(about["int8"]) == {"mentions", "relations", "records"}
    small = load(copy, backend="onnx", dtype="int8")
    texts = [acme().text, "FDA " * 200, "Beta stops " * 30, "x"]
    assert small(acme().text)["entities"]
    assert small(texts) == [small(text) for text in texts]


def test_the_script_says_errors_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path / "nowhere")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("export: ")
    assert done.stderr.count("\n") == 1
