"""What reading costs as texts get longer and more: seconds and memory, each size in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from .loading import load
from .plots import new_figure
from .speed_table import ONE
from .timing import TimingError

SHORT = 300  # characters of each of many texts


def measure(
    run: Path, texts: Sequence[str], backend: str, lengths: Sequence[int], numbers: Sequence[int]
) -> dict[str, Any]:
    """Seconds, and megabytes over those of the loaded model, for one text of each length and for each number of texts.

    Raises:
        ValueError: the model cannot be loaded, or a process broke off.
    """
    whole = "\n\n".join(texts)
    if len(whole) <= SHORT and numbers:
        raise TimingError(f"the texts have {len(whole)} characters in all; give more than {SHORT}, or no --numbers")
    short = [whole[at : at + SHORT] for at in range(0, len(whole) - SHORT, SHORT)]
    sizes = [(ONE, [whole], length, 1) for length in lengths]
    sizes += [(f"texts of {SHORT}", short, SHORT, number) for number in numbers]
    rows = []
    for name, parts, length, number in sizes:
        seconds, megabytes, found = _in_process(run, backend, parts, length, number)
        size = length * number
        rows.append([name, size, round(seconds, 2), round(size / seconds), round(megabytes), found])
    return {
        "what": f"Cost as the work grows ({backend})",
        "header": ["", "characters", "seconds", "characters a second", "MB", "mentions"],
        "rows": rows,
    }


def plot(rows: Sequence[Sequence[Any]], path: Path) -> None:
    """Seconds and memory over characters, in logarithmic scales, as PNG.

    Raises:
        PlotError: matplotlib is not installed.
    """
    figure = new_figure((9, 3.6))
    for axis, column, label in zip(figure.subplots(1, 2), (2, 4), ("seconds", "MB over the loaded model"), strict=True):
        for name in dict.fromkeys(row[0] for row in rows):
            own = [row for row in rows if row[0] == name]
            axis.plot([row[1] for row in own], [max(row[column], 0.01) for row in own], marker="o", label=name)
        axis.set(xscale="log", yscale="log", xlabel="characters in all", ylabel=label)
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _in_process(run: Path, backend: str, parts: Sequence[str], length: int, number: int) -> tuple[float, float, int]:
    here, there = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=_read, args=(run, backend, parts, length, number, there), daemon=True)
    process.start()
    there.close()
    try:
        said = here.recv()
    except EOFError:
        raise TimingError(f"{number} texts of {length} characters: the process broke off; its error is above") from None
    finally:
        process.join()
    if isinstance(said, Exception):
        raise said
    return said


def _read(run: Path, backend: str, parts: Sequence[str], length: int, number: int, connection: Connection) -> None:
    try:
        extract: Any = load(run, device="cpu", backend=backend)
    except ValueError as error:
        connection.send(error)
        return
    extract(parts[0][:2000])
    before = _megabytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    start = time.perf_counter()
    found = sum(len(entity["mentions"]) for one in extract(_texts(parts, length, number)) for entity in one["entities"])
    seconds = time.perf_counter() - start
    connection.send((seconds, _megabytes("VmHWM") - before, found))


def _texts(parts: Sequence[str], length: int, number: int) -> Iterator[str]:
    """`number` texts of `length` characters, made of the parts over and over."""
    for part in islice(cycle(parts), number):
        yield (part * -(-length // len(part)))[:length]


def _megabytes(name: str) -> float:
    """Memory of this process, as Linux tells it: VmRSS now, VmHWM at its peak."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024
