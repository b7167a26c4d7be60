"""Share a trained model, or a data set, on the hub: push_to_hub.py RUN REPO_ID, push_to_hub.py --dataset DATA REPO_ID

A model goes there with its code, model card, figures and golden inputs; a data set as the Parquet files and the card
that scripts/convert.py makes. A push that broke off goes on where it was when the same command is run again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from pharmatriples.hub import check, push

ROOT = Path(__file__).parents[1]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="RUN", help="a folder that scripts/train.py wrote; with --dataset, the data")
    parser.add_argument("repo_id", metavar="REPO_ID", nargs="?", help="OWNER/NAME; with --dry-run only shown")
    parser.add_argument("--dataset", action="store_true", help="RUN is data: what scripts/convert.py takes, or made")
    parser.add_argument("--schema", default=str(ROOT / "configs" / "schema.yaml"), help="with --dataset: its schema")
    parser.add_argument("--dry-run", action="store_true", help="write to --out what would be pushed; no network")
    parser.add_argument("--out", type=Path, metavar="DIR", help="with --dry-run: the folder to make")
    parser.add_argument("--private", action="store_true", help="the repository must be private; a new one is made so")
    parser.add_argument("--revision", metavar="BRANCH", help="push to this branch; it is made where it is missing")
    parser.add_argument("--message", help="of the commit")
    parser.add_argument("--card", type=Path, help="of the model; default: MODEL_CARD.md of this repository")
    parser.add_argument(
        "--data-id", action="append", default=[], metavar="ID", help="hub id of the data that the model learned from"
    )
    options = parser.parse_args(arguments)
    if options.dry_run != (options.out is not None):
        parser.error("--dry-run and --out go together")
    if not options.dry_run and options.repo_id is None:
        parser.error("name the repository, REPO_ID (OWNER/NAME), or say --dry-run --out DIR")
    if options.dataset and (options.card or options.data_id):
        parser.error("--card and --data-id are of a model; --dataset makes a card of its own")
    try:
        if options.dry_run:
            made = _make(options, options.out)
            print(f"{options.out}: what would be pushed" if made else "nothing was made", file=sys.stderr)
            return 0 if made else 2
        # Before anything slow, and again by `push`.
        check(options.repo_id, dataset=options.dataset, private=options.private)
        with TemporaryDirectory() as folder:
            if not _make(options, Path(folder) / "pushed"):
                return 2
            to = {name: getattr(options, name) for name in ("dataset", "private", "revision", "message")}
            print(push(Path(folder) / "pushed", options.repo_id, **to))
    except (ValueError, OSError) as error:
        print(f"push_to_hub: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("push_to_hub: stopped; the same command goes on, and what is uploaded stays", file=sys.stderr)
        return 130
    return 0


def _make(options: argparse.Namespace, folder: Path) -> bool:
    """Whether the folder that goes to the hub could be made."""
    if options.dataset:
        import convert

        return convert.main([options.source, "-o", str(folder), "--schema", options.schema]) == 0
    from pharmatriples.bundle import bundle

    card = (options.card or ROOT / "MODEL_CARD.md").read_text(encoding="utf-8")
    for note in bundle(options.source, folder, options.repo_id or str(folder), card, options.data_id):
        print(f"push_to_hub: {note}", file=sys.stderr)
    return True


if __name__ == "__main__":
    sys.exit(main())
