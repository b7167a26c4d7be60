"""From scores to structures: tags to mentions, alias probabilities to entities, all of it to a `Document`.

Pure functions on numpy arrays; the same ones serve training, evaluation and inference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .documents import Document, Mention, Relation, unmatched_brackets
from .schema import Schema

# Signs that no name begins or ends with, as it does not with a bracket whose other half is outside of it.
_EDGES = frozenset(",;:/&*'’\"“”-–—")
# Mean alias probability from which a group of names, or a mention that is no name, joins a cluster: a split event costs
# more relations than two in one, and two companies in one cost more than a split one.
NAME_ALIAS, OTHER_ALIAS = 0.4, 0.2


@dataclass(frozen=True)
class Spans:
    """Mentions of one document as word indices.

    Attributes:
        first, last: [M] first and last word, both inclusive, in the order of the text.
        types: [M] index into the schema's entity types.
        scores: [M] probabilities.
    """

    first: np.ndarray
    last: np.ndarray
    types: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.first)

    def wordings(self, text: str, offsets: np.ndarray) -> list[str]:
        """[M] the wording of each mention, case folded, with single blanks; `offsets` [N, 2] are those of the words."""
        starts, ends = offsets[self.first, 0], offsets[self.last, 1]
        return [" ".join(text[a:b].casefold().split()) for a, b in zip(starts, ends, strict=True)]

    def words(self) -> tuple[np.ndarray, np.ndarray]:
        """The words of all mentions, one mention after the other, and for each the number of its mention."""
        lengths = self.last + 1 - self.first
        owners = np.repeat(np.arange(len(self)), lengths)
        begins = self.first - (np.cumsum(lengths) - lengths)
        return np.arange(len(owners)) + begins[owners], owners

    def select(self, keep: np.ndarray) -> Spans:
        """The mentions at the indices, or under the mask, `keep`."""
        return Spans(self.first[keep], self.last[keep], self.types[keep], self.scores[keep])


@dataclass(frozen=True)
class Marked:
    """The mentions of a document as words.

    Attributes:
        mentions: those that have a word, which no mention before them has.
        spans: their words, whole ones where a mention cuts one.
        entities: [M] number of the entity of each, in the order of the text; names: the id of each entity.
    """

    mentions: tuple[Mention, ...]
    spans: Spans
    entities: np.ndarray
    names: tuple[str, ...]


def mark(document: Document, offsets: np.ndarray, types: Sequence[str]) -> Marked:
    """The mentions of a document over its words, whose code points are `offsets` [N, 2]."""
    rows: list[tuple[int, int, int, int]] = []
    kept = []
    numbers: dict[str, int] = {}
    taken = 0
    for m in document.mentions:
        first = max(int(np.searchsorted(offsets[:, 1], m.start, side="right")), taken)
        last = int(np.searchsorted(offsets[:, 0], m.end, side="left")) - 1
        if first <= last:
            rows.append((first, last, types.index(m.type), numbers.setdefault(m.entity, len(numbers))))
            kept.append(m)
            taken = last + 1
    table = np.array(rows, dtype=np.int64).reshape(-1, 4)
    spans = Spans(table[:, 0], table[:, 1], table[:, 2], np.ones(len(table)))
    return Marked(tuple(kept), spans, table[:, 3], tuple(numbers))


def decode_tags(log_probs: np.ndarray, lines: np.ndarray) -> Spans:
    """The most probable legal BIO sequence (Viterbi) as mentions; none goes on over the end of a line.

    Args:
        log_probs: [N, 1 + 2 * types] log-probabilities of the tags O, B-0, I-0, B-1, I-1, ...
        lines: [N] line of each word.

    Returns:
        The mentions; the score of one is the geometric mean of the probabilities of its tags.
    """
    count = len(log_probs)
    if count == 0:
        nothing = np.zeros(0, dtype=np.int64)
        return Spans(nothing, nothing, nothing, np.zeros(0))
    path = log_probs.argmax(axis=1)
    new_line = np.append(True, np.diff(lines) != 0)
    # Where the best tag of each word by itself makes a legal line, that is the best sequence.
    before = np.append(0, path[:-1])
    starts = np.flatnonzero(new_line)
    inside = (path > 0) & (path % 2 == 0)
    illegal = inside & (new_line | ((before != path) & (before != path - 1)))
    for line in np.unique(np.searchsorted(starts, np.flatnonzero(illegal), side="right") - 1):
        part = slice(starts[line], starts[line + 1] if line + 1 < len(starts) else count)
        path[part] = _viterbi(log_probs[part])
    first = np.flatnonzero(path % 2 == 1)
    outside = np.append(np.flatnonzero((path == 0) | (path % 2 == 1)), count)
    last = outside[np.searchsorted(outside, first, side="right")] - 1
    chosen = np.concatenate([[0.0], np.cumsum(log_probs[np.arange(count), path])])
    scores = np.exp((chosen[last + 1] - chosen[first]) / (last + 1 - first))
    return Spans(first, last, (path[first] - 1) // 2, scores)


def _viterbi(log_probs: np.ndarray) -> np.ndarray:
    """[N] the most probable legal tags of the words of one line."""
    count, tags = log_probs.shape
    # Only I-x is restricted: it follows B-x or I-x. So each step needs the best of all and of those two.
    inside = np.arange(2, tags, 2)
    score = log_probs[0].copy()
    score[inside] = -np.inf
    back = np.zeros((count, tags), dtype=np.int64)
    for i in range(1, count):
        back[i] = int(score.argmax())
        back[i, inside] = np.where(score[inside - 1] >= score[inside], inside - 1, inside)
        score = score[back[i]] + log_probs[i]
    path = np.zeros(count, dtype=np.int64)
    path[-1] = score.argmax()
    for i in range(count - 1, 0, -1):
        path[i - 1] = back[i, path[i]]
    return path


def consistent(
    log_probs: np.ndarray,
    lines: np.ndarray,
    spans: Spans,
    words: Sequence[str],
    named: Sequence[bool],
    threshold: float,
) -> Spans:
    """The same wording, the same type: a name is marked wherever it stands in the document, or nowhere.

    Every wording that was marked as a name is looked up in the whole document. The mean over its occurrences of
    the probability that exactly these words are a mention of the type decides; longer wordings go first, so that
    a name inside a longer one stays part of that.

    Args:
        log_probs, lines: as for `decode_tags`.
        spans: what `decode_tags` found.
        words: [N] the words, case folded.
        named: for each entity type, whether its mentions are names; mentions of the other types stay as they are.
        threshold: smallest mean of a name that is kept.
    """
    count = len(words)
    is_name = np.array(named, dtype=bool)[spans.types]
    places: dict[str, list[int]] = {}
    for i, word in enumerate(words):
        places.setdefault(word, []).append(i)
    inside = np.vstack([np.zeros(log_probs.shape[1]), np.cumsum(log_probs, axis=0)])
    goes_on = np.minimum(np.exp(log_probs[:, 2::2]), 1 - 1e-6)
    ends_there = np.vstack([np.log1p(-goes_on), np.zeros(len(named))])
    ends_there[1:-1][np.diff(lines) != 0] = 0.0  # no mention goes on over the end of a line

    candidates = []
    wordings = {
        (tuple(words[first : last + 1]), type_)
        for first, last, type_ in zip(spans.first[is_name], spans.last[is_name], spans.types[is_name], strict=True)
    }
    # Names that begin with one word and are of one length are looked up together: there may be thousands of them.
    alike: dict[tuple[str, int], dict[tuple[str, ...], list[int]]] = {}
    for wording, _ in wordings:
        alike.setdefault((wording[0], len(wording)), {})[wording] = []
    for (word, length), occurrences in alike.items():
        for i in places[word]:
            found = occurrences.get(tuple(words[i : i + length]))
            if found is not None and lines[i] == lines[i + length - 1]:
                found.append(i)
    for wording, type_ in wordings:
        length = len(wording)
        starts = np.array(alike[wording[0], length][wording])
        ends = starts + length
        logs = log_probs[starts, 1 + 2 * type_] + inside[ends, 2 + 2 * type_] - inside[starts + 1, 2 + 2 * type_]
        mean = float(np.exp(logs + ends_there[ends, type_]).mean())
        if mean >= threshold:
            candidates.append((length, mean, int(type_), starts, np.exp(logs / length)))
    free = np.ones(count + 1, dtype=bool)
    others = spans.select(~is_name)
    rows = list(zip(others.first, others.last, others.types, others.scores, strict=True))
    for first, last, _, _ in rows:
        free[first : last + 1] = False
    # Longest first, then most probable; of equals, the first in the text.
    candidates.sort(key=lambda c: (-c[0], -c[1], int(c[3][0]), c[2]))
    for length, mean, type_, starts, scores in candidates:
        for start, score in zip(starts, scores, strict=True):
            if free[start : start + length].all():
                free[start : start + length] = False
                rows.append((start, start + length - 1, type_, max(score, mean)))
    rows.sort(key=lambda row: row[0])
    first, last, types, score = (np.array(column) for column in zip(*rows, strict=True)) if rows else [np.zeros(0)] * 4
    return Spans(first.astype(np.int64), last.astype(np.int64), types.astype(np.int64), score.astype(np.float64))


def trimmed(spans: Spans, words: Sequence[str]) -> Spans:
    """Mentions without the signs at their ends that are no part of a name; one of such signs alone is dropped.

    Args:
        words: [N] the words of the document.
    """
    first, last = spans.first.copy(), spans.last.copy()
    for m, (low, high) in enumerate(zip(spans.first.tolist(), spans.last.tolist(), strict=True)):
        own = words[low : high + 1]
        single = unmatched_brackets(own)
        inside = [low + i for i, word in enumerate(own) if word not in _EDGES and i not in single]
        first[m], last[m] = (inside[0], inside[-1]) if inside else (high + 1, high)
    return Spans(first, last, spans.types, spans.scores).select(first <= last)


def name_groups(spans: Spans, wordings: Sequence[str], named: Sequence[bool]) -> np.ndarray:
    """[M] group of each mention: equal wordings of a type of names are one group, any other mention is its own.

    Args:
        wordings: [M] case-folded words of each mention.
        named: for each entity type, whether its mentions are names.
    """
    keys: dict[tuple[int, str | int], int] = {}
    return np.array(
        [
            keys.setdefault((t, wordings[i]) if named[t] else (t, i), len(keys))
            for i, t in enumerate(spans.types.tolist())
        ],
        dtype=np.int64,
    )


def cluster(pairs: np.ndarray, probabilities: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Groups to entities: each joins the earlier cluster with the highest mean alias probability above its threshold.

    Args:
        pairs: [Q, 2] candidate pairs of groups, the earlier first.
        probabilities: [Q] that the two are aliases; pairs that are no candidates count as 0.
        thresholds: [G] of each group, in the order of the text.

    Returns:
        [G] cluster of each group, numbered in the order of their first members.
    """
    count = len(thresholds)
    order = np.argsort(pairs[:, 1], kind="stable") if len(pairs) else np.zeros(0, dtype=np.int64)
    bounds = np.searchsorted(pairs[order, 1], np.arange(count + 1)) if len(pairs) else np.zeros(count + 1, dtype=int)
    clusters = np.full(count, -1, dtype=np.int64)
    sizes = np.zeros(count)
    known = 0
    for g in range(count):
        mine = order[bounds[g] : bounds[g + 1]]
        choice = known
        if len(mine) and known:
            sums = np.bincount(clusters[pairs[mine, 0]], weights=probabilities[mine], minlength=known)
            means = sums / sizes[:known]
            if means.max() > thresholds[g]:
                choice = int(means.argmax())
        clusters[g] = choice
        sizes[choice] += 1
        known += choice == known
    return clusters


def assemble(
    document_id: str,
    text: str,
    offsets: np.ndarray,
    spans: Spans,
    entities: np.ndarray,
    attributes: Sequence[Mapping[str, str]],
    relations: Sequence[tuple[str, int, int, float]],
    schema: Schema,
) -> Document:
    """The predicted document.

    Args:
        offsets: [N, 2] code points of the words.
        entities: [M] entity of each mention.
        attributes: [M] attribute values of each mention.
        relations: (relation type, head entity, tail entity, probability).
    """
    types = list(schema.entities)
    names: dict[int, str] = {}
    counts = dict.fromkeys(types, 0)
    for entity, type_ in zip(entities.tolist(), spans.types.tolist(), strict=True):
        if entity not in names:
            counts[types[type_]] += 1
            names[entity] = f"{types[type_]}-{counts[types[type_]]}"
    return Document(
        id=document_id,
        text=text,
        mentions=tuple(
            Mention(
                start=int(offsets[spans.first[m], 0]),
                end=int(offsets[spans.last[m], 1]),
                type=types[spans.types[m]],
                entity=names[int(entities[m])],
                attributes=attributes[m],
                score=round(float(spans.scores[m]), 4),
            )
            for m in range(len(spans))
        ),
        relations=tuple(
            Relation(type_, names[head], names[tail], round(score, 4)) for type_, head, tail, score in relations
        ),
    )
