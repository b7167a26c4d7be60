"""Make a data set (Parquet with a card, for `datasets.load_dataset`) of annotated documents.

Inputs are Label Studio exports (.json), JSON lines (.jsonl, .jsonl.gz) and data sets. Documents that have a split
keep it; the others get one, in which documents of one group and near-duplicates never fall apart.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pharmatriples.annotators import POLICIES, policy
from pharmatriples.dataset import read_documents, to_dataset, write_dataset
from pharmatriples.documents import Document
from pharmatriples.import_report import ImportReport
from pharmatriples.schema import Schema
from pharmatriples.splits import assign_splits, leaks


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="export, JSON lines, or folder with a data set")
    parser.add_argument("-o", "--output", required=True, metavar="OUTDIR", help="folder to write")
    parser.add_argument("--schema", default="configs/schema.yaml", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=13, help="of the splits that are drawn; default: %(default)s")
    parser.add_argument(
        "--policy",
        default="all",
        metavar="NAME",
        help=f"which annotations of a release with several annotators are taken: {POLICIES}; default: %(default)s",
    )
    parser.add_argument("--strict", action="store_true", help="fail where something in an export is refused")
    options = parser.parse_args(arguments)

    def tell(report: ImportReport) -> None:
        print(report)
        if options.strict:
            report.check()

    try:
        schema = Schema.from_yaml(options.schema)
        chosen = policy(options.policy, schema)
        read: dict[str, Document] = {}
        places: dict[str, str] = {}
        for path in options.inputs:
            for document in read_documents(path, schema, None, tell, chosen):
                if document.id in read:
                    raise ValueError(
                        f"{path}: release {document.id!r} is also in {places[document.id]}; leave one of them out, or "
                        "import both into one Label Studio project, whose export tells the annotators apart"
                    )
                read[document.id], places[document.id] = document, path
        documents = assign_splits(list(read.values()), options.seed)
        dataset, report = to_dataset(documents, schema)
        write_dataset(dataset, schema, options.output)
    except (ValueError, OSError) as error:
        print(f"convert: {error}", file=sys.stderr)
        return 2
    print(report)
    for pair in leaks(documents):
        print(f"warning: {pair}; the splits that they were given leak")
    print(f"{options.output}: {', '.join(f'{split} {rows.num_rows}' for split, rows in dataset.items())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
