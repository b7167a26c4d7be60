"""Push and load through the hub's own protocol, spoken by a stand-in on this machine."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from bundled import bundle_dir
from pharmatriples import load
from standin import Hub
from tiny import ROOT, acme

__all__ = ["bundle_dir"]

SCRIPT = [sys.executable, str(ROOT / "scripts" / "push_to_hub.py")]
PUSH = [sys.executable, "-c", "import sys; from pharmatriples.hub import push; print(push(*sys.argv[1:]))"]


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Like a bundle for all that the hub can see: four large files, and small ones."""
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "pharmatriples"}')
    (folder / "README.md").write_text("---\nlanguage: en\n---\n# A model\n")
    (folder / "sub" / "small.txt").write_text("small")
    for n in range(4):
        (folder / f"large{n}.bin").write_bytes(bytes([n]) * 100_000)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def environment(hub: Hub | str, home: Path, token: str | None = "acme") -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "PYTHON"))}
    kept |= {"HF_ENDPOINT": hub if isinstance(hub, str) else hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    kept |= {"HF_TOKEN": token} if token else {}
    return kept | {
        "PYTHONPATH": str(ROOT / "model"),
        "NO_PROXY": "127.0.0.1,localhost",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }


def run(command: list[str], hub: Hub | str, home: Path, token: str | None = "acme") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=environment(hub, home, token), cwd=home, capture_output=True, text=True, check=False
    )


def pushed(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The line that a script that did nothing wrote."""
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("push_to_hub: ")
    return line


def test_a_push_is_one_commit_that_holds_what_the_folder_holds(hub: Hub, folder: Path, tmp_path: Path) -> None:
    assert pushed(run([*PUSH, str(folder), "acme/m"], hub, tmp_path)).startswith(f"{hub.url}/acme/m/commit/")
    repo = hub.repos["model", "acme/m"]
    assert len(repo.commits) == 2  # and that of the hub itself
    files = hub.files("model", "acme/m")
    assert files.pop(".gitattributes")
    assert files == content(folder)
    # What is gone from the folder goes from the hub; what is there is not uploaded again.
    (folder / "sub" / "small.txt").rename(folder / "other.txt")
    uploads = hub.uploads
    pushed(run([*PUSH, str(folder), "acme/m"], hub, tmp_path))
    assert hub.files("model", "acme/m").keys() == {*content(folder), ".gitattributes"}
    assert hub.uploads == uploads == 4


def test_a_connection_that_breaks_off_is_taken_up_again(hub: Hub, folder: Path, tmp_path: Path) -> None:
    hub.on_upload = lambda number: number == 2
    pushed(run([*PUSH, str(folder), "acme/m"], hub, tmp_path))
    assert hub.uploads == 5
    assert len(hub.stored) == 4
    assert content(folder).items() <= hub.files("model", "acme/m").items()


def test_a_push_that_was_killed_goes_on_with_what_is_missing(hub: Hub, folder: Path, tmp_path: Path) -> None:
    release = threading.Event()
    hub.on_upload = lambda number: number > 2 and release.wait(60)  # the third and the fourth hang in the middle
    command = [*PUSH, str(folder), "acme/m"]
    process = subprocess.Popen(command, env=environment(hub, tmp_path), stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            if len(hub.stored) == 2 and hub.uploads == 4:
                break
            time.sleep(0.1)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        release.set()
    assert len(hub.stored) == 2
    assert hub.files("model", "acme/m").keys() == {".gitattributes"}, "half a commit"
    hub.on_upload, hub.uploads = lambda number: False, 0
    pushed(run(command, hub, tmp_path))
    assert hub.uploads == 2
    assert content(folder).items() <= hub.files("model", "acme/m").items()
    assert len(hub.repos["model", "acme/m"].commits) == 2


def test_what_keeps_a_push_from_the_hub_is_told_in_one_line(hub: Hub, folder: Path, tmp_path: Path) -> None:
    command = [*SCRIPT, str(folder)]
    assert "log in with `hf auth login`, or set HF_TOKEN" in refused(run([*command, "acme/m"], hub, tmp_path, None))
    assert "the token is not accepted" in refused(run([*command, "acme/m"], hub, tmp_path, "forged"))
    for wrong in ("m", "acme/x/m", "acme/m m", "acme/-m"):
        assert "write OWNER/NAME" in refused(run([*command, wrong], hub, tmp_path))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        assert f"no connection to {url}" in refused(run([*command, "acme/m"], url, tmp_path))
    hub.status = 503
    assert "the hub cannot answer now (status 503)" in refused(run([*command, "acme/m"], hub, tmp_path))
    assert hub.repos == {}


def test_a_name_that_is_taken_is_refused_before_anything_is_written(hub: Hub, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "pharmatriples"}')
    pushed(run([*PUSH, str(other), "acme/m"], hub, tmp_path))
    bert = hub.repos["model", "acme/m"]
    id_ = bert.commits[bert.branches["main"]]["config.json"]
    command = [*SCRIPT, str(folder), "acme/m"]
    assert "is there and public" in refused(run([*command, "--private"], hub, tmp_path))
    hub.blobs[id_] = b'{"model_type": "bert"}'
    assert "the name is taken by a model of another kind" in refused(run(command, hub, tmp_path / "other"))
    # The others' repositories cannot be seen to be theirs before one tries to write.
    foreign = run([*PUSH, str(folder), "stranger/m"], hub, tmp_path)
    assert "stranger/m: no right to write there" in foreign.stderr.splitlines()[-1]
    assert list(hub.repos) == [("model", "acme/m")]
    assert len(bert.commits) == 2


def test_what_is_no_run_is_refused(hub: Hub, folder: Path, tmp_path: Path) -> None:
    assert "no finished run, for want of a training.json" in refused(
        run([*SCRIPT, str(folder), "acme/m"], hub, tmp_path)
    )
    assert hub.repos == {}


def test_a_data_set_is_pushed_with_its_card(hub: Hub, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    other = replace(acme(), id="other", text=f"{acme().text} More.", split="test")
    data.write_text("".join(json.dumps(document.to_dict()) + "\n" for document in (acme(), other)))
    command = [*SCRIPT, "--dataset", str(data), "acme/releases", "--private"]
    assert "/datasets/acme/releases/commit/" in pushed(run(command, hub, tmp_path))
    repo, files = hub.repos["dataset", "acme/releases"], hub.files("dataset", "acme/releases")
    assert repo.private
    assert {path.rpartition(".")[2] for path in files} == {"gitattributes", "md", "parquet", "yaml"}
    assert b"configs:" in files["README.md"]


def test_a_bundle_is_pushed_and_loaded_from_the_hub(hub: Hub, bundle_dir: Path, tmp_path: Path) -> None:
    """By a branch, from a private repository, with and without the package; all in two interpreters, to save time."""
    text = acme().text
    expected = load(bundle_dir)(text)
    branch = [*SCRIPT, str(bundle_dir.parent / "run"), "acme/m", "--private", "--revision", "v1", "--message", "First"]
    commit = pushed(run(branch, hub, tmp_path)).rpartition("/")[2]
    repo = hub.repos["model", "acme/m"]
    assert (repo.private, repo.branches["v1"], repo.messages[commit]) == (True, commit, "First")
    assert hub.files("model", "acme/m").keys() == {".gitattributes"}
    code = """
import json, sys
from pharmatriples import load
from transformers import pipeline
text, commit, out = sys.argv[1:]
results = [load("acme/m", revision=revision, token="acme", verify=True)(text) for revision in ("v1", commit)]
results.append(pipeline(model="acme/m", revision="v1", token="acme", trust_remote_code=True)(text))
for token in ("stranger", False):
    try:
        load("acme/m", revision="v1", token=token, cache_dir=f"cache-{token}")
    except ValueError as error:
        results.append(str(error))
json.dump(results, open(out, "w"))"""
    out = tmp_path / "out.json"
    done = run([sys.executable, "-c", code, text, commit, str(out)], hub, tmp_path, token=None)
    assert done.returncode == 0, done.stderr
    *results, stranger, nobody = json.loads(out.read_text())
    assert results == [expected] * 3
    assert "acme/m" in stranger
    assert "acme/m" in nobody
