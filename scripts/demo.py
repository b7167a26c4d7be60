"""The demo: train on data/ (once), read the releases in seeds/, show their records and write them to runs/demo/."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pharmatriples import load
from pharmatriples.arguments import load_config
from pharmatriples.files import writing
from pharmatriples.onnx_export import export
from pharmatriples.onnx_model import exported
from pharmatriples.outputs import write_results
from pharmatriples.runs import is_current
from pharmatriples.training import train

ROOT = Path(__file__).parents[1]


def main(arguments: Sequence[str] | None = None) -> int:
    argparse.ArgumentParser(description=__doc__).parse_args(arguments)
    config = load_config(ROOT / "configs" / "demo.yaml")
    folder = Path(config.output_dir)
    try:
        if is_current(config):
            print(f"{folder}: the demo model is trained already; it is used again")
        else:
            print("Training the demo model; it is trained once, and a stopped training goes on where it was")
            train(config, resume=True, overwrite=True)
        if not exported(folder):
            export(folder)  # with it the command starts in a second
        extract = load(folder)
        seeds = sorted((ROOT / "seeds").glob("*.txt"))
        texts = [path.read_bytes().decode("utf-8") for path in seeds]
        results = [
            {"id": path.stem, "text": text, **result}
            for path, text, result in zip(seeds, texts, extract(texts), strict=True)
        ]
        types = list(extract.model.schema.entities)
        for format_ in ("jsonl", "csv", "html"):
            with writing(folder / f"seeds.{format_}") as out:
                write_results(results, out, format_, types)
        write_results(results, sys.stdout, "table", types)
    except (ValueError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("demo: stopped; `make demo` goes on", file=sys.stderr)
        return 130
    print(f"Written: {folder}/seeds.jsonl, {folder}/seeds.csv, {folder}/seeds.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
