"""The figures of a model card, and the blocks of pages that show them.

The figures are what the model is and how it was trained, and for each named set of documents its scores. A page has the
lines `<!-- evaluation:NAME -->` and `<!-- /evaluation:NAME -->` where a block belongs.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from .blocks import markdown, percent, replace_block, table
from .calibration import Reliability
from .confidence import Confidence
from .documents import Document
from .errors import PARTS, Finding, findings
from .evaluation import Scores
from .files import write_text
from .measured import WEIGHTS, weights_sha256
from .runs import RECORD
from .schema import Schema

Figures = dict[str, Any]
# Examples of each group of errors in a card.
EXAMPLES = 2
# The blocks that show no single set: those that `blocks` makes over all of them, and those of scripts/benchmark.py.
_TAKEN = ("types", "calibration", "cost", "failures", "quality", "speed")


class CardError(ValueError):
    """Figures that cannot be used; the message names the file and says what to do."""


def check_set_name(name: str) -> None:
    """The name of a set of documents is that of its block, too.

    Raises:
        CardError: another block has it.
    """
    if name in _TAKEN:
        raise CardError(f"{name!r} is the name of another block of the pages; give the set another, by --name")


def read_figures(path: str | Path) -> Figures:
    """The figures in a file that scripts/evaluate.py wrote.

    Raises:
        CardError: the file holds something else.
    """
    try:
        figures = json.loads(Path(path).read_text(encoding="utf-8"))
        return {"model": dict(figures["model"]), "sets": dict(figures["sets"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CardError(f"{path}: no figures ({error!r}); scripts/evaluate.py --update-card writes them") from None


def model_figures(folder: str | Path, model: Any) -> dict[str, Any]:
    """What a trained model is, how it was trained and on what machine.

    Args:
        folder: of the model; `model`: as loaded from it.

    Raises:
        CardError: the folder does not tell how the model was trained.
    """
    folder = Path(folder)
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        config, history = record["config"], record.get("history", [])
        trained = {
            "encoder": config["encoder"],
            "encoder_layers": config.get("encoder_layers", 0),
            "seed": config["seed"],
            "run_sha256": run_digest(record),
            "data_sha256": record["data_sha256"],
            "precision": record["precision"],
            "training_seconds": max((entry.get("seconds", 0.0) for entry in history), default=None),
            "training_threads": record.get("threads"),  # of all processes; older models do not tell
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CardError(f"{folder}: does not tell how its model was trained ({error}); train it anew") from None
    return {
        "weights_sha256": weights_sha256(folder),
        "bytes": (folder / WEIGHTS).stat().st_size,
        "parameters": sum(p.numel() for p in model.parameters()),
        **trained,
        "threads": torch.get_num_threads(),
        "machine": machine(),
        "torch": torch.__version__.partition("+")[0],
    }


def run_digest(record: Mapping[str, Any]) -> str:
    """One value for what makes two runs the same; see `runs.run_record`."""
    same = {name: record[name] for name in ("config", "schema", "data_sha256")}
    return hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()


def machine() -> str:
    """The processor's name, and how many of its threads there are."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return f"{os.cpu_count()} threads of {found.group(1) if found else platform.machine()}"


def set_figures(
    data: str,
    split: str | None,
    gold: Sequence[Document],
    scores: Scores,
    calibrated: Mapping[str, Reliability],
    seconds: float,
) -> dict[str, Any]:
    """The figures of one set of documents.

    Args:
        data, split: where the documents come from.
        calibrated: what `calibration.calibration` found.
        seconds: that the model took to read the documents.
    """
    return {
        "data": Path(data).name,
        "split": split,
        "documents_sha256": documents_digest(gold),
        "characters": sum(len(d.text) for d in gold),
        "seconds": round(seconds, 2),
        "scores": scores.to_dict(),
        "calibration": {name: found.error for name, found in calibrated.items()},
    }


def documents_digest(documents: Sequence[Document]) -> str:
    """One value for annotated documents, whatever their order."""
    lines = sorted(json.dumps(d.to_dict(), sort_keys=True) for d in documents)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def examples(
    gold: Sequence[Document], predicted: Sequence[Document], schema: Schema, confidence: Confidence
) -> list[dict[str, str | float]]:
    """Of each part the commonest groups of errors that follow from no other, by the most confident ones."""
    pairs = zip(gold, predicted, strict=True)
    found = [(g.id, f) for g, p in pairs for f in findings(g, p, schema, confidence) if f.error]
    found.sort(key=lambda item: -(item[1].score or 0.0))
    chosen: list[dict[str, str | float]] = []
    for part in PARTS:
        labels = Counter(f.label for _, f in found if f.part == part and not f.follows)
        for label, count in labels.most_common(2):
            first: dict[str, Finding] = {}
            for id_, f in found:
                if f.label == label and not f.follows:
                    first.setdefault(id_, f)
            for id_, f in list(first.items())[:EXAMPLES]:
                sides = {"annotated": f.gold, "predicted": f.predicted}
                chosen.append({"group": label, "count": count, "document": id_, **sides})
    return chosen


# --- pages


def update_page(path: str | Path, figures: Figures) -> list[str]:
    """Renew the blocks of a page for which there are figures; returns their names.

    Raises:
        CardError: the page has no such block.
    """
    path = Path(path)
    page = path.read_text(encoding="utf-8")
    renewed, made = [], blocks(figures)
    for name, block in made.items():
        if f"<!-- evaluation:{name} -->" in page:
            page = replace_block(page, name, block, path)
            renewed.append(name)
    if not renewed:
        raise CardError(
            f"{path}: has no block for {', '.join(made)}: lines <!-- evaluation:NAME --> and "
            "<!-- /evaluation:NAME -->; add them"
        )
    write_text(page, path)
    return renewed


def blocks(figures: Figures) -> dict[str, str]:
    """Name -> Markdown: a block for each set, and `types`, `calibration`, `cost` and `failures` over all of them."""
    sets = figures["sets"]
    return {
        **{name: markdown(found["scores"]) for name, found in sets.items()},
        "types": _types(sets),
        "calibration": table(
            ["", *sets],
            ([kind, *(_error(s["calibration"].get(kind)) for s in sets.values())] for kind in _kinds(sets)),
        ),
        "cost": _cost(figures["model"], sets),
        "failures": _failures(sets),
    }


def _types(sets: Mapping[str, Any]) -> str:
    """F1 of each label in each set, and how often the annotation has it."""

    def rows() -> Iterator[list[str]]:
        scores = {name: found["scores"] for name, found in sets.items()}
        first = next(iter(scores.values()))
        for part in ("mentions", *(f"attributes/{name}" for name in first["attributes"]), "relations"):
            by_set = {name: _part(s, part) for name, s in scores.items()}
            for label in dict.fromkeys(label for found in by_set.values() for label in found if label != "micro"):
                cells = (found.get(label) for found in by_set.values())
                title = f"{part.rpartition('/')[2].replace('_', ' ')}: {label.replace('_', ' ')}"
                yield [title, *(_f1(f) for f in cells)]

    return table(["F1 (number annotated)", *sets], rows())


def _f1(found: Mapping[str, Any] | None) -> str:
    """The F1, and how often the annotation has it; none where neither side has it."""
    if not found:
        return ""
    annotated = found["tp"] + found["fn"]
    return f"{percent(found['f1'])} ({annotated})" if annotated + found["fp"] else "–"


def _error(found: float | None) -> str:
    """A calibration error; none where nothing was scored."""
    return "–" if found is None else f"{found:.3f}"


def _part(scores: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    found: Any = scores
    for name in path.split("/"):
        found = found[name]
    return found


def _kinds(sets: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(kind for found in sets.values() for kind in found["calibration"]))


def _cost(model: Mapping[str, Any], sets: Mapping[str, Any]) -> str:
    characters = sum(found["characters"] for found in sets.values())
    seconds = sum(found["seconds"] for found in sets.values())
    layers = model.get("encoder_layers", 0)
    kept = f", its lowest {layers} layers" if layers else ""
    rows = [
        ["parameters", f"{model['parameters'] / 1e6:.1f} million"],
        ["weights", f"{model['bytes'] / 1e6:.0f} MB"],
        ["encoder", f"`{model['encoder']}`{kept}"],
        ["machine", f"{model['machine']}, torch {model['torch']}, {model['threads']} of its threads used"],
        ["reading", f"{characters / max(seconds, 1e-9):,.0f} characters a second ({characters:,} in all)"],
    ]
    if model["training_seconds"] is not None:
        what = f"{model['training_seconds']:.0f} s in {model['precision']}"
        if threads := model.get("training_threads"):
            what += f" with {threads} threads: {model['training_seconds'] * threads / 3600:.2f} hours of one"
        rows.insert(4, ["training", f"{what}; energy was not metered"])
    return table(["", ""], rows)


def _failures(sets: Mapping[str, Any]) -> str:
    rows = (
        [str(e["group"]), str(e["count"]), *(_cell(e[key]) for key in ("document", "annotated", "predicted"))]
        for found in sets.values()
        for e in found.get("examples", ())
    )
    return table(["error", "how often", "for example in", "annotated", "predicted"], rows)


def _cell(words: str) -> str:
    return " ".join(words.split()).replace("|", "\\|") or "–"
