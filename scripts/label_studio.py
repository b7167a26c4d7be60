"""Annotate with Label Studio, and close the loop between model and annotators.

    python scripts/label_studio.py config
    python scripts/label_studio.py push seeds/ --project releases
    python scripts/label_studio.py pull --project releases -o releases.json
    python scripts/label_studio.py push --model runs/default --project releases
    python scripts/label_studio.py agreement releases.json
    python scripts/label_studio.py rank --model runs/default --project releases
    python scripts/label_studio.py suspects configs/default.yaml
    python scripts/label_studio.py backend --model runs/default
    python scripts/label_studio.py connect --project releases

`make label-studio` starts a server and prints the address and token to use. Everything may be repeated.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pharmatriples.documents import Document
from pharmatriples.files import write_json
from pharmatriples.labelstudio import document_id, labeling_config, read_export, write_export
from pharmatriples.options import positive
from pharmatriples.schema import Schema
from pharmatriples.studio import TIMEOUT, Studio, StudioError, connect, tasks_of

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, OSError) as error:
        print(f"label_studio: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("label_studio: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def config(options: argparse.Namespace) -> None:
    print(labeling_config(Schema.from_yaml(options.schema)), end="")


def push(options: argparse.Namespace) -> None:
    if not options.inputs and not options.model:
        raise StudioError("nothing to push: give an INPUT, or --model to pre-annotate what the project has")
    extract = _pipeline(options.model) if options.model else None
    schema = extract.model.schema if extract else Schema.from_yaml(options.schema)
    tasks = tasks_of(options.inputs, schema, options.predictions)
    with _server(options) as studio:
        project = studio.project(options.project, schema, create=bool(tasks))
        count = studio.push(project, list(tasks.values()))
        if tasks:
            print(f"{count} releases pushed to project {options.project!r}, {len(tasks) - count} were there already")
        if extract:
            from pharmatriples.preannotation import model_version, predictions

            version = model_version(extract)
            count = studio.push_predictions(project, lambda texts: predictions(texts, extract, version), version)
            print(f"{count} releases pre-annotated by {version}")


def pull(options: argparse.Namespace) -> None:
    schema = Schema.from_yaml(options.schema)
    with _server(options) as studio:
        tasks = studio.tasks(studio.project(options.project))
    report = replace(read_export(tasks, schema).report, source=f"project {options.project!r}")
    write_export(tasks, options.out)
    print(report)
    print(f"{len(tasks)} tasks written to {options.out}")
    _write_json(options.report, report.to_dict())
    if options.strict:
        report.check()


def agreement(options: argparse.Namespace) -> None:
    from pharmatriples.agreement import pairwise
    from pharmatriples.annotators import annotations_by

    schema = Schema.from_yaml(options.schema)
    report = pairwise(annotations_by(options.exports, schema), schema)
    print(report.table())
    _write_json(options.json, report.to_dict())


def rank(options: argparse.Namespace) -> None:
    from pharmatriples.ranking import rank as ranked
    from pharmatriples.ranking import table

    extract = _pipeline(options.model)
    schema = extract.model.schema
    tasks: list[dict[str, Any]] = list(tasks_of(options.inputs, schema).values())
    if not options.inputs:
        with _server(options) as studio:
            tasks = studio.open_tasks(studio.project(options.project))
    open_ = [Document(document_id(task), task["data"]["text"]) for task in tasks if not task.get("annotations")]
    if not open_:
        where = ", ".join(map(str, options.inputs)) or f"project {options.project!r}"
        raise StudioError(f"{where}: holds no release without annotation; there is nothing to rank")
    found = ranked(extract.model, extract.windower, open_)
    print(table(found))
    _write_json(options.json, [asdict(one) for one in found])


def suspects(options: argparse.Namespace) -> None:
    from pharmatriples.arguments import load_config
    from pharmatriples.suspects import cross_validated_suspects, table

    found = cross_validated_suspects(load_config(options.config, options.overrides), options.folds, options.folder)
    print(table(found[: options.limit]))
    _write_json(options.json, [asdict(one) for one in found])


def backend(options: argparse.Namespace) -> None:
    if options.after and not options.train:
        raise StudioError("--after N says when to train; give --train CONFIG.yaml, too")
    try:
        from pharmatriples.backend import Backend, Retraining, serve
    except ImportError as error:
        raise StudioError(f"{error.name} is missing; run: pip install 'pharmatriples[label-studio]'") from None
    if not options.train:
        serve(Backend(options.model), options.port, options.token)
        return
    command = [sys.executable, str(ROOT / "scripts" / "train.py")]
    with _server(options) as studio:  # the annotations come from there

        def fetch(project: int) -> list[dict[str, Any]]:
            return studio.tasks(studio.project_of_id(project))

        plan = Retraining(command, options.train, fetch, options.folder, options.after)
        serve(Backend(options.model, plan), options.port, options.token)


def connect_backend(options: argparse.Namespace) -> None:
    with _server(options) as studio:
        studio.attach(studio.project(options.project), options.backend, options.token)
    print(f"project {options.project!r} asks {options.backend} for the predictions of the tasks that are opened")


def _pipeline(model: str) -> Any:
    from pharmatriples import load

    return load(model)


def _server(options: argparse.Namespace) -> AbstractContextManager[Studio]:
    def say(message: str) -> None:
        print(f"label_studio: {message}", file=sys.stderr)

    return connect(options.url, options.api_key, say, options.timeout)


def _write_json(path: Path | None, value: Any) -> None:
    if path:
        write_json(value, path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--schema", type=Path, default=ROOT / "configs" / "schema.yaml", help="default: %(default)s")
    server = argparse.ArgumentParser(add_help=False)
    url = os.environ.get("LABEL_STUDIO_URL", "http://127.0.0.1:8080")
    server.add_argument("--url", default=url, help="default: LABEL_STUDIO_URL, else http://127.0.0.1:8080")
    server.add_argument(
        "--api-key", default=os.environ.get("LABEL_STUDIO_API_KEY", ""), help="default: LABEL_STUDIO_API_KEY"
    )
    server.add_argument("--timeout", type=float, default=TIMEOUT, help="seconds for one answer (default: %(default)g)")
    remote = argparse.ArgumentParser(add_help=False, parents=[server])
    remote.add_argument("--project", type=_title, default="pharmatriples", help="its title (default: %(default)s)")
    as_json = argparse.ArgumentParser(add_help=False)
    as_json.add_argument("--json", type=Path, metavar="FILE", help="write it all as JSON, too")

    command = commands.add_parser("config", parents=[common], help="print the labeling configuration of the schema")
    command.set_defaults(run=config)

    command = commands.add_parser("push", parents=[common, remote], help="send releases to a project")
    command.add_argument(
        "inputs",
        nargs="*",
        type=Path,
        metavar="INPUT",
        help="a text (.txt; its name is the id) or a folder of texts, documents (.jsonl, .jsonl.gz; they go up with "
        "their annotation, be it empty), or a Label Studio export (.json); what the project has is not sent again",
    )
    command.add_argument("--predictions", action="store_true", help="send the annotation of documents as predictions")
    command.add_argument("--model", help="pre-annotate every task without annotation; its schema is used")
    command.set_defaults(run=push)

    command = commands.add_parser("pull", parents=[common, remote], help="fetch the annotations of a project")
    command.add_argument("-o", "--out", type=Path, required=True, metavar="OUT.json")
    command.add_argument("--report", type=Path, metavar="FILE", help="write what became of every item, as JSON")
    command.add_argument("--strict", action="store_true", help="fail, once all is written, where an item is refused")
    command.set_defaults(run=pull)

    command = commands.add_parser("agreement", parents=[common, as_json], help="how much the annotators agree")
    command.add_argument(
        "exports",
        nargs="+",
        type=Path,
        metavar="EXPORT.json",
        help="whose tasks have several annotators, or one export for each annotator",
    )
    command.set_defaults(run=agreement)

    command = commands.add_parser("rank", parents=[remote, as_json], help="what to annotate next")
    command.add_argument("inputs", nargs="*", type=Path, metavar="INPUT", help="as for push; default: the project's")
    command.add_argument("--model", required=True, help="a folder, or a hub id")
    command.set_defaults(run=rank)

    command = commands.add_parser("suspects", parents=[as_json], help="the likeliest label errors of a data set")
    command.add_argument("config", metavar="CONFIG.yaml", help="names the data, and how the models are trained")
    command.add_argument("overrides", nargs="*", metavar="key=value", help="values that win over the file's")
    command.add_argument("--folds", type=int, default=5, help="default: %(default)s")
    command.add_argument("--folder", type=Path, default=Path("runs/suspects"), help="of the models (%(default)s)")
    command.add_argument("--limit", type=positive, default=100, help="lines to print (default: %(default)s)")
    command.set_defaults(run=suspects)

    secret = argparse.ArgumentParser(add_help=False)
    token = os.environ.get("PHARMATRIPLES_BACKEND_TOKEN", "")
    secret.add_argument("--token", default=token, help="asked of the server; default: PHARMATRIPLES_BACKEND_TOKEN")
    url = "http://127.0.0.1:9090"

    command = commands.add_parser("backend", parents=[server, secret], help="predict what annotators open, and train")
    command.add_argument("--model", required=True, help="a folder, or a hub id")
    command.add_argument("--port", type=int, default=9090, help="on 127.0.0.1 (default: %(default)s)")
    command.add_argument("--train", type=Path, metavar="CONFIG.yaml", help="train on its data and the annotations")
    command.add_argument("--after", type=int, default=0, metavar="N", help="train after N new annotations, too")
    command.add_argument("--folder", type=Path, default=Path("runs/backend"), help="of the runs (%(default)s)")
    command.set_defaults(run=backend)

    command = commands.add_parser("connect", parents=[remote, secret], help="have a project ask a running backend")
    command.add_argument("--backend", metavar="URL", default=url, help="as the server reaches it (%(default)s)")
    command.set_defaults(run=connect_backend)
    return parser


def _title(text: str) -> str:
    if not 3 <= len(text) <= 50:
        raise argparse.ArgumentTypeError("Label Studio wants a title of 3 to 50 characters")
    return text


if __name__ == "__main__":
    sys.exit(main())
