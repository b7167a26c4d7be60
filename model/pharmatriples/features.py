"""From documents to what the model trains on: encoded texts with targets over their words."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np
import torch

from .decoding import Spans
from .documents import Document
from .modeling import Targets
from .schema import Schema
from .windows import EncodedText, Windower

_CODE = re.compile(r"\b[A-Z]{2,5}-?\d{3,6}[A-Z]?\b")


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


def recode(document: Document, random: Random) -> Document:
    """A copy whose code names (`TRX-4410`) are others, with or without a hyphen, each the same throughout.

    Codes are arbitrary: what tells a drug from a target or a trial is the words around it, and a model that sees the
    same codes in every epoch learns those instead. Only codes inside mentions change.
    """
    new: dict[str, str] = {}

    def code(match: re.Match[str]) -> str:
        letters = "".join(random.choices(string.ascii_uppercase, k=random.randint(2, 4)))
        number = str(random.randrange(10 ** random.randint(1, 5), 10**6))[: random.randint(2, 5)]
        suffix = random.choice(string.ascii_uppercase) if random.random() < 0.1 else ""
        return new.setdefault(match.group(), letters + random.choice(("-", "-", "")) + number + suffix)

    parts: list[str] = []
    mentions = []
    at = length = 0
    for m in document.mentions:
        between, wording = document.text[at : m.start], _CODE.sub(code, document.wording(m))
        start = length + len(between)
        at, length = m.end, start + len(wording)
        mentions.append(replace(m, start=start, end=length))
        parts += [between, wording]
    return replace(document, text="".join([*parts, document.text[at:]]), mentions=tuple(mentions))


class Examples(Sequence[Example]):
    """The training examples of documents; every second time that one is asked for, its codes are drawn anew.

    The draws come from torch's generator, so a run repeats and a resumed one goes on as it would have.
    """

    def __init__(self, documents: Sequence[Document], windower: Windower, schema: Schema):
        self.documents = documents
        self.windower = windower
        self.schema = schema
        self.plain = [example(document, windower, schema) for document in documents]

    def __len__(self) -> int:
        return len(self.documents)

    def __getitem__(self, index: Any) -> Any:
        seed = int(torch.randint(2**31, ()))
        if seed % 2:
            return self.plain[index]
        return example(recode(self.documents[index], Random(seed)), self.windower, self.schema)


class Collator:
    """Makes the model's batch of examples; see `Windower.batch`."""

    def __init__(self, windower: Windower, budget: int):
        self.windower = windower
        self.budget = budget

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        batch = self.windower.batch([e.text for e in examples], self.budget)
        return {**batch, "targets": [e.targets for e in examples]}
