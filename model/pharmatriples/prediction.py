"""The one way from texts to predicted documents: training-time evaluation and the pipeline both take it.

It knows the model as something that turns arrays into arrays: a `TriplesModel`, or its export to ONNX.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import tee
from typing import Any, TypeVar

import numpy as np

from .confidence import Confidence
from .crf import marginals
from .decoding import NAME_ALIAS, OTHER_ALIAS, Spans, assemble, cluster, consistent, decode_tags, trimmed
from .documents import Document, Relation
from .lanes import in_order
from .windows import EncodedText, Windower

R = TypeVar("R")
# Characters of the texts that one thread has at once, for each padded piece in one forward of the encoder.
GROUP = 8
BATCH_SIZE = 64
# Pairs that a head scores at once.
PAIRS = 32_768


@dataclass(frozen=True)
class Reading:
    """What the encoder and the tagger make of a text, before anything is decided.

    Attributes:
        log_probs: [N, tags] of its words.
        states: [N, H], an array of the model's own kind.
    """

    text: EncodedText
    log_probs: np.ndarray
    states: Any

    def spans(self, model: Any) -> Spans:
        """The mentions."""
        found = decode_tags(self.log_probs, self.text.lines)
        words, threshold = self.text.folded, model.config.name_threshold
        return trimmed(consistent(self.log_probs, self.text.lines, found, words, model.named, threshold), words)


@dataclass(frozen=True)
class Structure:
    """Scores of the structure over one document's mentions, in arrays of the model's own kind.

    Attributes:
        vectors: [M, D] of the mentions.
        attribute_logits: attribute -> [M, values].
        alias_pairs: [Q, 2] groups; alias_logits: [Q].
        groups: [M] group of each mention, equally worded names together.
    """

    vectors: Any
    attribute_logits: dict[str, Any]
    groups: np.ndarray
    alias_pairs: np.ndarray
    alias_logits: Any

    @property
    def first_of(self) -> np.ndarray:
        """[G] the first mention of each group."""
        return np.unique(self.groups, return_index=True)[1]

    def entities(self, spans: Spans, named: Sequence[bool]) -> np.ndarray:
        """[M] entity of each mention.

        Args:
            spans: the mentions; named: for each entity type, whether its mentions are names.
        """
        is_name = np.array(named, dtype=bool)[spans.types[self.first_of]]
        thresholds = np.where(is_name, NAME_ALIAS, OTHER_ALIAS)
        return cluster(self.alias_pairs, _sigmoid(self.alias_logits), thresholds)[self.groups]


def readings(model: Any, windower: Windower, texts: Iterable[str], batch_size: int = BATCH_SIZE) -> Iterator[Reading]:
    """One reading a text, in order; see `predict` for the arguments."""
    return _each(model, windower, texts, batch_size, model.token_budget, lambda _, reading: reading)


def predict(
    model: Any,
    windower: Windower,
    texts: Iterable[str],
    batch_size: int = BATCH_SIZE,
    thresholds: Mapping[str, float] | None = None,
    token_budget: int | None = None,
    then: Callable[[Document], Any] = lambda document: document,
) -> Iterator[Any]:
    """Predicted documents, one a text, in order; their ids are "0", "1", ...

    Args:
        model: a `TriplesModel`, in eval mode, or an `OnnxModel`.
        texts: read as they are needed, so that an endless stream is no trouble.
        batch_size: most texts that are read at once.
        thresholds: entity or relation type -> smallest probability kept; default: those of the model's configuration.
            Where a type is not named it is 0.5 for relations, and none for mentions.
        token_budget: most padded pieces in one forward of the encoder; default: what is fast on the model's device.
        then: what is given in place of each document, made of it in the thread that predicted it.
    """
    thresholds = (model.config.thresholds or {}) if thresholds is None else thresholds
    budget = token_budget or model.token_budget

    def finish(number: int, reading: Reading) -> Any:
        return then(_document(model, str(number), reading, thresholds))

    return _each(model, windower, texts, batch_size, budget, finish)


def _each(
    model: Any,
    windower: Windower,
    texts: Iterable[str],
    batch_size: int,
    token_budget: int,
    finish: Callable[[int, Reading], R],
) -> Iterator[R]:
    """What `finish` makes of the number and the reading of each text, in order."""

    def work(group: list[tuple[int, str]]) -> list[R]:
        parts = [[item] for item in group] if model.alone else [group]
        return [result for part in parts for result in read(part)]

    def read(group: list[tuple[int, str]]) -> list[R]:
        with model.inference():
            batch = windower.batch([windower.encode(text) for _, text in group], token_budget)
            log_probs, states = model.read(batch)
            edges = np.cumsum([0, *map(len, batch["texts"])]).tolist()
            return [
                finish(number, Reading(text, log_probs[low:high], states[low:high]))
                for (number, _), text, low, high in zip(group, batch["texts"], edges[:-1], edges[1:], strict=True)
            ]

    most = GROUP * token_budget
    return in_order(work, enumerate(texts), lambda item: len(item[1]), model.lanes, ahead=batch_size, most=most)


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
        with model.inference():
            structure = model.structure(reading.states, spans, text)
            relations = _relations(model, text, reading.states, structure.vectors, spans, entities, thresholds)
        attributes = _attributes(model, structure.attribute_logits, spans, entities)
        yield replace(
            document,
            mentions=tuple(replace(m, attributes=a) for m, a in zip(mentions, attributes, strict=True)),
            relations=tuple(Relation(type_, names[h], names[t], round(score, 4)) for type_, h, t, score in relations),
        )


def _document(model: Any, id_: str, reading: Reading, thresholds: Mapping[str, float]) -> Document:
    """Decode a reading: mentions, attributes, entities, relations."""
    text, states, spans = reading.text, reading.states, reading.spans(model)
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
    entities = structure.entities(spans, model.named)
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
    scores = _sigmoid(logits)
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
            log_probs = log_softmax(doubles(logits[name])[mine])
            _, owner = np.unique(entities[mine], return_inverse=True)
            sums = np.zeros((int(owner.max()) + 1, log_probs.shape[1]))
            np.add.at(sums, owner, log_probs)
            labels = list(values)
            for m, best in zip(mine, sums.argmax(axis=1)[owner], strict=True):
                result[m][name] = labels[best]
    return result


def tag_log_probs(logits: Any, texts: Sequence[EncodedText], transitions: Any = None) -> np.ndarray:
    """[N, tags] log-probabilities of the tags of the words of all texts.

    Args:
        logits: [N, tags]; transitions: [1 + tags, tags] of a CRF, if there is one. Both are tensors, or of numpy.
    """
    if transitions is None:
        return log_softmax(doubles(logits))
    weights, ends = doubles(transitions), np.cumsum([len(text) for text in texts])
    parts = zip(np.split(doubles(logits), ends[:-1]), texts, strict=True)
    return np.concatenate([marginals(part, weights, text.lines) for part, text in parts])


def doubles(values: Any) -> np.ndarray:
    """An array of numpy, in double precision, of an array of numpy or a tensor on any device."""
    return np.asarray(values if isinstance(values, np.ndarray) else values.cpu().numpy(), dtype=np.float64)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _sigmoid(logits: Any) -> np.ndarray:
    return 1 / (1 + np.exp(-doubles(logits)))
