"""Self-training: label texts with what several models agree on, to train on it.

python scripts/pseudo_label.py runs/bench/demo-13 runs/bench/demo-14 news.jsonl -o runs/pseudo.jsonl
python scripts/train.py configs/demo.yaml pseudo=runs/pseudo.jsonl output_dir=runs/self-trained
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pharmatriples import Document, load
from pharmatriples.documents import write_jsonl
from pharmatriples.files import check_place
from pharmatriples.options import probability
from pharmatriples.pseudo import pseudo_label
from pharmatriples.releases import Columns, Refusal, read, sources


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="folders or hub ids, two at least")
    parser.add_argument("texts", metavar="TEXTS", help="JSON lines with a text, a .txt file, or a folder of them")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT.jsonl")
    parser.add_argument(
        "--agreement",
        type=probability,
        default=0.8,
        help="smallest F1 between the models of a text that is kept (%(default)s)",
    )
    parser.add_argument(
        "--confidence",
        type=probability,
        default=0.5,
        help="smallest mean score of a mention that is kept (%(default)s)",
    )
    parser.add_argument("--text-column", default="text", metavar="NAME", help="of the texts (%(default)s)")
    options = parser.parse_args(arguments)
    try:
        check_place(options.out)
        if options.out.exists() and Path(options.texts).exists() and options.out.samefile(options.texts):
            raise ValueError(f"{options.out}: holds the texts; name another file")
        documents = []
        for source in sources([options.texts]):
            for release in [source] if isinstance(source, Refusal) else read(source, Columns(options.text_column)):
                if isinstance(release, Refusal):
                    raise ValueError(release.error)
                documents.append(Document(release.id, release.text))
        kept, report = pseudo_label(
            [load(model) for model in options.models], documents, options.agreement, options.confidence
        )
        if kept:
            write_jsonl(kept, options.out)
    except (ValueError, OSError) as error:
        print(f"pseudo_label: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("pseudo_label: stopped", file=sys.stderr)
        return 130
    if not kept:
        print(f"pseudo_label: {report}; {options.out} was not written", file=sys.stderr)
        return 1
    print(f"{report}\n{len(kept)} documents written to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
