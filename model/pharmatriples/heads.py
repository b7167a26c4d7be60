"""The parts that stand on the encoder: word states, scores of pairs, and what rival pairs do to a score.

Letters as in `modeling`: `N` words and `T` pieces, `M` mentions, `P` pairs of mentions, `Q` pairs of entities, `H`
width of the encoder, `D` of a mention vector, `K` of the hidden layer of a pair head.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from .layout import GAPS
from .windows import SHAPES, EncodedText

_NO_RIVAL = -10.0  # the logit where there is none


class WordStates(nn.Module):
    """Word states of whole documents, of the states of their pieces.

    The pieces of a word are averaged; its shape and the gap before it are added; a convolution mixes it with its
    neighbours; and it meets the mean of all words of its document that are worded like it, so that what one place tells
    about a name is known at the others.
    """

    def __init__(self, width: int):
        super().__init__()
        self.shape_embedding = nn.Embedding(len(SHAPES), width)
        self.gap_embedding = nn.Embedding(len(GAPS), width)
        self.mixer = nn.Conv1d(width, width, kernel_size=5, padding=2)
        self.norm = nn.LayerNorm(width)
        self.recall = nn.Linear(2 * width, width)
        self.recall_norm = nn.LayerNorm(width)

    def forward(
        self, pieces: Tensor, piece_words: Tensor, shapes: Tensor, gaps: Tensor, texts: Sequence[EncodedText]
    ) -> Tensor:
        """[N, H] of all documents, of `pieces` [T, H]; the other arguments are those of `TriplesModel.forward`."""
        if not len(shapes):
            return pieces
        words = _means(pieces, piece_words, len(shapes)) + self.shape_embedding(shapes) + self.gap_embedding(gaps)
        # Each document by itself, so that no state depends on what else is in the batch.
        parts = [part for part in words.split([len(text) for text in texts]) if len(part)]
        mixed = torch.cat([self.mixer(part.T.unsqueeze(0)).squeeze(0).T for part in parts])
        states = self.norm(words + nn.functional.gelu(mixed))
        numbers, count = _wordings(texts)
        index = torch.from_numpy(numbers).to(states.device)
        both = torch.cat([states, _means(states, index, count).index_select(0, index)], dim=1)
        return self.recall_norm(states + nn.functional.gelu(self.recall(both)))


def _wordings(texts: Sequence[EncodedText]) -> tuple[np.ndarray, int]:
    """[N] a number for each wording of each document, and how many there are."""
    numbers: dict[tuple[int, str], int] = {}
    same = [numbers.setdefault((d, word), len(numbers)) for d, text in enumerate(texts) for word in text.folded]
    return np.array(same, dtype=np.int64), len(numbers)


def _means(values: Tensor, index: Tensor, count: int) -> Tensor:
    """[count, H] mean of the rows with each index; every index has at least one."""
    sums = values.new_zeros(count, values.shape[1]).index_add(0, index, values)
    return sums / torch.bincount(index, minlength=count).unsqueeze(1)


class PairHead(nn.Module):
    """Scores pairs of vectors with categorical features by one hidden layer.

    hidden = W1 head + W2 tail + (W3 head) * (W4 tail) + context + sum of feature embeddings; score = v . gelu(hidden)
    """

    def __init__(self, size: int, hidden: int, features: Sequence[int], dropout: float):
        super().__init__()
        self.head = nn.Linear(size, 2 * hidden)
        self.tail = nn.Linear(size, 2 * hidden)
        self.features = nn.ModuleList(nn.Embedding(n, hidden) for n in features)
        self.dropout = nn.Dropout(dropout)
        self.score = nn.Linear(hidden, 1)

    def forward(
        self, vectors: Tensor, head: Tensor, tail: Tensor, features: Tensor, context: Tensor | None = None
    ) -> Tensor:
        """[P] logits, of `vectors` [M, D], indices `head`, `tail` [P], `features` [P, F] and `context` [P, K]."""
        heads, tails = self.head(vectors), self.tail(vectors)
        a, b = heads.index_select(0, head), tails.index_select(0, tail)
        k = a.shape[1] // 2
        hidden = a[:, :k] + b[:, :k] + a[:, k:] * b[:, k:]
        for i, embedding in enumerate(self.features):
            hidden = hidden + embedding(features[:, i])
        if context is not None:
            hidden = hidden + context
        return self.score(self.dropout(nn.functional.gelu(hidden))).squeeze(-1)


class RivalHead(nn.Module):
    """What the logit of a pair gains or loses by the other pairs of its head, and by those of its tail.

    A pair head sees one pair at a time; whether the nearest drug is the event's depends on how good the others are.
    """

    def __init__(self, relations: int, hidden: int = 32):
        super().__init__()
        self.relation = nn.Embedding(relations, hidden)
        self.features = nn.Linear(7, hidden)
        self.score = nn.Linear(hidden, 1)

    def forward(self, triples: np.ndarray, logits: Tensor) -> Tensor:
        """[Q] differences, of `triples` [Q, 3] and their `logits` [Q]; no gradient goes back through the logits."""
        own = logits.detach().cpu().numpy()
        columns = [own]
        for side in (1, 2):
            groups = triples[:, 0] * (triples[:, 1:].max(initial=0) + 1) + triples[:, side]
            columns += rivals(groups, own)
        features = torch.from_numpy(np.stack(columns, axis=1)).to(logits)
        relation = self.relation(torch.from_numpy(triples[:, 0]).to(logits.device))
        return self.score(nn.functional.gelu(self.features(features) + relation)).squeeze(-1)


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
    probabilities = 1 / (1 + np.exp(-logits[order]))
    sums = np.add.reduceat(probabilities, starts) if len(starts) else probabilities
    found = np.empty((3, len(order)))
    found[0, order] = np.where(rank == 0, np.repeat(second, sizes), np.repeat(best[starts], sizes))
    found[1, order] = np.repeat(sums, sizes) - probabilities
    found[2, order] = np.log1p(rank)
    return found[0], found[1], found[2]


def running_sum(values: Tensor) -> Tensor:
    """[N, H] in double precision, in which the sums of a text of any length keep their differences."""
    double = torch.float32 if values.device.type == "mps" else torch.float64  # Apple's GPUs have no doubles
    return values.cumsum(0, dtype=double)


def segment_logsumexp(values: Tensor, segments: Tensor, count: int) -> Tensor:
    """[count] log-sum-exp of the values [P] of each segment; every segment has at least one."""
    peak = values.new_full((count,), -torch.inf).scatter_reduce(0, segments, values.detach(), "amax")
    exponentials = (values - peak.index_select(0, segments)).exp()
    return values.new_zeros(count).index_add(0, segments, exponentials).log() + peak
