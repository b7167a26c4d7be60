"""What a training run reads, and the folder that it leaves: a record beside the model tells what made it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import CONFIG_NAME

from .arguments import TrainingConfig, TrainingError
from .dataset import of_split, read_documents
from .documents import Document
from .import_report import ImportReport
from .schema import Schema
from .splits import SplitError, assign_splits, leaks

RECORD = "training.json"
Splits: TypeAlias = tuple[Schema, dict[str, list[Document]]]

# Settings that came when there were models already. What has them like this is trained as it was without them, and they
# are not recorded, so that those models stay current.
LATER = {"crf": False}


def read_splits(config: TrainingConfig) -> Splits:
    """The schema of a run, and its documents of the splits train and validation.

    Raises:
        TrainingError: some documents of the data have no split, those of one group or text stand in two, or a text of
            `pseudo`, or nearly the same, stands in the validation or the test split.
        ValueError: a file cannot be used; see `read_documents`.
    """
    schema = Schema.from_yaml(config.schema)
    whole = read_documents(config.data, schema, report=_checked)
    documents = {split: of_split(whole, split, config.data) for split in ("train", "validation")}
    if without := [d.id for d in whole if d.split is None]:
        raise TrainingError(
            f"{config.data}: {len(without)} of {len(whole)} documents have no split, the first {without[0]!r}; "
            "scripts/convert.py gives splits"
        )
    try:
        assign_splits(whole)  # all have one: it is checked alone
    except SplitError as error:
        raise TrainingError(f"{config.data}: {error}") from None
    if config.train_limit:
        order = list(range(len(documents["train"])))
        Random(0).shuffle(order)
        documents["train"] = [documents["train"][i] for i in sorted(order[: config.train_limit])]
    if config.pseudo:
        labelled = read_documents(config.pseudo, schema, split="train")
        held_out = [d for d in whole if d.split != "train"]
        both = [*held_out, *(dataclasses.replace(d, id=f"pseudo: {d.id}") for d in labelled)]
        if found := [pair for pair in leaks(both) if "train" in (pair.first.split, pair.second.split)]:
            raise TrainingError(f"{config.pseudo}: {found[0]}; leave out what is held out ({len(found)} such pairs)")
        documents["train"] += labelled
    return schema, documents


def _checked(report: ImportReport) -> None:
    """Nothing may be refused; what looks shifted is told."""
    for line in report.check().warnings:
        print(line, file=sys.stderr)


def is_current(config: TrainingConfig, read: Callable[[TrainingConfig], Splits] = read_splits) -> bool:
    """Whether `output_dir` holds a model of this configuration and of the data, as `read` gives them."""
    schema, documents = read(config)
    try:
        found = json.loads((Path(config.output_dir) / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    wanted = run_record(config, schema, documents)
    return isinstance(found, dict) and all(found.get(key) == value for key, value in wanted.items())


def run_record(config: TrainingConfig, schema: Schema, documents: Mapping[str, Sequence[Document]]) -> dict[str, Any]:
    """What makes two runs the same, for training.json."""
    lines = (json.dumps(d.to_dict(), sort_keys=True) for split in documents.values() for d in split)
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    settings = {name: value for name, value in dataclasses.asdict(config).items() if LATER.get(name) != value}
    return {"config": settings, "schema": schema.to_json(), "data_sha256": digest}


def folders(config: TrainingConfig) -> tuple[Path, Path]:
    """The folder of the finished model, and beside it that of the run until then.

    Raises:
        TrainingError: `output_dir` names no folder of its own, or what is there is no model.
    """
    output = Path(config.output_dir)
    if output.name in ("", "..") or output.is_symlink() or output.is_file():
        raise TrainingError(
            f"output_dir {config.output_dir!r} is a file, a link or no folder of its own; choose one such as runs/mine"
        )
    is_model = any((output / name).is_file() for name in (RECORD, CONFIG_NAME))
    if output.is_dir() and any(output.iterdir()) and not is_model:
        raise TrainingError(f"{output} holds something else than a model; choose another output_dir")
    return output, output.with_name(f"{output.name}.partial")


def prepare(partial: Path, record: Mapping[str, Any], resume: bool) -> str | None:
    """Make the folder of the run ready; the checkpoint to go on from, or None."""
    begun = partial.is_dir() and any(partial.iterdir())  # the Trainer makes the folder when it is built
    if resume and begun:
        try:
            same = json.loads((partial / RECORD).read_text(encoding="utf-8")) == record
        except (OSError, ValueError):
            same = False
        if same:
            for folder in partial.glob("checkpoint-*"):
                # The Trainer writes its state last: a checkpoint without it was cut off.
                if not _is_json(folder / "trainer_state.json"):
                    shutil.rmtree(folder)
            return get_last_checkpoint(str(partial))
        print(f"{partial} belongs to another configuration or other data; starting from the beginning")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    (partial / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return None


def finish(model: Any, tokenizer: Any, partial: Path, output: Path, record: Mapping[str, Any]) -> None:
    """Write the finished model beside the run and move it to its place, that of an earlier one."""
    finished, earlier = partial / "model", partial / "earlier"
    for folder in (finished, earlier):
        shutil.rmtree(folder, ignore_errors=True)
    save(model, finished)
    tokenizer.save_pretrained(finished)
    (finished / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if output.exists():
        output.rename(earlier)  # a folder with half of a model would be refused as none
    finished.rename(output)
    shutil.rmtree(partial)


def save(model: Any, folder: Path) -> None:
    """`save_pretrained`, with weights that whoever may read the configuration may read, too."""
    model.save_pretrained(folder)
    for weights in folder.glob("*.safetensors"):
        shutil.copymode(folder / CONFIG_NAME, weights)


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True
