"""The `pharmatriples` command.

Exit codes: 0, all is done; 1, some inputs were refused, each with a line on standard error, and the others are done;
2, nothing could be done. Whatever is slow to import is imported when it is needed, so that --help is quick.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TextIO

FORMATS = ("table", "jsonl", "csv", "html")
SUFFIXES = {".txt": "table", **{f".{name}": name for name in FORMATS[1:]}}
MODEL_VARIABLE = "PHARMATRIPLES_MODEL"
MODEL_FOLDERS = ("runs/default", "runs/demo")
STANDARD_INPUT = "-"


class CommandError(ValueError):
    """An input or option that cannot be used; the message names it and says what to do."""


class Release(NamedTuple):
    """A text to read, and the id that its result carries."""

    id: str
    text: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except CommandError as error:
        _complain(error)
        return 2
    except BrokenPipeError:
        # The reader has seen enough, as in `pharmatriples extract ... | head`; Python must not flush once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        _complain("stopped")
        return 130


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
        help="text files, folders with .txt files, JSON lines (.jsonl, .jsonl.gz: objects with "
        '"text" and, if wanted, "id"), or - for plain text on standard input (the default)',
    )
    extract.add_argument(
        "--model",
        help=f"a folder or a hub id; default: ${MODEL_VARIABLE}, else the first there is of {', '.join(MODEL_FOLDERS)}",
    )
    extract.add_argument("--format", choices=FORMATS, help="default: as the suffix of OUT says, else table")
    extract.add_argument("-o", "--output", type=Path, metavar="OUT", help="the file to write; default: standard output")
    extract.add_argument(
        "--threshold", type=_probability, metavar="T", help="smallest probability kept; default: the model's own"
    )
    extract.add_argument(
        "--precision", type=_probability, metavar="P", help="keep the records of which this share should be right"
    )
    extract.add_argument("--batch-size", type=_positive, default=32, metavar="N", help="texts read at once (32)")
    extract.add_argument("--device", metavar="D", help="such as cpu or cuda:0; default: a GPU if there is one")
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


def _probability(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, not {value!r}")
    return number


def _positive(value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, not {value!r}")
    return int(value)


def _extract(options: argparse.Namespace) -> int:
    format_ = _format(options)
    refused: list[CommandError] = []
    releases = _readable(read_releases(options.files or [STANDARD_INPUT]), refused)
    # The first release is read before the model is loaded: a mistyped file name should not cost that time.
    first = next(releases, None)
    if first is None:
        return 2
    extract = _load(options)
    results = _results(extract, chain([first], releases))
    with writing(options.output) as out:
        write_results(results, out, format_, list(extract.model.schema.entities))
    return 1 if refused else 0


def _verify(options: argparse.Namespace) -> int:
    from .golden import DriftError, verify
    from .loading import load

    where = {"revision": options.revision} if options.revision else {}
    with _quiet_model("verified"):
        try:
            found = verify(load(options.model, device=options.device, **where), options.model, **where)
        except DriftError as error:
            for drift in error.drifts:
                _complain(f"{options.model}: {drift}")
            return 1
    since = f"; since then {', '.join(found.versions)}" if found.versions else ""
    print(f"{options.model}: {found.inputs} golden inputs as recorded, scores within {found.largest:.4f}{since}")
    return 0


def write_results(results: Iterable[dict], out: TextIO, format_: str, types: Sequence[str]) -> None:
    """Write results, which carry their id and text, in one of FORMATS; `types` are the entity types, for colours."""
    if format_ == "jsonl":
        for result in results:
            out.write(json.dumps(result, ensure_ascii=False) + "\n")
            out.flush()
    elif format_ == "csv":
        from .tables import write_csv

        write_csv(results, out)
    elif format_ == "html":
        from .page import render_page

        out.write(render_page(list(results), types))
    else:
        from .tables import print_table

        print_table(results, out)


def _format(options: argparse.Namespace) -> str:
    """The format to write; options that contradict each other are refused before anything slow begins."""
    output: Path | None = options.output
    if output is None:
        return options.format or "table"
    if output.is_dir():
        raise CommandError(f"{output}: is a folder; name a file in it")
    if not output.parent.is_dir():
        raise CommandError(f"{output}: there is no folder {output.parent}; make it, or write elsewhere")
    if any(output.exists() and Path(file).exists() and output.samefile(file) for file in options.files):
        raise CommandError(f"{output}: is an input, too; write to another file")
    format_ = options.format or SUFFIXES.get(output.suffix)
    if format_ is None:
        raise CommandError(f"{output}: its suffix names no format; use {', '.join(SUFFIXES)}, or say --format")
    return format_


def _load(options: argparse.Namespace) -> Any:
    name = options.model or os.environ.get(MODEL_VARIABLE) or next(filter(os.path.isdir, MODEL_FOLDERS), None)
    if name is None:
        raise CommandError(
            f"no model: neither {' nor '.join(MODEL_FOLDERS)} is here; say --model MODEL, set {MODEL_VARIABLE}, or "
            "train one (make demo)"
        )
    from .loading import load

    with _quiet_model("loaded"):
        return load(
            name,
            device=options.device,
            batch_size=options.batch_size,
            threshold=options.threshold,
            precision=options.precision,
        )


@contextmanager
def _quiet_model(what: str) -> Iterator[None]:
    """No progress bars; what goes wrong is one line: that the model cannot be `what`."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    try:
        yield
    except (OSError, ValueError, RuntimeError, AssertionError) as error:  # torch asserts that it has CUDA
        raise CommandError(f"the model cannot be {what}: {' '.join(str(error).split())}") from error


def _results(extract: Callable[[Iterator[str]], Iterable[dict]], releases: Iterable[Release]) -> Iterator[dict]:
    """The result of each release with its id and text. The pipeline reads ahead, so what it has read waits in line."""
    waiting: deque[Release] = deque()

    def texts() -> Iterator[str]:
        for release in releases:
            waiting.append(release)
            yield release.text

    for result in extract(texts()):
        release = waiting.popleft()
        yield {"id": release.id, "text": release.text, **result}


def _complain(message: object) -> None:
    print(f"pharmatriples: {message}", file=sys.stderr)


def _readable(found: Iterable[Release | CommandError], refused: list[CommandError]) -> Iterator[Release]:
    """The releases; an error among them is told at once and kept in `refused`."""
    for item in found:
        if isinstance(item, CommandError):
            _complain(item)
            refused.append(item)
        else:
            yield item


def read_releases(names: Sequence[str]) -> Iterator[Release | CommandError]:
    """The releases of files, folders and standard input, in the order given; what cannot be read is an error."""
    sources: list[Path | CommandError] = []
    for name in names:
        path = Path(name)
        if name != STANDARD_INPUT and path.is_dir():
            texts = sorted(path.glob("*.txt"))
            sources += texts or [CommandError(f"{path}: the folder holds no .txt file; name one that does, or files")]
        else:
            sources.append(path)
    stems = Counter(source.stem for source in sources if isinstance(source, Path))
    for source in sources:
        if isinstance(source, CommandError):
            yield source
        elif source.name.endswith((".jsonl", ".jsonl.gz")):
            yield from _read_lines(source)
        else:
            yield _read_text(source, source.stem if stems[source.stem] == 1 else str(source))


def _read_text(path: Path, id_: str) -> Release | CommandError:
    try:
        if str(path) == STANDARD_INPUT:
            if sys.stdin.isatty():
                print("Reading the text of one release; end it with Ctrl-D.", file=sys.stderr)
            return Release("stdin", sys.stdin.buffer.read().decode("utf-8-sig"))
        return Release(id_, path.read_bytes().decode("utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        return _unreadable(path, error)


def _read_lines(path: Path) -> Iterator[Release | CommandError]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _read_line(path, number, line)
    except (OSError, EOFError) as error:
        yield _unreadable(path, error)


def _read_line(path: Path, number: int, line: bytes) -> Release | CommandError:
    where = f"{path}:{number}"
    try:
        data = json.loads(line.strip().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return _unreadable(where, error)
    except (json.JSONDecodeError, RecursionError) as error:
        return CommandError(f"{where}: not JSON ({error}); a line is one JSON object")
    text = data.get("text") if isinstance(data, Mapping) else None
    if not isinstance(text, str):
        return CommandError(f'{where}: no text; a line is an object such as {{"id": "...", "text": "..."}}')
    id_ = data.get("id", f"{path.name.partition('.jsonl')[0]}:{number}")
    if isinstance(id_, bool) or not isinstance(id_, str | int):
        return CommandError(f"{where}: the id is {id_!r:.40}; give a string or a number, or leave it out")
    return Release(str(id_), text)


def _unreadable(where: object, error: Exception) -> CommandError:
    if isinstance(error, UnicodeDecodeError):
        return CommandError(f"{where}: not UTF-8 text (byte {error.start}: {error.reason}); convert it to UTF-8")
    if isinstance(error, FileNotFoundError):
        return CommandError(f"{where}: no such file; check the name")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return CommandError(f"{where}: cannot be read ({reason}); check the file")


@contextmanager
def writing(path: Path | None) -> Iterator[TextIO]:
    """Where to write: standard output, or a file that takes its name when all is written."""
    # Half a surrogate pair, which JSON lines may hold, is no UTF-8; its escape is JSON again.
    encoding: dict[str, Any] = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
    if path is None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(**encoding)
        yield sys.stdout
        sys.stdout.flush()
        return
    path = path.resolve()
    # A pipe or a device is written as it is.
    part = path if path.exists() and not path.is_file() else path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "w", **encoding) as out:
            yield out
        if part != path:
            os.replace(part, path)
    except OSError as error:
        raise CommandError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        if part != path:
            part.unlink(missing_ok=True)
