"""Extraction on a Ray cluster: actors hold the model and answer batches, in the order of the input.

The driver reads the inputs, too (that costs little next to the model): so it knows what each answer belongs to, and a
run that was stopped goes on behind what is done.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

from .batches import Batch, ExtractionError, Reading, Unit, answers
from .releases import Meter, Refusal, Release, Source

try:
    import ray
    import ray.data
except ImportError as error:
    raise ImportError("extraction on Ray needs ray: pip install 'pharmatriples[ray]'") from error

# Reading takes little of a processor; another share than that of the actors also keeps Ray from joining the two steps.
READING_CPUS = 0.25
# Bytes of a block: about a batch, so that the batches of one file go to several actors.
BLOCK = 1 << 16


@contextmanager
def cluster(address: str) -> Iterator[None]:
    """A connection to the cluster at `address`: "auto" for that of this machine, "local" for one made for this run.

    Raises:
        ExtractionError: there is none.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.WARNING)
    except Exception as error:  # Ray raises a class of its own for each way to fail
        reason = " ".join(str(error).split())[:300]
        raise ExtractionError(f"no Ray cluster at {address!r} ({reason}); start one, or say --ray local") from error
    try:
        yield
    finally:
        ray.shutdown()


class RayAnswers:
    """Answers batches like `batches.answers`, if they come in the order of `sources`; it may begin with any.

    Args:
        sources, reading: the inputs, and how they are read; the files are under the same paths on each node.
        model: a folder that is there on each node, or a hub id.
        options: of `load`.
        actors: how many hold the model; default: as many as the cluster has GPUs, or else processors less one.
    """

    def __init__(
        self,
        sources: Sequence[Source | Refusal],
        reading: Reading,
        model: str,
        options: Mapping[str, Any],
        actors: int | None = None,
    ):
        self._sources = sources
        self._reading = reading
        self._model = str(Path(model).resolve()) if Path(model).is_dir() else model
        self._options = dict(options)
        self._actors = actors
        self._rows: Iterator[Any] | None = None

    def __call__(self, batch: Batch) -> list[dict[str, Any]]:
        """The lines of the batch.

        Raises:
            ExtractionError: the cluster gives none, or those of other documents.
        """
        try:
            if self._rows is None:
                self._rows = iter(self._dataset(batch).iter_rows())
            row = next(self._rows, None)
        except Exception as error:  # what fails on a node comes as one of many classes
            reason = " ".join(str(error.__cause__ or error).split())[-300:]
            raise ExtractionError(f"the Ray cluster fails ({reason}); look into its logs") from error
        lines = json.loads(row["lines"]) if row else []
        if [line["id"] for line in lines] != [item.id for item in batch.items]:
            raise ExtractionError(
                f"the Ray cluster reads other documents than this machine, from {batch.items[0].id!r:.60} on; each "
                "node must have the same inputs under the same paths"
            )
        return lines

    def _dataset(self, first: Batch) -> Any:
        """A row for each batch from `first` on, with its lines. A batch whose actor dies is done again."""
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.target_max_block_size = BLOCK
        context.enable_progress_bars = context.print_on_execution_start = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        units = list(self._reading.units(self._sources))
        tasks = [{"unit": number, "done": 0} for number in range(first.unit, len(units))]
        tasks[0]["done"] = first.number
        total = ray.cluster_resources()
        gpus = int(total.get("GPU", 0))
        return (
            ray.data.from_items(tasks)
            .flat_map(
                _read,  # type: ignore[arg-type]
                fn_kwargs={"units": units, "reading": self._reading, "folder": os.getcwd()},
                num_cpus=READING_CPUS,
            )
            .map(
                _Extractor,  # type: ignore[arg-type]
                fn_constructor_args=(self._model, self._options),
                concurrency=self._actors or gpus or max(1, int(total.get("CPU", 1)) - 1),
                num_gpus=1 if gpus else 0,
                num_cpus=1,
            )
        )


def _read(row: Mapping[str, Any], units: Sequence[Unit], reading: Reading, folder: str) -> Iterator[dict[str, Any]]:
    """The batches of a unit, without those that are done."""
    os.chdir(folder)  # paths are relative to it, and errors name them as they were given
    number = int(row["unit"])
    for batch in islice(reading.unit_batches(number, units[number], Meter()), int(row["done"]), None):
        yield {"batch": json.dumps([batch.unit, batch.number, [item._asdict() for item in batch.items]], default=str)}


def _batch(row: Mapping[str, Any]) -> Batch:
    """What `_read` gave, again."""
    unit, number, items = json.loads(row["batch"])
    return Batch(unit, number, [_item(item) for item in items])


def _item(values: Mapping[str, Any]) -> Release | Refusal:
    if "error" in values:
        return Refusal(**values)
    day = values["release_date"]
    return Release(values["id"], values["text"], day and date.fromisoformat(day))


class _Extractor:
    """The model, loaded once for an actor."""

    def __init__(self, model: str, options: Mapping[str, Any]):
        from .loading import load

        self._extract = load(model, **options)

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        return {"lines": json.dumps(answers(self._extract, _batch(row)))}
