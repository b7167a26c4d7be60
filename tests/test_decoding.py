"""Decoding: scores to mentions and entities."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pharmatriples.decoding import Spans, cluster, decode_tags, name_groups


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def legal(path: tuple[int, ...]) -> bool:
    """I-x (an even tag above 0) follows B-x or I-x."""
    return all(t == 0 or t % 2 or (p in (t - 1, t)) for p, t in zip((0, *path), path, strict=False))


def spans_of(path: tuple[int, ...]) -> list[tuple[int, int, int]]:
    found: list[tuple[int, int, int]] = []
    for i, tag in enumerate(path):
        if tag % 2:
            found.append((i, i, tag // 2))
        elif tag:
            found[-1] = (found[-1][0], i, found[-1][2])
    return found


@given(arrays(np.float64, (4, 5), elements=st.floats(-4, 4)))
@settings(max_examples=100, deadline=None)
def test_the_decoded_tags_are_the_best_of_all_legal_sequences(logits: np.ndarray) -> None:
    log_probs = log_softmax(logits)
    decoded = decode_tags(log_probs)

    def score(path: tuple[int, ...]) -> float:
        return sum(log_probs[i, t] for i, t in enumerate(path))

    paths = [p for p in itertools.product(range(5), repeat=4) if legal(p)]
    best = max(map(score, paths))
    found = list(zip(decoded.first.tolist(), decoded.last.tolist(), decoded.types.tolist(), strict=True))
    assert any(np.isclose(score(p), best) and spans_of(p) == found for p in paths)


def test_neighbouring_mentions_of_one_type_stay_two() -> None:
    wanted = np.array([1, 2, 1, 0, 3, 4, 4])
    decoded = decode_tags(log_softmax(np.eye(5)[wanted] * 9))
    assert decoded.first.tolist() == [0, 2, 4]
    assert decoded.last.tolist() == [1, 2, 6]
    assert decoded.types.tolist() == [0, 0, 1]
    assert (decoded.scores > 0.99).all()


def test_an_inside_tag_cannot_begin_a_mention() -> None:
    logits = np.full((2, 3), -5.0)
    logits[:, 2] = 5.0  # I-0 twice, with nothing before it
    decoded = decode_tags(log_softmax(logits))
    assert (decoded.first.tolist(), decoded.last.tolist()) == ([0], [1])


def test_no_words_give_no_mentions() -> None:
    assert len(decode_tags(np.zeros((0, 5)))) == 0


def test_equal_wordings_of_names_are_one_group_and_occurrences_are_not() -> None:
    spans = Spans(np.arange(4), np.arange(4), np.array([0, 1, 0, 1]), np.ones(4))
    assert name_groups(spans, ["x", "y", "x", "y"], named=[True, False]).tolist() == [0, 1, 0, 2]


def test_a_group_joins_the_cluster_with_the_highest_mean() -> None:
    pairs = np.array([[0, 1], [0, 2], [1, 2], [0, 3], [1, 3], [2, 3]])
    probabilities = np.array([0.9, 0.1, 0.2, 0.9, 0.2, 0.7])
    # 3 is liked by 0 alone, but its mean over {0, 1} is 0.55, below its 0.7 for {2}.
    assert cluster(4, pairs, probabilities, 0.5).tolist() == [0, 0, 1, 1]


def test_groups_without_candidates_stay_alone() -> None:
    assert cluster(3, np.zeros((0, 2), dtype=np.int64), np.zeros(0), 0.5).tolist() == [0, 1, 2]
