"""ray_extract: a cluster gives what the machine itself gives, also when an actor dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pharmatriples.batches import Batch, ExtractionError, Reading
from pharmatriples.cli import main
from pharmatriples.releases import Columns, Release, sources
from tiny import tiny_model_dir

ray = pytest.importorskip("ray")

TEXT = "Acme said that the NMPA has accepted its NDA for ACM-101. "


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """A small cluster; commands within this process use it."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}  # or a busy machine starves them
    ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=100 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_model_dir(tmp_path_factory.mktemp("model")))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def inputs(count: int) -> list[str]:
    """Texts and data, with some that cannot be read."""
    Path("texts").mkdir()
    for number in range(40):
        Path(f"texts/{number}.txt").write_bytes(f"{number}. {TEXT}".encode() if number % 9 else b"caf\xe9")
    for name in ("a", "b"):
        lines = [json.dumps({"id": f"{name}{n}", "text": f"{n} {TEXT[: n % 60]}"}) for n in range(count // 2 - 20)]
        Path(f"{name}.jsonl").write_text("\n".join([*lines[:50], "{", *lines[51:]]))
    return ["texts", "a.jsonl", "missing.csv", "b.jsonl"]


def whole(names: list[str], model: str, *options: str) -> bytes:
    """What this machine alone gives."""
    assert main(["extract", *names, "--model", model, "-o", "whole.jsonl", *options]) == 1
    return Path("whole.jsonl").read_bytes()


def actors() -> list[int]:
    """The processes that hold the model."""
    named = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in named.splitlines()]
    children = {int(pid): int(parent) for pid, parent, _ in rows}

    def ours(pid: int) -> bool:
        while pid in children and pid != os.getpid():
            pid = children[pid]
        return pid == os.getpid()

    return [int(pid) for pid, _, args in rows if "ray::MapWorker" in args and ours(int(pid))]


def test_documents_are_those_of_a_local_run_to_the_byte(model: str) -> None:
    names = inputs(300)
    assert main(["extract", *names, "--model", model, "--ray", "auto", "-o", "out.jsonl", "--actors", "1"]) == 1
    found = Path("out.jsonl").read_bytes()
    assert len(found.splitlines()) == 301
    assert found == whole(names, model)


def test_a_killed_actor_is_replaced_and_loses_nothing(model: str) -> None:
    names = inputs(200)
    expected = whole(names, model, "--batch-size", "4")
    killed: list[int] = []

    def kill() -> None:
        done = Path("out.jsonl.partial/results.jsonl")
        while not (done.exists() and done.stat().st_size > 0):
            time.sleep(0.01)
        for pid in actors():
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    command = ["extract", *names, "--model", model, "--ray", "auto", "-o", "out.jsonl", "--batch-size", "4"]
    assert main(command) == 1
    killer.join()
    assert killed
    assert Path("out.jsonl").read_bytes() == expected


def test_a_stopped_run_goes_on_in_the_middle_of_a_file(model: str) -> None:
    names = inputs(200)
    expected = whole(names, model)
    command = ["extract", *names, "--model", model, "-o", "out.jsonl", "--ray", "auto"]
    converted = Path("out.jsonl.partial/converted")
    converted.mkdir(parents=True)
    assert main([*command, "--format", "csv"]) == 2  # all is done, but the output could not be written
    converted.rmdir()
    done = converted.with_name("results.jsonl")
    done.write_bytes(b"".join(expected.splitlines(keepends=True)[:85]) + b'{"id"')
    assert main(command) == 1
    assert Path("out.jsonl").read_bytes() == expected


def test_nodes_that_read_something_else_are_told(model: str) -> None:
    from pharmatriples.ray_extract import RayAnswers

    Path("a.jsonl").write_text('{"id": "1", "text": "x"}\n')
    answer = RayAnswers(sources(["a.jsonl"]), Reading(4, Columns(), 100), model, {})
    with pytest.raises(ExtractionError, match="reads other documents than this machine, from '2' on"):
        answer(Batch(0, 0, [Release("2", "x")]))


def test_a_model_that_nodes_do_not_have_is_told(model: str) -> None:
    from pharmatriples.ray_extract import RayAnswers

    Path("a.jsonl").write_text('{"id": "1", "text": "x"}\n')
    answer = RayAnswers(sources(["a.jsonl"]), Reading(4, Columns(), 100), "/no/such/model", {})
    with pytest.raises(ExtractionError, match="the Ray cluster fails"):
        answer(Batch(0, 0, [Release("1", "x")]))


def test_standard_input_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["extract", "--ray", "auto"]) == 2
    assert "standard input cannot be read by a cluster" in capsys.readouterr().err


def test_without_ray_the_command_says_how_to_install_it(model: str) -> None:
    Path("a.txt").write_text(TEXT)
    code = "import sys; sys.modules['ray'] = None; from pharmatriples.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "extract", "a.txt", "--model", model, "--ray", "local"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    *_, last = done.stderr.splitlines()
    assert last == "pharmatriples: extraction on Ray needs ray: pip install 'pharmatriples[ray]'"


def test_a_cluster_that_is_not_there_is_one_line(model: str) -> None:
    Path("a.txt").write_text(TEXT)
    command = [sys.executable, "-m", "pharmatriples", "extract", "a.txt", "--model", model, "--ray", "nonsense"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    *_, last = done.stderr.splitlines()
    assert last.startswith("pharmatriples: no Ray cluster at 'nonsense' (")
