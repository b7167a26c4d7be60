"""How far a run has come, on a terminal: documents, their rate, the share of the input read, time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .releases import Meter


@contextmanager
def progress(meter: Meter, size: int) -> Iterator[Callable[[int], None]]:
    """Show a line on standard error while a run lasts.

    Args:
        meter: how much of the input has been read.
        size: of the input, in bytes; 0 where it is not known.

    Yields:
        what is told how many documents were just done.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.fields[documents]:,} documents"),
        TextColumn("{task.fields[rate]:,.1f}/s"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    documents, begun = 0, time.monotonic()
    with Progress(*columns, console=Console(file=sys.stderr), redirect_stdout=False) as line:
        task = line.add_task("", total=size or None, documents=0, rate=0.0)

        def done(count: int) -> None:
            nonlocal documents
            documents += count
            rate = documents / max(time.monotonic() - begun, 1e-9)
            line.update(task, completed=meter.bytes_read, documents=documents, rate=rate)

        yield done
