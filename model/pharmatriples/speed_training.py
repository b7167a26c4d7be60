"""How fast training is beside transformers' own example of token classification, with the same encoder and releases.

The example's rows are sentences, drawn at random into batches of 16, padded to the longest and read in fp32; it trains
the whole encoder, and once more the layers alone that a configuration keeps. Each is the Trainer as it runs, in a
process of its own, and steps when it is its turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import (
    AutoModelForTokenClassification,
    DataCollatorForTokenClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from .arguments import TrainingConfig
from .documents import Document
from .layout import sentence_spans
from .modeling import quiet
from .runs import read_splits
from .stock import label_kinds, tagged_rows
from .timing import TimingError, by_turns
from .training import encoder_parts, keep_freed_memory, make_trainer

STEPS = 4  # in a turn


def measure(config: TrainingConfig, rounds: int) -> dict[str, Any]:
    """Real tokens a second of each in each round: pieces of words, without padding and overlaps of windows.

    Raises:
        ValueError: the configuration or the data cannot be used, or a training broke off.
    """
    context = get_context("spawn")
    whole = replace(config, encoder_layers=0)
    trainings = [("pharmatriples", _ours, config), ("transformers' example", _example, whole)]
    if config.encoder_layers:
        trainings.append((f"transformers' example, {config.encoder_layers} layers", _example, config))
    turns: dict[str, Callable[[], float]] = {}
    processes = []
    with TemporaryDirectory() as folder:
        try:
            for name, make, own in trainings:
                here, there = context.Pipe()
                arguments = (make, own, Path(folder) / name, rounds, there)
                process = context.Process(target=_train, args=arguments, daemon=True)
                process.start()
                processes.append(process)
                there.close()  # of this process, so that the end of the other is noticed
                precision = _said(name, here)
                turns[f"{name}, {precision}"] = partial(_turn, name, here)
            rates = by_turns(turns, rounds)
        finally:
            for process in processes:
                process.terminate()
                process.join()
    return {"what": "Training, real tokens a second", "base": list(turns)[1], "rates": rates}


def _turn(name: str, connection: Connection) -> float:
    connection.send("go on")
    return float(_said(name, connection))


def _said(name: str, connection: Connection) -> Any:
    try:
        said = connection.recv()
    except EOFError:
        raise TimingError(f"{name}: the training broke off; its error stands above") from None
    if isinstance(said, Exception):
        raise said
    return said


def _train(
    make: Callable[[TrainingConfig, Path], Trainer],
    config: TrainingConfig,
    folder: Path,
    rounds: int,
    connection: Connection,
) -> None:
    """What a process does: say the precision, then train whenever it is told to, and say how many tokens were read."""
    try:
        trainer = make(replace(config, max_steps=STEPS * (rounds + 1)), folder)
    except (ValueError, OSError) as error:
        connection.send(error)
        return
    connection.send("bf16" if trainer.args.bf16 else "fp32")
    trainer.add_callback(_Turns(trainer.model, connection))
    trainer.train()


class _Turns(TrainerCallback):
    """Steps when asked to, and tells how many real tokens it has read."""

    def __init__(self, model: Any, connection: Connection):
        self.connection = connection
        self.tokens = 0
        model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, model: Any, arguments: Any, inputs: dict[str, Any]) -> None:
        if "piece_index" in inputs:
            self.tokens += len(inputs["piece_index"])
        else:
            mask = inputs["attention_mask"]
            self.tokens += int(mask.sum()) - 2 * len(mask)  # a row has two special tokens

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % STEPS == 0:
            self.connection.recv()
            self.tokens = 0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % STEPS == 0:
            self.connection.send(self.tokens)


def _ours(config: TrainingConfig, folder: Path) -> Trainer:
    keep_freed_memory()
    schema, documents = read_splits(config)
    return make_trainer(
        config,
        schema,
        documents,
        folder,
        eval_strategy="no",
        save_strategy="no",
        disable_tqdm=True,
        logging_strategy="no",
    )


def _example(config: TrainingConfig, folder: Path) -> Trainer:
    schema, documents = read_splits(config)
    set_seed(config.seed)
    path, encoder_config, tokenizer = encoder_parts(config)
    encoder_config.num_labels = 1 + 2 * len(label_kinds(schema))
    with quiet():
        model = AutoModelForTokenClassification.from_pretrained(
            path, config=encoder_config, dtype=torch.float32, use_safetensors=True
        )
    sentences = (sentence for document in documents["train"] for sentence in _sentences(document))
    examples: Any = [row for sentence in sentences for row in tagged_rows(sentence, tokenizer, config.window, schema)]
    return Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(folder),
            max_steps=config.max_steps,
            per_device_train_batch_size=16,
            use_cpu=not torch.accelerator.is_available(),
            save_strategy="no",
            dataloader_pin_memory=False,
            report_to="none",
            seed=config.seed,
            disable_tqdm=True,
            logging_strategy="no",
        ),
        train_dataset=examples,
        data_collator=DataCollatorForTokenClassification(tokenizer),
    )


def _sentences(document: Document) -> Iterator[Document]:
    """Each sentence with the mentions in it."""
    for start, end in sentence_spans(document.text).tolist():
        inside = (m for m in document.mentions if start <= m.start and m.end <= end)
        mentions = tuple(replace(m, start=m.start - start, end=m.end - start) for m in inside)
        yield Document(document.id, document.text[start:end], mentions)
