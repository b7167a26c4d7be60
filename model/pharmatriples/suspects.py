"""The likeliest label errors: where a model contradicts the annotators of a document that it was not trained on.

Attributes, entities and relations are judged on the annotated mentions, and their confidence holds that in these
mentions: so one wrong mention does not make suspects of all that hangs on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .arguments import TrainingConfig
from .dataset import read_documents
from .decoding import Spans
from .differences import align, link, mention_difference, one_line
from .documents import Document, Mention, write_jsonl
from .features import example
from .loading import load
from .modeling import Targets, TriplesModel
from .prediction import Reading, readings
from .runs import is_current
from .schema import Schema
from .splits import assign_splits
from .training import train
from .windows import Windower

VALIDATION = 0.1  # of what a model is trained on: calibrates its scores


class SuspectsError(ValueError):
    """Documents that cannot be cross-validated; the message says what to change."""


@dataclass(frozen=True)
class Suspect:
    """A place where model and annotation contradict each other.

    Attributes:
        document: id.
        kind: mention, type, boundary, the name of an attribute, entity or relation; see `differences.Difference`.
        start, end, text: the place; of a relation from head to tail, with the text `HEAD -> TAIL`.
        gold, predicted: what the annotation says, and what the model; empty where one says nothing.
        confidence: probability that the model gives to what it says (of several words the geometric mean), times that
            of the annotated mentions which an attribute, entity or relation is about.
        places: how often this document has the same contradiction; the place is that of the highest confidence.
    """

    document: str
    kind: str
    start: int
    end: int
    text: str
    gold: str
    predicted: str
    confidence: float
    places: int = 1


def cross_validate(
    config: TrainingConfig, folds: int, folder: str | Path
) -> Iterator[tuple[TriplesModel, Windower, list[Document]]]:
    """For each fold a model, its windower, and the documents of the data that it has not seen.

    The documents of all splits are dealt to the folds anew; what belongs together (`splits`) stays together. The
    models are trained in `folder`, as `config` says except for its data, pseudo-labels and output; one that is there
    for the same documents and the same configuration is taken as it is, and an interrupted training goes on.

    Raises:
        SuspectsError: there are fewer than two folds, or too few unlike documents for them.
        ValueError: the data cannot be read, or the configuration not be used.
    """
    schema = Schema.from_yaml(config.schema)
    dealt = deal(read_documents(config.data, schema), folds, config.seed)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for number, held_out in enumerate(dealt, 1):
        others = [document for fold in dealt if fold is not held_out for document in fold]
        data = folder / f"fold-{number}.jsonl"
        split = assign_splits(others, config.seed, (1 - VALIDATION, VALIDATION, 0))
        if len({document.split for document in split}) < 2:
            raise SuspectsError(f"{config.data}: too few unlike documents to train on some and validate on others")
        write_jsonl(split, data)
        own = replace(config, data=str(data), pseudo="", output_dir=str(folder / f"fold-{number}"))
        if not is_current(own):
            train(own, resume=True, overwrite=True)
        trained = load(own.output_dir)
        model: Any = trained.model
        yield model, trained.windower, held_out


def deal(documents: Iterable[Document], folds: int, seed: int) -> list[list[Document]]:
    """The documents, without their splits, in folds of nearly one size that share no group and no near-duplicates.

    Raises:
        SuspectsError: there are fewer than two folds, or too few unlike documents for them.
    """
    if folds < 2:
        raise SuspectsError(f"cross-validation needs at least 2 folds, found {folds}")
    rest = [replace(document, split=None) for document in documents]
    dealt = []
    for left in range(folds, 0, -1):
        # A fold is what `assign_splits` draws for a test of this share in what is left.
        drawn = assign_splits(rest, seed, (1 - 1 / left, 0, 1 / left))
        dealt.append([replace(d, split=None) for d in drawn if d.split == "test"])
        rest = [replace(d, split=None) for d in drawn if d.split != "test"]
    if not all(dealt):
        raise SuspectsError(f"the documents fall into fewer than {folds} unlike groups; take fewer folds, or more data")
    return dealt


def suspects(model: TriplesModel, windower: Windower, documents: Sequence[Document]) -> list[Suspect]:
    """Where the model contradicts the annotation of documents, the most confident contradiction first.

    What words cannot represent, and relations over such distances that the model does not consider them, is not judged.

    Args:
        model: in eval mode, not trained on the documents.

    Raises:
        DocumentError: a document does not follow the model's schema.
    """
    found: dict[tuple[str, ...], list[Suspect]] = {}
    for document, reading in zip(documents, readings(model, windower, (d.text for d in documents)), strict=True):
        targets = example(document.check(model.schema), windower, model.schema).targets
        contradictions = list(_mentions(model, document, reading, targets))
        if len(targets.spans):
            contradictions += _Structure(model, document, reading, targets).suspects()
        for suspect in contradictions:
            same = (suspect.document, suspect.kind, suspect.text.casefold(), suspect.gold, suspect.predicted)
            found.setdefault(same, []).append(suspect)
    merged = [replace(min(same, key=_order), places=len(same)) for same in found.values()]
    return sorted(merged, key=_order)


def cross_validated_suspects(config: TrainingConfig, folds: int, folder: str | Path) -> list[Suspect]:
    """The suspects of all documents of the data, the most confident first; see `cross_validate`."""
    return sorted(
        (suspect for fold in cross_validate(config, folds, folder) for suspect in suspects(*fold)), key=_order
    )


def table(suspects: Sequence[Suspect]) -> str:
    """A table to read, one line a suspect."""
    lines = [f"{'':>5}  {'confidence':>10}  document, place, annotation -> model"]
    for number, s in enumerate(suspects, 1):
        place = f"{s.document} [{s.start}, {s.end}) {s.kind} {one_line(s.text)!r}"
        often = f" (in {s.places} places)" if s.places > 1 else ""
        says = f"{one_line(s.gold) or 'nothing'} -> {one_line(s.predicted) or 'nothing'}"
        lines.append(f"{number:>5}  {s.confidence:>10.4f}  {place}: {says}{often}")
    return "\n".join(lines)


def _order(suspect: Suspect) -> tuple[float, str, int, int, str, str]:
    return -suspect.confidence, suspect.document, suspect.start, suspect.end, suspect.kind, suspect.text


def _mentions(model: TriplesModel, document: Document, reading: Reading, targets: Targets) -> Iterator[Suspect]:
    """Mentions that only one side has, or that differ in type or boundary.

    The confidence is that in the tags of the words about which the two differ.
    """
    spans = reading.spans(model)
    tags = np.zeros(len(reading.text), dtype=np.int64)
    for first, last, type_ in zip(spans.first, spans.last, spans.types, strict=True):
        tags[first], tags[first + 1 : last + 1] = 1 + 2 * type_, 2 + 2 * type_
    chosen = reading.log_probs[np.arange(len(tags)), tags]
    starts = reading.text.offsets[:, 0]
    gold, predicted = (_as_mentions(model, reading, side) for side in (targets.spans, spans))
    for a, b in align(gold, predicted):
        if a == b:
            continue
        kind, start, end, text, says, contradicts = mention_difference(document.text, a, b)
        words = (starts >= start) & (starts < end) & (tags != targets.tags)
        confidence = float(np.exp(chosen[words].mean()))
        yield Suspect(document.id, kind, start, end, text, says, contradicts, confidence)


def _as_mentions(model: TriplesModel, reading: Reading, spans: Spans) -> list[Mention]:
    types = list(model.schema.entities)
    offsets = reading.text.offsets
    return [
        Mention(int(offsets[first, 0]), int(offsets[last, 1]), types[type_], entity="")
        for first, last, type_ in zip(spans.first, spans.last, spans.types, strict=True)
    ]


class _Structure:
    """Judges the attributes, entities and relations of one document on its annotated mentions.

    Attributes:
        belief: [M] probability that the model gives to each annotated mention; of its words the geometric mean.
        members: [E] the mentions of each annotated entity.
        owner: [G] the annotated entity of each group of equally worded mentions.
        names: [Q, 2] a group, and an entity with earlier groups that it may be joined to; alias: [Q] probability of
            that, the mean over these groups.
    """

    @torch.no_grad()
    def __init__(self, model: TriplesModel, document: Document, reading: Reading, targets: Targets):
        self.schema = model.schema
        self.document = document
        self.targets = targets
        spans = targets.spans
        self.mentions = _as_mentions(model, reading, spans)
        chosen = reading.log_probs[np.arange(len(reading.text)), targets.tags]
        self.belief = np.array([np.exp(chosen[a : b + 1].mean()) for a, b in zip(spans.first, spans.last, strict=True)])
        self.members = [np.flatnonzero(targets.entities == entity) for entity in range(targets.entities.max() + 1)]
        structure = model.structure(reading.states, spans, reading.text)
        self.attributes = {
            name: logits.double().softmax(-1).cpu().numpy() for name, logits in structure.attribute_logits.items()
        }
        self.first_of = structure.first_of
        self.owner = targets.entities[self.first_of]
        earlier, later = structure.alias_pairs.T
        candidates = np.stack([later, self.owner[earlier]], axis=1)
        self.names, inverse = np.unique(candidates, axis=0, return_inverse=True)
        alias = structure.alias_logits.double().sigmoid().cpu().numpy()
        self.alias = np.bincount(inverse.reshape(-1), weights=alias) / np.bincount(inverse.reshape(-1))
        self.triples, logits = model.relation_logits(
            reading.states, structure.vectors, spans, targets.entities, reading.text
        )
        self.related = logits.double().sigmoid().tolist()

    def suspects(self) -> Iterator[Suspect]:
        yield from self._attributes()
        yield from self._entities()
        yield from self._relations()

    def _attributes(self) -> Iterator[Suspect]:
        for attributes in self.schema.attributes.values():
            for name, values in attributes.items():
                labels, gold = list(values), self.targets.attributes[name]
                best = self.attributes[name].argmax(axis=1)
                for m in np.flatnonzero((gold >= 0) & (best != gold)):
                    start, end = self.mentions[m].start, self.mentions[m].end
                    says, contradicts = labels[gold[m]], labels[best[m]]
                    confidence = float(self.attributes[name][m, best[m]] * self.belief[m])
                    words = self.document.text[start:end]
                    yield Suspect(self.document.id, name, start, end, words, says, contradicts, confidence)

    def _entities(self) -> Iterator[Suspect]:
        for (group, entity), probability in zip(self.names.tolist(), self.alias.tolist(), strict=True):
            annotated = self.owner[group] == entity
            if annotated == (probability > 0.5):
                continue
            m, other = self.first_of[group], self.members[entity][0]
            mention = self.mentions[m]
            text = f"{self.document.wording(self.mentions[other])} = {self.document.wording(mention)}"
            says, contradicts = ("one entity", "two entities") if annotated else ("two entities", "one entity")
            confidence = float(max(probability, 1 - probability) * self.belief[m] * self.belief[other])
            yield Suspect(self.document.id, "entity", mention.start, mention.end, text, says, contradicts, confidence)

    def _relations(self) -> Iterator[Suspect]:
        # The model joins these: where one has a relation, it says nothing new about the other.
        joined = {(entity, entity) for entity in range(len(self.members))}
        for (group, entity), probability in zip(self.names.tolist(), self.alias.tolist(), strict=True):
            if probability > 0.5:
                joined |= {(entity, self.owner[group]), (self.owner[group], entity)}
        names = list(self.schema.relations)
        for (type_, head, tail), probability in zip(self.triples.tolist(), self.related, strict=True):
            annotated = (type_, head, tail) in self.targets.relations
            if annotated == (probability > 0.5):
                continue
            known = {(a, b) for r, a, b in self.targets.relations if r == type_}
            if names[type_] in self.schema.symmetric:
                known |= {(b, a) for a, b in known}
            if not annotated and any((a, head) in joined and (b, tail) in joined for a, b in known):
                continue
            heads, tails = self.members[head], self.members[tail]
            start, end, text = link(
                self.document.text, [self.mentions[m] for m in heads], [self.mentions[m] for m in tails]
            )
            says, contradicts = (names[type_], "") if annotated else ("", names[type_])
            confidence = float(max(probability, 1 - probability) * self.belief[heads].max() * self.belief[tails].max())
            yield Suspect(self.document.id, "relation", start, end, text, says, contradicts, confidence)
