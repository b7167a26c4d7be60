"""Pushing and pulling, with everything that can come between."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from exports import RELEASE, ROOT, SCHEMA, same
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pharmatriples import studio
from pharmatriples.annotators import policy
from pharmatriples.documents import Document, write_jsonl
from pharmatriples.labelstudio import document_id, read_export, task_from_document
from pharmatriples.studio import Studio, StudioError, connect, tasks_of
from server import Server, label_studio, script  # noqa: F401
from strategies import documents_of

MANY = 2000


@contextmanager
def connected(server: Server, url: str = "", timeout: float = 300) -> Iterator[tuple[Studio, list[str]]]:
    """A connection, and what it said about attempts that failed."""
    said: list[str] = []
    with connect(url or server.url, server.token, said.append, timeout) as connection:
        yield connection, said


def tasks(*ids: str) -> list[dict[str, Any]]:
    return [task_from_document(replace(RELEASE, id=id_), SCHEMA) for id_ in ids]


def standing_in(there: list[dict[str, Any]]) -> tuple[Studio, Any, list[str]]:
    """A connection to a project that holds these tasks and takes what is sent, the project, and what was said."""
    said: list[str] = []
    project = SimpleNamespace(id=1, title="releases")

    def take(_: int, request: list[dict[str, Any]], return_task_ids: bool) -> Any:
        ids = [len(there) + number for number in range(1, len(request) + 1)]
        there.extend({"id": id_, **task} for id_, task in zip(ids, request, strict=True))
        return SimpleNamespace(task_count=len(ids), task_ids=ids)

    def predict(_: int, request: list[dict[str, Any]]) -> None:
        for one in request:
            next(task for task in there if task["id"] == one["task"])["predictions"] = [one]

    exports = SimpleNamespace(download_sync=lambda *_, **__: [json.dumps(there).encode()])
    projects = SimpleNamespace(list=lambda: [project], exports=exports, import_tasks=take, import_predictions=predict)
    client = SimpleNamespace(projects=projects, predictions=SimpleNamespace(list=lambda project: []))
    return Studio(client, "http://127.0.0.1:1", 1.0, said.append), project, said


def random_documents(count: int) -> list[Document]:
    found: list[Document] = []
    sendable = st.text(st.characters(exclude_categories=["Cs"]))  # the server speaks UTF-8

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(documents_of(SCHEMA, sendable))
    def collect(document: Document) -> None:
        found.append(replace(document, id=f"{len(found)} {document.id}"))

    collect()
    return found


@pytest.mark.label_studio
def test_random_documents_go_up_and_come_back_as_they_were(label_studio: Server) -> None:  # noqa: F811
    documents = random_documents(MANY)
    assert len(documents) > MANY / 2
    with connected(label_studio) as (connection, said):
        project = connection.project("random", SCHEMA, create=True)
        assert connection.push(project, [task_from_document(d, SCHEMA) for d in documents]) == len(documents)
        back, report = read_export(connection.tasks(project), SCHEMA)
    assert {item.outcome for item in report.items} == {"kept"}
    found = {document.id: document for document in back}
    assert [d.id for d in documents if not same(d, found[d.id])] == []
    assert said == []


@pytest.mark.label_studio
def test_a_push_that_was_killed_goes_on_without_doubles(label_studio: Server, tmp_path: Path) -> None:  # noqa: F811
    documents = [replace(RELEASE, id=f"r{n}") for n in range(1200)]
    write_jsonl(documents, tmp_path / "documents.jsonl")
    command = [sys.executable, str(ROOT / "scripts" / "label_studio.py"), "push", str(tmp_path / "documents.jsonl")]
    known = {"LABEL_STUDIO_URL": label_studio.url, "LABEL_STUDIO_API_KEY": label_studio.token}
    with subprocess.Popen([*command, "--project", "killed"], env=os.environ | known) as process:
        while process.poll() is None and not task_count(label_studio, "killed"):
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    with connected(label_studio) as (connection, _):
        project = connection.project("killed", SCHEMA)
        more = [task_from_document(d, SCHEMA) for d in [*documents, replace(RELEASE, id="new")]]
        connection.push(project, more)
        found = connection.tasks(project)
        assert connection.push(project, more) == 0
    assert sorted(map(document_id, found)) == sorted(map(document_id, more))
    assert all(len(task["annotations"]) == 1 for task in found)


def task_count(server: Server, title: str) -> int:
    request = urllib.request.Request(server.url + "/api/projects", headers={"Authorization": f"Token {server.token}"})
    with urllib.request.urlopen(request, timeout=60) as response:
        projects = json.load(response)["results"]
    return sum(project["task_number"] for project in projects if project["title"] == title)


@contextmanager
def forgetful(server: Server, forgets: int) -> Iterator[str]:
    """Address of a way to the server on which the first answers to an import are lost."""
    left = [forgets]

    class Way(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            way = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=300)
            way.request(
                self.command,
                self.path,
                body,
                {k: v for k, v in self.headers.items() if k not in ("Host", "Accept-Encoding")},
            )
            answer = way.getresponse()
            content = answer.read()
            if self.path.partition("?")[0].endswith("/import") and left[0]:
                left[0] -= 1
                self.close_connection = True
                return
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.getheader("Content-Type") or "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_DELETE = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Way) as way:
        thread = threading.Thread(target=way.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{way.server_address[1]}"
        way.shutdown()
        thread.join()


@pytest.mark.label_studio
def test_an_answer_that_is_lost_makes_no_double(label_studio: Server, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(studio, "WAITS", (0.01, 0.01))
    with forgetful(label_studio, 1) as url, connected(label_studio, url) as (connection, said):
        project = connection.project("lost", SCHEMA, create=True)
        connection.push(project, tasks("a", "b"))
        found = connection.tasks(project)
    assert sorted(map(document_id, found)) == ["a", "b"]
    assert len(said) == 1
    assert "next attempt in 0.01 s" in said[0]


@pytest.mark.label_studio
def test_a_push_that_arrived_beside_ours_leaves_one_task_each(label_studio: Server) -> None:  # noqa: F811
    with connected(label_studio) as (connection, _):
        project = connection.project("beside", SCHEMA, create=True)
        connection.push(project, tasks("a"))
        sent = connection._import(project, tasks("a", "b"))  # as a push that had looked before the other arrived
        connection._remove_doubles(project, set(sent))
        found = connection.tasks(project)
        other = [{"data": {**task["data"], "text": "Another text."}} for task in tasks("a")]
        connection._remove_doubles(project, set(connection._import(project, other)))
        after = connection.tasks(project)
    assert sorted(map(document_id, found)) == ["a", "b"]
    assert sorted(map(document_id, after)) == ["a", "a", "b"]  # of another text: no double, and not to be lost


@pytest.mark.label_studio
def test_predictions_go_to_open_tasks_once_a_version(label_studio: Server) -> None:  # noqa: F811
    bare = task_from_document(replace(RELEASE, id="open", mentions=(), relations=()), SCHEMA, as_=None)
    prediction = task_from_document(RELEASE, SCHEMA, "predictions", "m-1")["predictions"][0]
    with connected(label_studio) as (connection, _):
        project = connection.project("predictions", SCHEMA, create=True)
        connection.push(project, [*tasks("done"), bare])
        counts = [
            connection.push_predictions(project, lambda texts: [prediction for _ in texts], version)
            for version in ("m-1", "m-1", "m-2")
        ]
    assert counts == [1, 0, 1]


@pytest.mark.label_studio
def test_a_server_that_is_too_slow_is_told(label_studio: Server, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(studio, "WAITS", (0.01,))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with (
            connected(label_studio, url, timeout=0.2) as (connection, said),
            pytest.raises(StudioError, match=rf"^no answer from {url} within 0.2 s$"),
        ):
            connection.project("slow", SCHEMA)
    assert said == [f"no answer from {url} within 0.2 s; next attempt in 0.01 s"]


@pytest.mark.label_studio
def test_half_of_a_surrogate_pair_is_told_before_anything_is_sent(label_studio: Server) -> None:  # noqa: F811
    with connected(label_studio) as (connection, _):
        project = connection.project("surrogates", SCHEMA, create=True)
        with pytest.raises(StudioError, match="release 'half' holds half of a surrogate pair"):
            connection.push(project, [*tasks("whole"), {"data": {"id": "half", "text": "\ud83d"}}])
        assert connection.tasks(project) == []


@pytest.mark.label_studio
def test_annotators_are_named_by_their_email(label_studio: Server) -> None:  # noqa: F811
    with connected(label_studio) as (connection, _):
        project = connection.project("people", SCHEMA, create=True)
        connection.push(project, tasks("a"))
        (task,) = connection.tasks(project)
    who = task["annotations"][0]["completed_by"]
    assert who["email"] == label_studio.email


@pytest.mark.label_studio
def test_two_accounts_stay_apart_and_a_policy_takes_one(label_studio: Server) -> None:  # noqa: F811
    with connected(label_studio) as (connection, _):
        second = connection.client.users.create(email="second@example.org", username="second")
        project = connection.project("two accounts", SCHEMA, create=True)
        task = task_from_document(RELEASE, SCHEMA)
        (annotation,) = task["annotations"]
        own = {"completed_by": connection.client.users.whoami().id}
        other = {"completed_by": second.id, "result": annotation["result"][:1]}
        task["annotations"] = [{**annotation, **own}, {**annotation, **other}]
        connection.client.projects.import_tasks(project.id, request=[task])
        pulled = connection.tasks(project)
    both, _ = read_export(pulled, SCHEMA)
    assert {d.id: len(d.mentions) for d in both} == {
        f"acme@{label_studio.email}": len(RELEASE.mentions),
        "acme@second@example.org": 1,
    }
    (one,), _ = read_export(pulled, SCHEMA, policy("by:second@example.org", SCHEMA))
    assert (one.id, one.mentions) == ("acme", RELEASE.mentions[:1])


def test_inputs_of_every_kind_are_tasks(tmp_path: Path) -> None:
    write_jsonl([replace(RELEASE, id="d")], tmp_path / "d.jsonl.gz")
    found = tasks_of([ROOT / "seeds", tmp_path / "d.jsonl.gz"], SCHEMA)
    assert "seed-000" in found
    assert "annotations" not in found["seed-000"]
    assert len(found["d"]["annotations"]) == 1
    assert tasks_of([tmp_path / "d.jsonl.gz"], SCHEMA, predictions=True)["d"]["predictions"][0]["model_version"] == "d"


def test_a_line_that_marks_nothing_is_a_task_to_annotate_and_one_with_no_mentions_a_reviewed_one(
    tmp_path: Path,
) -> None:
    lines = [{"id": "new", "text": "Acme news."}, {"id": "done", "text": "Acme news.", "mentions": []}]
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    found = tasks_of([path], SCHEMA)
    assert "annotations" not in found["new"]
    assert [one["result"] for one in found["done"]["annotations"]] == [[]]
    path.write_text(json.dumps({"id": "x", "text": "ACM-101", "labels": ["news"]}))
    assert "annotations" not in tasks_of([path], SCHEMA)["x"]
    path.write_text(json.dumps({"id": "x", "text": "ACM-101", "labels": [[0, 7, "DRUG"]]}))
    with pytest.raises(ValueError, match="document 'x': what is marked stands in 'mentions', found 'labels'"):
        tasks_of([path], SCHEMA)
    mention = {"start": 0, "end": 3, "type": "DRUGG", "entity": "d"}
    path.write_text(json.dumps({"id": "x", "text": "ACM-101", "mentions": [mention]}))
    with pytest.raises(ValueError, match=r"x\.jsonl: document 'x': mention 'ACM' at \[0, 3\): entity type 'DRUGG'"):
        tasks_of([path], SCHEMA)


def test_an_export_brings_its_predictions_or_its_annotations_as_such(tmp_path: Path) -> None:
    (task,) = tasks("a")
    marked = task["annotations"][0]["result"]
    (tmp_path / "x.json").write_text(json.dumps([task | {"predictions": [{"model_version": "m", "result": []}, 3]}]))
    assert tasks_of([tmp_path / "x.json"], SCHEMA)["a"]["predictions"] == [{"model_version": "m", "result": []}]
    sent = tasks_of([tmp_path / "x.json"], SCHEMA, predictions=True)["a"]
    assert "annotations" not in sent
    assert [one["model_version"] for one in sent["predictions"]] == ["m", "x"]
    assert len(sent["predictions"][1]["result"]) == len(marked)


def test_a_folder_is_read_as_by_the_extraction(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (empty := tmp_path / "empty").mkdir()
    (tmp_path / "a.TXT").write_text("one")
    (tmp_path / "sub" / "b.txt.gz").write_bytes(gzip.compress(b"two"))
    assert {id_: task["data"]["text"] for id_, task in tasks_of([tmp_path], SCHEMA).items()} == {"a": "one", "b": "two"}
    (tmp_path / "c.txt").write_bytes("three".encode("utf-16-le"))
    with pytest.raises(StudioError, match="c.txt: "):
        tasks_of([tmp_path], SCHEMA)
    with pytest.raises(StudioError, match="no text and no data"):
        tasks_of([empty], SCHEMA)


def test_that_several_made_the_annotations_is_told_when_it_is_not_sent() -> None:
    connection, project, said = standing_in([])
    by = [{"result": [], "completed_by": {"email": f"{who}@acme.com"}} for who in ("ann", "bob")]
    assert connection.push(project, [{"data": {"id": "a", "text": "Acme"}, "annotations": by}]) == 1
    assert said == [
        "release 'a': that its annotations are by ann@acme.com, bob@acme.com is not sent; on the server they are all "
        "yours, and policies such as latest or by:WHO cannot tell them apart"
    ]
    connection.push(project, [{"data": {"id": "b", "text": "Acme"}, "annotations": [{"result": []}] * 2}])
    assert said[1].startswith("release 'b': it has several annotations; on the server they are all yours")


def test_tasks_without_an_id_are_named_by_their_file_and_all_arrive(tmp_path: Path) -> None:
    texts = {"x": ["one", "two"], "y": ["three"]}
    for name, own in texts.items():
        (tmp_path / f"{name}.json").write_text(json.dumps([{"data": {"text": text}} for text in own]))
    there: list[dict[str, Any]] = []
    connection, project, _ = standing_in(there)
    for name, own in texts.items():
        sent = list(tasks_of([tmp_path / f"{name}.json"], SCHEMA).values())
        assert [connection.push(project, sent) for _ in range(2)] == [len(own), 0]
    found = {task["data"]["id"]: task["data"]["text"] for task in there}
    assert found == {"x-at-1": "one", "x-at-2": "two", "y-at-1": "three"}


def test_an_id_that_a_task_has_stays(tmp_path: Path) -> None:
    given = [{"id": 7, "data": {"text": "a"}}, {"data": {"id": "task-at-0", "text": "b"}}]
    (tmp_path / "x.json").write_text(json.dumps(given))
    assert list(tasks_of([tmp_path / "x.json"], SCHEMA)) == ["task-7", "task-at-0"]


def test_another_text_of_an_id_that_is_there_is_told_before_anything_is_sent() -> None:
    there = [{"id": 1, "data": {"text": "Made in the browser."}, "annotations": []}]
    connection, project, _ = standing_in(there)
    export = [{"data": {"id": f"task-{number}", "text": f"Release {number}."}} for number in (1, 2)]
    with pytest.raises(StudioError, match="^release 'task-1' is in project 'releases' with another text; give it an"):
        connection.push(project, export)
    assert len(there) == 1
    there[0]["data"]["text"] = "Release 1."
    assert connection.push(project, export) == 1


NO_TEXT = [
    {"id": 1, "data": {"body": "x"}},
    {"id": 2, "data": {"text": 7}},
    {"id": 3, "data": {"text": "Acme"}},
    {"id": 4, "data": {"text": 8}, "annotations": [{"result": []}]},
]
TOLD = [
    f"project 'releases': task 'task-{id_}' is passed over: 'text' in its 'data' must be a text, found {found}"
    for id_, found in ((1, None), (2, 7))
]


def test_a_task_without_a_text_is_told_and_gets_no_prediction() -> None:
    there = [dict(task) for task in NO_TEXT]
    connection, project, said = standing_in(there)
    assert connection.push_predictions(project, lambda texts: [{"result": [text]} for text in texts], "m") == 1
    assert [task["id"] for task in there if "predictions" in task] == [3]
    assert said == TOLD


def test_a_task_without_a_text_is_told_and_not_ranked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    connection, _, said = standing_in([dict(task) for task in NO_TEXT])
    asked: list[Document] = []
    pipeline = SimpleNamespace(model=SimpleNamespace(schema=SCHEMA), windower=None)
    monkeypatch.setattr(script, "_pipeline", lambda model: pipeline)
    monkeypatch.setattr(script, "_server", lambda options: nullcontext(connection))
    monkeypatch.setattr("pharmatriples.ranking.rank", lambda model, windower, documents: asked.extend(documents) or [])
    assert script.main(["rank", "--model", "m", "--project", "releases"]) == 0, capsys.readouterr().err
    assert asked == [Document("task-3", "Acme")]
    assert said == TOLD
