"""Annotate with Label Studio: print its labeling configuration, push releases, pull annotations.

    python scripts/label_studio.py config
    python scripts/label_studio.py push seeds/ --project releases
    python scripts/label_studio.py pull --project releases -o data/releases.json

`make label-studio` starts a server and prints the address and token to use.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pharmatriples.documents import Document, read_jsonl
from pharmatriples.labelstudio import (
    document_id,
    export_task,
    labeling_config,
    read_export,
    read_tasks,
    task_from_document,
    write_export,
)
from pharmatriples.schema import Schema

ROOT = Path(__file__).resolve().parent.parent
BATCH = 500  # tasks per import request
TIMEOUT = 300  # seconds per request: an import of 500 tasks takes one or two


class Failure(Exception):
    """What went wrong, in one line for the user."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        schema = Schema.from_yaml(options.schema)
        if options.command == "config":
            print(labeling_config(schema), end="")
        elif options.command == "push":
            push(options, schema)
        else:
            pull(options, schema)
    except (Failure, ValueError, OSError) as error:
        print(f"label_studio: {error}", file=sys.stderr)
        return 2
    return 0


def push(options: argparse.Namespace, schema: Schema) -> None:
    tasks: dict[str, dict[str, Any]] = {}
    for path in options.inputs:
        for task in _tasks(path, schema, options.predictions):
            if document_id(task) in tasks:
                raise Failure(f"{path}: release {document_id(task)!r} is in the input twice; ids must differ")
            tasks[document_id(task)] = task
    with _server(options) as client:
        project = _project(client, options.project, labeling_config(schema))
        there = {document_id(task) for task in _exported(client, project)}
        new = [task for id_, task in tasks.items() if id_ not in there]
        for start in range(0, len(new), BATCH):
            batch = new[start : start + BATCH]
            answer = client.projects.import_tasks(project.id, request=batch)
            if answer.task_count != len(batch):
                raise Failure(
                    f"the server took {answer.task_count} of {len(batch)} tasks; look at the project, try again"
                )
    print(f"{len(new)} releases pushed to project {options.project!r}, {len(tasks) - len(new)} were there already")


def pull(options: argparse.Namespace, schema: Schema) -> None:
    with _server(options) as client:
        tasks = _exported(client, _project(client, options.project))
    report = read_export(tasks, schema).report
    write_export(tasks, options.out)
    print(replace(report, source=f"project {options.project!r}"))
    print(f"{len(tasks)} tasks written to {options.out}")


def _tasks(path: Path, schema: Schema, predictions: bool) -> Iterator[dict[str, Any]]:
    """The tasks of an input: a folder of texts, a text, JSON lines of documents, or a Label Studio export."""
    if path.is_dir():
        files = sorted(path.glob("*.txt"))
        if not files:
            raise Failure(f"{path}: no .txt file in this folder")
        for file in files:
            yield from _tasks(file, schema, predictions)
    elif path.suffix == ".txt":
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise Failure(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
        yield task_from_document(Document(id=path.stem, text=text), schema, as_=None)
    elif path.suffix == ".json":
        tasks = read_tasks(path)
        replace(read_export(tasks, schema).report, source=str(path)).check()
        yield from map(export_task, tasks)
    elif path.suffix in (".jsonl", ".gz"):
        for document in read_jsonl(path):
            as_: Literal["predictions", "annotations"] = "predictions" if predictions else "annotations"
            yield task_from_document(document, schema, as_, model_version=path.stem)
    else:
        raise Failure(f"{path}: neither a folder nor .txt, .jsonl, .jsonl.gz or .json")


@contextmanager
def _server(options: argparse.Namespace) -> Iterator[Any]:
    """A client of the server; what goes wrong with it becomes a Failure."""
    if not options.api_key:
        raise Failure("no token: give --api-key or set LABEL_STUDIO_API_KEY (`make label-studio` prints it)")
    try:
        import httpx
        from label_studio_sdk import LabelStudio
        from label_studio_sdk.core import ApiError
    except ImportError as error:
        raise Failure(f"{error.name} is missing: pip install 'pharmatriples[label-studio]'") from None
    try:
        yield LabelStudio(base_url=options.url, api_key=options.api_key, timeout=TIMEOUT)
    except ApiError as error:
        if error.status_code in (401, 403):
            raise Failure(f"{options.url} refuses the token ({error.status_code}); look into --api-key") from None
        raise Failure(f"{options.url} answers {error.status_code}: {str(error.body)[:500]}") from None
    except httpx.HTTPError as error:
        raise Failure(f"no answer from {options.url} ({error}); is the server running?") from None
    except httpx.InvalidURL as error:
        raise Failure(f"{options.url} is no address: {error}") from None


def _project(client: Any, title: str, config: str = "") -> Any:
    """The project of this title; where there is none and `config` is given, it is made with that configuration."""
    projects = list(client.projects.list())
    found = [project for project in projects if project.title == title]
    if len(found) > 1:
        raise Failure(f"{len(found)} projects are called {title!r}; rename all but one")
    if not found and config:
        return client.projects.create(title=title, label_config=config)
    if not found:
        raise Failure(f"no project {title!r}; there are: {', '.join(sorted(p.title for p in projects)) or 'none'}")
    if config and (missing := _controls(config) - _controls(found[0].label_config)):
        lacks = ", ".join(sorted(f"{tag} {name}" for tag, name in missing))
        raise Failure(f"the labeling configuration of project {title!r} lacks {lacks}; take another --project")
    return found[0]


def _controls(config: str) -> set[tuple[str, str]]:
    elements = ElementTree.fromstring(config).iter()
    return {(element.tag, name) for element in elements if (name := element.get("name") or element.get("value"))}


def _exported(client: Any, project: Any) -> list[dict[str, Any]]:
    """All tasks of the project with their annotations, also the skipped and the unannotated ones."""
    chunks = client.projects.exports.download_sync(project.id, export_type="JSON", download_all_tasks=True)
    tasks: list[dict[str, Any]] = json.loads(b"".join(chunks))
    return tasks


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--schema", type=Path, default=ROOT / "configs" / "schema.yaml", help="default: %(default)s")
    remote = argparse.ArgumentParser(add_help=False)
    remote.add_argument("--project", type=_title, default="pharmatriples", help="its title (default: %(default)s)")
    url = os.environ.get("LABEL_STUDIO_URL", "http://127.0.0.1:8080")
    remote.add_argument("--url", default=url, help="default: LABEL_STUDIO_URL, else http://127.0.0.1:8080")
    key = os.environ.get("LABEL_STUDIO_API_KEY")
    remote.add_argument("--api-key", default=key, help="default: LABEL_STUDIO_API_KEY")
    commands.add_parser("config", parents=[common], help="print the labeling configuration made from the schema")
    send = commands.add_parser("push", parents=[common, remote], help="send releases to a project")
    send.add_argument(
        "inputs",
        nargs="+",
        type=Path,
        metavar="INPUT",
        help="a text (.txt; its name is the id) or a folder of texts, documents (.jsonl, .jsonl.gz; they go up with "
        "their annotation, be it empty), or a Label Studio export (.json); what the project has is not sent again",
    )
    send.add_argument("--predictions", action="store_true", help="send the annotation of documents as predictions")
    fetch = commands.add_parser("pull", parents=[common, remote], help="fetch the annotations of a project")
    fetch.add_argument("-o", "--out", type=Path, required=True, metavar="OUT.json")
    return parser


def _title(text: str) -> str:
    if not 3 <= len(text) <= 50:
        raise argparse.ArgumentTypeError("Label Studio wants a title of 3 to 50 characters")
    return text


if __name__ == "__main__":
    sys.exit(main())
