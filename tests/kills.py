"""`pharmatriples extract`, killed at random moments and started again: python kills.py MODEL KILLS SEED INPUT...

The starts are forks of this process, which has imported everything; so many real starts would take minutes. It
prints how often a run was killed, and how many outputs were whole in the end.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from pharmatriples import load
from pharmatriples.cli import main
from pharmatriples.outputs import write_results

OUTPUTS = ("out.jsonl", "out.csv.gz", "out.parquet")


def start(arguments: list[str]) -> int:
    """The process of a command."""
    process = os.fork()
    if process == 0:
        code = 70
        try:
            with open(os.devnull, "w") as sys.stderr:
                code = main(arguments)
        finally:
            os._exit(code)
    return process


def check(output: Path, whole: bytes, lines: bytes) -> None:
    """What is there at any moment: no output or the whole one, and the beginning of its lines."""
    assert not output.exists() or output.read_bytes() == whole, f"{output} is not whole"
    done = output.with_name(f"{output.name}.partial") / "results.jsonl"
    if done.exists():
        assert lines.startswith(done.read_bytes()), f"{done} is no beginning of the lines"


def killed_runs(model: str, kills: int, seed: int, inputs: list[str]) -> tuple[int, int]:
    """How many runs were killed, and how many outputs were whole after it."""
    common = ["extract", *inputs, "--model", model, "--batch-size", "4"]
    whole, seconds = {}, 0.0
    for name in OUTPUTS:
        began = time.monotonic()
        _, status = os.waitpid(start([*common, "-o", f"whole-{name}"]), 0)
        assert os.waitstatus_to_exitcode(status) == 1, "a run without a kill must read all but the bad documents"
        seconds = time.monotonic() - began
        whole[name] = Path(f"whole-{name}").read_bytes()
    random_ = random.Random(seed)
    killed = finished = 0
    while killed < kills:
        output = Path(OUTPUTS[finished % len(OUTPUTS)])
        output.unlink(missing_ok=True)
        code = -signal.SIGKILL
        while code == -signal.SIGKILL:
            process = start([*common, "-o", str(output)])
            if killed < kills:
                time.sleep(random_.uniform(0.1, 0.6) * seconds)
                os.kill(process, signal.SIGKILL)
            _, status = os.waitpid(process, 0)
            code = os.waitstatus_to_exitcode(status)
            killed += code == -signal.SIGKILL
            check(output, whole[output.name], whole["out.jsonl"])
        assert code == 1, f"a run that went on ended with {code}"
        assert output.exists(), f"{output} is not there"
        assert not output.with_name(f"{output.name}.partial").exists(), "the journal is still there"
        finished += 1
    return killed, finished


def import_everything(model: str) -> None:
    """Also what is imported as late as when a model is loaded and used."""
    extract = load(model)
    extract(["A."])
    for format_ in ("csv", "parquet"):
        with open(os.devnull, "w") as out:
            write_results([], out, format_, ())


if __name__ == "__main__":
    torch.set_num_threads(1)  # a thread of this process would be missing in its forks
    import_everything(sys.argv[1])
    print(*killed_runs(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
