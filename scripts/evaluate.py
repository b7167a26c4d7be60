"""Score a model on annotated releases: a table, with --json every figure, with --report a page with every error.

The figures of a model in a folder are also kept there, in evaluation.json, for its bundle (scripts/push_to_hub.py).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pharmatriples import load
from pharmatriples.calibration import calibration
from pharmatriples.dataset import read_documents
from pharmatriples.distances import measure
from pharmatriples.evaluation import evaluate, replace_block
from pharmatriples.measured import keep
from pharmatriples.pipeline import annotate
from pharmatriples.prediction import complete
from pharmatriples.report import write_report
from rich.console import Console
from rich.progress import track


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", help="a folder or a hub id")
    parser.add_argument(
        "data", metavar="DATA", help="Label Studio export, JSON lines, PubTator, BioC, or folder with a data set"
    )
    parser.add_argument("--split", help="train, validation or test; default: all documents")
    parser.add_argument("--json", type=Path, metavar="OUT", help="file for all figures")
    parser.add_argument(
        "--report", type=Path, metavar="DIR", help="folder for report.html, calibration.png and learning_curve.png"
    )
    parser.add_argument(
        "--gold-mentions",
        action="store_true",
        help="give the model the annotated mentions and entities: what it does with them is scored",
    )
    parser.add_argument(
        "--update-readme",
        type=Path,
        metavar="PAGE",
        help="Markdown file in which the part from <!-- evaluation:NAME --> to <!-- /evaluation:NAME --> is renewed",
    )
    parser.add_argument("--name", help="of the set; default: the split, else the name of DATA")
    parser.add_argument("--device", help="such as cpu or cuda:0; default: a GPU if there is one")
    options = parser.parse_args(arguments)
    if options.update_readme and not options.name:
        parser.error("--update-readme needs --name")
    try:
        extract: Any = load(options.model, device=options.device)
        schema = extract.model.schema
        gold = read_documents(options.data, schema, options.split, report=lambda found: print(found, file=sys.stderr))
        found = (
            complete(extract.model, extract.windower, gold, extract.thresholds)
            if options.gold_mentions
            else annotate(extract, gold)
        )
        predicted = list(track(found, "Reading", len(gold), console=Console(stderr=True), transient=True))
        scores = evaluate(gold, predicted, schema)
        distances = measure(gold, predicted, schema, extract.windower)
        calibrated = calibration(gold, predicted, schema, extract.confidence)
        print(scores.table(distances.rows()))
        notes = [str(distances.together)]
        notes += [f"expected calibration error of {name}: {found.error:.3f}" for name, found in calibrated.items()]
        if options.gold_mentions:
            notes.append("mentions and entities were given: their scores say nothing")
        print("\n".join(notes))
        if Path(options.model).is_dir() and not options.gold_mentions:
            lines = "\n".join(json.dumps(document.to_dict(), sort_keys=True) for document in gold)
            name = options.name or options.split or Path(options.data).stem
            kept = {
                "data": Path(options.data).name,
                "split": options.split,
                "data_sha256": hashlib.sha256(lines.encode()).hexdigest(),
                "table": scores.markdown(),
                "scores": scores.to_dict(),
            }
            try:
                print(f"kept as {name!r} in {keep(Path(options.model), name, kept)}", file=sys.stderr)
            except OSError as error:
                print(f"evaluate: the figures are not kept beside the model: {error}", file=sys.stderr)
        if options.json:
            figures = scores.to_dict() | distances.to_dict()
            figures["calibration"] = {name: found.to_dict() for name, found in calibrated.items()}
            options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        if options.report:
            rows = [*scores.rows(), *distances.rows()]
            title = " · ".join(filter(None, (options.model, options.data, options.split)))
            types = list(schema.entities)
            told = write_report(options.report, options.model, gold, predicted, types, calibrated, rows, title, notes)
            print("\n".join(told))
        if options.update_readme:
            page = options.update_readme.read_text(encoding="utf-8")
            options.update_readme.write_text(replace_block(page, options.name, scores.markdown()), encoding="utf-8")
    except (ValueError, OSError, RuntimeError, AssertionError) as error:  # torch asserts that a device is there
        print(f"evaluate: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("evaluate: stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
