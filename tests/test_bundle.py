"""A bundle: what is in it, the four ways to load it, and that it knows when it gives something else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
import yaml
from bundled import REPO_ID, bundle_dir
from pharmatriples import load
from pharmatriples.blocks import markdown
from pharmatriples.bundle import BundleError, bundle
from pharmatriples.cli import main as command
from pharmatriples.golden import DriftError, GoldenError
from pharmatriples.hub_card import HubCardError, base_model, readme
from pharmatriples.measured import MeasuredError, keep, kept
from pharmatriples.onnx_export import export
from pharmatriples.onnx_model import EXPORT, exported
from pharmatriples.onnx_model import FOLDER as ONNX
from tiny import ROOT, tiny_model_dir, tiny_run_dir
from transformers.dynamic_module_utils import get_imports, get_relative_imports

__all__ = ["bundle_dir"]

SEEDS = [path.read_bytes().decode("utf-8") for path in sorted((ROOT / "seeds").glob("*.txt"))]
CARD = "# Title\n\nSee [the data](data/README.md).\n\n<!-- results -->\nF1 99.9\n<!-- /results -->\n\nMade by [x](https://x)."
# What a user of the code in a bundle may be asked to have installed.
THIRD_PARTY = {"numpy", "torch", "transformers", "tokenizers", "yaml", "dateutil", "safetensors"}

# Arguments of a call, which every way takes.
OPTIONS = {"release_date": "2025-03-03", "threshold": {"treats": 0.4, "records": 0.01}}
WAYS = {
    "load": "import pharmatriples; extract = pharmatriples.load(model)",
    "pipeline": "from transformers import pipeline; extract = pipeline(model=model, trust_remote_code=True)",
    "AutoModel": """
from transformers import AutoModel, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(model)
loaded = AutoModel.from_pretrained(model, trust_remote_code=True)
extract = lambda texts, **options: loaded.extract(texts, tokenizer, **options)""",
    "AutoModel, registered": """
import pharmatriples
from transformers import AutoModel, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(model)
loaded = AutoModel.from_pretrained(model)
extract = lambda texts, **options: loaded.extract(texts, tokenizer, **options)""",
}


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter that has every library of this one, but not the package."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    venv.create(folder, symlinks=True)
    (packages,) = (folder / "lib").glob("python*/site-packages")
    # A path in a .pth file is searched, but the .pth files in it, such as that of the package, are not read.
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return str(folder / "bin" / "python")


def run(python: str, code: str, cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter, offline, with caches of its own."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "PYTHON"))}
    environment |= {"HF_HOME": str(cache), "HF_MODULES_CACHE": str(cache / "modules"), "HF_HUB_OFFLINE": "1"}
    if python == sys.executable:
        environment["PYTHONPATH"] = str(ROOT / "model")
    return subprocess.run(
        [python, "-c", code, *arguments], cwd=cache, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def expected(bundle_dir: Path) -> list[dict]:
    results = load(bundle_dir)(SEEDS, **OPTIONS)
    assert sum(len(result["entities"]) for result in results) > 10
    return results


@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_load_gives_the_same_results(
    way: str, bundle_dir: Path, bare: str, expected: list[dict], tmp_path: Path
) -> None:
    texts, out = tmp_path / "texts.json", tmp_path / "out.json"
    texts.write_text(json.dumps(SEEDS))
    code = f"""
import json, sys
model, texts, out = sys.argv[1:]
{WAYS[way]}
open(out, "w").write(json.dumps(extract(json.load(open(texts)), **{OPTIONS})))"""
    uses_package = "import pharmatriples" in WAYS[way]
    python = sys.executable if uses_package else bare
    if not uses_package:
        assert "No module named 'pharmatriples'" in run(bare, "import pharmatriples", tmp_path).stderr
    done = run(python, code, tmp_path, str(bundle_dir), str(texts), str(out))
    assert done.returncode == 0, done.stderr
    assert json.loads(out.read_text()) == expected
    assert (tmp_path / "modules" / "transformers_modules").exists() is not uses_package


def test_the_code_that_travels_asks_for_few_libraries(bundle_dir: Path) -> None:
    asked = set()
    for path in bundle_dir.glob("*.py"):
        # The rule of transformers: what is imported under `try` may be missing.
        asked |= set(get_imports(path))
        assert all((bundle_dir / f"{module}.py").is_file() for module in get_relative_imports(path))
    assert asked - sys.stdlib_module_names <= THIRD_PARTY


def test_the_card_has_its_header_and_the_figures_of_the_evaluation(bundle_dir: Path) -> None:
    page = (bundle_dir / "README.md").read_text(encoding="utf-8")
    header = yaml.safe_load(page.split("---\n")[1])
    figures = json.loads((bundle_dir / "evaluation.json").read_text())["sets"]["test"]
    measured = {
        metric["name"]: metric["value"]
        for result in header["model-index"][0]["results"]
        for metric in result["metrics"]
    }
    assert measured["relations f1"] == round(figures["scores"]["relations"]["micro"]["f1"], 4) > 0
    assert markdown(figures["scores"]) in page
    assert "over three seeds" not in page.casefold(), "figures of another model"
    assert header["base_model"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert (header["license"], header["language"], header["pipeline_tag"]) == (
        "apache-2.0",
        "en",
        "token-classification",
    )
    assert header["datasets"] == ["pharmatriples-releases"]
    assert f'pipeline(model="{REPO_ID}", trust_remote_code=True)' in page
    assert "](data/README.md)" not in page
    assert "configs/demo.yaml" not in page, "what is said of another model"
    assert "Encoder `embedded:minilm`" in page


def test_a_set_that_was_only_measured_on_is_no_part_of_the_data_that_was_learned_from(tmp_path: Path) -> None:
    run = tiny_run_dir(tmp_path / "run")
    keep(run, "real", {**kept(run)["test"], "data": "my-own.json", "split": None})
    page = readme(CARD, REPO_ID, json.loads((run / "training.json").read_text()), kept(run), {}, ["acme/releases"])
    header = yaml.safe_load(page.split("---\n")[1])
    found = {(r["dataset"]["name"], r["dataset"]["type"]) for r in header["model-index"][0]["results"]}
    assert found == {("test", "acme/releases"), ("real", "pharmatriples-my-own")}
    assert header["datasets"] == ["acme/releases"]


def test_an_export_goes_along_with_its_int8_encoder(tmp_path: Path) -> None:
    run = tiny_run_dir(tmp_path / "run")
    export(run)
    (run / ONNX / "encoder.int8.onnx").write_bytes(b"x")
    assert bundle(run, tmp_path / "out", REPO_ID, CARD) == []
    files = {path.name: path.read_bytes() for path in (run / ONNX).iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "out" / ONNX).iterdir()} == files
    assert exported(tmp_path / "out")
    about = json.loads((run / ONNX / EXPORT).read_text())
    (run / ONNX / EXPORT).write_text(json.dumps({**about, "weights_sha256": "0"}))
    (note,) = bundle(run, tmp_path / "other", REPO_ID, CARD)
    assert "no ONNX export: that of " in note
    assert not (tmp_path / "other" / ONNX).exists()


def test_whoever_may_read_the_configuration_may_read_the_weights(bundle_dir: Path) -> None:
    modes = {(bundle_dir / name).stat().st_mode for name in ("config.json", "model.safetensors")}
    assert len(modes) == 1


def test_the_bundle_says_how_it_was_made(bundle_dir: Path) -> None:
    training = json.loads((bundle_dir / "training.json").read_text())
    assert training["config"]["seed"] == 13
    assert len(training["data_sha256"]) == 64
    assert training["config"]["output_dir"] == "run", "a path of this machine"
    assert json.loads((bundle_dir / "golden.json").read_text())["versions"].keys() >= {"transformers", "torch"}


def test_without_an_evaluation_there_is_no_model_index(bundle_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle_dir, tmp_path / "run")
    (tmp_path / "run" / "evaluation.json").unlink()
    (note,) = bundle(tmp_path / "run", tmp_path / "out", REPO_ID, CARD, ["acme/data"])
    assert "scripts/evaluate.py" in note
    page = (tmp_path / "out" / "README.md").read_text()
    assert "model-index" not in page
    assert "99.9" not in page
    assert yaml.safe_load(page.split("---\n")[1])["datasets"] == ["acme/data"]
    # A bundle of a bundle is whole, too.
    assert {p.name for p in (tmp_path / "out").iterdir()} == {p.name for p in bundle_dir.iterdir()} - {
        "evaluation.json"
    }
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_figures_of_other_weights_are_refused(bundle_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle_dir, tmp_path / "run")
    with open(tmp_path / "run" / "model.safetensors", "ab") as weights:
        weights.write(b" ")
    with pytest.raises(MeasuredError, match="the figures of other weights; run scripts/evaluate.py again"):
        bundle(tmp_path / "run", tmp_path / "out", REPO_ID, CARD)
    keep(tmp_path / "run", "new", {"table": ""})
    assert list(kept(tmp_path / "run")) == ["new"]


def test_what_cannot_be_bundled_is_refused(bundle_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such folder"):
        bundle(tmp_path / "nowhere", tmp_path / "out", REPO_ID, CARD)
    with pytest.raises(BundleError, match="no finished run, for want of a training.json"):
        bundle(tiny_model_dir(tmp_path / "model"), tmp_path / "out", REPO_ID, CARD)
    shutil.copytree(bundle_dir, tmp_path / "damaged")
    for text in ("[1]", '{"config": {"seed": 1}, "data_sha256": "d"}'):
        (tmp_path / "damaged" / "training.json").write_text(text)
        with pytest.raises(BundleError, match="no finished run"):
            bundle(tmp_path / "damaged", tmp_path / "out", REPO_ID, CARD)
    with pytest.raises(BundleError, match="exists already"):
        bundle(bundle_dir, tmp_path / "model", REPO_ID, CARD)
    with pytest.raises(HubCardError, match="between the lines <!-- results -->"):
        readme("no place", REPO_ID, {}, {}, {}, [])


def test_the_base_model_is_a_hub_id_or_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert base_model("dmis-lab/biobert-base-cased-v1.2") == "dmis-lab/biobert-base-cased-v1.2"
    assert base_model(str(tmp_path)) is None
    (tmp_path / "acme" / "encoder").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert base_model("acme/encoder") is None


# --- golden inputs


@pytest.fixture
def copy(bundle_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_dir, tmp_path / "copy"))


def edit(path: Path, change) -> None:  # noqa: ANN001
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def drifts(model: Path, **kwargs: object) -> list[str]:
    with pytest.raises(DriftError) as raised:
        load(model, verify=True, **kwargs)  # type: ignore[arg-type]
    return [drift.partition(":")[0] for drift in raised.value.drifts]


def test_a_bundle_that_gives_what_it_gave_is_verified(bundle_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert load(bundle_dir, verify=True, threshold=0.9)
    assert command(["verify", str(bundle_dir)]) == 0
    assert "6 golden inputs as recorded" in capsys.readouterr().out


def test_another_tokenizer_is_told(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(copy / "tokenizer_config.json", lambda t: t.update(do_lower_case=False))
    assert command(["verify", str(copy)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "tokenizer: input 2, 3, 4, 5 of 6 is cut into other pieces" in err
    assert "special tokens" not in err


def test_another_special_token_is_told(copy: Path) -> None:
    edit(copy / "tokenizer_config.json", lambda t: t.update(cls_token="[MASK]"))
    assert drifts(copy)[0] == "special tokens"


def test_another_dtype_is_told(bundle_dir: Path) -> None:
    with pytest.raises(DriftError, match="dtype: the weights are bfloat16, were float32"):
        load(bundle_dir, verify=True, dtype="bfloat16")


def test_another_score_is_told_beyond_rounding(copy: Path) -> None:
    entity = json.loads((copy / "golden.json").read_text())["inputs"][3]["result"]["entities"][0]

    def shift(by: float) -> None:
        score = entity["mentions"][0]["score"] - by
        edit(
            copy / "golden.json",
            lambda g: g["inputs"][3]["result"]["entities"][0]["mentions"][0].update(score=score),
        )

    shift(0.0009)
    assert load(copy, verify=True)
    shift(0.0011)
    assert drifts(copy) == ["scores", "versions"]


def test_another_result_and_the_version_that_made_it_are_told(copy: Path) -> None:
    def change(golden: dict) -> None:
        golden["versions"]["transformers"] = "5.0.0"
        golden["inputs"][2]["result"]["entities"].pop()

    edit(copy / "golden.json", change)
    with pytest.raises(DriftError, match=r"results: input 2.entities.length is .*; versions: transformers 5.0.0 -> "):
        load(copy, verify=True)


def test_a_model_without_golden_inputs_cannot_be_verified(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "golden.json").write_text("{}")
    with pytest.raises(GoldenError, match="damaged"):
        load(copy, verify=True)
    (copy / "golden.json").unlink()
    assert command(["verify", str(copy)]) == 2
    assert "carries no golden inputs" in capsys.readouterr().err
    assert command(["verify", str(copy / "nowhere")]) == 2
