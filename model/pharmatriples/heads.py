"""The parts that stand on the encoder: word states, scores of pairs, what rivals do to a score, and the loss of pairs.

Letters as in `modeling`: `N` words and `T` pieces, `M` mentions, `P` pairs of mentions, `Q` relations that pairs of
entities may have, `H` width of the encoder, `D` of a mention vector, `K` of the hidden layer of a pair head.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from .crf import line_steps
from .layout import GAPS
from .windows import SHAPES, EncodedText


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
        # Each document by itself, so that no state depends on what else is in the batch.
        sizes = [len(text) for text in texts if len(text)]
        parts = [part.split(sizes) for part in (means(pieces, piece_words, len(shapes)), shapes, gaps)]
        states = torch.cat([self.mixed(*part) for part in zip(*parts, strict=True)])
        own = [text.wordings for text in texts if len(text)]
        first = np.cumsum([0, *(int(numbers.max()) + 1 for numbers in own)])
        index = np.concatenate([low + numbers for low, numbers in zip(first[:-1], own, strict=True)])
        same = torch.from_numpy(index).to(states.device)
        return self.met(states, means(states, same, int(first[-1])).index_select(0, same))

    def mixed(self, words: Tensor, shapes: Tensor, gaps: Tensor) -> Tensor:
        """[N, H] of one document, each word mixed with its neighbours."""
        words = words + self.shape_embedding(shapes) + self.gap_embedding(gaps)
        mixed = self.mixer(words.T.unsqueeze(0)).squeeze(0).T
        return self.norm(words + nn.functional.gelu(mixed))

    def met(self, states: Tensor, alike: Tensor) -> Tensor:
        """[N, H] of states and, for each, the mean [N, H] of the words that are worded alike."""
        return self.recall_norm(states + nn.functional.gelu(self.recall(torch.cat([states, alike], dim=1))))


def means(values: Tensor, index: Tensor, count: int) -> Tensor:
    """[count, H] mean of the rows with each index; every index has at least one."""
    sums = values.new_zeros(count, values.shape[1]).index_add(0, index, values)
    return sums / torch.bincount(index, minlength=count).unsqueeze(1)


class Crf(nn.Module):
    """The weights of a CRF over the tags O, B-0, I-0, B-1, I-1, ... of each line, and its loss; see `crf`."""

    RATE = 10.0  # of the weights: in as many steps as the heads take they would hardly move
    # The weight of what is no mention, such as I-0 after B-1; finite, as annotations may go on over the end of a line.
    FORBIDDEN = -20.0

    def __init__(self, tags: int):
        super().__init__()
        self.transitions = nn.Parameter(torch.zeros(tags, tags))

    def forward(self) -> Tensor:
        """[1 + tags, tags] logits of the tags that begin a line, and of those that follow each tag."""
        tags = torch.arange(len(self.transitions), device=self.transitions.device)
        inside = (tags > 0) & (tags % 2 == 0)
        legal = ~inside | (tags == tags[:, None]) | (tags == tags[:, None] + 1)
        table = torch.cat([self.transitions.new_zeros(1, len(tags)), self.RATE * self.transitions])
        return table + self.FORBIDDEN * ~torch.cat([~inside[None], legal])

    def loss(self, logits: Tensor, tags: Tensor, lines: np.ndarray) -> Tensor:
        """Sum over the lines of the negative log-likelihood of their tags.

        Args:
            logits: [N, tags] of the words; tags: [N]; lines: [N] line of each word, of which there is at least one.
        """
        transitions = self()
        order, counts = line_steps(lines)
        first, *later = logits.index_select(0, torch.from_numpy(order).to(logits.device)).split(counts.tolist())
        scores, follows = first + transitions[0], transitions[1:].exp()
        ended = []
        for words in later:
            ended.append(scores[len(words) :])
            scores = scores[: len(words)]
            highest = scores.detach().amax(1, keepdim=True)
            scores = ((scores - highest).exp() @ follows).log() + highest + words
        total = torch.cat([*ended, scores]).logsumexp(1).sum()
        begins = torch.from_numpy(np.diff(lines, prepend=-1) != 0).to(tags.device)
        before = torch.where(begins, 0, 1 + tags.roll(1))
        return total - logits.gather(1, tags[:, None]).sum() - transitions[before, tags].sum()


class PairHead(nn.Module):
    """Scores pairs of vectors with categorical features by one hidden layer.

    hidden = W1 head + W2 tail + (W3 head) * (W4 tail) + context + sum of feature embeddings; score = v . gelu(hidden)

    With `own`, v is the sum of one vector for all and one for the value of the first feature: it tells apart what the
    same two may be to each other.
    """

    def __init__(self, size: int, hidden: int, features: Sequence[int], dropout: float, own: bool = False):
        super().__init__()
        self.head = nn.Linear(size, 2 * hidden)
        self.tail = nn.Linear(size, 2 * hidden)
        self.features = nn.ModuleList(nn.Embedding(n, hidden) for n in features)
        self.dropout = nn.Dropout(dropout)
        self.score = nn.Linear(hidden, 1)
        self.own = nn.Embedding(features[0], hidden) if own else None

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
        hidden = self.dropout(nn.functional.gelu(hidden))
        scores = self.score(hidden).squeeze(-1)
        return scores if self.own is None else scores + (hidden * self.own(features[:, 0])).sum(-1)


class RivalHead(nn.Module):
    """What the logit of a pair gains or loses by the other pairs of its head, and by those of its tail.

    A pair head sees one pair at a time; whether the nearest drug is the event's depends on how good the others are.
    """

    def __init__(self, relations: int, hidden: int = 32):
        super().__init__()
        self.relation = nn.Embedding(relations, hidden)
        self.features = nn.Linear(7, hidden)
        self.score = nn.Linear(hidden, 1)

    def forward(self, features: Tensor, relations: Tensor) -> Tensor:
        """[Q] differences, of `pairs.rival_features` [Q, 7] and the relation index [Q] of each pair."""
        return self.score(nn.functional.gelu(self.features(features) + self.relation(relations))).squeeze(-1)


def odds(logits: Tensor, relations: Tensor, numbers: Tensor) -> Tensor:
    """[Q] log-odds of each relation against all else that its pair may be: another relation, or none, whose logit is 0.

    So the relations that may join a pair, and none, share the probability of a softmax.

    Args:
        logits: [Q]; relations: [Q] index of the relation; numbers: [Q] of the pairs of entities, from 0 on.
    """
    count = int(numbers.max()) + 1 if len(numbers) else 0
    if count == len(numbers):  # no pair has several
        return logits
    table = logits.new_full((count, int(relations.max()) + 2), -torch.inf)
    table[:, -1] = 0.0
    table = table.index_put((numbers, relations), logits)
    others = table.index_select(0, numbers).scatter(1, relations.unsqueeze(1), -torch.inf)
    return logits - others.logsumexp(1)


def pair_loss(logits: Tensor, true: Tensor, numbers: Tensor) -> Tensor:
    """Sum over the pairs of entities of the cross-entropy of what they are, by the softmax of `odds`.

    A pair with several relations is each of them in equal parts.

    Args:
        logits: [Q]; true: [Q] 1 where the relation holds, else 0; numbers: [Q] of the pairs, from 0 on, at least one.
    """
    count = int(numbers.max()) + 1
    none = torch.arange(count, device=numbers.device)
    total = segment_logsumexp(torch.cat([logits, logits.new_zeros(count)]), torch.cat([numbers, none]), count)
    held = true.new_zeros(count).index_add(0, numbers, true).clamp(min=1)
    return total.sum() - (logits * true / held.index_select(0, numbers)).sum()


def running_sum(values: Tensor) -> Tensor:
    """[N, H] in double precision, in which the sums of a text of any length keep their differences."""
    double = torch.float32 if values.device.type == "mps" else torch.float64  # Apple's GPUs have no doubles
    return values.cumsum(0, dtype=double)


def segment_logsumexp(values: Tensor, segments: Tensor, count: int) -> Tensor:
    """[count] log-sum-exp of the values [P] of each segment; every segment has at least one."""
    peak = values.new_full((count,), -torch.inf).scatter_reduce(0, segments, values.detach(), "amax")
    exponentials = (values - peak.index_select(0, segments)).exp()
    return values.new_zeros(count).index_add(0, segments, exponentials).log() + peak
