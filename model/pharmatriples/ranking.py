"""What to annotate next: the texts about which a model is most in doubt, none of them like another.

The doubt of a decision is the probability that the model gives to all other outcomes than the one it takes (least
confidence, Lewis and Gale 1994). Those who annotate then read the texts in an order that trades doubt for novelty
(maximal marginal relevance, Carbonell and Goldstein 1998).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .decoding import Spans
from .documents import Document
from .modeling import TriplesModel
from .prediction import Reading, readings
from .splits import near_duplicates
from .windows import Windower

# Decisions that a text is judged by: a long text is not the more doubtful for having many that are sure.
DECISIONS = 20
REASONS = 3


class RankingError(ValueError):
    """Documents that cannot be ranked; the message names one."""


@dataclass(frozen=True)
class Ranked:
    """A text in the order in which it should be annotated.

    Attributes:
        id: of the document.
        score: mean doubt of the DECISIONS most doubtful decisions: the share of them that the model expects to be
            wrong. The order follows it, except that a text which is like an earlier one comes later.
        reasons: the most doubtful decisions, in words.
    """

    id: str
    score: float
    reasons: tuple[str, ...]


def rank(model: TriplesModel, windower: Windower, documents: Iterable[Document], batch_size: int = 32) -> list[Ranked]:
    """The documents in the order in which they should be annotated; what is marked in them is not looked at.

    The result does not depend on the order of the documents. Near-duplicates of a document that is placed come
    after all that are none.

    Args:
        model: in eval mode.

    Raises:
        RankingError: a document id stands twice.
    """
    by_id: dict[str, Document] = {}
    for document in documents:
        if by_id.setdefault(document.id, document) is not document:
            raise RankingError(f"document id {document.id!r} stands twice; ids must be unique")
    ids = sorted(by_id)
    found, vectors = [], []
    for id_, reading in zip(ids, readings(model, windower, (by_id[id_].text for id_ in ids), batch_size), strict=True):
        found.append(_ranked(id_, _doubts(model, reading)))
        vectors.append(reading.states.double().sum(0).cpu().numpy() / max(len(reading.text), 1))
    place = {id_: i for i, id_ in enumerate(ids)}
    copies: list[list[int]] = [[] for _ in ids]
    for pair in near_duplicates(by_id.values()):
        first, second = place[pair.first.id], place[pair.second.id]
        copies[first].append(second)
        copies[second].append(first)
    order = _spread(np.array([item.score for item in found]), np.array(vectors), copies)
    return [found[i] for i in order]


def table(ranked: Sequence[Ranked]) -> str:
    """A table to read, one line a document."""
    lines = [f"{'':>5}  {'doubt':>5}  document"]
    lines += [f"{i:>5}  {item.score:>5.3f}  {item.id}: {'; '.join(item.reasons)}" for i, item in enumerate(ranked, 1)]
    return "\n".join(lines)


def _spread(scores: np.ndarray, vectors: np.ndarray, copies: Sequence[Sequence[int]]) -> list[int]:
    """Greedy order by score * (1 - likeness to the nearest that is placed); of equals the higher score, then the first.

    Args:
        scores: [D] of documents; vectors: [D, H]; copies: for each the near-duplicates, whose likeness is 1.
    """
    # The vectors of an encoder all point one way; what tells documents apart is what is left beside that.
    vectors = vectors - vectors.mean(axis=0, keepdims=True) if len(vectors) else vectors
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    vectors = vectors / np.where(lengths > 0, lengths, 1)
    likeness = np.zeros(len(scores))
    left = np.lexsort((np.arange(len(scores)), -scores))
    order: list[int] = []
    while len(left):
        best = int(left[(scores[left] * (1 - likeness[left])).argmax()])
        order.append(best)
        likeness = np.maximum(likeness, np.clip(vectors @ vectors[best], 0, 1))
        likeness[list(copies[best])] = 1
        left = left[left != best]
    return order


def _ranked(id_: str, doubts: Sequence[tuple[np.ndarray, Callable[[int], str]]]) -> Ranked:
    values = np.concatenate([doubt for doubt, _ in doubts])
    kinds = np.repeat(np.arange(len(doubts)), [len(doubt) for doubt, _ in doubts])
    places = np.concatenate([np.arange(len(doubt)) for doubt, _ in doubts])
    most = np.argsort(-values, kind="stable")[:DECISIONS]
    reasons = tuple(doubts[kinds[i]][1](int(places[i])) for i in most[:REASONS])
    return Ranked(id_, float(values[most].sum()) / DECISIONS, reasons)


@torch.no_grad()
def _doubts(model: TriplesModel, reading: Reading) -> list[tuple[np.ndarray, Callable[[int], str]]]:
    """Kinds of decisions about a text: the doubt of each decision, and what tells in words what it is about."""
    text, schema = reading.text, model.schema
    spans = reading.spans(model)
    wordings = [text.text[a:b] for a, b in zip(text.offsets[spans.first, 0], text.offsets[spans.last, 1], strict=True)]
    found = [_word_doubts(reading, spans, schema.tags)]
    if not len(spans):
        return found
    structure = model.structure(reading.states, spans, text)
    for type_, attributes in schema.attributes.items():
        mine = np.flatnonzero(spans.types == list(schema.entities).index(type_))
        for name, values in attributes.items():
            probabilities = structure.attribute_logits[name].float().softmax(-1).cpu().numpy()[mine]
            found.append(_attribute_doubts(name, list(values), probabilities, [wordings[m] for m in mine]))
    alias = structure.alias_logits.float().sigmoid().cpu().numpy()
    pairs, first_of = structure.alias_pairs, structure.first_of

    def same(i: int) -> str:
        a, b = (wordings[first_of[group]] for group in pairs[i])
        return f"{a!r} = {b!r} {alias[i]:.0%}"

    found.append((np.minimum(alias, 1 - alias), same))
    entities = structure.entities(spans, model.named)
    triples, logits = model.relation_logits(reading.states, structure.vectors, spans, entities, text)
    related = logits.float().sigmoid().cpu().numpy()
    names, named = list(schema.relations), np.unique(entities, return_index=True)[1]

    def relation(i: int) -> str:
        type_, head, tail = triples[i]
        return f"{names[type_]} {wordings[named[head]]!r} -> {wordings[named[tail]]!r} {related[i]:.0%}"

    found.append((np.minimum(related, 1 - related), relation))
    return found


def _word_doubts(reading: Reading, spans: Spans, tags: Sequence[str]) -> tuple[np.ndarray, Callable[[int], str]]:
    """Of each word that is no mention, and of each mention as a whole: that of its most doubtful word."""
    probabilities = np.exp(reading.log_probs)
    doubts = 1 - probabilities.max(axis=1)
    begins = np.ones(len(doubts), dtype=bool)
    for first, last in zip(spans.first, spans.last, strict=True):
        begins[first + 1 : last + 1] = False
    starts = np.flatnonzero(begins)
    ends = np.append(starts[1:], len(doubts))

    def describe(i: int) -> str:
        offsets = reading.text.offsets
        wording = reading.text.text[offsets[starts[i], 0] : offsets[ends[i] - 1, 1]]
        word = starts[i] + doubts[starts[i] : ends[i]].argmax()
        first, second = np.argsort(-probabilities[word], kind="stable")[:2]
        return f"{wording!r} {_two(tags, probabilities[word], first, second)}"

    return np.maximum.reduceat(doubts, starts) if len(starts) else doubts, describe


def _attribute_doubts(
    name: str, values: Sequence[str], probabilities: np.ndarray, wordings: Sequence[str]
) -> tuple[np.ndarray, Callable[[int], str]]:
    def describe(i: int) -> str:
        first, second = np.argsort(-probabilities[i], kind="stable")[:2]
        return f"{name} of {wordings[i]!r} {_two(values, probabilities[i], first, second)}"

    return 1 - probabilities.max(axis=1), describe


def _two(labels: Sequence[str], probabilities: np.ndarray, first: int, second: int) -> str:
    return f"{labels[first]} {probabilities[first]:.0%} or {labels[second]} {probabilities[second]:.0%}"
