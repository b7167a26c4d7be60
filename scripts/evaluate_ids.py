"""Score the relations of a model between database ids, on documents whose annotations carry such ids.

Once with the annotated mentions and their ids; once from the text alone, where a mention that the model finds has the
ids that TRAIN gives to its wording.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pharmatriples import load
from pharmatriples.dataset import read_corpus, read_documents
from pharmatriples.files import write_json
from pharmatriples.id_evaluation import annotated_ids, known_names, matched_ids, related_ids, score_ids, table
from pharmatriples.prediction import complete, predict


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", help="a folder or a hub id")
    parser.add_argument("data", metavar="DATA", help="PubTator or BioC file to measure on")
    parser.add_argument("train", metavar="TRAIN", help="what the model was trained on: such a file, or a data set")
    parser.add_argument("--json", type=Path, metavar="OUT", help="file for all figures")
    parser.add_argument("--device", help="such as cpu or cuda:0; default: a GPU if there is one")
    options = parser.parse_args(arguments)
    try:
        extract: Any = load(options.model, device=options.device)
        model, windower, thresholds = extract.model, extract.windower, extract.thresholds
        corpus = read_corpus(options.data, model.schema)
        print(corpus.report, file=sys.stderr)
        train = read_documents(options.train, model.schema, report=lambda found: print(found, file=sys.stderr))
        names = known_names(document for document in train if document.split != "test")
        related = complete(model, windower, corpus.documents, thresholds)
        found = predict(model, windower, [document.text for document in corpus.documents], thresholds=thresholds)
        gold_mentions = {d.id: related_ids(d, annotated_ids(d)) for d in related}
        end_to_end = {
            document.id: related_ids(predicted, matched_ids(predicted, names))
            for document, predicted in zip(corpus.documents, found, strict=True)
        }
        scores = {
            "gold mentions, gold ids": score_ids(corpus.relations, gold_mentions, model.schema),
            "end to end, ids by wording": score_ids(corpus.relations, end_to_end, model.schema),
        }
        print(table(scores))
        if options.json:
            figures = {name: by_type.to_dict() for name, by_type in scores.items()}
            write_json(figures, options.json)
    except (ValueError, OSError, RuntimeError, AssertionError) as error:  # torch asserts that a device is there
        print(f"evaluate_ids: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("evaluate_ids: stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
