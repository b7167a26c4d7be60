"""Score a model on annotated releases: a table, with --json every figure, with --report a page with every error.

The figures of a model in a folder are also kept there, in evaluation.json: for its bundle (scripts/push_to_hub.py) and,
with --update-card, for the pages of this repository.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pharmatriples import load
from pharmatriples.calibration import calibration
from pharmatriples.card import check_set_name, examples, model_figures, set_figures, update_page
from pharmatriples.dataset import read_documents
from pharmatriples.distances import measure
from pharmatriples.evaluation import evaluate
from pharmatriples.extractor import annotate
from pharmatriples.files import check_place, write_json
from pharmatriples.import_report import ImportReport
from pharmatriples.measured import keep, kept
from pharmatriples.prediction import complete
from pharmatriples.report import write_report
from rich.console import Console
from rich.progress import track

PAGES = (Path("MODEL_CARD.md"), Path("README.md"))


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
        "--update-card",
        type=Path,
        nargs="*",
        metavar="PAGE",
        help="Markdown files whose blocks <!-- evaluation:... --> are renewed; default: MODEL_CARD.md and README.md",
    )
    parser.add_argument("--name", help="of this set of releases; default: the split, else the name of DATA")
    parser.add_argument(
        "--examples", action="store_true", help="keep errors in these releases as examples for the card"
    )
    parser.add_argument(
        "--figures",
        type=Path,
        default="benchmarks/card.json",
        help="with --update-card: the file that the figures are copied to; default: %(default)s",
    )
    parser.add_argument("--device", help="such as cpu or cuda:0; default: a GPU if there is one")
    options = parser.parse_args(arguments)
    if options.update_card is not None and options.gold_mentions:
        parser.error("--update-card is for what the model finds by itself, not for --gold-mentions")
    if options.gold_mentions and (options.name or options.examples):
        parser.error("--name and --examples are of figures that are kept; those with --gold-mentions are not")
    pages = [] if options.update_card is None else options.update_card or PAGES
    try:
        name = options.name or options.split or Path(options.data).stem
        if not options.gold_mentions:
            check_set_name(name)
        # Before the work.
        for page in pages:
            page.read_text(encoding="utf-8")
        if options.json:
            check_place(options.json)
        if options.report and options.report.exists() and not options.report.is_dir():
            raise ValueError(f"--report {options.report}: is a file; name a folder")
        extract: Any = load(options.model, device=options.device)
        schema = extract.model.schema
        refused = 0

        def tell(report: ImportReport) -> None:
            nonlocal refused
            print(report, file=sys.stderr)
            refused += len(report.of("refused"))

        gold = read_documents(options.data, schema, options.split, tell)
        found = (
            complete(extract.model, extract.windower, gold, extract.thresholds)
            if options.gold_mentions
            else annotate(extract, gold)
        )
        start = time.perf_counter()
        predicted = list(track(found, "Reading", len(gold), console=Console(stderr=True), transient=True))
        seconds = time.perf_counter() - start
        scores = evaluate(gold, predicted, schema)
        distances = measure(gold, predicted, schema, extract.windower)
        calibrated = calibration(gold, predicted, schema, extract.confidence)
        print(scores.table(distances.rows()))
        notes = [str(distances.together)]
        notes += [f"expected calibration error of {name}: {found.error:.3f}" for name, found in calibrated.items()]
        if options.gold_mentions:
            notes.append("mentions and entities were given: their scores say nothing")
        print("\n".join(notes))
        folder = Path(options.model)
        if refused:
            print(f"not kept beside the model: {refused} items of {options.data} are refused", file=sys.stderr)
        elif folder.is_dir() and not options.gold_mentions:
            own = set_figures(options.data, options.split, gold, scores, calibrated, seconds)
            if options.examples:
                own["examples"] = examples(gold, predicted, schema, extract.confidence)
            print(f"kept as {name!r} in {keep(folder, name, own)}", file=sys.stderr)
        if options.json:
            figures = scores.to_dict() | distances.to_dict()
            figures["calibration"] = {name: found.to_dict() for name, found in calibrated.items()}
            write_json(figures, options.json)
        if options.report:
            rows = [*scores.rows(), *distances.rows()]
            title = " · ".join(filter(None, (options.model, options.data, options.split)))
            told = write_report(
                options.report,
                options.model,
                gold,
                predicted,
                schema,
                calibrated,
                rows,
                title,
                notes,
                extract.confidence,
            )
            print("\n".join(told))
        if pages:
            sets = kept(folder)
            if not sets:
                raise ValueError(f"{folder}: no figures are kept there, so no page is renewed")
            store = {"model": model_figures(folder, extract.model), "sets": sets}
            write_json(store, options.figures)
            for page in pages:
                print(f"{page}: {', '.join(update_page(page, store))} renewed")
    except (ValueError, OSError, RuntimeError, AssertionError) as error:  # torch asserts that a device is there
        print(f"evaluate: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("evaluate: stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
