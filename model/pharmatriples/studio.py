"""A Label Studio server: its projects, tasks sent to them, annotations fetched from them.

Everything may be repeated: tasks are matched by their id, and what is there is not sent again. What fails for a
moment is tried again a few times; what goes wrong is a `StudioError` of one line.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

from .documents import Document, DocumentError, read_lines
from .labelstudio import (
    annotators,
    document_id,
    export_task,
    labeling_config,
    missing_controls,
    read_export,
    read_tasks,
)
from .labelstudio import task_from_document as task_of
from .labelstudio_task import given_text, listed
from .releases import TEXTS, Refusal, Source, read, sources
from .schema import Schema

BATCH = 500  # tasks per import request
BACKEND = "pharmatriples"  # title of the ML backend in a project
USER = "label-studio"  # the server sends the token as the password of a user; any name will do
TIMEOUT = 300.0  # seconds per request: an import of 500 tasks takes one or two
WAITS = (1.0, 4.0)  # seconds before the second and the third attempt
BUSY = (408, 409, 429, 500, 502, 503, 504)

Result = TypeVar("Result")


class StudioError(ValueError):
    """A server, or a project on it, that cannot be used; one line says why and what to do."""


class Studio:
    """A connection to a server, as `connect` makes it.

    Args:
        say: is told about every attempt that failed and is made again.
    """

    def __init__(self, client: Any, url: str, timeout: float, say: Callable[[str], object]):
        self.client = client
        self.url = url
        self.timeout = timeout
        self.say = say

    def _try(self, call: Callable[[], Result]) -> Result:
        """Call; again, after a while, where the server is busy or gone."""
        for wait in WAITS:
            try:
                with _told(self.url, self.timeout):
                    return call()
            except _Passing as fault:
                self.say(f"{fault}; next attempt in {wait:g} s")
                time.sleep(wait)
        with _told(self.url, self.timeout):
            return call()

    def project(self, title: str, schema: Schema | None = None, create: bool = False) -> Any:
        """The project of this title.

        Args:
            schema: its labeling configuration must have all that this asks for; None takes any.
            create: make it, with the configuration of the schema, where it is missing.

        Raises:
            StudioError: there is none, there are several, or its configuration is another.
        """
        projects = self._try(lambda: list(self.client.projects.list()))
        found = [project for project in projects if project.title == title]
        if len(found) > 1:
            raise StudioError(f"{len(found)} projects are called {title!r}; rename all but one")
        if not found and create and schema:
            return self._try(lambda: self.client.projects.create(title=title, label_config=labeling_config(schema)))
        if not found:
            titles = ", ".join(sorted(p.title for p in projects)) or "none"
            raise StudioError(f"no project {title!r}; there are: {titles}")
        if schema and (missing := missing_controls(found[0].label_config, schema)):
            raise StudioError(
                f"the labeling configuration of project {title!r} lacks {', '.join(missing)}; take another --project"
            )
        return found[0]

    def project_of_id(self, id_: int) -> Any:
        """The project of the number that the server gave it.

        Raises:
            StudioError: there is none.
        """
        return self._try(lambda: self.client.projects.get(id_))

    def tasks(self, project: Any) -> list[dict[str, Any]]:
        """All tasks of a project with their annotations, also the skipped and the unannotated ones.

        Annotators are named by their email.
        """

        def fetch() -> list[dict[str, Any]]:
            chunks = self.client.projects.exports.download_sync(project.id, export_type="JSON", download_all_tasks=True)
            tasks: list[dict[str, Any]] = json.loads(b"".join(chunks))
            return tasks

        tasks = self._try(fetch)
        annotations = [one for task in tasks for one in task.get("annotations") or []]
        if any(isinstance(one.get("completed_by"), int) for one in annotations):
            emails = {user.id: user.email for user in self._try(self.client.users.list)}
            for one in annotations:
                if one.get("completed_by") in emails:
                    one["completed_by"] = {"id": one["completed_by"], "email": emails[one["completed_by"]]}
        return tasks

    def push(self, project: Any, tasks: Sequence[Mapping[str, Any]]) -> int:
        """Send the tasks that the project does not have; how many these are.

        Killed in the middle, it can be called again: nothing is there twice. The ids of the tasks differ.

        Raises:
            StudioError: the project has another text of the id of one of them, the server refuses them, or it cannot
                be reached any more.
        """
        new = [self._for_import(task) for task in self._missing(project, tasks)]
        sent: set[int] = set()
        for start in range(0, len(new), BATCH):
            sent.update(self._import(project, new[start : start + BATCH]))
        if new:
            self._remove_doubles(project, sent)
        return len(new)

    def _for_import(self, task: Mapping[str, Any]) -> dict[str, Any]:
        """A task without the names of its annotators: the server refuses those that it does not know."""
        sent = dict(task)
        if len(people := annotators(task)) > 1:
            named = ", ".join(dict.fromkeys(filter(None, people)))
            which = f"that its annotations are by {named} is not sent" if named else "it has several annotations"
            self.say(
                f"release {document_id(task)!r}: {which}; on the server they are all yours, and policies such as "
                "latest or by:WHO cannot tell them apart"
            )
        if "annotations" in task:
            dropped = ("completed_by", "updated_at")
            sent["annotations"] = [{k: v for k, v in one.items() if k not in dropped} for one in task["annotations"]]
        try:
            json.dumps(sent, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise StudioError(
                f"release {document_id(task)!r} holds half of a surrogate pair, which cannot be sent; repair its text"
            ) from None
        return sent

    def _missing(self, project: Any, tasks: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Those of the tasks that the project does not have: none of their id is there.

        Raises:
            StudioError: one is there with another text, so that it is another release.
        """
        there: dict[str, list[Any]] = {}
        for known in self.tasks(project):
            there.setdefault(document_id(known), []).append(given_text(known))
        for task in tasks:
            if given_text(task) not in there.get(document_id(task), [given_text(task)]):
                raise StudioError(
                    f"release {document_id(task)!r} is in project {project.title!r} with another text; give it an "
                    "id of its own (name of a .txt file, 'id' of a document, 'id' in the 'data' of a task), or take "
                    "another --project"
                )
        return [task for task in tasks if document_id(task) not in there]

    def _import(self, project: Any, batch: Sequence[Mapping[str, Any]]) -> list[int]:
        """Import a batch; the server's ids of its tasks, as far as they are known."""
        sent: list[int] = []

        def call() -> None:
            # An answer that did not come does not mean that nothing arrived.
            left = self._missing(project, batch) if sent_before else list(batch)
            sent_before.append(True)
            if left:
                answer = self.client.projects.import_tasks(project.id, request=left, return_task_ids=True)
                if answer.task_count != len(left):
                    raise StudioError(
                        f"the server took {answer.task_count} of {len(left)} tasks; look at the project, try again"
                    )
                sent.extend(getattr(answer, "task_ids", None) or [])

        sent_before: list[bool] = []
        self._try(call)
        return sent

    def _remove_doubles(self, project: Any, sent: set[int]) -> None:
        """Take back those of our tasks that arrived by another way, too: of a push that was killed a moment ago."""
        owners: dict[tuple[str, str], list[int]] = {}
        for task in self.tasks(project):
            owners.setdefault((document_id(task), repr(given_text(task))), []).append(task["id"])
        for ids in owners.values():
            for id_ in [one for one in sorted(ids) if one in sent][: len(ids) - 1]:
                self._try(lambda id_=id_: self.client.tasks.delete(str(id_)))  # type: ignore[misc]

    def open_tasks(self, project: Any) -> list[dict[str, Any]]:
        """The tasks of a project without an annotation; those without a text are told and passed over."""
        found = []
        for task in self.tasks(project):
            if task.get("annotations"):
                continue
            if isinstance(given_text(task), str):
                found.append(task)
            else:
                self.say(
                    f"project {project.title!r}: task {document_id(task)!r} is passed over: 'text' in its 'data' must "
                    f"be a text, found {given_text(task)!r:.60}"
                )
        return found

    def push_predictions(
        self, project: Any, predict: Callable[[Iterable[str]], Iterable[Mapping[str, Any]]], version: str
    ) -> int:
        """Add a prediction to each of the open tasks that has none of this version; how many.

        Args:
            predict: texts -> predictions of this version, in order.
        """
        known = {
            p.task
            for p in self._try(lambda: self.client.predictions.list(project=project.id))
            if p.model_version == version
        }
        open_ = [task for task in self.open_tasks(project) if task["id"] not in known]
        found = predict(task["data"]["text"] for task in open_)
        made = [{"task": task["id"], **prediction} for task, prediction in zip(open_, found, strict=True)]
        for start in range(0, len(made), BATCH):
            batch = made[start : start + BATCH]
            # Not tried again: a prediction that arrives twice is shown twice. The next call adds what is missing.
            with _told(self.url, self.timeout):
                self.client.projects.import_predictions(project.id, request=batch)
        return len(made)

    def attach(self, project: Any, url: str, token: str = "") -> None:
        """Have a project ask a running backend for the predictions of the tasks it shows, and tell it what happens.

        Done twice, nothing is there twice.

        Args:
            url: the backend's address, as the server reaches it.
            token: the backend's.

        Raises:
            StudioError: the server cannot reach the backend, or the backend refuses the project.
        """
        self._try(lambda: self._attach(project, url.rstrip("/"), token))

    def _attach(self, project: Any, url: str, token: str) -> None:
        hook, header = f"{url}/webhook", {"Authorization": f"Token {token}"} if token else {}
        hooks = [known for known in self.client.webhooks.list(project=str(project.id)) if known.url == hook]
        # The server makes the webhook by itself where there is none of this address, but without the token.
        if hooks:
            self.client.webhooks.update(hooks[0].id, url=hook, headers=header)
        elif token:
            self.client.webhooks.create(project=project.id, url=hook, headers=header)
        basic = {"auth_method": "BASIC_AUTH", "basic_auth_user": USER, "basic_auth_pass": token}
        how: dict[str, Any] = basic if token else {"auth_method": "NONE"}
        known = [one for one in self.client.ml.list(project=project.id) if one.url.rstrip("/") == url]
        if known:
            self.client.ml.update(known[0].id, url=url, project=project.id, title=BACKEND, **how)
        else:
            self.client.ml.create(url=url, project=project.id, title=BACKEND, is_interactive=False, **how)
        # Only the backend that a project names here is asked.
        self.client.projects.update(project.id, model_version=BACKEND)


class _Passing(StudioError):
    """What may be over at the next attempt."""


@contextmanager
def connect(url: str, api_key: str, say: Callable[[str], object] = print, timeout: float = TIMEOUT) -> Iterator[Studio]:
    """A connection to the server at `url`; everything that goes wrong with it is a StudioError.

    Raises:
        StudioError: there is no token, or label-studio-sdk is missing.
    """
    if not api_key:
        raise StudioError("no token: give --api-key or set LABEL_STUDIO_API_KEY (`make label-studio` prints it)")
    try:
        from label_studio_sdk import LabelStudio
    except ImportError as error:
        raise StudioError(f"{error.name} is missing: pip install 'pharmatriples[label-studio]'") from None
    with _told(url, timeout):
        # Its own retries would send tasks twice.
        client = LabelStudio(base_url=url, api_key=api_key, timeout=timeout, max_retries=0)
    yield Studio(client, url, timeout, say)


@contextmanager
def _told(url: str, timeout: float) -> Iterator[None]:
    """What the client raises, in one line."""
    import httpx
    from label_studio_sdk.core import ApiError

    try:
        yield
    except ApiError as error:
        if error.status_code in (401, 403):
            raise StudioError(f"{url} refuses the token ({error.status_code}); look into --api-key") from None
        body = " ".join(str(error.body).split())[:500]
        kind = _Passing if error.status_code in BUSY else StudioError
        raise kind(f"{url} answers {error.status_code}: {body}") from None
    except httpx.TimeoutException:
        raise _Passing(f"no answer from {url} within {timeout:g} s") from None
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise StudioError(f"{url} is no address: {error}") from None
    except httpx.HTTPError as error:
        raise _Passing(f"no answer from {url} ({error}); is the server running?") from None
    except json.JSONDecodeError:
        raise StudioError(f"{url} answers, but not as Label Studio does; look into --url") from None


# --- what is sent


def tasks_of(paths: Iterable[Path], schema: Schema, predictions: bool = False) -> dict[str, dict[str, Any]]:
    """Id -> task, of inputs: folders of texts, texts, JSON lines of documents, or Label Studio exports.

    Args:
        predictions: send the annotation of documents as predictions.

    Raises:
        ValueError: an input cannot be read, or a release stands in them twice.
    """
    tasks: dict[str, dict[str, Any]] = {}
    for path in paths:
        for task in _tasks(path, schema, predictions):
            if document_id(task) in tasks:
                raise StudioError(f"{path}: release {document_id(task)!r} is in the input twice; ids must differ")
            tasks[document_id(task)] = task
    return tasks


def _tasks(path: Path, schema: Schema, predictions: bool) -> Iterator[dict[str, Any]]:
    if path.is_dir() or path.name.lower().endswith(TEXTS):
        yield from _texts(path, schema)
    elif path.suffix == ".json":
        yield from _exported(path, schema, predictions)
    elif path.name.endswith((".jsonl", ".jsonl.gz")):
        as_: Literal["predictions", "annotations"] = "predictions" if predictions else "annotations"
        for document, marked in read_lines(path):
            try:
                task = task_of(document, schema, as_ if marked else None, model_version=path.name.partition(".")[0])
            except DocumentError as error:
                raise StudioError(f"{path}: {error}") from None
            yield task
    else:
        raise StudioError(f"{path}: neither a folder nor .txt, .jsonl, .jsonl.gz or .json")


def _texts(path: Path, schema: Schema) -> Iterator[dict[str, Any]]:
    """Bare tasks of a text, or of all texts in a folder and its folders."""
    for source in sources([str(path)]):
        if isinstance(source, Source) and source.is_data:
            raise StudioError(f"{path}: no .txt file in this folder; name {source.path} itself")
        for release in [source] if isinstance(source, Refusal) else read(source):
            if isinstance(release, Refusal):
                raise StudioError(release.error)
            yield task_of(Document(id=release.id, text=release.text), schema, as_=None)


def _exported(path: Path, schema: Schema, predictions: bool) -> Iterator[dict[str, Any]]:
    """The tasks of an export, with the predictions that it holds, or its annotations in their place."""
    read_export(path, schema).report.check()
    for position, task in enumerate(read_tasks(path), 1):
        exported = export_task(task, position)
        if document_id(task) != document_id(task, position):  # no id at all: the position must not name it alone,
            exported["data"]["id"] = f"{path.stem}-at-{position}"  # another file has a task there, too
        known = [
            {key: one[key] for key in ("model_version", "score", "result") if key in one}
            for one in listed(task, "predictions")
            if isinstance(one, Mapping)
        ]
        if predictions:
            made = [one for one in exported.pop("annotations", []) if not one.get("was_cancelled")]
            known += [{"model_version": path.stem, "result": one["result"]} for one in made]
        yield exported | ({"predictions": known} if known else {})
