"""Decoding: scores to mentions and entities."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pharmatriples.decoding import Spans, cluster, consistent, decode_tags, name_groups, trimmed
from pharmatriples.prediction import Structure


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
    decoded = decode_tags(log_probs, np.zeros(4))

    def score(path: tuple[int, ...]) -> float:
        return sum(log_probs[i, t] for i, t in enumerate(path))

    paths = [p for p in itertools.product(range(5), repeat=4) if legal(p)]
    best = max(map(score, paths))
    found = list(zip(decoded.first.tolist(), decoded.last.tolist(), decoded.types.tolist(), strict=True))
    assert any(np.isclose(score(p), best) and spans_of(p) == found for p in paths)


def test_neighbouring_mentions_of_one_type_stay_two() -> None:
    wanted = np.array([1, 2, 1, 0, 3, 4, 4])
    decoded = decode_tags(log_softmax(np.eye(5)[wanted] * 9), np.zeros(7))
    assert decoded.first.tolist() == [0, 2, 4]
    assert decoded.last.tolist() == [1, 2, 6]
    assert decoded.types.tolist() == [0, 0, 1]
    assert (decoded.scores > 0.99).all()


def test_a_mention_ends_with_its_line() -> None:
    wanted = np.array([1, 2, 2, 2])
    decoded = decode_tags(log_softmax(np.eye(5)[wanted] * 9), np.array([0, 0, 1, 1]))
    assert (decoded.first[0], decoded.last[0]) == (0, 1)


def names(words: str, *probabilities: list[float], lines: list[int] | None = None) -> Spans:
    """Decoded mentions of the words, from the probabilities of O, B-0, I-0 (names), B-1, I-1 (occurrences)."""
    log_probs, lines = np.log(np.array(probabilities)), np.array(lines or [0] * len(probabilities))
    return consistent(log_probs, lines, decode_tags(log_probs, lines), words.split(), [True, False], 0.25)


SURE, UNSURE, NOT = [0.02, 0.95, 0.01, 0.01, 0.01], [0.55, 0.42, 0.01, 0.01, 0.01], [0.96, 0.01, 0.01, 0.01, 0.01]
EVENT = [0.02, 0.01, 0.01, 0.95, 0.01]


def test_a_name_that_was_marked_once_is_marked_where_the_model_was_unsure() -> None:
    found = names("a b a b", SURE, NOT, UNSURE, NOT)
    assert found.first.tolist() == [0, 2]
    assert (found.types == 0).all()
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)


def test_a_name_that_is_improbable_elsewhere_is_marked_nowhere() -> None:
    assert len(names("a b a b a b a b", SURE, *[NOT] * 7)) == 0


def test_mentions_of_a_type_of_occurrences_stay_as_they_are() -> None:
    found = names("a b a b", EVENT, NOT, NOT, NOT)
    assert (found.first.tolist(), found.types.tolist()) == ([0], [1])


def test_a_longer_name_keeps_the_shorter_one_inside_it() -> None:
    inside = [0.02, 0.01, 0.95, 0.01, 0.01]
    found = names("a b . a", SURE, inside, NOT, SURE)
    assert (found.first.tolist(), found.last.tolist()) == ([0, 3], [1, 3])


def test_a_name_that_would_go_on_is_not_marked_in_part_but_at_the_end_of_a_line() -> None:
    goes_on = [0.02, 0.01, 0.95, 0.01, 0.01]
    lone = "a b c a c"
    probabilities = [SURE, goes_on, NOT, [0.6, 0.37, 0.01, 0.01, 0.01], NOT]
    assert names("a b c", *probabilities[:3]).last.tolist() == [1]
    # The second `a` is a name by itself; the first one, before a word that goes on, says that it is none.
    assert len(names(lone, [0.1, 0.5, 0.2, 0.1, 0.1], goes_on, NOT, SURE, NOT)) == 2
    assert names("a b c", *probabilities[:3], lines=[0, 1, 1]).last.tolist() == [0]


def test_a_name_is_looked_up_within_lines() -> None:
    inside = [0.02, 0.01, 0.95, 0.01, 0.01]
    assert names("a b . a b", SURE, inside, NOT, UNSURE, inside).first.tolist() == [0, 3]
    assert names("a b . a b", SURE, inside, NOT, UNSURE, inside, lines=[0, 0, 0, 0, 1]).first.tolist() == [0]


def test_an_inside_tag_cannot_begin_a_mention() -> None:
    logits = np.full((2, 3), -5.0)
    logits[:, 2] = 5.0  # I-0 twice, with nothing before it
    decoded = decode_tags(log_softmax(logits), np.zeros(2))
    assert (decoded.first.tolist(), decoded.last.tolist()) == ([0], [1])


def test_no_words_give_no_mentions() -> None:
    assert len(decode_tags(np.zeros((0, 5)), np.zeros(0))) == 0


@pytest.mark.parametrize(
    ("wording", "kept"),
    [
        ("pd-1 /", "pd-1"),
        ("- , asten", "asten"),
        ("aqp4 ) antibody", "aqp4 ) antibody"),
        ("cf )", "cf"),
        ("( cf", "cf"),
        ("reactions ( type i )", "reactions ( type i )"),
        ("acme co .", "acme co ."),
        ("cd3 +", "cd3 +"),
        ("/ -", ""),
    ],
)
def test_a_mention_loses_the_signs_at_its_ends_that_are_no_part_of_a_name(wording: str, kept: str) -> None:
    words = ["the", *wording.split(), "is"]
    spans = Spans(np.array([1]), np.array([len(words) - 2]), np.array([0]), np.array([0.9]))
    found = trimmed(spans, words)
    wordings = [" ".join(words[a : b + 1]) for a, b in zip(found.first, found.last, strict=True)]
    assert wordings == ([kept] if kept else [])


def test_equal_wordings_of_names_are_one_group_and_occurrences_are_not() -> None:
    spans = Spans(np.arange(4), np.arange(4), np.array([0, 1, 0, 1]), np.ones(4))
    assert name_groups(spans, ["x", "y", "x", "y"], named=[True, False]).tolist() == [0, 1, 0, 2]


def test_a_group_joins_the_cluster_with_the_highest_mean() -> None:
    pairs = np.array([[0, 1], [0, 2], [1, 2], [0, 3], [1, 3], [2, 3]])
    probabilities = np.array([0.9, 0.1, 0.2, 0.9, 0.2, 0.7])
    # 3 is liked by 0 alone, but its mean over {0, 1} is 0.55, below its 0.7 for {2}.
    assert cluster(pairs, probabilities, np.full(4, 0.5)).tolist() == [0, 0, 1, 1]


def test_each_group_has_a_threshold_of_its_own() -> None:
    pairs, probabilities = np.array([[0, 1], [0, 2], [1, 2]]), np.array([0.3, 0.3, 0.3])
    assert cluster(pairs, probabilities, np.array([0.4, 0.4, 0.2])).tolist() == [0, 1, 0]
    assert cluster(pairs, probabilities, np.array([0.4, 0.2, 0.4])).tolist() == [0, 0, 1]


def test_what_is_doubtful_joins_events_and_keeps_names_apart() -> None:
    logits = np.full(2, np.log(0.3 / 0.7))
    structure = Structure(None, {}, np.arange(4), np.array([[0, 1], [2, 3]]), logits)
    spans = Spans(np.arange(4), np.arange(4), np.array([0, 0, 1, 1]), np.ones(4))
    assert structure.entities(spans, named=[True, False]).tolist() == [0, 1, 2, 2]


def test_groups_without_candidates_stay_alone() -> None:
    assert cluster(np.zeros((0, 2), dtype=np.int64), np.zeros(0), np.full(3, 0.5)).tolist() == [0, 1, 2]
