"""The work that `speed_gpu` times: inference and training on one device, ours and that of the stock tools.

Nothing is downloaded. Encoders have given shapes and random weights, unless folders are given; a tokenizer is made of
the texts. The heads are random, too, but mark as many words as the annotators did and take few mentions for one thing,
so that what comes after the encoder has about its usual work.

A *token* is a piece of a text, counted once: padding, special tokens and what windows share cost time and are none.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from random import Random
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertConfig,
    BertTokenizer,
    DataCollatorForTokenClassification,
    PreTrainedConfig,
    pipeline,
    set_seed,
)

from .configuration import TriplesConfig
from .documents import Document, word_spans
from .features import Collator, example
from .labelstudio import read_export
from .layout import sentence_spans
from .modeling import TriplesModel, quiet
from .prediction import predict
from .schema import Schema
from .windows import EncodedText, Windower

WINDOW, STRIDE = 512, 128
ATTENTION = "sdpa"
# Pieces of the tokenizer that is made of the texts; so many cut the releases about as finely as MiniLM's own does.
VOCABULARY = 5000
# Pieces of the texts that a random tagger is set by.
_SAMPLE = 2000

# Does some work and returns the tokens in it.
Pass: TypeAlias = Callable[[], int]


class GpuError(ValueError):
    """What cannot be measured; the message says what to change."""


@dataclass(frozen=True)
class Encoder:
    """An encoder's configuration and tokenizer; `folder` holds its weights, without one they are random."""

    name: str
    config: PreTrainedConfig
    tokenizer: Any
    folder: str | None = None


def shaped_encoders(texts: Iterable[str], shapes: Mapping[str, Mapping[str, Any]]) -> list[Encoder]:
    """Encoders with the shapes that `BertConfig` is given and random weights, with one tokenizer, made of the texts."""
    tokenizer = BertTokenizer(model_max_length=WINDOW).train_new_from_iterator(
        texts, vocab_size=VOCABULARY, show_progress=False
    )
    return [Encoder(name, BertConfig(**shape), tokenizer) for name, shape in shapes.items()]


def stored_encoder(name: str, folder: str) -> Encoder:
    """An encoder with its tokenizer in a folder.

    Raises:
        GpuError: there is none, or it is not of BERT's kind or reads too short windows.
    """
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(folder, **local)
        tokenizer = AutoTokenizer.from_pretrained(folder, **local, model_max_length=WINDOW)
    except (OSError, ValueError) as error:
        raise GpuError(f"encoder {name}={folder} cannot be loaded: {str(error).splitlines()[0]}") from None
    lacking = [name for name in ("hidden_size", "intermediate_size", "num_hidden_layers") if not hasattr(config, name)]
    if lacking or getattr(config, "max_position_embeddings", 0) < WINDOW:
        found = f"its configuration has no {lacking[0]}" if lacking else f"it reads fewer than {WINDOW} pieces at once"
        raise GpuError(f"encoder {name}={folder}: {found}; give one of BERT's kind")
    return Encoder(name, config, tokenizer, folder)


def read_releases(path: str, schema: Schema) -> list[Document]:
    """The documents of a Label Studio export; `dataset.read_documents` needs packages that a GPU box may lack.

    Raises:
        ValueError: the file cannot be read, a task in it is refused, or it holds no text.
    """
    imported = read_export(path, schema)
    imported.report.check()
    if not any(word_spans(document.text) for document in imported.documents):
        raise GpuError(f"{path}: no document with a word in it; give an export with annotated tasks")
    return imported.documents


class Work:
    """Passes over some documents with one encoder.

    Each method gives a pass with a model of its own on the device; what it works on is made before it is timed,
    but for what the real path makes while it runs.
    """

    def __init__(self, encoder: Encoder, documents: Sequence[Document], schema: Schema):
        set_seed(0)
        self.encoder = encoder
        self.documents = documents
        self.windower = Windower(encoder.tokenizer, WINDOW, STRIDE)
        self.examples = [example(document, self.windower, schema) for document in documents]
        marked = np.concatenate([e.targets.tags > 0 for e in self.examples]).mean()
        self.model = _triples_model(encoder, schema).eval()
        self.tagger = _stock_model(encoder, schema).eval()
        for model in (self.model, self.tagger):
            model.set_attn_implementation(ATTENTION)
        sample = self.windower.batch(_repeated([e.text for e in self.examples], _SAMPLE), WINDOW)
        with torch.no_grad():
            _mark(self.model.tagger, self.model(**sample).word_states, float(marked))
            self.model.alias_head.score.bias -= 2  # below both thresholds of aliases
            row = torch.tensor([[i for w in sample["texts"] for i in w.pieces][:WINDOW]])
            _mark(self.tagger.classifier, self.tagger.base_model(row).last_hidden_state[0], float(marked))
        sentences = [d.text[start:end] for d in documents for start, end in sentence_spans(d.text).tolist()]
        self.sentences = encoder.tokenizer(sentences, truncation=True, max_length=WINDOW)["input_ids"]
        Random(0).shuffle(self.sentences)

    @property
    def special(self) -> int:
        """Special tokens in a row of a batch."""
        return self.encoder.tokenizer.num_special_tokens_to_add()

    def lengths(self, count: int | None = None) -> list[int]:
        """Pieces and special tokens of the windows of the first texts, of all by default."""
        return [w.end - w.start + self.special for e in self.examples[:count] for w in e.text.windows]

    def read(self, budget: int, precision: str, device: torch.device) -> Pass:
        """Encoder and tagger, to the log-probabilities of tags, on two budgets of texts."""
        model = _placed(self.model, precision, device)
        texts = _repeated([e.text for e in self.examples], 2 * budget)
        batch, tokens = self.windower.batch(texts, budget), _tokens(texts)

        @torch.no_grad()
        def once() -> int:
            model(**batch).tag_logits.double().log_softmax(-1).cpu()
            return tokens

        return once

    def predict(self, budget: int, count: int, precision: str, device: torch.device) -> Pass:
        """Texts to documents: the whole inference path on the first `count` texts."""
        model = _placed(self.model, precision, device)
        texts = [document.text for document in self.documents[:count]]
        tokens = _tokens(e.text for e in self.examples[:count])

        def once() -> int:
            for _ in predict(model, self.windower, texts, batch_size=2 * count, token_budget=budget):
                pass
            return tokens

        return once

    def pipe(self, batch_size: int, count: int, precision: str, device: torch.device) -> Pass:
        """Texts to entities by transformers' own pipeline, on the first `count` texts."""
        tagger: Any = pipeline(
            "token-classification",
            model=_placed(self.tagger, precision, device),
            tokenizer=self.encoder.tokenizer,
            aggregation_strategy="simple",
            stride=STRIDE,
            batch_size=batch_size,
            device=device,
        )
        texts = [document.text for document in self.documents[:count]]
        tokens = _tokens(e.text for e in self.examples[:count])

        def once() -> int:
            tagger(texts)
            return tokens

        return once

    def train(self, count: int, budget: int, tags_alone: bool, precision: str, device: torch.device) -> Pass:
        """A training step on `count` documents, as the Trainer makes it.

        Args:
            tags_alone: without the loss of what stands above the tags.
        """
        collate = Collator(self.windower, budget)
        steps = cycle(_chunks(self.examples, count))
        step = _step(self.model, _tag_loss if tags_alone else _loss, precision, device)

        def once() -> int:
            chosen = next(steps)
            step(collate(chosen))
            return _tokens(e.text for e in chosen)

        return once

    def train_stock(self, count: int, precision: str, device: torch.device) -> Pass:
        """A training step on `count` sentences, as transformers' example of token classification makes it."""
        collate = DataCollatorForTokenClassification(self.encoder.tokenizer)
        steps = cycle(_chunks(self.sentences, count))
        step = _step(self.tagger, _loss, precision, device)

        def once() -> int:
            chosen = next(steps)
            # Which labels they are does not matter to speed.
            batch = collate([{"input_ids": ids, "labels": [0] * len(ids)} for ids in chosen])
            step({name: tensor.to(device) for name, tensor in batch.items()})
            return sum(len(ids) - self.special for ids in chosen)

        return once


def _triples_model(encoder: Encoder, schema: Schema) -> TriplesModel:
    config = copy.deepcopy(encoder.config)
    config.attention_probs_dropout_prob = 0.0  # as `training.new_model` has it
    whole = TriplesConfig(encoder_config=config, schema=schema.to_json(), window=WINDOW, stride=STRIDE)
    return _loaded(TriplesModel, encoder, whole) if encoder.folder else TriplesModel(whole)


def _stock_model(encoder: Encoder, schema: Schema) -> Any:
    config = copy.deepcopy(encoder.config)
    config.id2label = dict(enumerate(["O", *(f"{part}-{type_}" for type_ in schema.entities for part in "BI")]))
    config.label2id = {label: number for number, label in config.id2label.items()}
    stock = AutoModelForTokenClassification
    return _loaded(stock, encoder, config) if encoder.folder else stock.from_config(config)


def _loaded(kind: Any, encoder: Encoder, config: PreTrainedConfig) -> Any:
    """A model with the weights of the encoder's folder, and with fresh heads."""
    try:
        with quiet():  # that the heads are new is no news
            return kind.from_pretrained(
                encoder.folder, config=config, dtype=torch.float32, use_safetensors=True, local_files_only=True
            )
    except Exception as error:  # a broken file raises what its reader likes
        reason = " ".join(str(error).split())[:300]
        raise GpuError(f"encoder {encoder.name}={encoder.folder} cannot be loaded: {reason}") from error


def _mark(tagger: nn.Linear, states: Tensor, share: float) -> None:
    """Set a random tagger so that it marks a share of words as mentions, all labels about equally often.

    Args:
        tagger: its label 0 is that of words outside of mentions.
        states: [N, H] of some words.
    """
    tagger.weight *= 40  # to be sure of itself
    logits = tagger(states)
    mean = logits.mean(0)
    margins = (logits - mean)[:, 1:].amax(1) - (logits - mean)[:, 0]
    tagger.bias.sub_(mean)
    tagger.bias[0].add_(margins.quantile(1 - share))


def _placed(model: Any, precision: str, device: torch.device) -> Any:
    """A copy for inference: in bf16 its numbers are, but for those of our heads, as `load` has it."""
    placed = copy.deepcopy(model).to(device)
    if precision == "bf16":
        placed.to(torch.bfloat16)
        if isinstance(placed, TriplesModel):
            placed.heads_in_fp32()
    return placed


def _step(
    model: Any, loss_of: Callable[[Any, dict[str, Any]], Tensor], precision: str, device: torch.device
) -> Callable[[dict[str, Any]], None]:
    """A training step like the Trainer's, on a copy of a model; bf16 is autocast. Its rate is 0: steps are alike."""
    trained = copy.deepcopy(model).to(device).train()
    optimizer = torch.optim.AdamW(trained.parameters(), lr=0.0, fused=True)

    def step(batch: dict[str, Any]) -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            loss = loss_of(trained, batch)
        loss.backward()
        nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        optimizer.step()
        loss.item()  # the Trainer, too, looks at it

    return step


def _loss(model: Any, batch: dict[str, Any]) -> Tensor:
    return model(**batch).loss


def _tag_loss(model: Any, batch: dict[str, Any]) -> Tensor:
    """That of the tags alone."""
    tags = np.concatenate([target.tags for target in batch["targets"]])
    logits = model(**{name: value for name, value in batch.items() if name != "targets"}).tag_logits
    return nn.functional.cross_entropy(logits, torch.from_numpy(tags).to(logits.device))


def _repeated(texts: Sequence[EncodedText], tokens: int) -> list[EncodedText]:
    """The first texts that have so many tokens, again from the beginning where they do not suffice."""
    found: list[EncodedText] = []
    for text in cycle(texts):
        if tokens <= 0:
            break
        found.append(text)
        tokens -= max(len(text.pieces), 1)
    return found


def _tokens(texts: Iterable[EncodedText]) -> int:
    return sum(len(text.pieces) for text in texts)


def _chunks(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """Whole chunks of a size; all items where they are fewer."""
    return [items[at : at + size] for at in range(0, len(items) - size + 1, size)] or [items]
