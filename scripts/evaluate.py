"""Score a model on annotated releases: a table, and with --json every figure with its counts."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pharmatriples import load
from pharmatriples.dataset import read_documents
from pharmatriples.evaluation import evaluate, replace_block
from pharmatriples.pipeline import annotate
from rich.console import Console
from rich.progress import track


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", metavar="MODEL", help="a folder or a hub id")
    parser.add_argument(
        "data", metavar="DATA", help="Label Studio export, JSON lines, PubTator, BioC, or folder with a data set"
    )
    parser.add_argument("--split", help="train, validation or test; default: all documents")
    parser.add_argument("--json", type=Path, metavar="OUT", help="file for all figures")
    parser.add_argument("--update-readme", type=Path, metavar="PAGE", help="Markdown file whose block NAME is renewed")
    parser.add_argument("--name", help="the block between <!-- evaluation:NAME --> and <!-- /evaluation:NAME -->")
    parser.add_argument("--device", help="such as cpu or cuda:0; default: a GPU if there is one")
    options = parser.parse_args(arguments)
    if (options.update_readme is None) != (options.name is None):
        parser.error("--update-readme and --name go together")
    try:
        extract: Any = load(options.model, device=options.device)
        schema = extract.model.schema
        gold = read_documents(options.data, schema, options.split, report=lambda found: print(found, file=sys.stderr))
        found = annotate(extract, gold)
        predicted = track(found, "Reading", len(gold), console=Console(stderr=True), transient=True)
        scores = evaluate(gold, list(predicted), schema)
        print(scores.table())
        if options.json:
            options.json.write_text(json.dumps(scores.to_dict(), indent=1) + "\n", encoding="utf-8")
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
