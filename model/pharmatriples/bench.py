"""The bench: configurations trained over several seeds, scored on several sets of documents, in one table.

A run, one configuration with one seed, is trained in a process of its own. Beside its model stand the counts of every
document that it was scored on: `bench_table` needs nothing else.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

import torch

from .arguments import TrainingConfig, load_config
from .bench_table import Row, figures, summarize
from .dataset import read_documents
from .documents import Document
from .evaluation import evaluate
from .extractor import annotate
from .files import write_text
from .loading import load
from .runs import RECORD, Splits, is_current, read_splits
from .schema import Schema
from .stock import annotate as annotate_by_stock
from .stock import recipe
from .stock import train as train_stock
from .training import train

STOCK = "stock"


class BenchError(ValueError):
    """An experiment that cannot be made; the message says what to change."""


@dataclass(frozen=True)
class Entry:
    """A configuration under test, and so a row of the table.

    Attributes:
        name: of its row and of its runs' folders.
        asked: how it was asked for.
        stock: whether it is the stock recipe on the data and the encoder of `config`.
    """

    name: str
    asked: str
    config: TrainingConfig
    stock: bool = False


def entry(text: str) -> Entry:
    """The entry that `[NAME=]FILE.yaml[,key=value ...]` asks for; without a name it has the file's.

    Raises:
        BenchError: the name is no file name.
        TrainingError: the configuration cannot be read.
    """
    first, *overrides = text.split(",")
    name, _, file = first.rpartition("=")
    name = name or Path(file).stem
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise BenchError(f"{text!r}: the name {name!r} must be of letters, digits, '.', '-' and '_'")
    return Entry(name, text, load_config(file, overrides))


def stock_entry(config: TrainingConfig) -> Entry:
    """The stock recipe on the data and the encoder of a configuration."""
    return Entry(STOCK, "the stock recipe", recipe(config), stock=True)


def curve_entries(full: Entry, sizes: Sequence[int]) -> list[Entry]:
    """A configuration on nested parts of its train split, with the number of steps that it has on all of it.

    Raises:
        BenchError: the train split has fewer documents than a size asks for.
    """
    count = len(_splits(dataclasses.replace(full.config, pseudo=""))[1]["train"])
    steps = full.config.max_steps
    if steps <= 0:
        whole = len(_splits(full.config)[1]["train"])
        steps = math.ceil(full.config.epochs * math.ceil(whole / full.config.batch_size))
    entries = []
    for size in sorted(set(sizes)):
        if not 0 < size <= count:
            raise BenchError(f"size {size}: the train split of {full.config.data} has {count} documents")
        config = dataclasses.replace(full.config, train_limit=size, max_steps=steps)
        asked = f"{full.asked},train_limit={size},max_steps={steps}"
        entries.append(Entry(f"{full.name}-{size}", asked, config))
    return entries


@dataclass(frozen=True)
class Run:
    """One training of an entry.

    Attributes:
        config: with the seed and the output of this run.
        sets: name -> file and split of what is scored beside the validation and test splits of the run's own data.
    """

    entry: Entry
    config: TrainingConfig
    sets: Mapping[str, tuple[str, str | None]]

    @property
    def name(self) -> str:
        return Path(self.config.output_dir).name

    def file(self, suffix: str) -> Path:
        """`.json`: its counts; `.log`: what its training printed."""
        return Path(f"{self.config.output_dir}{suffix}")

    def documents(self) -> dict[str, list[Document]]:
        """The annotated documents of each set."""
        own = _documents(self.config.data, self.config.schema)
        found = {split: [d for d in own if d.split == split] for split in ("validation", "test")}
        for name, (file, split) in self.sets.items():
            found[name] = [d for d in _documents(file, self.config.schema) if split in (None, d.split)]
            if not found[name]:
                raise BenchError(f"{name}: {file} has no documents of the split {split!r}")
        return {name: documents for name, documents in found.items() if documents}

    def counts(self) -> dict[str, dict[str, dict[str, list[int]]]]:
        """Set -> document id -> figure -> true positives, false positives, false negatives, of what is up to date."""
        if not is_current(self.config, _splits):
            return {}
        kept = self._kept()
        keys = {name: self._key(documents) for name, documents in self.documents().items()}
        return {name: kept[name]["documents"] for name, key in keys.items() if kept.get(name, {}).get("key") == key}

    def finished(self) -> bool:
        return self.counts().keys() == self.documents().keys()

    def perform(self) -> None:
        """Train, or go on, and score: only what is not up to date."""
        if not is_current(self.config, _splits):
            if self.entry.stock:
                train_stock(self.config, resume=True)
            else:
                train(self.config, resume=True, overwrite=True)
        counts = self.counts()
        if counts.keys() == self.documents().keys():
            return
        schema = Schema.from_yaml(self.config.schema)
        extract = None if self.entry.stock else load(self.config.output_dir)
        kept = self._kept()
        for name, documents in self.documents().items():
            if name in counts:
                continue
            predicted = (
                annotate(extract, documents) if extract is not None else annotate_by_stock(self.config, documents)
            )
            found = {
                g.id: {figure: [c.tp, c.fp, c.fn] for figure, c in figures(evaluate([g], [p], schema)).items()}
                for g, p in zip(documents, predicted, strict=True)
            }
            kept[name] = {"key": self._key(documents), "documents": found}
        write_text(json.dumps(kept) + "\n", self.file(".json"))

    def _kept(self) -> dict[str, Any]:
        """Set -> counts, and the key of what they were counted on; perhaps another model, or other documents."""
        try:
            return dict(json.loads(self.file(".json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):  # no JSON, or no object
            return {}

    def _key(self, documents: Sequence[Document]) -> str:
        """What tells whether counts are those of this model and these documents."""
        digest = hashlib.sha256((Path(self.config.output_dir) / RECORD).read_bytes())
        for document in documents:
            digest.update(json.dumps(document.to_dict(), sort_keys=True).encode())
        return digest.hexdigest()


def _splits(config: TrainingConfig) -> Splits:
    """What `read_splits` gives, read once for all runs on the same data."""
    same = {name: getattr(config, name) for name in ("data", "schema", "train_limit", "pseudo")}
    return _read_once(TrainingConfig(output_dir="", **same))


_read_once = cache(read_splits)


@cache
def _documents(file: str, schema: str) -> list[Document]:
    return read_documents(file, Schema.from_yaml(schema))


# --- running


def perform(runs: Sequence[Run], jobs: int, say: Callable[[str], object] = print) -> list[Run]:
    """Perform what is not finished, `jobs` runs at once, which share the threads; returns the runs that failed.

    Each run is a process of its own, which ends with this one; what it prints stands in its log.
    """
    waiting = [run for run in runs if not run.finished()]
    if len(waiting) < len(runs):
        say(f"{len(runs) - len(waiting)} of {len(runs)} runs are finished")
    threads = max(1, torch.get_num_threads() // jobs)
    active: dict[Any, Run] = {}
    failed = []
    try:
        while waiting or active:
            while waiting and len(active) < jobs:
                run = waiting.pop(0)
                run.file(".log").parent.mkdir(parents=True, exist_ok=True)
                process = get_context("spawn").Process(target=_work, args=(run, threads))
                process.start()
                active[process] = run
                say(f"{run.name}: training; its log is {run.file('.log')}")
            connection.wait([process.sentinel for process in active])
            for process in [process for process in active if not process.is_alive()]:
                run = active.pop(process)
                say(f"{run.name}: {'failed: ' + _last_line(run) if process.exitcode else 'done'}")
                if process.exitcode:
                    failed.append(run)
    finally:
        for process in active:
            process.terminate()
    return failed


def _work(run: Run, threads: int) -> None:
    Thread(target=_end_with_parent, daemon=True).start()
    with open(run.file(".log"), "wb") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    torch.set_num_threads(threads)
    try:
        run.perform()
    except (ValueError, OSError) as error:
        sys.exit(str(error))


def _end_with_parent() -> None:
    """A run must not outlive a bench that was killed: the next one would train into the same folder."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _last_line(run: Run) -> str:
    if not run.file(".log").is_file():
        return "it left no log"
    return run.file(".log").read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]


# --- the whole


@dataclass(frozen=True)
class Bench:
    """Entries over seeds, and the sets that they are scored on.

    Attributes:
        folder: of the runs, `NAME-SEED` each.
        sets: see `Run`.
    """

    entries: Sequence[Entry]
    seeds: Sequence[int]
    sets: Mapping[str, tuple[str, str | None]]
    folder: Path = Path("runs/bench")

    def __post_init__(self) -> None:
        names = [e.name for e in self.entries]
        for name in names:
            if names.count(name) > 1:
                raise BenchError(f"two configurations are named {name!r}; name one: NAME=FILE.yaml,key=value")
        if len(set(self.seeds)) < len(self.seeds):
            raise BenchError(f"a seed stands twice among {', '.join(map(str, self.seeds))}; give each once")
        if own := {"validation", "test"} & self.sets.keys():
            raise BenchError(f"{own.pop()!r} is the name of a split of the data itself; name the set otherwise")
        files = list(dict.fromkeys(e.config.schema for e in self.entries))
        first, *others = map(Schema.from_yaml, files)
        for file, schema in zip(files[1:], others, strict=True):
            if schema != first:
                raise BenchError(f"{files[0]} and {file} are different schemas; make a table of each")

    def runs(self) -> list[Run]:
        """All runs, the first seed of every entry before the second of any."""
        return [self._run(e, seed) for seed in self.seeds for e in self.entries]

    def _run(self, entry: Entry, seed: int) -> Run:
        output = str(self.folder / f"{entry.name}-{seed}")
        return Run(entry, dataclasses.replace(entry.config, seed=seed, output_dir=output), self.sets)

    def rows(self) -> list[Row]:
        """What the finished runs gave, set by set."""
        found: dict[str, list[Row]] = {}
        for e in self.entries:
            finished = [counts for run in self.runs() if run.entry is e and (counts := run.counts())]
            for name in finished[0] if finished else ():
                own = [counts[name] for counts in finished if name in counts]
                found.setdefault(name, []).append(
                    Row(name, len(own[0]), e.name, e.asked, e.config.train_limit, summarize(own))
                )
        return [row for rows in found.values() for row in rows]
