"""The `pharmatriples` command.

Exit codes: 0, all is done; 1, some inputs were refused, each with a line on standard error, and the others are done;
2, nothing could be done. Whatever is slow to import is imported when it is needed, so that --help is quick.
"""

from __future__ import annotations

import argparse
import os
import stat
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from .batches import Batch, ExtractionError, Reading, answers
from .bulk import Journal, JournalError
from .files import OutputError, check_place, is_special, writing
from .options import positive, probability
from .outputs import FORMATS, SUFFIXES, format_of, write_results
from .releases import MAX_CHARS, MOST_CHARS, STANDARD_INPUT, Columns, Meter, Refusal, Source, sources

MODEL_VARIABLE = "PHARMATRIPLES_MODEL"
MODEL_FOLDERS = ("runs/default", "runs/demo")
# Devices of GPUs, by NVIDIA and by AMD: to know of one without importing torch.
GPUS = ("/dev/nvidiactl", "/dev/kfd")
# Batches of documents that are looked at for one that can be read, before the model is loaded.
LOOK_AHEAD = 100


class CommandError(ValueError):
    """An input or option that cannot be used; the message names it and says what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except (CommandError, ExtractionError, OutputError, JournalError) as error:
        _complain(error)
        return 2
    except BrokenPipeError:  # the reader has seen enough, as in `pharmatriples extract ... | head`
        _flush_no_more()
        return 141
    except OSError as error:  # of standard output, or of a name that cannot be looked up
        _complain(error)
        _flush_no_more()
        return 2
    except KeyboardInterrupt as stop:
        _complain("; ".join(("stopped", *stop.args)))
        return 130


def _flush_no_more() -> None:
    """What standard output has not taken is dropped, or Python would try once more when it ends."""
    with suppress(OSError, ValueError):  # it has no number, as in a test
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pharmatriples",
        description="Drug-target-indication-event records from pharma press releases.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('pharmatriples')}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    extract = commands.add_parser(
        "extract",
        help="read releases and write their records",
        description="Read releases and write their records. The exit code is 0 when all were read, 1 when some were "
        "refused (each has a line on standard error), 2 when nothing could be done.",
    )
    extract.set_defaults(run=_extract)
    extract.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help="text files (.txt, .txt.gz), data (.jsonl, .jsonl.gz, .csv, .csv.gz, .parquet: a release a line or row), "
        "folders of text files or else of data, or - for plain text on standard input (the default)",
    )
    extract.add_argument(
        "--model",
        help=f"a folder or a hub id; default: ${MODEL_VARIABLE}, else the first there is of {', '.join(MODEL_FOLDERS)}",
    )
    extract.add_argument("--format", choices=FORMATS, help="default: as the suffix of OUT says, else table")
    extract.add_argument("-o", "--output", type=Path, metavar="OUT", help="the file to write; default: standard output")
    extract.add_argument(
        "--threshold", type=probability, metavar="T", help="smallest probability kept; default: the model's own"
    )
    extract.add_argument(
        "--precision", type=probability, metavar="P", help="keep the records of which this share should be right"
    )
    extract.add_argument("--batch-size", type=positive, default=64, metavar="N", help="texts read at once (64)")
    extract.add_argument("--device", metavar="D", help="such as cpu or cuda:0; default: a GPU if there is one")
    extract.add_argument(
        "--backend",
        choices=("auto", "torch", "onnx"),
        default="auto",
        help="what runs the model; auto: onnx on the CPU where the model is exported, which starts sooner",
    )
    extract.add_argument(
        "--dtype",
        default="auto",
        metavar="T",
        help="of the encoder: float32, bfloat16, float16, fastest (bfloat16 where it is fast), with onnx also int8; "
        "default: as it was saved",
    )
    for kind, default in vars(Columns()).items():
        name = kind.removeprefix("release_")
        help_ = f"column, or key of JSON lines, with the {kind.replace('_', ' ')} ({default})"
        extract.add_argument(f"--{name}-column", default=default, metavar="NAME", help=help_)
    extract.add_argument(
        "--max-chars", type=_characters, default=MAX_CHARS, metavar="N", help=f"refuse longer texts ({MAX_CHARS})"
    )
    extract.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="extract on a Ray cluster: auto for that of this machine, local for one that is made for the run",
    )
    extract.add_argument("--actors", type=positive, metavar="N", help="copies of the model on the Ray cluster")
    extract.add_argument(
        "--restart", action="store_true", help="throw away what a stopped run has done, and begin anew"
    )
    verify = commands.add_parser(
        "verify",
        help="recompute the golden inputs that a model carries",
        description="Recompute the golden inputs that a model carries. The exit code is 0 when it gives what it gave, "
        "1 when something changed (each has a line on standard error), 2 when nothing could be recomputed.",
    )
    verify.set_defaults(run=_verify)
    verify.add_argument("model", metavar="MODEL", help="a folder or a hub id")
    verify.add_argument("--revision", metavar="R", help="branch, tag or commit of a model on the hub")
    verify.add_argument("--device", metavar="D", help="such as cpu or cuda:0; default: a GPU if there is one")
    return parser


def _characters(value: str) -> int:
    number = positive(value)
    if number > MOST_CHARS:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {MOST_CHARS}, not {value!r:.40}")
    return number


class _Account:
    """What became of the documents; each error is told as it comes."""

    def __init__(self) -> None:
        self.documents = self.refused = 0

    def add(self, line: Mapping[str, Any]) -> None:
        self.documents += 1
        if "error" in line:
            self.refused += 1
            _complain(line["error"])

    @property
    def exit_code(self) -> int:
        if self.refused == self.documents:
            return 2
        return 1 if self.refused else 0


def _extract(options: argparse.Namespace) -> int:
    format_ = _format(options)
    found = sources(options.files or [STANDARD_INPUT])
    if sys.stdin is None and any(source[0] == STANDARD_INPUT for source in found):
        raise CommandError("standard input is closed; name files to read")
    _check_output(options.output, found)
    if options.ray is not None and any(source[0] == STANDARD_INPUT for source in found):
        raise CommandError("standard input cannot be read by a cluster; write it to a file")
    columns = Columns(options.text_column, options.id_column, options.date_column)
    meter = Meter()
    reading = Reading(options.batch_size, columns, options.max_chars)
    stream = reading.batches(found, meter)
    account = _Account()
    # A release is read before the model is loaded: a mistyped file name should not cost that time.
    ahead, readable = _look_ahead(stream)
    if not readable:
        for item in chain.from_iterable(batch.items for batch in ahead):
            account.add(item._asdict())
        if not ahead:
            _complain("nothing to read: the inputs hold no release")
        return 2
    stream = chain(ahead, stream)
    if options.ray is not None and options.backend == "auto":
        options.backend = "torch"  # on the GPUs of the cluster, where it has some
    from .records import has_records

    # The actors of a cluster take its GPUs; here the model is loaded to know that it can be, and what it is.
    extract = _load(options if options.ray is None else argparse.Namespace(**{**vars(options), "device": "cpu"}))
    if format_ in ("table", "csv", "parquet") and not has_records(extract.model.schema):
        _complain("the schema of the model has no records; jsonl and html have its entities and relations")
    write = partial(write_results, format_=format_, types=list(extract.model.schema.entities))
    with _answering(options, extract, reading, found) as answer, _progress(options, meter, found) as done:

        def told(groups: Iterable[Sequence[Mapping[str, Any]]]) -> Iterator[Sequence[Mapping[str, Any]]]:
            for lines in groups:
                for line in lines:
                    account.add(line)
                yield lines
                done(len(lines))

        if options.output is None or is_special(options.output):
            with writing(options.output) as out:
                write(_flushed(told(map(answer, stream)), out), out)
        else:
            with _journal(options, extract) as journal:
                deque(told(journal.fill(stream, answer)), maxlen=0)
                if account.exit_code == 2:
                    journal.discard()
                else:
                    plain = format_ == "jsonl" and options.output.suffix != ".gz"
                    journal.finish(None if plain else write)
    return account.exit_code


def _flushed(groups: Iterable[Iterable[Mapping[str, Any]]], out: TextIO) -> Iterator[Mapping[str, Any]]:
    """The lines of the groups, each group sent off before the next is waited for."""
    for lines in groups:
        yield from lines
        out.flush()


@contextmanager
def _answering(
    options: argparse.Namespace, extract: Any, reading: Reading, found: Sequence[Source | Refusal]
) -> Iterator[Callable[[Batch], list[dict[str, Any]]]]:
    """What answers a batch: the pipeline here, or the actors of a Ray cluster."""
    if options.ray is None:
        yield partial(answers, extract)
        return
    try:
        from .ray_extract import RayAnswers, cluster
    except ImportError as error:
        raise CommandError(error) from error
    model = options.model or os.environ.get(MODEL_VARIABLE) or extract.model.name_or_path
    names = ("device", "dtype", "backend", "batch_size", "threshold", "precision")
    of_load = {name: getattr(options, name) for name in names}
    with cluster(options.ray):
        yield RayAnswers(found, reading, model, of_load, options.actors)


def _look_ahead(stream: Iterator[Batch]) -> tuple[list[Batch], bool]:
    """The first batches, up to one with a release; and whether there is one, or may be behind them."""
    ahead: list[Batch] = []
    for batch in stream:
        ahead.append(batch)
        if batch.releases or len(ahead) == LOOK_AHEAD:
            return ahead, True
    return ahead, False


@contextmanager
def _journal(options: argparse.Namespace, extract: Any) -> Iterator[Journal]:
    """The journal of the run; how a stopped run goes on is told with what stopped it."""
    from .measured import model_sha256

    settings = {
        "version": version("pharmatriples"),
        "model": model_sha256(Path(extract.model.name_or_path)),
        **{name: getattr(options, name) for name in ("backend", "dtype", "threshold", "precision", "max_chars")},
        **{name: getattr(options, name) for name in ("text_column", "id_column", "date_column")},
        "inputs": options.files,
    }
    journal = Journal(options.output, settings, options.restart)
    without = " without --restart" if options.restart else ""
    stays = f"what is done stays in {journal.folder}, and the same command{without} goes on"
    try:
        with journal:
            yield journal
    except OSError as error:
        reason = error.strerror or error
        raise CommandError(f"{options.output}: cannot be written ({reason}); when it can, {stays}") from error
    except KeyboardInterrupt:
        raise KeyboardInterrupt(stays) from None


@contextmanager
def _progress(
    options: argparse.Namespace, meter: Meter, found: Sequence[Source | Refusal]
) -> Iterator[Callable[[int], None]]:
    """Told how many documents are done; shows it where a terminal is free for it."""
    if not sys.stderr.isatty() or (options.output is None and sys.stdout.isatty()):
        yield lambda count: None
        return
    from .progress import progress

    files = [source.path for source in found if isinstance(source, Source) and os.path.isfile(source.path)]
    with progress(meter, sum(map(os.path.getsize, files))) as done:
        yield done


def _verify(options: argparse.Namespace) -> int:
    from .golden import DriftError, verify
    from .loading import load

    where = {"revision": options.revision} if options.revision else {}
    with _loading("verified"):
        try:
            found = verify(load(options.model, device=options.device, **where), options.model, **where)
        except DriftError as error:
            for drift in error.drifts:
                _complain(f"{options.model}: {drift}")
            return 1
    since = f"; since then {', '.join(found.versions)}" if found.versions else ""
    print(f"{options.model}: {found.inputs} golden inputs as recorded, scores within {found.largest:.4f}{since}")
    return 0


def _format(options: argparse.Namespace) -> str:
    """The format to write; options that contradict each other are refused before anything slow begins."""
    output: Path | None = options.output
    if output is None:
        if sys.stdout is None:
            raise CommandError("standard output is closed; name a file with -o")
        if options.format == "parquet" and sys.stdout.isatty():
            raise CommandError("Parquet is nothing to read on a terminal; name a file with -o")
        return options.format or "table"
    check_place(output)
    format_ = options.format or format_of(output.name)
    if format_ is None:
        raise CommandError(f"{output}: its suffix names no format; use {', '.join(SUFFIXES)}, or say --format")
    return format_


def _check_output(output: Path | None, found: Sequence[Source | Refusal]) -> None:
    try:
        written = os.fstat(sys.stdout.fileno()) if output is None else output.stat()
    except (OSError, ValueError):  # there is no such file, or standard output is none
        return
    if not stat.S_ISREG(written.st_mode):
        return
    for path in (source.path for source in found if isinstance(source, Source)):
        if os.path.exists(path) and os.path.samestat(os.stat(path), written):
            raise CommandError(f"{output or path}: is an input, too; write to another file")


def _load(options: argparse.Namespace) -> Any:
    name = options.model or os.environ.get(MODEL_VARIABLE) or next(filter(os.path.isdir, MODEL_FOLDERS), None)
    if name is None:
        raise CommandError(
            f"no model: neither {' nor '.join(MODEL_FOLDERS)} is here; say --model MODEL, set {MODEL_VARIABLE}, or "
            "train one (make demo)"
        )
    from .loading import load
    from .onnx_model import NoExport

    names = ("device", "dtype", "batch_size", "threshold", "precision")
    of_load = {name: getattr(options, name) for name in names}
    asked, options.backend = options.backend, _backend(options, Path(name))
    with _loading("loaded"):
        try:
            return load(name, backend=options.backend, **of_load)
        except NoExport:
            if asked != "auto":
                raise
            options.backend = "torch"
            return load(name, backend=options.backend, **of_load)


def _backend(options: argparse.Namespace, folder: Path) -> str:
    """What runs the model: as asked for, or an export, where there is one and the CPU is to read and can."""
    if options.backend != "auto":
        return options.backend
    from .onnx_model import DTYPES, EXPORT, FOLDER

    on_cpu = options.device == "cpu" or (options.device is None and not any(map(os.path.exists, GPUS)))
    can = options.dtype in ("auto", *DTYPES) and find_spec("onnxruntime")
    return "onnx" if on_cpu and can and (folder / FOLDER / EXPORT).is_file() else "torch"


@contextmanager
def _loading(what: str) -> Iterator[None]:
    """No progress bars; what goes wrong is one line: that the model cannot be `what`."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        yield
    except (OSError, ValueError, RuntimeError, AssertionError) as error:  # torch asserts that it has CUDA
        raise CommandError(f"the model cannot be {what}: {' '.join(str(error).split())}") from error


def _complain(message: object) -> None:
    print(f"pharmatriples: {message}", file=sys.stderr)
