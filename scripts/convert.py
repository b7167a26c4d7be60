"""Make a data set (Parquet with a card, for `datasets.load_dataset`) of annotated documents.

Inputs are Label Studio exports (.json), JSON lines (.jsonl), PubTator (.pubtator, .txt), BioC (.xml, .bioc.json), all
but the first also with .gz, and data sets. Documents that have a split keep it, those of a file behind --train,
--validation or --test get this one. The others are shared out, 8 : 1 : 1 or without the splits that files are given
for, so that documents of one group and near-duplicates never fall apart. What OUTDIR holds already stays in the split
that it has there, so that no model is judged on what an earlier one learned from; --seed draws all anew.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pharmatriples.annotators import POLICIES, policy
from pharmatriples.dataset import read_documents, splits_in, to_dataset, write_dataset
from pharmatriples.documents import SPLITS, Document
from pharmatriples.files import write_json
from pharmatriples.import_report import ImportReport
from pharmatriples.schema import Schema
from pharmatriples.splits import assign_splits, leaks, release_of

SHARES = {"train": 8, "validation": 1, "test": 1}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help="file of annotated documents, or a data set")
    for split in SPLITS:
        parser.add_argument(f"--{split}", nargs="+", default=[], metavar="INPUT", help=f"inputs that are all {split}")
    parser.add_argument("-o", "--output", required=True, metavar="OUTDIR", help="folder to write")
    parser.add_argument("--schema", default="configs/schema.yaml", help="default: %(default)s")
    parser.add_argument("--seed", type=int, help="draw all splits anew with this seed; default: 13, for new documents")
    parser.add_argument(
        "--policy",
        default="all",
        metavar="NAME",
        help=f"which annotations of a release with several annotators are taken: {POLICIES}; default: %(default)s",
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="write what became of every item, as JSON")
    parser.add_argument("--strict", action="store_true", help="fail where something in an export is refused")
    options = parser.parse_args(arguments)
    given = {split: getattr(options, split) for split in SPLITS}
    inputs = [(path, None) for path in options.inputs]
    inputs += [(path, split) for split, paths in given.items() for path in paths]
    if not inputs:
        parser.error("give at least one INPUT")

    reports: list[ImportReport] = []

    def tell(report: ImportReport) -> None:
        print(report)
        reports.append(report)
        if options.report:
            write_json([one.to_dict() for one in reports], options.report)
        if options.strict:
            report.check()

    try:
        schema = Schema.from_yaml(options.schema)
        chosen = policy(options.policy, schema)
        read: dict[str, Document] = {}
        places: dict[str, str] = {}
        for path, split in inputs:
            for document in read_documents(path, schema, None, tell, chosen):
                if document.id in read:
                    raise ValueError(
                        f"{path}: release {document.id!r} is also in {places[document.id]}; leave one of them out, or "
                        "import both into one Label Studio project, whose export tells the annotators apart"
                    )
                read[document.id] = document.with_split(split) if split else document
                places[document.id] = path
        train, validation, test = (0 if given[split] and not all(given.values()) else SHARES[split] for split in SPLITS)
        whole = train + validation + test
        ratios = (train / whole, validation / whole, test / whole)
        before = splits_in(options.output) if options.seed is None else {}
        seed = 13 if options.seed is None else options.seed
        documents = assign_splits(read.values(), seed, ratios, before)
        dataset, report = to_dataset(documents, schema)
        write_dataset(dataset, schema, options.output)
    except (ValueError, OSError) as error:
        print(f"convert: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("convert: stopped; nothing was written", file=sys.stderr)
        return 130
    print(report)
    if kept := sum(before.get(release_of(document)) is not None for document in read.values() if not document.split):
        print(f"{kept} documents without a split stay where {options.output} had them; --seed draws anew")
    for pair in leaks(documents):
        print(f"warning: {pair}; the splits that they were given leak")
    print(f"{options.output}: {', '.join(f'{split} {rows.num_rows}' for split, rows in dataset.items())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
