"""The ML backend: its protocol, the real server that asks it, and training in the background."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
import uvicorn
from pharmatriples import Document, load
from pharmatriples.arguments import load_config
from pharmatriples.backend import (
    HOST,
    Backend,
    Retraining,
    application,
    score,
    serve,
    training_documents,
)
from pharmatriples.dataset import read_documents
from pharmatriples.documents import write_jsonl
from pharmatriples.labelstudio import labeling_config, task_from_document
from pharmatriples.preannotation import model_version, predictions
from pharmatriples.studio import BACKEND
from server import ROOT, environment, migrated, running, script
from starlette.testclient import TestClient
from tiny import SCHEMA, acme, tiny_encoder_dir, tiny_model_dir

TASKS = [
    {"id": 1, "data": {"text": acme().text}},
    {"id": 2, "data": {"text": ""}},
    {"id": 3, "data": {"body": "no text"}},
    {"id": 4, "data": {"text": 7}},
    {"id": 5, "data": None},
    "no task",
    {"id": 7, "data": {"text": "Acme said that the FDA approved \ud800 lupus."}},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_dir(tmp_path_factory.mktemp("backend") / "tiny")


@pytest.fixture(scope="module")
def backend(folder: Path) -> Backend:
    return Backend(folder)


def client(backend: Backend, token: str = "") -> TestClient:
    return TestClient(application(backend, token), f"http://{HOST}", raise_server_exceptions=False)


# --- the protocol


def test_health_setup_and_versions_name_the_model(backend: Backend, folder: Path) -> None:
    version = model_version(load(folder))
    health = client(backend).get("/health").json()
    assert health["status"] == "UP"
    assert (health["model"], health["training"]) == (str(folder), "off")
    assert client(backend).get("/versions").json()["versions"] == [version]
    asked = {"project": "1.2", "schema": labeling_config(SCHEMA), "hostname": "", "access_token": "", "extra_params": 0}
    answer = client(backend).post("/setup", json=asked)
    assert (answer.status_code, answer.json()) == (200, {"model_version": version})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (labeling_config(SCHEMA).replace('value="DRUG"', 'value="MEDICINE"'), "lacks Label DRUG; `scripts/label_st"),
        ("<View", "is not XML"),
        (None, "'schema' must be the labeling configuration, found None"),
    ],
)
def test_a_project_that_could_not_show_the_predictions_is_refused(
    backend: Backend, config: str | None, message: str
) -> None:
    answer = client(backend).post("/setup", json={"schema": config})
    assert answer.status_code == 400
    assert message in answer.json()["error"]


def test_each_task_has_one_result_in_order_and_bad_ones_an_empty_one(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    sent = json.dumps({"tasks": TASKS, "project": "1.2", "params": {}})  # escapes half of a surrogate pair
    answer = client(backend).post("/predict", content=sent, headers={"content-type": "application/json"})
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [bool(result["result"]) for result in results] == [True, False, False, False, False, False, True]
    for task, result in zip(TASKS, results, strict=True):
        assert result["model_version"] == backend.served.version
        if result["result"]:
            assert [result] == list(
                predictions([task["data"]["text"]], backend.served.extract, result["model_version"])
            )
        else:
            assert result["score"] == 0
    assert [line.partition(":")[0] for line in caplog.messages if "has no 'text'" in line] == [
        *("task 3", "task 4", "task 5", "task 'no task'")
    ]


@pytest.mark.parametrize(
    ("method", "path", "sent", "status", "message"),
    [
        ("POST", "/predict", {"json": {"tasks": 7}}, 400, "'tasks' must be a list, found 7"),
        ("POST", "/predict", {"json": [1]}, 400, "the body must be an object, found [1]"),
        ("POST", "/predict", {"content": b"{", "headers": {"content-type": "application/json"}}, 400, "is not JSON"),
        (
            *("POST", "/predict"),
            {"content": b"[" * 200_000, "headers": {"content-type": "application/json"}},
            *(400, "is not JSON"),
        ),
        ("POST", "/webhook", {"content": b'{"action": "START_TRAINING"}'}, 400, "must be of the type application/json"),
        ("POST", "/webhook", {"json": {"action": "START_TRAINING"}}, 400, "'project' must be an object with an 'id'"),
        ("POST", "/webhook", {"json": {"action": "START_TRAINING", "project": {"id": 1}}}, 400, "does not train"),
        ("GET", "/predict", {}, 405, "GET /predict: Method Not Allowed"),
        ("GET", "/nowhere", {}, 404, "GET /nowhere: Not Found"),
    ],
)
def test_an_error_is_json_with_a_message(
    backend: Backend, method: str, path: str, sent: dict[str, Any], status: int, message: str
) -> None:
    answer = client(backend).request(method, path, **sent)
    assert answer.status_code == status
    assert message in answer.json()["error"]


def test_a_page_that_calls_this_machine_by_its_own_name_is_not_answered(backend: Backend) -> None:
    assert client(backend).get("/health", headers={"host": "evil.example"}).status_code == 400


def test_what_nobody_thought_of_is_json_too(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "served", None)
    answer = client(backend).get("/health")
    assert answer.status_code == 500
    assert answer.json()["error"].startswith("GET /health: ")
    assert "Traceback" not in answer.text


def test_other_events_are_taken_note_of(backend: Backend) -> None:
    for action in ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED", "PROJECT_UPDATED", None):
        assert client(backend).post("/webhook", json={"action": action}).json() == {"status": "ok", "training": "off"}


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({}, 401),
        ({"headers": {"Authorization": "Token wrong"}}, 401),
        ({"headers": {"Authorization": "Basic ***"}}, 401),
        ({"headers": {"Authorization": "secret"}}, 401),
        ({"headers": {"Authorization": "Token \u00e9".encode()}}, 401),
        ({"headers": {"Authorization": "Basic \u00e9".encode()}}, 401),
        ({"auth": ("label-studio", "wrong")}, 401),
        ({"headers": {"Authorization": "Token secret"}}, 200),
        ({"auth": ("anybody", "secret")}, 200),
    ],
)
def test_with_a_token_only_those_who_know_it_are_answered(backend: Backend, sent: dict[str, Any], status: int) -> None:
    guarded = client(backend, token="secret")
    assert guarded.get("/health", **sent).status_code == status
    answer = guarded.post("/predict", json={"tasks": []}, **sent)
    assert answer.status_code == status
    assert answer.json() == ({"results": []} if status == 200 else {"error": "the token is missing or wrong"})


# --- training


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration that trains a tiny encoder on a few of the releases for one step."""
    folder = tmp_path_factory.mktemp("training")
    documents = read_documents(ROOT / "data" / "releases.json", SCHEMA)
    short = [document for document in documents if len(document.text) < 1500]
    chosen = [[d for d in short if d.split == split][:3] for split in ("train", "validation")]
    write_jsonl([*chosen[0], *chosen[1]], folder / "data.jsonl")
    values = {
        **{"encoder": str(tiny_encoder_dir(folder / "encoder")), "data": str(folder / "data.jsonl")},
        **{"schema": str(ROOT / "configs" / "schema.yaml"), "output_dir": str(folder / "unused"), "max_steps": 1},
        **{"window": 64, "stride": 16, "mention_size": 16, "pair_size": 8, "batch_size": 4, "precision": "fp32"},
    }
    (folder / "tiny.yaml").write_text(json.dumps(values))
    return folder / "tiny.yaml"


def retraining(
    config: Path, folder: Path, after: int = 0, tasks: Callable[[int], list[Any]] | None = None
) -> Retraining:
    command = [sys.executable, str(ROOT / "scripts" / "train.py")]
    annotated = [task_from_document(replace(acme(), split=None), SCHEMA)]
    return Retraining(command, config, tasks or (lambda project: annotated), folder, after)


def test_a_project_replaces_and_adds_releases_and_all_have_a_split(config: Path) -> None:
    old = read_documents(load_config(config).data, SCHEMA)
    held_out = next(document for document in old if document.split == "validation")
    corrected = replace(held_out, mentions=(), relations=(), split=None)
    tasks = [
        task_from_document(acme(), SCHEMA),
        task_from_document(corrected, SCHEMA),
        {"data": {"id": "open", "text": "Not annotated yet."}},
    ]
    second = task_from_document(replace(old[0], text=f"{old[0].text}\n", split=None), SCHEMA)  # known by its id alone
    second["annotations"] = [{**second["annotations"][0], "completed_by": number} for number in (1, 2)]
    found = {d.id: d for d in training_documents(load_config(config), SCHEMA, [*tasks, second], {})}
    assert found[held_out.id] == replace(corrected, split="validation")
    assert found["acme"].split == "train"
    both = {f"{old[0].id}@{number}" for number in (1, 2)}
    assert found.keys() == {d.id for d in old[1:]} | {"acme"} | both
    assert {found[id_].split for id_ in both} == {old[0].split}


def test_a_release_keeps_the_split_of_the_run_before_and_a_text_is_there_once(config: Path) -> None:
    old = read_documents(load_config(config).data, SCHEMA)
    held_out = next(document for document in old if document.split == "validation")
    renamed = replace(held_out, id="renamed", group="", split=None)
    tasks = [task_from_document(replace(d, split=None), SCHEMA) for d in (acme(), renamed)]
    for split in ("validation", "test"):
        found = {d.id: d for d in training_documents(load_config(config), SCHEMA, tasks, {"acme": split})}
        assert found["acme"].split == split
        assert found["renamed"].split == "validation"
        assert found.keys() == {d.id for d in old} - {held_out.id} | {"acme", "renamed"}


def test_a_group_of_the_data_replaces_no_release_of_its_name(config: Path, tmp_path: Path) -> None:
    old = [Document("a", "One.", split="train"), Document("b", "Two.", split="validation")]
    found = retrained(config, tmp_path, old, [Document("c", "Three.", group="b")])
    assert found.keys() == {"a", "b", "c"}
    assert found["b"].split == "validation"


def test_an_empty_text_or_group_is_no_tie(config: Path, tmp_path: Path) -> None:
    old = [Document("a", "One.", split="train"), Document("e", "", split="test")]
    found = retrained(config, tmp_path, old, [Document("c", "One."), Document("f", "")])
    assert found.keys() == {"c", "e", "f"}
    assert {id_: found[id_].split for id_ in "cef"} == {"c": "train", "e": "test", "f": "train"}


def test_a_text_that_is_an_id_elsewhere_is_no_tie(config: Path, tmp_path: Path) -> None:
    old = [Document("a", "One.", split="train"), Document("e", "a", split="test")]
    assert retrained(config, tmp_path, old, [Document("a", "One, anew.")])["a"].split == "train"


def retrained(config: Path, tmp_path: Path, old: list[Document], project: list[Document]) -> dict[str, Document]:
    """The documents of a run on this data with these of a project, by their id."""
    write_jsonl(old, tmp_path / "data.jsonl")
    values = replace(load_config(config), data=str(tmp_path / "data.jsonl"))
    tasks = [task_from_document(document, SCHEMA) for document in project]
    return {document.id: document for document in training_documents(values, SCHEMA, tasks, {})}


def test_training_starts_on_demand_and_a_better_model_is_served(
    config: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = Backend(folder, retraining(config, tmp_path / "runs"))
    before = backend.served
    # After one step nothing is right, and nothing is better than nothing: both outcomes need a judge of their own.
    scores = {before.name: 0.5}
    monkeypatch.setattr("pharmatriples.backend.score", lambda extract, _: scores.get(extract.model.name_or_path, 0.4))
    start = {"action": "START_TRAINING", "project": {"id": 3}}
    assert client(backend).post("/webhook", json=start).json()["training"].startswith("running since")
    assert not backend.start_training(3), "one run at a time"
    assert client(backend).post("/predict", json={"tasks": TASKS[:1]}).json()["results"][0]["result"]
    backend.wait()
    (output,) = (path for path in (tmp_path / "runs").iterdir() if path.is_dir())
    assert backend.state == f"{output} is not better, 0.400 against 0.500 on 3 validation documents"
    assert backend.served == before
    assert "acme" in {document.id for document in read_documents(output.with_suffix(".jsonl"), SCHEMA)}

    scores[before.name] = 0.3
    assert backend.start_training(3)
    backend.wait()
    assert " is served, 0.400 against 0.300" in backend.state
    health = client(backend).get("/health").json()
    assert health["model"] == backend.served.name != before.name
    assert health["versions"] == [model_version(load(backend.served.name))] != [before.version]
    assert health["training"] == backend.state


def test_the_score_is_the_one_that_training_chooses_by(tmp_path: Path) -> None:
    extract = load(tiny_model_dir(tmp_path, seed=8))
    found = extract(acme().text)
    own = Document.from_dict({**found, "id": "acme", "text": acme().text})
    assert own.relations
    assert score(extract, [own]) == 1
    assert score(extract, [replace(own, relations=())]) < 1


def test_new_annotations_start_a_run_when_there_are_enough(config: Path, folder: Path, tmp_path: Path) -> None:
    def down(project: int) -> list[Any]:
        raise ConnectionError(f"no answer\nfor project {project}")

    backend = Backend(folder, retraining(config, tmp_path, after=3, tasks=down))

    def send(action: str, annotation: Any, project: int = 8) -> int:
        event = {"action": action, "annotation": annotation, "project": {"id": project}}
        assert client(backend).post("/webhook", json=event).status_code == 200
        return int(client(backend).get("/health").json()["new_annotations"])

    assert send("ANNOTATION_CREATED", {"result": []}) == 1
    assert send("ANNOTATION_CREATED", {"result": [], "was_cancelled": True}) == 1
    assert send("ANNOTATION_UPDATED", {"result": []}) == 1
    assert send("ANNOTATION_CREATED", {"result": []}, project=9) == 2
    assert backend.state == "no run yet"
    assert send("ANNOTATIONS_CREATED", [{"result": []}, {"result": []}]) == 1, "those of the other project"
    backend.wait()
    assert backend.state == "failed: no answer for project 8"
    assert client(backend).get("/health").json()["status"] == "UP"


def test_a_run_that_fails_is_told_with_its_last_line(config: Path, folder: Path, tmp_path: Path) -> None:
    broken = replace(retraining(config, tmp_path), command=[sys.executable, "-c", "raise SystemExit('it broke')"])
    backend = Backend(folder, broken)
    assert backend.start_training(1)
    backend.wait()
    assert backend.state.startswith("failed: training ended with 1 (it broke); its log is ")


def test_closing_stops_the_run(config: Path, folder: Path, tmp_path: Path) -> None:
    endless = replace(retraining(config, tmp_path), command=[sys.executable, "-c", "import time; time.sleep(600)"])
    backend = Backend(folder, endless)
    assert backend.start_training(1)
    until(lambda: list(tmp_path.glob("*.log")))
    backend.close()
    assert backend.state.startswith("failed: training ended with -15")
    assert not backend.start_training(1)


def test_a_faulty_configuration_is_told_at_the_start(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("epoch: 1")
    with pytest.raises(ValueError, match="unknown key 'epoch'"):
        Backend(folder, retraining(tmp_path / "x.yaml", tmp_path))


def test_training_on_another_schema_is_refused_at_the_start(config: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "schema.yaml").write_text("name: other\nversion: 1\nentities: {DRUG: a drug}\n")
    values = json.loads(config.read_text()) | {"schema": str(tmp_path / "schema.yaml")}
    (tmp_path / "other.yaml").write_text(json.dumps(values))
    with pytest.raises(ValueError, match="other.yaml trains on another schema than that of "):
        Backend(folder, retraining(tmp_path / "other.yaml", tmp_path))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_listens_on_this_machine_alone_and_ends_with_its_run(
    config: Path, folder: Path, tmp_path: Path, how: signal.Signals
) -> None:
    code = (
        "import sys, pathlib, pharmatriples.backend as b\n"
        "model, config, folder = map(pathlib.Path, sys.argv[1:])\n"
        "write = 'import os, pathlib, time; pathlib.Path(%r).write_text(str(os.getpid())); time.sleep(600)'\n"
        "command = [sys.executable, '-c', write % str(folder / 'pid')]\n"
        "b.serve(b.Backend(model, b.Retraining(command, config, lambda project: [], folder)), port=0)\n"
    )
    command = [sys.executable, "-c", code, str(folder), str(config), str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}) as p:
        assert p.stderr is not None
        address = next(found[0] for line in p.stderr if (found := re.findall(r"http://127\.0\.0\.1:\d+", line)))
        start = {"action": "START_TRAINING", "project": {"id": 1}}
        with httpx.Client(base_url=address, trust_env=False) as asked:
            assert asked.get("/health").json()["status"] == "UP"
            assert asked.post("/webhook", json=start).status_code == 200
        pid = int(until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
        p.send_signal(how)
        assert p.wait(30) == -how or how == signal.SIGINT
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_port_that_is_taken_is_told(backend: Backend) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"port {port} cannot be used"):
            serve(backend, port)


@pytest.mark.parametrize("port", [-1, 65536, 99999])
def test_a_number_that_is_no_port_is_told(backend: Backend, port: int) -> None:
    with pytest.raises(ValueError, match=rf"^port {port} cannot be used; it must be from 0 to 65535, 0 takes a free"):
        serve(backend, port)


def until(true: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


# --- the real server


@contextmanager
def served(backend: Backend, token: str) -> Iterator[str]:
    """The address of a backend on a free port."""
    server = uvicorn.Server(uvicorn.Config(application(backend, token), HOST, port=0, log_level="warning"))
    thread = Thread(target=server.run)
    thread.start()
    until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://{HOST}:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.mark.label_studio
@pytest.mark.parametrize("token", ["", "secret"])
def test_a_task_that_is_opened_shows_its_predictions_and_an_annotation_is_noticed(
    backends_server: Any, config: Path, folder: Path, tmp_path: Path, token: str
) -> None:
    from label_studio_sdk import LabelStudio

    studio = LabelStudio(base_url=backends_server.url, api_key=backends_server.token)
    project = studio.projects.create(title=f"backend {token}", label_config=labeling_config(SCHEMA))
    studio.projects.import_tasks(project.id, request=[task_from_document(acme(), SCHEMA, as_=None)])
    (task,) = studio.tasks.list(project=project.id)
    backend = Backend(folder, retraining(config, tmp_path, after=100))
    with served(backend, token) as url:
        remote = ["--project", project.title, "--url", backends_server.url, "--api-key", backends_server.token]
        for _ in range(2):
            assert script.main(["connect", *remote, "--backend", url, "--token", token]) == 0
        (connected,) = studio.ml.list(project=project.id)
        assert (connected.state, connected.title, connected.model_version) == ("CO", BACKEND, backend.served.version)
        assert studio.tasks.get(id=str(task.id))
        stored = until(lambda: studio.predictions.list(task=task.id))
        (expected,) = predictions([acme().text], backend.served.extract, backend.served.version)
        assert [p.result for p in stored] == [expected["result"]]
        assert (stored[0].score, stored[0].model_version) == (expected["score"], expected["model_version"])

        studio.annotations.create(id=task.id, result=stored[0].result)
        until(lambda: backend.health()["new_annotations"] == 1)
        studio.ml.train(id=connected.id)
        until(lambda: backend.state != "no run yet")
    backend.close()


@pytest.fixture(scope="module")
def backends_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server that may ask backends of this machine."""
    data = migrated(tmp_path_factory.mktemp("label_studio") / "data")
    with running(data, environment(), local_backends=True) as server:
        yield server
