"""Measure: configurations over seeds, in one table with the stock recipe and with two annotators; and speed.

    python scripts/benchmark.py quality configs/demo.yaml long=configs/demo.yaml,epochs=8 --stock
    python scripts/benchmark.py curve configs/demo.yaml --sizes 100 200 300
    python scripts/benchmark.py speed training

A stopped `quality` or `curve` goes on when it is given again; what is finished, with the same configuration and the
same data, is not trained again. The code is no part of that: after a change of the code give the entry another name.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pharmatriples.arguments import load_config
from pharmatriples.bench import Bench, Entry, curve_entries, entry, perform, stock_entry
from pharmatriples.bench_table import Row, agreement, columns, curve_markdown, markdown
from pharmatriples.blocks import replace_block
from pharmatriples.schema import Schema
from pharmatriples.speed_table import keep
from pharmatriples.speed_training import measure as measure_training

# What `speed` measures: each gives a part of benchmarks/speed.json.
PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "training": lambda options: measure_training(load_config(options.config), options.rounds),
}


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    options.given = sys.argv[1:] if arguments is None else arguments
    try:
        return int(options.run(options))
    except (ValueError, OSError) as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("benchmark: stopped; the same command goes on from here (speed begins anew)", file=sys.stderr)
        return 130


def quality(options: argparse.Namespace) -> int:
    entries = [entry(text) for text in options.configs]
    if options.stock:
        entries.insert(0, stock_entry(entries[0].config))
    ceiling = agreement(options.agreement)
    rows, failed = _measure(entries, options)
    table = markdown(rows, columns(Schema.from_yaml(entries[0].config.schema)), ceiling)
    _write(table, {"rows": [row.to_dict() for row in rows], "agreement": ceiling}, options)
    for path in options.update_readme:
        page = path.read_text(encoding="utf-8")
        path.write_text(replace_block(page, "quality", table), encoding="utf-8")
    return int(failed)


def curve(options: argparse.Namespace) -> int:
    full = entry(options.config)
    rows, failed = _measure(curve_entries(full, options.sizes), options)
    table = curve_markdown(rows, columns(Schema.from_yaml(full.config.schema)))
    _write(table, {"rows": [row.to_dict() for row in rows]}, options)
    return int(failed)


def speed(options: argparse.Namespace) -> int:
    measured = {name: PARTS[name](options) for name in dict.fromkeys(options.parts)}
    print(keep(options.out, measured, shlex.join(["python", "scripts/benchmark.py", *options.given])), end="")
    return 0


def _measure(entries: Sequence[Entry], options: argparse.Namespace) -> tuple[list[Row], bool]:
    """The rows, and whether a run failed."""
    bench = Bench(entries, options.seeds, dict(options.on), options.folder)
    failed = perform(bench.runs(), options.jobs)
    return bench.rows(), bool(failed)


def _write(table: str, figures: object, options: argparse.Namespace) -> None:
    print(table)
    if options.out:
        options.out.write_text(json.dumps(figures, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    if options.table:
        options.table.write_text(table + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--seeds", nargs="+", type=int, default=[13, 14, 15], help="default: 13 14 15")
    common.add_argument(
        "--on",
        nargs="+",
        action="extend",
        type=_set,
        default=[],
        metavar="NAME=FILE[:SPLIT]",
        help="more sets to score on, beside the validation and test splits of each configuration's data",
    )
    common.add_argument("--jobs", type=_positive, default=1, help="trainings at once, which share the cores (1)")
    common.add_argument("--folder", type=Path, default=Path("runs/bench"), help="of the runs (%(default)s)")
    common.add_argument("-o", "--out", type=Path, metavar="OUT.json", help="all figures")
    common.add_argument("--table", type=Path, metavar="OUT.md", help="the table that is printed")

    command = commands.add_parser("quality", parents=[common], help="configurations over seeds, in one table")
    command.add_argument(
        "configs",
        nargs="+",
        metavar="[NAME=]CONFIG.yaml[,key=value...]",
        help="a row each; NAME is by default the file's",
    )
    command.add_argument("--stock", action="store_true", help="a row for the stock recipe, on the first one's data")
    command.add_argument(
        "--agreement",
        default="benchmarks/agreement.json",
        metavar="FILE",
        help="how much two annotators agree, shown below the set of the same name (%(default)s)",
    )
    command.add_argument(
        "--update-readme",
        nargs="+",
        type=Path,
        default=[],
        metavar="PAGE",
        help="Markdown files whose block from <!-- evaluation:quality --> to <!-- /evaluation:quality --> is renewed",
    )
    command.set_defaults(run=quality)

    command = commands.add_parser("curve", parents=[common], help="what each hundred training documents adds")
    command.add_argument("config", metavar="[NAME=]CONFIG.yaml[,key=value...]")
    command.add_argument("--sizes", nargs="+", type=_positive, required=True, help="documents of the train split")
    command.set_defaults(run=curve)

    command = commands.add_parser("speed", help="how fast it is beside stock tools, by turns on this machine")
    command.add_argument("parts", nargs="+", choices=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}")
    command.add_argument("--config", default="configs/default.yaml", help="what is trained (%(default)s)")
    command.add_argument("--rounds", type=_positive, default=16, help="turns of each that are counted (%(default)s)")
    command.add_argument(
        "-o", "--out", type=Path, default=Path("benchmarks"), help="folder of speed.json and speed.md (%(default)s)"
    )
    command.set_defaults(run=speed)
    return parser


def _set(text: str) -> tuple[str, tuple[str, str | None]]:
    name, _, file = text.partition("=")
    file, _, split = file.partition(":")
    if not name or not file:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=FILE or NAME=FILE:SPLIT")
    return name, (file, split or None)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, not {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
