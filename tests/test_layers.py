"""The layers: a module of the package imports only from layers below its own, flat and by name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "model" / "pharmatriples"

LAYERS = (
    {"schema", "dates", "frames", "registration", "blocks", "lanes", "precision", "timing", "csv_lines", "attention"}
    | {"options", "files"},
    {"documents", "releases"},
    {"labelstudio", "labelstudio_task", "labelstudio_result", "labelstudio_offsets", "import_report"}
    | {"batches", "progress"}
    | {"database_ids", "pubtator", "bioc", "splits", "layout"},
    {"windows", "configuration", "confidence", "decoding", "crf", "studio", "arguments", "records"}
    | {"golden", "measured"},
    {"dataset", "pairs", "heads", "prediction", "results", "scaling", "speed_table"},
    {"runs", "extractor"},
    {"modeling"},
    {"features", "evaluation", "page", "tables", "ranking", "safety"},
    {"checkpoint", "onnx_model", "gpu_work", "outputs"}
    | {"training", "judgement", "differences", "distances", "bench_table", "id_evaluation", "hub_card"},
    {"pipeline", "agreement", "preannotation", "errors", "calibration", "stock", "speed_gpu", "bulk"},
    {"loading", "speed_training", "plots"},
    {"suspects", "backend", "annotators", "bench", "pseudo", "card", "spacy_component", "onnx_export"}
    | {"speed_inference", "speed_scaling", "bundle", "hub", "ray_extract"},
    {"report", "cli"},
    {"__init__", "__main__"},
)
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}
# Parts of one job, split for length: the first may import the second.
WITHIN = {
    ("labelstudio", "labelstudio_task"),
    ("labelstudio", "labelstudio_result"),
    ("labelstudio", "labelstudio_offsets"),
    ("labelstudio", "import_report"),
    ("labelstudio_task", "labelstudio_result"),
    ("labelstudio_task", "labelstudio_offsets"),
    ("labelstudio_task", "import_report"),
    ("labelstudio_result", "labelstudio_offsets"),
    ("labelstudio_result", "import_report"),
    ("database_ids", "import_report"),
    ("pubtator", "database_ids"),
    ("pubtator", "import_report"),
    ("bioc", "database_ids"),
    ("bioc", "import_report"),
    ("training", "judgement"),
}


def faults(name: str, source: str) -> Iterator[str]:
    """What the imports of module `name` do that they must not."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == PACKAGE.name:
                    yield f"{name}:{node.lineno}: write `from .module import name`, not `import {alias.name}`"
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level == 0 and module.split(".")[0] == PACKAGE.name:
                yield f"{name}:{node.lineno}: write `from .module import name`, not `from {module}`"
            elif node.level > 0 and (node.level != 1 or not module or "." in module):
                yield f"{name}:{node.lineno}: a checkpoint holds the modules flat: only `from .module import name`"
            elif node.level == 1 and module not in LAYER:
                yield f"{name}:{node.lineno}: {module} has no layer"
            elif node.level == 1 and LAYER[module] >= LAYER[name] and (name, module) not in WITHIN:
                yield f"{name}:{node.lineno}: {name} (layer {LAYER[name]}) imports {module} ({LAYER[module]})"


def modules() -> list[str]:
    return sorted(path.stem for path in PACKAGE.glob("*.py"))


@pytest.mark.parametrize("name", modules())
def test_imports_lead_to_lower_layers(name: str) -> None:
    assert list(faults(name, (PACKAGE / f"{name}.py").read_text(encoding="utf-8"))) == []


def test_each_module_has_a_layer_and_the_package_is_flat() -> None:
    assert set(modules()) == set(LAYER)
    assert [path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"] == []


@pytest.mark.parametrize(
    "line",
    [
        "from .pipeline import load",
        "from .documents import Document",
        "from . import schema",
        "from ..schema import Schema",
        "from .a.b import c",
        "from .unheard_of import x",
        "import pharmatriples.schema",
        "from pharmatriples.schema import Schema",
        "def late():\n    from .training import train",
    ],
)
def test_a_wrong_import_is_found(line: str) -> None:
    assert list(faults("documents", line))


def test_a_right_import_is_passed() -> None:
    assert list(faults("documents", "import json\nfrom .schema import Schema\nfrom collections import Counter")) == []
