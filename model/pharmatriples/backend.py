"""The ML backend of Label Studio: predictions for the tasks that annotators open, and training in the background.

`Backend` answers the requests of the protocol as plain functions of their JSON; `application` puts them on HTTP.
"""

from __future__ import annotations

import base64
import hmac
import json
import logging
import socket
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .arguments import TrainingConfig, load_config
from .dataset import read_documents
from .documents import Document, read_jsonl, write_jsonl
from .evaluation import evaluate
from .extractor import annotate
from .labelstudio import missing_controls, read_export
from .labelstudio_task import given_text
from .loading import load
from .preannotation import model_version, predictions
from .schema import Schema
from .splits import assign_splits, release_of, splits_of

HOST = "127.0.0.1"
STOP_SECONDS = 15

log = logging.getLogger(__name__)


class BackendError(ValueError):
    """A request that cannot be answered, or a run that cannot go on; the message says why."""


@dataclass(frozen=True)
class Retraining:
    """How a backend trains.

    Attributes:
        command: scripts/train.py with its interpreter; the configuration and its overrides are added.
        config: the configuration file; its `data` and the project's annotations are trained on.
        fetch: project id -> the tasks of its export.
        folder: receives the data, the log and the model of each run.
        after: so many new annotations in a project start a run; with 0 only START_TRAINING does.
    """

    command: Sequence[str]
    config: Path
    fetch: Callable[[int], Sequence[Any]]
    folder: Path
    after: int = 0


@dataclass(frozen=True)
class Served:
    """A model that answers: its folder or hub id, its pipeline, and the version its predictions carry."""

    name: str
    extract: Any
    version: str

    @classmethod
    def load(cls, name: str | Path, device: Any = None) -> Served:
        extract = load(name, device=device)
        return cls(str(name), extract, model_version(extract))


class Backend:
    """One model with its requests, and at most one training run at a time.

    Raises:
        ValueError: the model cannot be loaded, or the training configuration cannot be used or has another schema.
    """

    def __init__(self, model: str | Path, retraining: Retraining | None = None, device: Any = None):
        self.served = Served.load(model, device)
        self.device = device
        self.retraining = retraining
        if retraining:  # a fault in it should not wait for the first run
            schema = Schema.from_yaml(load_config(retraining.config).schema)
            if schema != self.served.extract.model.schema:
                raise BackendError(f"{retraining.config} trains on another schema than that of {model}")
        self.state = "no run yet" if retraining else "off"
        self._new: Counter[int] = Counter()  # project -> annotations since its last run began
        self._predicting = Lock()  # a tokenizer must not be used by two threads at once
        self._starting = Lock()
        self._run: Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    # --- the requests

    def health(self, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return {"status": "UP", "model": self.served.name, **self.versions()}

    def versions(self, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return {"versions": [self.served.version], "training": self.state, "new_annotations": self._new.total()}

    def setup(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A project connects, or asks again which version is served.

        Raises:
            ValueError: the project's labeling configuration lacks what the predictions fill.
        """
        config = body.get("schema")
        if not isinstance(config, str):
            raise BackendError(f"'schema' must be the labeling configuration, found {config!r:.60}")
        schema: Schema = self.served.extract.model.schema
        if lacking := missing_controls(config, schema):  # the server would show nothing of what they hold
            raise BackendError(
                f"the project's labeling configuration lacks {', '.join(lacking)}; `scripts/label_studio.py config` "
                f"prints the one of the model's schema, {schema.name!r}"
            )
        return {"model_version": self.served.version}

    def predict(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A prediction for each task, in order; one for a task without a text is empty, and a line in the log."""
        tasks = body.get("tasks")
        if not isinstance(tasks, list):
            raise BackendError(f"'tasks' must be a list, found {tasks!r:.60}")
        served = self.served
        texts = {number: text for number, task in enumerate(tasks) if (text := _text(task)) is not None}
        results: list[dict[str, Any]] = [{"result": [], "model_version": served.version} for _ in tasks]
        with self._predicting:
            found = list(predictions(texts.values(), served.extract, served.version))
        for number, prediction in zip(texts, found, strict=True):
            results[number] = prediction
        # The server compares scores: none is the least.
        return {"results": [{"score": 0.0, **result} for result in results]}

    def webhook(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """An event in a project: START_TRAINING starts a run, new annotations may; the others change nothing."""
        action = body.get("action")
        if action == "START_TRAINING":
            self.start_training(_project(body))
        elif action in ("ANNOTATION_CREATED", "ANNOTATIONS_CREATED") and self.retraining:
            found = body.get("annotation")
            annotations = found if isinstance(found, list) else [found]
            project = _project(body)
            with self._starting:
                self._new[project] += sum(isinstance(a, Mapping) and not a.get("was_cancelled") for a in annotations)
                due = 0 < self.retraining.after <= self._new[project]
            if due:
                self.start_training(project)
        return {"status": "ok", "training": self.state}

    # --- training

    def start_training(self, project: int) -> bool:
        """Start a run in the background; False where one is under way.

        Raises:
            BackendError: this backend does not train.
        """
        if self.retraining is None:
            raise BackendError("this backend does not train; start it with a training configuration")
        with self._starting:
            if self._closed or (self._run and self._run.is_alive()):
                return False
            del self._new[project]
            self.state = f"running since {time.strftime('%H:%M:%S')}"
            self._run = Thread(target=self._train, args=(self.retraining, project), name="training", daemon=True)
            self._run.start()
        return True

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the end of the run that is under way."""
        if self._run:
            self._run.join(timeout)

    def close(self) -> None:
        """Stop the run that is under way."""
        with self._starting:
            self._closed = True
            if self._process:
                self._process.terminate()
        self.wait(STOP_SECONDS)

    def _train(self, retraining: Retraining, project: int) -> None:
        try:
            self.state = self._better(retraining, project)
        except Exception as error:  # nobody else sees what ends a thread
            log.exception("the training run failed")
            self.state = f"failed: {' '.join(str(error).split()) or type(error).__name__}"
        else:
            log.info("training: %s", self.state)

    def _better(self, retraining: Retraining, project: int) -> str:
        """Train, and serve the new model if its score on validation is higher; says how it ended."""
        config = load_config(retraining.config)
        schema = Schema.from_yaml(config.schema)
        retraining.folder.mkdir(parents=True, exist_ok=True)
        last = max(retraining.folder.glob("*.jsonl"), default=None)
        splits = splits_of(read_jsonl(last)) if last else {}
        documents = training_documents(config, schema, retraining.fetch(project), splits)
        held_out = [document for document in documents if document.split == "validation"]
        # A copy of the served model, so that annotators need not wait.
        before = score(Served.load(self.served.name, self.device).extract, held_out)
        output = retraining.folder / time.strftime("%Y%m%d-%H%M%S")
        data = output.with_suffix(".jsonl")
        write_jsonl(documents, data)
        self._call(retraining, data, output)
        new = Served.load(output, self.device)
        after = score(new.extract, held_out)
        figures = f"{after:.3f} against {before:.3f} on {len(held_out)} validation documents"
        if after <= before:
            return f"{output} is not better, {figures}"
        self.served = new
        return f"{output} is served, {figures}"

    def _call(self, retraining: Retraining, data: Path, output: Path) -> None:
        overrides = [f"{key}={json.dumps(str(value))}" for key, value in (("data", data), ("output_dir", output))]
        file = output.with_suffix(".log")
        with open(file, "wb") as out:
            with self._starting:
                if self._closed:
                    raise BackendError("the backend stops")
                self._process = subprocess.Popen(
                    [*retraining.command, str(retraining.config), *overrides],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                )
            code = self._process.wait()
        if code:
            last = file.read_text(errors="replace").strip().rpartition("\n")[2]
            raise BackendError(f"training ended with {code} ({last}); its log is {file}")


def training_documents(
    config: TrainingConfig, schema: Schema, tasks: Sequence[Any], splits: Mapping[str, str]
) -> list[Document]:
    """The configuration's data with the annotations of a project, each with a split.

    A release of the project replaces the one of its id or text and keeps its split; the others get one as
    `assign_splits` draws it.

    Args:
        splits: release -> split of the run before, so that no run is judged on what an earlier one was trained on.

    Raises:
        ValueError: the data or the export cannot be read whole, or documents of one text have two splits.
    """
    old = read_documents(config.data, schema)
    documents, report = read_export(tasks, schema)
    report.check()
    by_id = {document.id: document.split for document in old}
    by_text = {document.text: document.split for document in old if document.text}
    new = []
    for document in documents:
        kept = (by_id.get(document.id), by_id.get(release_of(document)), by_text.get(document.text))
        new.append(replace(document, split=next(filter(None, kept), document.split)))
    ids, texts = {id_ for d in documents for id_ in (d.id, release_of(d))}, {d.text for d in documents if d.text}
    whole = [*(d for d in old if d.id not in ids and d.text not in texts), *new]
    return assign_splits(whole, before=splits)


def score(extract: Any, documents: Sequence[Document]) -> float:
    """The mean F1 of mentions, relations and records on annotated documents: what training chooses its epoch by."""
    return evaluate(documents, list(annotate(extract, documents)), extract.model.schema).score


def _text(task: Any) -> str | None:
    text = given_text(task)
    if isinstance(text, str):
        return text
    name = task.get("id") if isinstance(task, Mapping) else task
    log.warning("task %.60r: 'data' has no 'text'; its prediction is empty", name)
    return None


def _project(body: Mapping[str, Any]) -> int:
    project = body.get("project")
    id_ = project.get("id") if isinstance(project, Mapping) else None
    if not isinstance(id_, int) or isinstance(id_, bool):
        raise BackendError(f"'project' must be an object with an 'id', found {project!r:.60}")
    return id_


# --- HTTP


def application(backend: Backend, token: str = "") -> Starlette:
    """The protocol on HTTP; every answer is JSON, an error is `{"error": MESSAGE}`.

    Args:
        token: asked for in each request where it is not empty: `Authorization: Token TOKEN`, or basic
            authentication with the token as the password.
    """

    async def respond(answer: Callable[[Mapping[str, Any]], dict[str, Any]], request: Request) -> Response:
        if token and not _authorized(request.headers.get("authorization", ""), token):
            return _error(401, "the token is missing or wrong", {"WWW-Authenticate": "Basic"})
        try:
            body = await _body(request) if request.method == "POST" else {}
            return JSONResponse(await run_in_threadpool(answer, body))
        except ValueError as error:
            log.warning("%s: %s", request.url.path, error)
            return _error(400, str(error))

    async def refused(request: Request, error: Exception) -> Response:
        status, detail = (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, str(error))
        return _error(status, f"{request.method} {request.url.path}: {detail}")

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        backend.close()  # here, because SIGTERM ends the process with the server

    routes = [
        Route("/health", partial(respond, backend.health), methods=["GET"]),
        Route("/versions", partial(respond, backend.versions), methods=["GET"]),
        Route("/setup", partial(respond, backend.setup), methods=["POST"]),
        Route("/predict", partial(respond, backend.predict), methods=["POST"]),
        Route("/webhook", partial(respond, backend.webhook), methods=["POST"]),
    ]
    handlers = {HTTPException: refused, Exception: refused}
    # A web page whose host name was made to point to this machine is not answered.
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
    return Starlette(routes=routes, middleware=[hosts], exception_handlers=handlers, lifespan=lifespan)


async def _body(request: Request) -> Mapping[str, Any]:
    # A web page can send a form or a text to this address unasked, but no JSON.
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "application/json":
        raise BackendError(f"the body must be of the type application/json, found {kind!r}")
    try:
        body = await request.json()
    except (ValueError, RecursionError) as error:
        raise BackendError(f"the body is not JSON: {error}") from None
    if not isinstance(body, Mapping):
        raise BackendError(f"the body must be an object, found {body!r:.60}")
    return body


def _authorized(header: str, token: str) -> bool:
    kind, _, value = header.partition(" ")
    if kind.lower() == "basic":
        try:
            value = base64.b64decode(value).decode().partition(":")[2]
        except ValueError:  # not ASCII, no base64, or not UTF-8 within
            return False
    elif kind.lower() != "token":
        return False
    return hmac.compare_digest(value.encode(), token.encode())


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": message}, status, headers)


def serve(backend: Backend, port: int = 9090, token: str = "") -> None:
    """Serve on 127.0.0.1 until Ctrl-C or SIGTERM; a training run that is under way then is stopped.

    Args:
        port: 0 takes a free one.

    Raises:
        BackendError: the port is taken, or is none.
    """
    logging.basicConfig(format="%(message)s")
    log.setLevel(logging.INFO)
    try:
        listening = socket.create_server((HOST, port))
    except OSError as error:
        raise BackendError(f"port {port} cannot be used ({error.strerror}); 0 takes a free one") from None
    except OverflowError:
        raise BackendError(f"port {port} cannot be used; it must be from 0 to 65535, 0 takes a free one") from None
    log.info("%s answers at http://%s:%d; Ctrl-C stops it", backend.served.version, *listening.getsockname())
    uvicorn.Server(uvicorn.Config(application(backend, token), log_level="warning")).run([listening])
