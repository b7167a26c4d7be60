"""Export a trained model to ONNX, into RUN/onnx in place of any export, and check that it gives what the model gives.

    python scripts/export_onnx.py runs/demo
    python scripts/export_onnx.py runs/demo --check data/releases.json
    python scripts/export_onnx.py runs/demo --int8 data/releases.json --split test

Then `load("runs/demo", backend="onnx")` and `pharmatriples extract` use it, without importing torch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pharmatriples import load
from pharmatriples.blocks import percent
from pharmatriples.dataset import read_documents
from pharmatriples.documents import Document
from pharmatriples.evaluation import evaluate
from pharmatriples.extractor import annotate
from pharmatriples.golden import INPUTS
from pharmatriples.onnx_export import export, note, quantize
from pharmatriples.onnx_model import DTYPES, FOLDER
from pharmatriples.safety import CONFIG, LARGEST_CONFIG, json_object
from pharmatriples.schema import Schema

FIGURES = ("mentions", "relations", "records")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of a trained model")
    parser.add_argument(
        "--check", metavar="DATA", help="documents on which both are compared; default: some built-in texts"
    )
    parser.add_argument(
        "--int8",
        metavar="DATA",
        help="also write an encoder with int8 weights, and measure on these annotated documents what it loses",
    )
    parser.add_argument("--split", help="of DATA: train, validation or test; default: all documents")
    options = parser.parse_args(arguments)
    if options.split and not (options.check or options.int8):
        parser.error("--split is of the data that --check or --int8 names")
    try:
        had_int8 = (options.run / FOLDER / DTYPES["int8"]).exists()
        check = _documents(options.check, options)
        gold = _documents(options.int8, options)
        texts = [document.text for document in check] or list(INPUTS)
        largest = export(options.run, texts)
        print(f"{options.run / FOLDER}: as the model on {len(texts)} texts, scores within {largest:.4f}")
        if had_int8 and not options.int8:
            print("the int8 encoder of the earlier export is gone with it; --int8 DATA makes another")
        if gold:
            about = {"data": Path(options.int8).name, "split": options.split, "documents": len(gold)}
            figures = _quantized(options.run, gold, about)
            lost = [
                f"{name} {percent(figures['float32'][name])} -> {percent(figures['int8'][name])}" for name in FIGURES
            ]
            print(f"int8, F1 on {len(gold)} documents: {', '.join(lost)}")
    except (ValueError, OSError, ImportError) as error:
        print(f"export: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("export: stopped", file=sys.stderr)
        return 130
    return 0


def _documents(data: str | None, options: argparse.Namespace) -> list[Document]:
    """Those of DATA, of the schema of the model; none where no DATA is named."""
    if data is None:
        return []
    given = json_object(options.run / CONFIG, LARGEST_CONFIG).get("schema")
    if not isinstance(given, str):
        raise ValueError(f"{options.run / CONFIG}: holds no schema; name a model that scripts/train.py wrote")
    schema = Schema.from_json(given)
    return read_documents(data, schema, options.split, report=lambda found: print(found, file=sys.stderr))


def _quantized(run: Path, gold: Sequence[Document], about: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The int8 encoder beside the others, with what it loses; where that cannot be measured it is not there."""
    path = quantize(run)
    try:
        note(run, int8=about)  # else it could not be loaded
        figures = {dtype: _scores(run, dtype, gold) for dtype in ("float32", "int8")}
        note(run, int8=about | figures)
    except BaseException:
        note(run, int8=None)
        path.unlink()
        raise
    return figures


def _scores(run: Path, dtype: str, gold: Sequence[Document]) -> dict[str, float]:
    """Figure -> F1 of the exported model."""
    extract: Any = load(run, backend="onnx", dtype=dtype)
    found = evaluate(gold, list(annotate(extract, gold)), extract.model.schema).flat()
    return {name: round(found[f"{name}_f1"], 4) for name in FIGURES}


if __name__ == "__main__":
    sys.exit(main())
