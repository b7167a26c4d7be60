"""The one way from texts to predicted documents: training-time evaluation and the pipeline both take it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import tee
from typing import Any

import numpy as np
import torch

from .confidence import Confidence
from .decoding import Spans, assemble, cluster, consistent, decode_tags
from .documents import Document, Relation
from .windows import EncodedText, Windower

# Padded pieces in one forward of the encoder, and characters of the texts that are held at once.
TOKEN_BUDGET = 2048
TEXT_BUDGET = 100_000


@dataclass(frozen=True)
class Reading:
    """What the encoder and the tagger make of a text, before anything is decided.

    Attributes:
        log_probs: [N, tags] of its words.
        states: [N, H].
    """

    text: EncodedText
    log_probs: np.ndarray
    states: torch.Tensor

    def spans(self, model: Any) -> Spans:
        """The mentions."""
        found = decode_tags(self.log_probs, self.text.lines)
        return consistent(self.log_probs, self.text.lines, found, self.text.folded, model.named)


@torch.no_grad()
def readings(model: Any, windower: Windower, texts: Iterable[str], batch_size: int = 32) -> Iterator[Reading]:
    """One reading a text, in order; see `predict` for the arguments."""
    for chunk in _chunks(texts, batch_size):
        batch = windower.batch([windower.encode(text) for text in chunk], TOKEN_BUDGET)
        output = model(**{key: _to(value, model.device) for key, value in batch.items()})
        log_probs = output.tag_logits.double().log_softmax(-1).cpu().numpy()
        at = 0
        for text in batch["texts"]:
            part = slice(at, at := at + len(text))
            yield Reading(text, log_probs[part], output.word_states[part])


@torch.no_grad()
def predict(
    model: Any,
    windower: Windower,
    texts: Iterable[str],
    batch_size: int = 32,
    thresholds: Mapping[str, float] | None = None,
) -> Iterator[Document]:
    """Predicted documents, one a text, in order; their ids are "0", "1", ...

    Args:
        model: a `TriplesModel`, in eval mode.
        texts: read as they are needed, so that an endless stream is no trouble.
        batch_size: most texts that are read at once.
        thresholds: entity or relation type -> smallest probability kept; default: those of the model's configuration.
            Where a type is not named it is 0.5 for relations, and none for mentions.
    """
    thresholds = (model.config.thresholds or {}) if thresholds is None else thresholds
    for number, reading in enumerate(readings(model, windower, texts, batch_size)):
        spans = reading.spans(model)
        yield _document(model, str(number), reading.text, reading.states, spans, thresholds)


@torch.no_grad()
def complete(
    model: Any, windower: Windower, documents: Iterable[Document], thresholds: Mapping[str, float] | None = None
) -> Iterator[Document]:
    """The documents with the mentions and entities that they have, and with predicted attributes and relations.

    What the heads above the mentions can do where every mention is right. A mention that cuts a word is read as the
    whole word; a document in which the tokenizer finds no word comes back without mentions.

    Args:
        model: a `TriplesModel`, in eval mode.
        documents: their attributes and relations are not looked at.
        thresholds: as for `predict`.
    """
    thresholds = (model.config.thresholds or {}) if thresholds is None else thresholds
    types = list(model.schema.entities)
    documents, read = tee(documents)
    for document, reading in zip(documents, readings(model, windower, (d.text for d in read)), strict=True):
        text, mentions = reading.text, document.mentions
        if not mentions or not len(text):
            yield replace(document, mentions=(), relations=())
            continue
        first, last = np.array([text.words(m.start, m.end) for m in mentions], dtype=np.int64).T
        spans = Spans(first, last, np.array([types.index(m.type) for m in mentions]), np.ones(len(mentions)))
        names = list(document.entities)
        entities = np.array([names.index(m.entity) for m in mentions])
        structure = model.structure(reading.states, spans, text)
        attributes = _attributes(model, structure.attribute_logits, spans, entities)
        relations = _relations(model, text, reading.states, structure.vectors, spans, entities, thresholds)
        yield replace(
            document,
            mentions=tuple(replace(m, attributes=a) for m, a in zip(mentions, attributes, strict=True)),
            relations=tuple(Relation(type_, names[h], names[t], round(score, 4)) for type_, h, t, score in relations),
        )


def _chunks(texts: Iterable[str], batch_size: int) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for text in texts:
        if chunk and (len(chunk) == batch_size or size + len(text) > TEXT_BUDGET):
            yield chunk
            chunk, size = [], 0
        chunk.append(text)
        size += len(text)
    if chunk:
        yield chunk


def _to(value: Any, device: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _to(item, device) for key, item in value.items()}
    return [_to(item, device) for item in value] if isinstance(value, list) else value


def _document(
    model: Any, id_: str, text: EncodedText, states: Any, spans: Spans, thresholds: Mapping[str, float]
) -> Document:
    """Decode what stands above the tags: attributes, entities, relations."""
    schema = model.schema
    types = list(schema.entities)
    confidence = Confidence.from_dict(model.config.calibration)
    scores = spans.scores.copy()
    for t, type_ in enumerate(types):
        scores[spans.types == t] = confidence.probability(type_, spans.scores[spans.types == t])
    lowest = np.array([thresholds.get(type_, 0.0) for type_ in types])
    spans = replace(spans, scores=scores).select(scores >= lowest[spans.types])
    if not len(spans):
        return Document(id=id_, text=text.text)
    structure = model.structure(states, spans, text)
    probabilities = structure.alias_logits.sigmoid().cpu().numpy()
    groups = cluster(int(structure.groups.max()) + 1, structure.alias_pairs, probabilities)
    entities = groups[structure.groups]
    relations = _relations(model, text, states, structure.vectors, spans, entities, thresholds)
    attributes = _attributes(model, structure.attribute_logits, spans, entities)
    return assemble(id_, text.text, text.offsets, spans, entities, attributes, relations, schema)


def _relations(
    model: Any,
    text: EncodedText,
    states: Any,
    vectors: Any,
    spans: Spans,
    entities: np.ndarray,
    thresholds: Mapping[str, float],
) -> list[tuple[str, int, int, float]]:
    """(relation type, head entity, tail entity, probability) of what is probable enough."""
    triples, logits = model.relation_logits(states, vectors, spans, entities, text)
    scores = logits.double().sigmoid().cpu().numpy()
    confidence = Confidence.from_dict(model.config.calibration)
    relations = []
    for r, name in enumerate(model.schema.relations):
        mine = np.flatnonzero(triples[:, 0] == r)
        probabilities = confidence.probability(name, scores[mine])
        kept = probabilities >= thresholds.get(name, 0.5)
        for (_, head, tail), score in zip(triples[mine[kept]].tolist(), probabilities[kept].tolist(), strict=True):
            relations.append((name, head, tail, score))
    return relations


def _attributes(model: Any, logits: Mapping[str, Any], spans: Spans, entities: np.ndarray) -> list[dict[str, str]]:
    """[M] attribute values; the mentions of an entity decide together, by their mean log-probability."""
    result: list[dict[str, str]] = [{} for _ in range(len(spans))]
    for t, type_ in enumerate(model.schema.entities):
        mine = np.flatnonzero(spans.types == t)
        for name, values in model.schema.attributes.get(type_, {}).items() if len(mine) else ():
            log_probs = logits[name].float().log_softmax(-1).cpu().numpy()[mine]
            _, owner = np.unique(entities[mine], return_inverse=True)
            sums = np.zeros((int(owner.max()) + 1, log_probs.shape[1]))
            np.add.at(sums, owner, log_probs)
            labels = list(values)
            for m, best in zip(mine, sums.argmax(axis=1)[owner], strict=True):
                result[m][name] = labels[best]
    return result
