"""The arguments of a training run: one YAML file, and what the command line puts over it."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


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
        encoder_layers: layers of the encoder that are kept, from the lowest on; 0 keeps all.
        freeze_embeddings: whether the encoder's word embeddings stay as they are.
        epochs: passes over the train split; max_steps: steps in their place, or -1.
        batch_size: documents in a step, over all processes.
        learning_rate: of the encoder; head_learning_rate: of the heads. Both rise over the first `warmup` share of
            the steps, then fall to 0. adam_beta2: decay of the squared gradients that AdamW remembers; weight_decay: of
            its matrices. seed: of the weights of the heads, dropout, and the order and variation of documents.
        token_budget: padded pieces in one forward of the encoder.
        precision: fp32, bf16 (autocast), or auto: bf16 where a short measurement finds it faster.
        window, stride, mention_size, pair_size, head_dropout, crf, tag_weight, name_threshold: see `TriplesConfig`.
        encoder_dropout: dropout of the encoder's hidden states.
        varied: share of the looks at a document in which its names are others, see `features.Variations`.
        train_limit: documents of the train split; they are drawn so that fewer are a part of more; 0 takes all.
        pseudo: a file of scripts/pseudo_label.py whose documents join the train split; empty: none.
    """

    output_dir: str
    data: str = "data/releases.json"
    schema: str = "configs/schema.yaml"
    encoder: str = "embedded:minilm"
    encoder_layers: int = 0
    freeze_embeddings: bool = False
    epochs: float = 8.0
    max_steps: int = -1
    batch_size: int = 8
    learning_rate: float = 3e-4
    head_learning_rate: float = 1e-3
    adam_beta2: float = 0.999
    weight_decay: float = 0.01
    warmup: float = 0.1
    token_budget: int = 1024
    precision: str = "auto"
    window: int = 512
    stride: int = 64
    mention_size: int = 256
    pair_size: int = 128
    head_dropout: float = 0.2
    encoder_dropout: float = 0.0
    crf: bool = False
    tag_weight: float = 6.0
    name_threshold: float = 0.25
    varied: float = 0.75
    train_limit: int = 0
    pseudo: str = ""
    seed: int = 13

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if field.type == "float" and not math.isfinite(getattr(self, field.name)):
                raise TrainingError(f"{field.name} must be a finite number, found {getattr(self, field.name)}")
        for name in (
            *("batch_size", "token_budget", "window", "learning_rate", "head_learning_rate", "epochs"),
            *("mention_size", "pair_size"),
        ):
            if getattr(self, name) <= 0:
                raise TrainingError(f"{name} must be above 0, found {getattr(self, name)}")
        for name in ("train_limit", "encoder_layers", "weight_decay", "tag_weight"):
            if getattr(self, name) < 0:
                raise TrainingError(f"{name} must be 0 or more, found {getattr(self, name)}")
        if self.max_steps == 0 or self.max_steps < -1:
            raise TrainingError(f"max_steps must be above 0, or -1 for as many as epochs has, found {self.max_steps}")
        for name in ("varied", "name_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise TrainingError(f"{name} must be from 0 to 1, found {getattr(self, name)}")
        for name in ("adam_beta2", "head_dropout", "encoder_dropout", "warmup"):
            if not 0 <= getattr(self, name) < 1:
                raise TrainingError(f"{name} must be from 0 to below 1, found {getattr(self, name)}")
        if not 0 <= self.stride < self.window - 8:
            raise TrainingError(f"stride must be from 0 to window - 8 ({self.window - 8}), found {self.stride}")
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
    except (yaml.YAMLError, ValueError, RecursionError) as error:
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
        except (yaml.YAMLError, ValueError, RecursionError):
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
    if kind == "float" and isinstance(value, str | int) and not isinstance(value, bool):  # YAML reads 3e-4 as a text
        try:
            value = float(value)
        except (ValueError, OverflowError):
            raise TrainingError(f"{where} must be a number, found {value!r:.60}") from None
    accepted: Any = {"str": str, "bool": bool, "int": int, "float": (int, float)}[kind]
    if not isinstance(value, accepted) or isinstance(value, bool) != (kind == "bool"):
        name = {"str": "a text", "bool": "true or false", "int": "a whole number", "float": "a number"}[kind]
        raise TrainingError(f"{where} must be {name}, found {value!r}")
    return float(value) if kind == "float" else value
