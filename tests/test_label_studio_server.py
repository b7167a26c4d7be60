"""The scripts against the real server."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pharmatriples import studio
from pharmatriples.documents import Document, Mention, Relation, write_jsonl
from pharmatriples.labelstudio import export_text, labeling_config, read_export, read_tasks, write_export
from pharmatriples.schema import Schema
from server import ROOT, Server, ServerError, environment, label_studio, migrated, running, script  # noqa: F401

SCHEMA = Schema.from_yaml(ROOT / "configs" / "schema.yaml")
ODD_TEXT = "\t \U0001d538\U0001f600 ABC-1\r\n  <b>&amp;</b>\u2028\u05e9\u05dc \x00 CD19 \n"
ODD = Document(
    "odd/id: \u00e9#1",
    ODD_TEXT,
    tuple(
        Mention(ODD_TEXT.index(words), ODD_TEXT.index(words) + len(words), type_, entity)
        for words, type_, entity in (("ABC-1", "DRUG", "d#1.2"), ("CD19", "TARGET", "g%"))
    ),
    (Relation("targets", "d#1.2", "g%"),),
)


def run(server: Server, *arguments: str | Path) -> int:
    command, *rest = map(str, arguments)
    return script.main([command, "--url", server.url, "--api-key", server.token, *rest])


def pulled(server: Server, project: str, tmp_path: Path) -> list[Document]:
    assert run(server, "pull", "--project", project, "-o", tmp_path / "pulled.json") == 0
    documents, report = read_export(tmp_path / "pulled.json", SCHEMA)
    report.check()
    return documents


def by_id(documents: list[Document]) -> dict[str, tuple[Document, set[Relation]]]:
    """Documents to compare, relations in any order."""
    return {d.id: (replace(d, relations=()), set(d.relations)) for d in documents}


def api(server: Server, path: str) -> Any:
    request = urllib.request.Request(server.url + path, headers={"Authorization": f"Token {server.token}"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


@pytest.mark.label_studio
def test_documents_go_up_and_come_back_as_they_were(
    label_studio: Server,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    releases = read_export(ROOT / "data" / "releases.json", SCHEMA).documents
    documents = [*releases[::16], ODD, Document("negative", " ")]
    write_jsonl(documents[1:], tmp_path / "documents.jsonl")
    assert run(label_studio, "push", tmp_path / "documents.jsonl", "--project", "round trip") == 0
    count = len(documents) - 1
    assert f"{count} releases pushed to project 'round trip', 0 were there already" in capsys.readouterr().out
    assert by_id(pulled(label_studio, "round trip", tmp_path)) == by_id(documents[1:])

    write_jsonl(documents, tmp_path / "documents.jsonl")
    capsys.readouterr()
    assert run(label_studio, "push", tmp_path / "documents.jsonl", "--project", "round trip") == 0
    assert f"1 releases pushed to project 'round trip', {count} were there already" in capsys.readouterr().out
    assert len(read_tasks(tmp_path / "pulled.json")) == count
    assert by_id(pulled(label_studio, "round trip", tmp_path)) == by_id(documents)


@pytest.mark.label_studio
def test_texts_go_up_exactly_and_wait_for_annotation(
    label_studio: Server,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "texts").mkdir()
    text = ODD_TEXT.replace("\0", "")  # a file with NUL is none of text
    (tmp_path / "texts" / "b.txt").write_bytes(text.encode())
    assert run(label_studio, "push", ROOT / "seeds", tmp_path / "texts", "--project", "texts") == 0
    assert pulled(label_studio, "texts", tmp_path) == []
    found = {task["data"]["id"]: task["data"]["text"] for task in read_tasks(tmp_path / "pulled.json")}
    seeds = {path.stem: path.read_bytes().decode() for path in (ROOT / "seeds").glob("*.txt")}
    assert found == {**seeds, "b": text}


@pytest.mark.label_studio
def test_an_export_goes_up_as_it_is_skipped_tasks_and_all(label_studio: Server, tmp_path: Path) -> None:  # noqa: F811
    tasks = read_tasks(ROOT / "data" / "releases.json")[:3]
    tasks[0]["annotations"][0]["ground_truth"] = False
    tasks[1]["annotations"].append({"result": [], "ground_truth": False, "was_cancelled": True})
    tasks[2]["annotations"].append({"result": [], "ground_truth": False})
    write_export(tasks, tmp_path / "export.json")
    assert run(label_studio, "push", tmp_path / "export.json", "--project", "export") == 0
    assert run(label_studio, "pull", "--project", "export", "-o", tmp_path / "pulled.json") == 0
    back = read_tasks(tmp_path / "pulled.json")
    for task in back:  # where a task has several annotations, whose they are is added
        for annotation in task["annotations"]:
            assert annotation.pop("completed_by") == {"email": label_studio.email}
            assert ("updated_at" in annotation) == (task is back[2])
            annotation.pop("updated_at", None)
    assert export_text(back) == (tmp_path / "export.json").read_text()


@pytest.mark.label_studio
def test_predictions_go_up_with_scores_and_are_no_annotation(
    label_studio: Server,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scored = replace(ODD, mentions=tuple(replace(m, score=0.5) for m in ODD.mentions))
    write_jsonl([scored], tmp_path / "scored.jsonl")
    assert run(label_studio, "push", tmp_path / "scored.jsonl", "--project", "predicted", "--predictions") == 0
    (project,) = (p for p in api(label_studio, "/api/projects")["results"] if p["title"] == "predicted")
    (prediction,) = api(label_studio, f"/api/predictions?project={project['id']}")
    assert (prediction["score"], prediction["model_version"]) == (0.5, "scored")
    assert [item["type"] for item in prediction["result"]] == ["labels", "labels", "relation"]
    capsys.readouterr()
    assert pulled(label_studio, "predicted", tmp_path) == []
    counts = next(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("prediction"))
    assert counts == ["prediction", "0", "0", "0", "1"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--api-key", "0" * 40], r"refuses the token \(401\)"),
        (["--url", "http://127.0.0.1:{free}"], "no answer from http://127.0.0.1:.*is the server running?"),
        (["--url", "nonsense"], "nonsense is no address"),
        (["--project", "none such"], "no project 'none such'; there are: "),
    ],
)
@pytest.mark.label_studio
def test_trouble_with_the_server_is_one_line(
    label_studio: Server,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    message: str,
) -> None:
    options = [option.replace("{free}", str(free_port())) for option in options]
    monkeypatch.setattr(studio, "WAITS", (0.01, 0.02))
    assert run(label_studio, "pull", "-o", tmp_path / "out.json", *options) == 2
    *attempts, line = capsys.readouterr().err.splitlines()
    assert re.search(message, line), line
    assert len(attempts) in (0, 2)
    assert all(re.search(f"{message}.*; next attempt in", attempt) for attempt in attempts)
    assert not (tmp_path / "out.json").exists()


@pytest.mark.label_studio
def test_the_command_reads_url_and_token_from_the_environment(label_studio: Server, tmp_path: Path) -> None:  # noqa: F811
    command = [sys.executable, str(ROOT / "scripts" / "label_studio.py"), "pull", "-o", str(tmp_path / "out.json")]
    known = {"LABEL_STUDIO_URL": label_studio.url, "LABEL_STUDIO_API_KEY": "0" * 40}
    done = subprocess.run(command, env=os.environ | known, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"label_studio: {label_studio.url} refuses the token (401); look into --api-key\n"


@pytest.mark.label_studio
def test_a_project_with_another_configuration_is_not_pushed_to(
    label_studio: Server,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = tmp_path / "schema.yaml"
    other.write_text("name: other\nversion: 1\nentities: {DRUG: a drug, GENE: a gene}\n")
    assert run(label_studio, "push", ROOT / "seeds", "--project", "another") == 0
    assert run(label_studio, "push", ROOT / "seeds", "--project", "another", "--schema", other) == 2
    assert "project 'another' lacks Label GENE; take another --project" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"a", "neither a folder nor .txt"),
        ("x.jsonl", b'{"id": "x"}', "x.jsonl:1: document 'x': the text must be a"),
        ("x.json", b'[{"data": {"text": "a"}, "annotations": [7]}]', "x.json: 1 items of the file are refused"),
        ("gone.txt", None, "no such file"),
        ("x.txt", b"\xff", "not UTF-8 text"),
        ("empty", None, "the folder holds no text and no data"),
    ],
)
def test_bad_input_is_refused_before_anything_is_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    elif name == "empty":
        path.mkdir()
    assert script.main(["push", str(path), "--url", "http://127.0.0.1:1", "--api-key", "x"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert name in error


def test_a_release_that_stands_twice_in_the_input_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    seeds = str(ROOT / "seeds")
    assert script.main(["push", seeds, seeds, "--api-key", "x"]) == 2
    assert "release 'seed-000' is in the input twice" in capsys.readouterr().err


def test_without_a_token_the_user_learns_where_it_comes_from(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LABEL_STUDIO_API_KEY", raising=False)
    assert script.main(["push", str(ROOT / "seeds")]) == 2
    assert "no token: give --api-key or set LABEL_STUDIO_API_KEY" in capsys.readouterr().err


def test_config_prints_the_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["config"]) == 0
    assert capsys.readouterr().out == labeling_config(SCHEMA)


# --- the server itself


@pytest.mark.label_studio
def test_the_server_command_prints_its_account_and_stops_cleanly(tmp_path: Path) -> None:
    data = migrated(tmp_path / "data")
    command = [sys.executable, str(ROOT / "scripts" / "label_studio_server.py"), "--port", "0", "--data-dir", str(data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        printed = dict.fromkeys(("Label Studio", "email", "password", "token"), "")
        for line in process.stdout:
            name, _, value = line.strip().partition("  ")
            printed |= {name: value.strip()} if name in printed else {}
            if "Ctrl-C" in line:
                break
        account = json.loads((data / "credentials.json").read_text())
        assert {key: printed[key] for key in account} == account
        assert stat.S_IMODE((data / "credentials.json").stat().st_mode) == 0o600
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=30)
        assert process.returncode == 0, error
        assert "Traceback" not in error
    host, port = printed["Label Studio"].removeprefix("http://").split(":")
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((host, int(port)), timeout=5)


@pytest.mark.label_studio
def test_a_taken_port_is_refused(label_studio: Server, tmp_path: Path) -> None:  # noqa: F811
    port = int(label_studio.url.rsplit(":", 1)[1])
    with pytest.raises(ServerError, match=f"port {port} cannot be used"), running(tmp_path, environment(), port):
        pass


@pytest.mark.parametrize("port", [-1, 65536, 99999])
def test_a_number_that_is_no_port_is_refused(tmp_path: Path, port: int) -> None:
    told = f"^port {port} cannot be used; it must be from 0 to 65535, --port 0 takes a free one$"
    with pytest.raises(ServerError, match=told), running(tmp_path, tmp_path / "bin" / "python", port):
        pass


@pytest.mark.label_studio
def test_damaged_credentials_are_named(tmp_path: Path) -> None:
    (tmp_path / "credentials.json").write_text("{}")
    with pytest.raises(ServerError, match="credentials.json is damaged"), running(tmp_path, environment()):
        pass


def test_a_named_folder_that_is_no_environment_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    monkeypatch.setenv("PHARMATRIPLES_LABEL_STUDIO_VENV", str(tmp_path))
    with pytest.raises(ServerError, match="is not ours and has no label-studio"):
        environment()
    assert (tmp_path / "thesis.txt").read_text() == "precious"
