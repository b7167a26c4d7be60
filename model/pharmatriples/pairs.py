"""Candidate pairs of mentions and what the pair heads are told about them, beside the vectors.

Categorical features with few values, made from places in the text and from wordings: distance, order, sentence,
competition by nearer mentions, and how many entities of a type the document has.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .decoding import Spans
from .windows import EncodedText

_EDGES = np.array([1, 2, 3, 4, 6, 9, 13, 20, 32, 64, 128, 256, 512])
_DISTANCES = len(_EDGES) + 1
_SENTENCES = 5  # in the same, the next, ... four or more further
_COUNTS = 5
# What keeps the number of pairs linear in very long texts; far beyond the documents that are trained on.
_EARLIER = 128  # groups of a type that a group is compared with
_FAR = 1024  # words to an entity that is no candidate, unless it is one of the _NEAREST
_NEAREST = 4
_ROWS = 256  # mentions handled at once

_NO_RIVAL = -10.0  # the logit where there is none

# Number of values of each feature, after the entity type of an alias pair or the relation type.
ALIAS_FEATURES = (_DISTANCES, 6, 2)
RELATION_FEATURES = (2 * _DISTANCES, 2 * _SENTENCES, 4, 4, 4, _COUNTS, _COUNTS, _COUNTS, _COUNTS)


def alias_pairs(
    spans: Spans, groups: np.ndarray, text: EncodedText, aliased: Sequence[bool]
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of groups of one type that may be aliases.

    Args:
        groups: [M] group of each mention, numbered in the order of the text.
        aliased: for each entity type, whether its mentions may be aliases.

    Returns:
        pairs [Q, 2], the earlier group first, and features [Q, 1 + ALIAS_FEATURES].
    """
    first_of = np.unique(groups, return_index=True)[1]
    wordings = spans.wordings(text.text, text.offsets)
    bracketed = _bracketed(spans, groups, text)
    # Where the mentions of each group end, in one sorted array: the last one before a place is found by bisection.
    scale = len(text) + 1
    ends = np.sort(groups * scale + spans.last)
    pairs, features = [], []
    for type_ in np.flatnonzero(aliased):
        mine = np.flatnonzero(spans.types[first_of] == type_)
        before = np.minimum(np.arange(len(mine)), _EARLIER)  # how many earlier groups each is compared with
        later = np.repeat(np.arange(len(mine)), before)
        earlier = later - before[later] + np.arange(len(later)) - np.repeat(np.cumsum(before) - before, before)
        a, b = mine[earlier], mine[later]
        if not len(a):
            continue
        starts = spans.first[first_of[b]]
        distance = starts - (ends[np.searchsorted(ends, a * scale + starts) - 1] - a * scale)
        likeness = [_likeness(wordings[i], wordings[j]) for i, j in zip(first_of[a], first_of[b], strict=True)]
        bracket = [pair in bracketed for pair in zip(a.tolist(), b.tolist(), strict=True)]
        pairs.append(np.stack([a, b], axis=1))
        features.append(np.stack([np.full(len(a), type_), _bucket(distance), likeness, bracket], axis=1))
    if not pairs:
        return np.zeros((0, 2), dtype=np.int64), np.zeros((0, 1 + len(ALIAS_FEATURES)), dtype=np.int64)
    return np.concatenate(pairs), np.concatenate(features).astype(np.int64)


def relation_pairs(
    spans: Spans, entities: np.ndarray, text: EncodedText, signatures: Sequence[tuple[int, int, int, bool]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of mentions that a relation of the schema may join: each mention of a head, and of each possible tail
    the mention that is nearest to it.

    Args:
        entities: [M] entity of each mention.
        signatures: (relation, head type, tail type, whether the relation is symmetric). Of two entities of one type
            that a symmetric relation may join, the one with the smaller number is the head.

    Returns:
        pairs [P, 2] of mentions, features [P, 1 + RELATION_FEATURES] of which the first is the relation index, and
        the words between the two mentions, half-open [P, 2].
    """
    counts = np.bincount(entities, minlength=1)
    pairs, features = [], []
    for relation, head_type, tail_type, symmetric in signatures:
        heads, tails = np.flatnonzero(spans.types == head_type), np.flatnonzero(spans.types == tail_type)
        if not len(heads) or not len(tails):
            continue
        tails = tails[np.argsort(entities[tails], kind="stable")]
        head_order, tail_order = _order(entities[heads]), _order(entities[tails])
        for at in range(0, len(heads), _ROWS):
            some = heads[at : at + _ROWS]
            nearest, distance = _nearest(spans, some, tails, entities)
            rank = distance.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
            one, other = entities[some][:, None], entities[tails[nearest]]
            own = ((one >= other) if symmetric else (one == other)) & (head_type == tail_type)
            near = (distance <= _FAR) | (rank < _NEAREST + (head_type == tail_type))  # itself is the nearest
            a, b = np.nonzero(near & ~own)
            head, tail, order = some[a], tails[nearest[a, b]], tail_order[nearest[a, b]]
            apart = text.sentences[spans.first[tail]] - text.sentences[spans.first[head]]
            before = spans.first[tail] < spans.first[head]
            columns = [
                np.full(len(a), relation),
                _bucket(distance[a, b]) + np.where(before, _DISTANCES, 0),
                np.minimum(np.abs(apart), _SENTENCES - 1) + np.where(apart < 0, _SENTENCES, 0),
                np.minimum(rank[a, b], 3),
                np.minimum(_between(spans.first[heads], spans.first[head], spans.first[tail]), 3),
                2 * (text.lines[spans.first[head]] == 0) + (text.lines[spans.first[tail]] == 0),
                _amount(head_order[at + a]),
                _amount(order),
                _amount(counts[entities[tail]]),
                np.full(len(a), _amount(np.array(distance.shape[1]))),
            ]
            pairs.append(np.stack([head, tail], axis=1))
            features.append(np.stack(columns, axis=1))
    if not pairs:
        none = np.zeros((0, 2), dtype=np.int64)
        return none, np.zeros((0, 1 + len(RELATION_FEATURES)), dtype=np.int64), none
    joined = np.concatenate(pairs)
    low = spans.last[joined].min(axis=1) + 1
    high = np.maximum(spans.first[joined].max(axis=1), low)
    return joined, np.concatenate(features).astype(np.int64), np.stack([low, high], axis=1)


def entity_pairs(pairs: np.ndarray, features: np.ndarray, entities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of entities that pairs of mentions stand for.

    Args:
        pairs, features: what `relation_pairs` gave; entities: [M] entity of each mention.

    Returns:
        triples [Q, 3] of relation index, head entity and tail entity, and [P] the triple of each pair of mentions.
    """
    triples = np.stack([features[:, 0], entities[pairs[:, 0]], entities[pairs[:, 1]]], axis=1)
    triples, inverse = np.unique(triples, axis=0, return_inverse=True)
    return triples, inverse.reshape(-1)


def pair_numbers(triples: np.ndarray) -> np.ndarray:
    """[Q] number of the pair of head and tail of each of the triples [Q, 3] of relation index, head and tail."""
    keys = triples[:, 1] * (triples[:, 1:].max(initial=0) + 1) + triples[:, 2]
    return np.unique(keys, return_inverse=True)[1].reshape(-1)


def rival_features(triples: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """[Q, 7] of each pair its logit, and how it stands among the pairs of its head and among those of its tail.

    Args:
        triples: [Q, 3] relation index, head entity and tail entity; logits: [Q].
    """
    columns = [logits]
    for side in (1, 2):
        groups = triples[:, 0] * (triples[:, 1:].max(initial=0) + 1) + triples[:, side]
        columns += rivals(groups, logits)
    return np.stack(columns, axis=1)


def rivals(groups: np.ndarray, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How each of `logits` [Q] stands in its group, of which `groups` [Q] gives the number.

    Returns:
        [Q] best logit of the others, [Q] sum of their probabilities, [Q] logarithm of 1 + its rank.
    """
    order = np.lexsort((-logits, groups))
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    sizes = np.diff(np.append(starts, len(order)))
    rank = np.arange(len(order)) - np.repeat(starts, sizes)
    best = np.append(logits[order], _NO_RIVAL)
    second = best[np.where(sizes > 1, starts + 1, len(order))]
    probabilities = 1 / (1 + np.exp(-np.clip(logits[order], -50, 50)))
    sums = np.add.reduceat(probabilities, starts) if len(starts) else probabilities
    found = np.empty((3, len(order)))
    found[0, order] = np.where(rank == 0, np.repeat(second, sizes), np.repeat(best[starts], sizes))
    found[1, order] = np.repeat(sums, sizes) - probabilities
    found[2, order] = np.log1p(rank)
    return found[0], found[1], found[2]


def _nearest(spans: Spans, heads: np.ndarray, tails: np.ndarray, entities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each head and each entity of the tails, the place in `tails` of its nearest mention, and the distance.

    Args:
        heads: [A] mentions; tails: [B] mentions, ordered by their entities.

    Returns:
        places and distances in words, both [A, entities of the tails].
    """
    gap = np.maximum(spans.first[tails] - spans.last[heads][:, None], spans.first[heads][:, None] - spans.last[tails])
    # The distance and the place in one number, so that one minimum per entity gives both.
    key = np.maximum(gap, 0) * len(tails) + np.arange(len(tails))
    starts = np.unique(entities[tails], return_index=True)[1]
    best = np.minimum.reduceat(key, starts, axis=1)
    return best % len(tails), best // len(tails)


def _between(places: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """[P] how many of the sorted places lie strictly between two."""
    low, high = np.minimum(one, other), np.maximum(one, other)
    return np.maximum(np.searchsorted(places, high, side="left") - np.searchsorted(places, low, side="right"), 0)


def _bucket(distance: np.ndarray) -> np.ndarray:
    return np.searchsorted(_EDGES, distance, side="right")


def _amount(number: np.ndarray) -> np.ndarray:
    """0, 1, 2, 3 to 5, and more."""
    return np.searchsorted([1, 2, 3, 6], number, side="right")


def _order(entities: np.ndarray) -> np.ndarray:
    """For each mention, how many entities of its type were named before its own first mention."""
    _, first, inverse = np.unique(entities, return_index=True, return_inverse=True)
    return first.argsort(kind="stable").argsort(kind="stable")[inverse]


def _likeness(one: str, other: str) -> int:
    """How two case-folded wordings are alike."""
    if one == other:
        return 0
    short, long = sorted((one, other), key=len)
    words = long.replace("-", " ").split()
    if len(short) > 1 and "".join(w[0] for w in words if w[0].isalnum()) == short.replace(".", ""):
        return 1  # initials
    if long.startswith(short):
        return 2
    if f" {short} " in f" {long} ":
        return 3
    if set(words) & set(short.replace("-", " ").split()):
        return 4
    return 5


def _bracketed(spans: Spans, groups: np.ndarray, text: EncodedText) -> set[tuple[int, int]]:
    """Pairs of groups, the smaller first: a mention of one stands in a bracket right after one of the other."""
    starts, ends = text.offsets[spans.first, 0], text.offsets[spans.last, 1]
    found = set()
    for m in range(len(spans) - 1):
        opening = text.text[ends[m] : starts[m + 1]]
        if len(opening) <= 6 and "(" in opening and ")" not in opening and spans.types[m] == spans.types[m + 1]:
            found.add((int(min(groups[m], groups[m + 1])), int(max(groups[m], groups[m + 1]))))
    return found
