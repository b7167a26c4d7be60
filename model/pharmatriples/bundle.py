"""A bundle: all that a trained model needs on the hub, in one folder, made of the classes that are imported here.

Made anew each time: a pipeline that was itself loaded from a bundle would save without its own code.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers.dynamic_module_utils import get_relative_import_files

from .files import write_json
from .golden import FILE as GOLDEN
from .golden import record, versions
from .hub_card import readme
from .loading import load
from .measured import FILE as EVALUATION
from .measured import kept, weights_sha256
from .modeling import quiet
from .onnx_model import FOLDER as ONNX
from .onnx_model import exported
from .pipeline import TASK
from .runs import RECORD, save

_HERE = Path(__file__).parent
_AUTO_MAP = {"AutoConfig": "configuration.TriplesConfig", "AutoModel": "modeling.TriplesModel"}
_PIPELINES = {TASK: {"impl": "pipeline.TriplesPipeline", "pt": ["AutoModel"], "type": "text"}}


class BundleError(ValueError):
    """There is nothing to bundle, or no place for it; the message says what to do."""


def code_files() -> list[Path]:
    """The modules that travel: model, pipeline, and what they import of this package, by the rule of transformers."""
    starts = [_HERE / "modeling.py", _HERE / "pipeline.py"]
    return sorted({*starts, *(Path(file) for start in starts for file in get_relative_import_files(start))})


def bundle(run: str | Path, out: str | Path, repo_id: str, card: str, data_ids: Sequence[str] = ()) -> list[str]:
    """Make the bundle of a finished run in the new folder `out`.

    Args:
        run: a folder that scripts/train.py wrote.
        repo_id: where it goes, for the commands that its README shows.
        card: text of the model card.
        data_ids: hub ids of the data that it was trained on.

    Returns:
        what is worth saying: what the bundle lacks, one line each.

    Raises:
        BundleError: `run` is no finished run, or `out` is taken.
        ValueError: the model cannot be loaded, its evaluation is that of another, or the card has no place for results.
    """
    run, out = Path(run), Path(out)
    training = _training(run)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BundleError(f"{out}: exists already; name another folder, or remove it")
    sets = kept(run)
    extract: Any = load(run, device="cpu")
    made_with = versions()
    page = readme(card, repo_id, training, sets, made_with, list(data_ids))
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as draft:
        folder = Path(draft) / "bundle"
        extract.model.config.auto_map = dict(_AUTO_MAP)
        extract.model.config.custom_pipelines = dict(_PIPELINES)
        with quiet():
            save(extract.model, folder)
        extract.tokenizer.save_pretrained(folder)
        for module in code_files():
            shutil.copyfile(module, folder / module.name)
        write_json(training, folder / RECORD)
        write_json(record(extract), folder / GOLDEN)
        if sets:
            shutil.copyfile(run / EVALUATION, folder / EVALUATION)
        if exported(run) and weights_sha256(folder) == weights_sha256(run):
            shutil.copytree(run / ONNX, folder / ONNX)
        (folder / "README.md").write_text(page, encoding="utf-8")
        if out.exists():
            out.rmdir()
        folder.rename(out)
    lacks = [] if sets else [f"no model-index: {run} was not evaluated; run scripts/evaluate.py {run} DATA first"]
    if (run / ONNX).exists() and not (out / ONNX).exists():
        lacks.append(f"no ONNX export: that of {run} is of other weights; run scripts/export_onnx.py {out}")
    return lacks


def _training(run: Path) -> dict[str, Any]:
    """training.json of a run; paths of the machine that it was made on are cut to their last part."""
    if not run.is_dir():
        raise BundleError(f"{run}: no such folder; name one that scripts/train.py wrote")
    try:
        found = json.loads((run / RECORD).read_text(encoding="utf-8"))
        config = {key: _portable(value) for key, value in found["config"].items()}
        if not {"encoder", "data", "seed"} <= config.keys():  # the card names them
            raise KeyError("config")
        return {**found, "config": config, "data_sha256": found["data_sha256"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise BundleError(f"{run}: no finished run, for want of a {RECORD}; train one with scripts/train.py") from None


def _portable(value: Any) -> Any:
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
