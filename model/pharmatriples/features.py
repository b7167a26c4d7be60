"""From documents to what the model trains on: encoded texts with targets over their words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from .decoding import Spans
from .documents import Document
from .modeling import Targets
from .schema import Schema
from .windows import EncodedText, Windower


@dataclass(frozen=True)
class Example:
    """One training document: its words and their targets.

    `misaligned` names the mentions whose boundaries cut a word: they are trained on the whole words.
    `lost` names those that no word is left for.
    """

    text: EncodedText
    targets: Targets
    misaligned: tuple[str, ...]
    lost: tuple[str, ...]


def example(document: Document, windower: Windower, schema: Schema) -> Example:
    """Targets of a document; it must have passed `Document.check(schema)`."""
    text = windower.encode(document.text)
    types, relations = list(schema.entities), list(schema.relations)
    tags = np.zeros(len(text), dtype=np.int64)
    rows: list[tuple[int, int, int, int]] = []
    kept, misaligned, lost = [], [], []
    numbers: dict[str, int] = {}
    taken = 0
    for m in document.mentions:
        first = max(int(np.searchsorted(text.offsets[:, 1], m.start, side="right")), taken)
        last = int(np.searchsorted(text.offsets[:, 0], m.end, side="left")) - 1
        where = f"{document.id}: {m.type} {document.wording(m)!r} at [{m.start}, {m.end})"
        if first > last:
            lost.append(where)
            continue
        if (text.offsets[first, 0], text.offsets[last, 1]) != (m.start, m.end):
            misaligned.append(where)
        type_ = types.index(m.type)
        tags[first], tags[first + 1 : last + 1] = 1 + 2 * type_, 2 + 2 * type_
        rows.append((first, last, type_, numbers.setdefault(m.entity, len(numbers))))
        kept.append(m)
        taken = last + 1
    table = np.array(rows, dtype=np.int64).reshape(-1, 4)
    attributes = {
        name: np.array([labels.get(m.attributes.get(name, ""), -100) for m in kept], dtype=np.int64)
        for own in schema.attributes.values()
        for name, labels in ((name, {value: i for i, value in enumerate(values)}) for name, values in own.items())
    }
    return Example(
        text=text,
        targets=Targets(
            tags=tags,
            spans=Spans(table[:, 0], table[:, 1], table[:, 2], np.ones(len(table))),
            entities=table[:, 3],
            attributes=attributes,
            relations=frozenset(
                (relations.index(r.type), numbers[r.head], numbers[r.tail])
                for r in document.relations
                if r.head in numbers and r.tail in numbers
            ),
        ),
        misaligned=tuple(misaligned),
        lost=tuple(lost),
    )


class Collator:
    """Makes the model's batch of examples; see `Windower.batch`.

    Args:
        budget: padded pieces in a batch of windows.
        name_masking: share of the names whose pieces are masked, anew each time, so that the model learns from the
            words around a name and not from the name alone. It draws from torch's generator.
        named: for each entity type, whether its mentions are names.
    """

    def __init__(self, windower: Windower, budget: int, name_masking: float = 0.0, named: Sequence[bool] = ()):
        self.windower = windower
        self.budget = budget
        self.name_masking = name_masking
        self.named = np.array(named, dtype=bool)

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        texts = [self._masked(e) if self.name_masking else e.text for e in examples]
        return {**self.windower.batch(texts, self.budget), "targets": [e.targets for e in examples]}

    def _masked(self, example: Example) -> EncodedText:
        text, spans = example.text, example.targets.spans
        chosen = (torch.rand(len(spans)).numpy() < self.name_masking) & self.named[spans.types]
        words = np.zeros(len(text) + 1, dtype=bool)  # the last stands for line breaks, whose word is -1
        for first, last in zip(spans.first[chosen], spans.last[chosen], strict=True):
            words[first : last + 1] = True
        mask = self.windower.tokenizer.mask_token_id
        return replace(text, pieces=np.where(words[text.piece_words], mask, text.pieces))
