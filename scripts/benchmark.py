"""Measure: configurations over seeds, in one table with the stock recipe and with two annotators; and speed.

    python scripts/benchmark.py quality configs/demo.yaml long=configs/demo.yaml,epochs=8 --stock
    python scripts/benchmark.py curve configs/demo.yaml --sizes 100 200 300
    python scripts/benchmark.py speed inference startup scaling training
    python scripts/benchmark.py gpu

The first two go on after a stop when they are given again; what is finished, with the same configuration and the same
data, is not trained again. The code is no part of that: after a change of the code give the entry another name.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pharmatriples.blocks import replace_block
from pharmatriples.files import write_json, write_text
from pharmatriples.options import positive
from pharmatriples.schema import Schema

if TYPE_CHECKING:
    from pharmatriples.bench import Entry
    from pharmatriples.bench_table import Row

SCALING = "scaling.png"

# Each command imports what it runs: `gpu` is for machines that have little more than torch and transformers.


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    options.given = sys.argv[1:] if arguments is None else arguments
    try:
        return int(options.run(options))
    except (ValueError, OSError) as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"benchmark: stopped; {options.stopped}", file=sys.stderr)
        return 130


def quality(options: argparse.Namespace) -> int:
    from pharmatriples.bench import entry, stock_entry
    from pharmatriples.bench_table import agreement, columns, markdown

    entries = [entry(text) for text in options.configs]
    if options.stock:
        entries.insert(0, stock_entry(entries[0].config))
    ceiling = agreement(options.agreement)
    rows, failed = _measure(entries, options)
    table = markdown(rows, columns(Schema.from_yaml(entries[0].config.schema)), ceiling)
    if failed:
        return _failed(table)
    _write(table, {"rows": [row.to_dict() for row in rows], "agreement": ceiling}, options)
    _renew(options.update_readme, "quality", table)
    return 0


def curve(options: argparse.Namespace) -> int:
    from pharmatriples.bench import curve_entries, entry
    from pharmatriples.bench_table import columns, curve_markdown

    full = entry(options.config)
    rows, failed = _measure(curve_entries(full, options.sizes), options)
    table = curve_markdown(rows, columns(Schema.from_yaml(full.config.schema)))
    if failed:
        return _failed(table)
    _write(table, {"rows": [row.to_dict() for row in rows]}, options)
    return 0


def speed(options: argparse.Namespace) -> int:
    from pharmatriples.speed_table import keep, summary

    measured = {name: PARTS[name](options) for name in dict.fromkeys(options.parts)}
    print(keep(options.out, measured, shlex.join(["python", "scripts/benchmark.py", *options.given])), end="")
    if options.update_readme:
        _renew(options.update_readme, "speed", summary(options.out))
    return 0


def _inference(options: argparse.Namespace) -> dict[str, Any]:
    from pharmatriples.speed_inference import measure

    return measure(options.model, _texts(options), options.rounds)


def _startup(options: argparse.Namespace) -> dict[str, Any]:
    from pharmatriples.speed_inference import startup

    return startup(options.model, options.text, options.rounds)


def _scaling(options: argparse.Namespace) -> dict[str, Any]:
    from pharmatriples.plots import PlotError
    from pharmatriples.speed_scaling import measure, plot

    found = measure(options.model, _texts(options), options.backend, options.lengths, options.numbers)
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        plot(found["rows"], options.out / SCALING)
    except PlotError as error:
        print(f"benchmark: no {SCALING}: {error}", file=sys.stderr)
        return found
    return {**found, "plot": SCALING}


def _training(options: argparse.Namespace) -> dict[str, Any]:
    from pharmatriples.arguments import load_config
    from pharmatriples.speed_training import measure

    return measure(load_config(options.config), options.rounds)


# What `speed` measures: each gives a part of benchmarks/speed.json.
PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "inference": _inference,
    "startup": _startup,
    "scaling": _scaling,
    "training": _training,
}


def _texts(options: argparse.Namespace) -> list[str]:
    """Those of the data, which in JSON lines need no annotation."""
    from pharmatriples.dataset import of_split, read_documents
    from pharmatriples.documents import read_jsonl

    if options.data.endswith((".jsonl", ".jsonl.gz")):
        documents = list(read_jsonl(options.data))
    else:
        documents = read_documents(options.data, Schema.from_yaml(options.schema))
    return [document.text for document in of_split(documents, options.split or None, options.data)]


def gpu(options: argparse.Namespace) -> int:
    from pharmatriples.gpu_work import read_releases, shaped_encoders, stored_encoder
    from pharmatriples.speed_gpu import FULL, TINY, Meter, benchmark, checked_device, markdown

    device = checked_device(options.device)
    plan = TINY if options.tiny else FULL
    schema = Schema.from_yaml(options.schema)
    encoders = [stored_encoder(*named) for named in options.encoder]
    documents = read_releases(options.data, schema)
    encoders = encoders or shaped_encoders((d.text for d in documents), plan.shapes)
    meter = Meter(device, options.seconds)
    figures = benchmark(encoders, documents, schema, plan, meter, partial(print, file=sys.stderr, flush=True))
    _write(markdown(figures), figures, options)
    return 0


def _measure(entries: Sequence[Entry], options: argparse.Namespace) -> tuple[list[Row], bool]:
    """The rows, and whether a run failed."""
    from pharmatriples.bench import Bench, perform

    sets = dict(options.on)
    if len(sets) < len(options.on):
        raise ValueError(f"--on: a name stands twice among {', '.join(name for name, _ in options.on)}; give each once")
    bench = Bench(entries, options.seeds, sets, options.folder)
    failed = perform(bench.runs(), options.jobs)
    return bench.rows(), bool(failed)


def _failed(table: str) -> int:
    """Show what there is; files and pages keep what they have."""
    print(table)
    print("benchmark: a run failed, so no file was written; mend it and give the same command again", file=sys.stderr)
    return 1


def _write(table: str, figures: object, options: argparse.Namespace) -> None:
    print(table)
    if options.out:
        write_json(figures, options.out)
    if options.table:
        write_text(table + "\n", options.table)


def _renew(pages: Sequence[Path], name: str, block: str) -> None:
    for path in pages:
        write_text(replace_block(path.read_text(encoding="utf-8"), name, block, path), path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    again = "the same command goes on from here"
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
    common.add_argument("--jobs", type=positive, default=1, help="trainings at once, which share the cores (1)")
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
    _add_pages(command, "quality")
    command.set_defaults(run=quality, stopped=again)

    command = commands.add_parser("curve", parents=[common], help="what each hundred training documents adds")
    command.add_argument("config", metavar="[NAME=]CONFIG.yaml[,key=value...]")
    command.add_argument("--sizes", nargs="+", type=positive, required=True, help="documents of the train split")
    command.set_defaults(run=curve, stopped=again)
    command = commands.add_parser("speed", help="how fast it is beside stock tools, by turns on this machine")
    command.add_argument("parts", nargs="+", choices=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}")
    command.add_argument("--rounds", type=positive, default=16, help="turns of each that are counted (%(default)s)")
    command.add_argument("--model", type=Path, default="runs/demo", help="what reads (%(default)s)")
    command.add_argument("--data", default="data/releases.json", help="what is read (%(default)s)")
    command.add_argument("--split", default="test", help="of the data; '' for all (%(default)s)")
    command.add_argument("--schema", default="configs/schema.yaml", help="of the data (%(default)s)")
    command.add_argument("--text", type=Path, default="seeds/seed-000.txt", help="what startup reads (%(default)s)")
    command.add_argument("--backend", default="torch", help="of scaling: torch or onnx (%(default)s)")
    command.add_argument(
        "--lengths", nargs="*", type=positive, default=[10**3, 10**4, 10**5, 10**6], help="of scaling, in characters"
    )
    command.add_argument(
        "--numbers", nargs="*", type=positive, default=[10, 100, 1_000, 10_000], help="of scaling, in texts"
    )
    command.add_argument("--config", default="configs/default.yaml", help="what is trained (%(default)s)")
    command.add_argument(
        "-o", "--out", type=Path, default=Path("benchmarks"), help="folder of speed.json and speed.md (%(default)s)"
    )
    _add_pages(command, "speed")
    command.set_defaults(run=speed, stopped="the same command begins anew")

    command = commands.add_parser(
        "gpu",
        help="inference and training on one GPU: tokens a second, share of what its matrix units can do, memory, and "
        "how many times as fast as the stock tools; takes some minutes and no network",
    )
    command.add_argument("--device", default="cuda", help="(%(default)s)")
    command.add_argument("--data", default="data/releases.json", metavar="EXPORT.json", help="(%(default)s)")
    command.add_argument("--schema", default="configs/schema.yaml", metavar="FILE", help="(%(default)s)")
    command.add_argument(
        "--encoder",
        nargs="+",
        action="extend",
        type=_encoder,
        default=[],
        metavar="NAME=FOLDER",
        help="encoders in folders; by default the shapes of BioBERT and MiniLM with random weights",
    )
    command.add_argument("--seconds", type=_seconds, default=2.0, help="for each measurement, at least (%(default)s)")
    command.add_argument("--tiny", action="store_true", help="a tiny encoder and small batches, to try the command")
    command.add_argument("-o", "--out", type=Path, default=Path("benchmarks/gpu.json"), help="(%(default)s)")
    command.add_argument("--table", type=Path, default=Path("benchmarks/gpu.md"), help="(%(default)s)")
    command.set_defaults(run=gpu, stopped="nothing was written")
    return parser


def _add_pages(command: argparse.ArgumentParser, block: str) -> None:
    command.add_argument(
        "--update-readme",
        nargs="+",
        type=Path,
        default=[],
        metavar="PAGE",
        help=f"Markdown files whose block <!-- evaluation:{block} --> is renewed",
    )


def _set(text: str) -> tuple[str, tuple[str, str | None]]:
    name, _, file = text.partition("=")
    file, _, split = file.partition(":")
    if not name or not file:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=FILE or NAME=FILE:SPLIT")
    return name, (file, split or None)


def _encoder(text: str) -> tuple[str, str]:
    name, _, folder = text.partition("=")
    if not name or not folder:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=FOLDER")
    return name, folder


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 3600:
        raise argparse.ArgumentTypeError(f"must be a number above 0 and below 3600, not {text!r}")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
