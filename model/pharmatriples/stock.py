"""The stock recipe, to compare with: token classification as transformers' own example does it, and two rules.

Words are tagged in BIO, the attributes of a mention as a part of its label, by a linear layer that is trained on the
first pieces of words. Mentions of a named type with equal strings are one entity, and two entities are related where
the schema has a relation for their types and a sentence holds mentions of both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    Trainer,
    TrainingArguments,
    set_seed,
)

from .arguments import TrainingConfig
from .documents import Document, Mention, Relation, word_spans
from .layout import sentence_spans
from .modeling import quiet
from .runs import finish, folders, prepare, read_splits, run_record
from .schema import Schema
from .training import encoder_path, in_bf16, keep_freed_memory


def recipe(config: TrainingConfig) -> TrainingConfig:
    """The recipe's own rates, lengths and batches, on the data and the encoder of a configuration."""
    taken = ("output_dir", "data", "schema", "encoder", "precision", "train_limit", "pseudo", "seed")
    own = {"window": min(256, config.window), "stride": 0, "batch_size": 8, "learning_rate": 3e-4, "epochs": 6.0}
    values: dict[str, Any] = {**{name: getattr(config, name) for name in taken}, **own}
    return TrainingConfig(**values)


def train(config: TrainingConfig, resume: bool = False) -> None:
    """Train by the recipe into `config.output_dir`, replacing what is there; see `training.train`."""
    output, partial = folders(config)
    schema, documents = read_splits(config)
    record = run_record(config, schema, documents)
    checkpoint = prepare(partial, record, resume)
    keep_freed_memory()
    set_seed(config.seed)
    path = encoder_path(config.encoder)
    tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    with quiet():
        model = AutoModelForTokenClassification.from_pretrained(
            path,
            num_labels=1 + 2 * len(label_kinds(schema)),
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
        )
    rows: Any = [
        row for document in documents["train"] for row in tagged_rows(document, tokenizer, config.window, schema)
    ]
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(partial),
            num_train_epochs=config.epochs,
            max_steps=config.max_steps,
            per_device_train_batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            use_cpu=not torch.accelerator.is_available(),
            bf16=in_bf16(config),
            save_strategy="epoch",
            save_total_limit=1,
            dataloader_pin_memory=False,
            report_to="none",
            seed=config.seed,
        ),
        train_dataset=rows,
        data_collator=DataCollatorForTokenClassification(tokenizer),
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    record |= {"precision": "bf16" if trainer.args.bf16 else "fp32"}
    finish(trainer.model, tokenizer, partial, output, record)


@torch.no_grad()
def annotate(config: TrainingConfig, documents: Sequence[Document]) -> Iterator[Document]:
    """What a model that `train` made finds in the texts of documents, under their ids."""
    schema = Schema.from_yaml(config.schema)
    tokenizer = AutoTokenizer.from_pretrained(config.output_dir, trust_remote_code=False)
    with quiet():
        model: Any = AutoModelForTokenClassification.from_pretrained(
            config.output_dir, use_safetensors=True, trust_remote_code=False
        ).eval()
    for document in documents:
        tags = np.zeros(len(word_spans(document.text)), dtype=np.int64)
        for pieces, words in _windows(document.text, tokenizer, config.window):
            found = model(input_ids=torch.tensor([pieces])).logits[0].argmax(-1).tolist()
            for tag, word in zip(found, words, strict=True):
                if word >= 0:
                    tags[word] = tag
        yield _document(document.id, document.text, tags, schema)


def label_kinds(schema: Schema) -> list[tuple[str, ...]]:
    """(type, value of each of its attributes): kind k has the labels 1 + 2 k, where it begins, and 2 + 2 k inside."""
    return [
        (type_, *values) for type_ in schema.entities for values in product(*schema.attributes.get(type_, {}).values())
    ]


def _windows(text: str, tokenizer: Any, window: int) -> Iterator[tuple[list[int], list[int]]]:
    """The pieces of each window, and the word of each piece that is the first of one; else -1."""
    # Half of a surrogate pair is no text to the tokenizer.
    words = [text[start:end].encode("utf-8", "replace").decode() for start, end in word_spans(text)]
    if not words:
        return
    encoded = tokenizer(
        words, is_split_into_words=True, truncation=True, max_length=window, return_overflowing_tokens=True
    )
    last = -1
    for number, pieces in enumerate(encoded["input_ids"]):
        firsts = []
        for word in encoded.word_ids(number):
            first = word is not None and word > last
            firsts.append(word if first else -1)
            last = word if first else last
        yield pieces, firsts


def tagged_rows(document: Document, tokenizer: Any, window: int, schema: Schema) -> Iterator[dict[str, list[int]]]:
    """The windows of an annotated document, as the Trainer takes them."""
    kinds = {kind: number for number, kind in enumerate(label_kinds(schema))}
    starts = np.array([start for start, _ in word_spans(document.text)], dtype=np.int64)
    tags = np.zeros(len(starts), dtype=np.int64)
    for m in document.mentions:
        label = (m.type, *(m.attributes[name] for name in schema.attributes.get(m.type, {})))
        kind = 1 + 2 * kinds[label]
        first, end = np.searchsorted(starts, (m.start, m.end))
        tags[first:end] = [kind, *[kind + 1] * (end - first - 1)][: end - first]
    for pieces, words in _windows(document.text, tokenizer, window):
        yield {"input_ids": pieces, "labels": [int(tags[word]) if word >= 0 else -100 for word in words]}


def _document(id_: str, text: str, tags: np.ndarray, schema: Schema) -> Document:
    kinds = label_kinds(schema)
    spans: list[tuple[int, int, int]] = []
    before = -1
    for (start, end), tag in zip(word_spans(text), tags.tolist(), strict=True):
        kind = (tag - 1) // 2 if tag else -1
        if kind >= 0 and (tag % 2 or kind != before):
            spans.append((start, end, kind))
        elif kind >= 0:
            spans[-1] = (spans[-1][0], end, kind)
        before = kind
    mentions = []
    for start, end, kind in spans:
        type_, *values = kinds[kind]
        name = text[start:end].casefold() if type_ in schema.named_types else str(start)
        attributes = dict(zip(schema.attributes.get(type_, {}), values, strict=True))
        mentions.append(Mention(start, end, type_, f"{type_}:{name}", attributes))
    related = dict.fromkeys(
        Relation(type_, head.entity, tail.entity)
        for start, end in sentence_spans(text).tolist()
        for head, tail in product([m for m in mentions if start <= m.start < end], repeat=2)
        for type_, signatures in schema.relations.items()
        if (head.type, tail.type) in signatures and head.entity != tail.entity
    )
    return Document(id_, text, tuple(mentions), tuple(related))
