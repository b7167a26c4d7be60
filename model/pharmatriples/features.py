"""From documents to what the model trains on: encoded texts with targets over their words."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Any

import numpy as np
import torch

from .decoding import mark
from .documents import Document, Entity, Mention, Relation
from .modeling import Targets
from .schema import Schema
from .windows import EncodedText, Windower

_NO_YEAR = r"\b(?!(?:FY|CY|MID)-?(?:20)?\d\d\b)"  # FY2027 and Q4 FY26 are no names
_CODE = re.compile(rf"{_NO_YEAR}[A-Z]{{2,5}}-?\d{{3,6}}[A-Z]?\b")
_SYMBOL = re.compile(rf"{_NO_YEAR}(?:[A-Z]{{2,5}}\d{{1,2}}|[A-Z]{{1,4}}\d?-[A-Z]{{0,2}}\d{{1,2}})[A-Z]?\b")


@dataclass(frozen=True)
class Example:
    """One training document: its words and their targets.

    `misaligned` names the mentions whose boundaries cut a word: they are trained on the whole words.
    `broken` names those that go on over the end of a line, which no prediction does.
    `lost` names those that no word is left for.
    """

    text: EncodedText
    targets: Targets
    misaligned: tuple[str, ...]
    broken: tuple[str, ...]
    lost: tuple[str, ...]


def example(document: Document, windower: Windower, schema: Schema) -> Example:
    """Targets of a document; it must have passed `Document.check(schema)`."""
    text = windower.encode(document.text)
    relations = list(schema.relations)
    marked = mark(document, text.offsets, list(schema.entities))
    kept, spans, numbers = marked.mentions, marked.spans, {name: i for i, name in enumerate(marked.names)}
    having_words = set(map(id, kept))
    tags = np.zeros(len(text), dtype=np.int64)
    misaligned, broken = [], []
    for m, first, last, type_ in zip(kept, spans.first, spans.last, spans.types, strict=True):
        tags[first], tags[first + 1 : last + 1] = 1 + 2 * type_, 2 + 2 * type_
        if (text.offsets[first, 0], text.offsets[last, 1]) != (m.start, m.end):
            misaligned.append(_where(document, m))
        if text.lines[first] != text.lines[last]:
            broken.append(_where(document, m))
    attributes = {
        name: np.array([labels.get(m.attributes.get(name, ""), -100) for m in kept], dtype=np.int64)
        for own in schema.attributes.values()
        for name, labels in ((name, {value: i for i, value in enumerate(values)}) for name, values in own.items())
    }
    return Example(
        text=text,
        targets=Targets(
            tags=tags,
            spans=spans,
            entities=marked.entities,
            attributes=attributes,
            relations=frozenset(
                (relations.index(r.type), *_ends(document, r, numbers, schema))
                for r in document.relations
                if r.head in numbers and r.tail in numbers
            ),
        ),
        misaligned=tuple(misaligned),
        broken=tuple(broken),
        lost=tuple(_where(document, m) for m in document.mentions if id(m) not in having_words),
    )


def _where(document: Document, m: Mention) -> str:
    return f"{document.id}: {m.type} {document.wording(m)!r} at [{m.start}, {m.end})"


def _ends(document: Document, relation: Relation, numbers: Mapping[str, int], schema: Schema) -> tuple[int, int]:
    """Numbers of head and tail, in the order in which `pairs.relation_pairs` asks for them."""
    head, tail = numbers[relation.head], numbers[relation.tail]
    same = document.entities[relation.head].type == document.entities[relation.tail].type
    return (tail, head) if same and relation.type in schema.symmetric and tail < head else (head, tail)


class Variations:
    """Copies of documents in which some names are others, each the same throughout the document.

    Names are arbitrary: what tells a drug from a target is the words around it, and a model that meets the same few
    hundred names in every epoch learns those instead. Three things change, inside mentions only: code names
    (`TRX-4410`) are drawn anew, with or without a hyphen; half of the symbols (`CD19`, `PD-L1`) get other letters and
    digits in the places that another symbol of their type has them in; and a quarter of the other names are swapped
    for one of their type from another document (mention replacement, as in Dai and Adel 2020, section 3), where all
    mentions are worded alike.
    """

    def __init__(self, documents: Sequence[Document], schema: Schema):
        names: dict[str, dict[str, None]] = {type_: {} for type_ in schema.named_types}
        for document in documents:
            for entity in document.entities.values():
                if entity.type in names and (wording := _only_wording(document, entity)):
                    names[entity.type][wording] = None
        self.names = {type_: list(wordings) for type_, wordings in names.items()}
        self.shapes = {type_: _shapes(wordings) for type_, wordings in names.items()}

    def vary(self, document: Document, random: Random) -> Document:
        """A copy of a document with other names."""
        swapped: dict[str, str] = {}
        taken = {document.wording(m).casefold() for m in document.mentions}
        for id_, entity in document.entities.items():
            pool = self.names.get(entity.type)
            if pool and random.random() < 0.25 and _only_wording(document, entity):
                name = random.choice(pool)
                if name.casefold() not in taken:  # two entities of one name would be one
                    swapped[id_] = name
                    taken.add(name.casefold())
        codes: dict[str, str] = {}

        def code(match: re.Match[str]) -> str:
            letters = "".join(random.choices(string.ascii_uppercase, k=random.randint(2, 4)))
            # Two digits after a hyphen are a target's (IL-17), so no drug gets them.
            hyphen = random.choice(("-", ""))
            number = f"{random.randrange(10**6):06}"[: random.randint(3 if hyphen else 2, 5)]
            suffix = random.choice(string.ascii_uppercase) if random.random() < 0.1 else ""
            return codes.setdefault(match.group(), letters + hyphen + number + suffix)

        def symbol(shapes: Sequence[str], match: re.Match[str]) -> str:
            if not shapes or random.random() < 0.5:
                return codes.setdefault(match.group(), match.group())
            signs = {"A": string.ascii_uppercase, "1": string.digits[1:], "-": "-"}
            return codes.setdefault(match.group(), "".join(random.choice(signs[c]) for c in random.choice(shapes)))

        parts: list[str] = []
        mentions = []
        at = length = 0
        for m in document.mentions:
            between = document.text[at : m.start]
            wording = swapped.get(m.entity, document.wording(m))
            wording = _CODE.sub(code, _SYMBOL.sub(partial(symbol, self.shapes.get(m.type, ())), wording))
            start = length + len(between)
            at, length = m.end, start + len(wording)
            mentions.append(replace(m, start=start, end=length))
            parts += [between, wording]
        return replace(document, text="".join([*parts, document.text[at:]]), mentions=tuple(mentions))


def _shapes(wordings: Iterable[str]) -> list[str]:
    """Where the symbols in some wordings have letters and digits: `A1-A1` of `B7-H3`."""
    symbols = (symbol for wording in wordings for symbol in _SYMBOL.findall(wording))
    return sorted({re.sub(r"\d", "1", re.sub("[A-Z]", "A", symbol)) for symbol in symbols})


def _only_wording(document: Document, entity: Entity) -> str | None:
    """The wording of an entity whose mentions are all worded alike; an abbreviation would no longer fit another."""
    wordings = {document.wording(m).casefold() for m in entity.mentions}
    return document.wording(entity.mentions[0]) if len(wordings) == 1 else None


class Examples(Sequence[Example]):
    """The training examples of documents; of the times that one is asked for, the share `varied` gets a variation.

    The draws come from torch's generator, so a run repeats and a resumed one goes on as it would have.
    """

    def __init__(self, documents: Sequence[Document], windower: Windower, schema: Schema, varied: float):
        self.documents = documents
        self.windower = windower
        self.schema = schema
        self.varied = varied
        self.plain = [example(document, windower, schema) for document in documents]
        self.variations = Variations(documents, schema)

    def __len__(self) -> int:
        return len(self.documents)

    def __getitem__(self, index: Any) -> Any:
        seed = int(torch.randint(2**31, ()))
        if (seed % 1000 + 0.5) / 1000 > self.varied:
            return self.plain[index]
        varied = self.variations.vary(self.documents[index], Random(seed))
        return example(varied, self.windower, self.schema)


class Collator:
    """Makes the model's batch of examples; see `Windower.batch`."""

    def __init__(self, windower: Windower, budget: int):
        self.windower = windower
        self.budget = budget

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        batch = self.windower.batch([e.text for e in examples], self.budget)
        return {**batch, "targets": [e.targets for e in examples]}
