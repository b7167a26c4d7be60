"""A linear-chain CRF over the tags of each line (Lafferty et al. 2001; with a neural encoder Lample et al. 2016, 2.2).

Here is what reading needs, on numpy arrays; the weights and the loss are `heads.Crf`.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

_LOWEST = -60.0  # a log-probability; none below it is told apart


def line_steps(lines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The words of all lines in steps, so that a recursion takes lines of any lengths together.

    Args:
        lines: [N] line of each word.

    Returns:
        [N] the words, in the order of the steps: the first of each line, the longest line first, then the second of
        each that has two, and so on. [T] how many words each step has.
    """
    starts = np.flatnonzero(np.diff(lines, prepend=-1))
    lengths = np.diff(np.append(starts, len(lines)))
    places = np.arange(len(lines)) - np.repeat(starts, lengths)
    ranks = (-lengths).argsort(kind="stable").argsort(kind="stable")
    return np.lexsort((np.repeat(ranks, lengths), places)), np.bincount(places)


def marginals(logits: np.ndarray, transitions: np.ndarray, lines: np.ndarray) -> np.ndarray:
    """[N, tags] log-probability of each tag of each word, by the tags of the whole line (forward-backward).

    Args:
        logits: [N, tags] in double precision; transitions: [1 + tags, tags], as `heads.Crf` gives them.
        lines: [N] line of each word.
    """
    order, counts = line_steps(lines)
    logits = logits[order]
    seen = np.exp(np.maximum(logits - logits.max(axis=1, keepdims=True), _LOWEST))
    begins, follows = np.exp(transitions[0]), np.exp(transitions[1:])
    steps = [slice(end - count, end) for count, end in zip(counts, np.cumsum(counts), strict=True)]
    # Each row sums to 1 at each step: only what tags are to each other counts.
    forward, backward = seen * begins, np.ones_like(seen)
    for before, step in pairwise(steps):
        size = step.stop - step.start
        forward[step] = seen[step] * (_shares(forward[before])[:size] @ follows)
    for step, before in pairwise(reversed(steps)):
        size = step.stop - step.start
        backward[before][:size] = _shares((backward[step] * seen[step]) @ follows.T)
    result = np.empty_like(seen)
    result[order] = np.log(np.maximum(_shares(forward * backward), np.exp(_LOWEST)))
    return result


def _shares(values: np.ndarray) -> np.ndarray:
    return values / values.sum(axis=1, keepdims=True)
