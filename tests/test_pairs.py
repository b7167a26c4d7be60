"""Candidate pairs: which mentions are compared, and what is told about them."""

from __future__ import annotations

import numpy as np
import pytest
from pharmatriples.decoding import Spans, name_groups
from pharmatriples.documents import word_spans
from pharmatriples.pairs import ALIAS_FEATURES, RELATION_FEATURES, _likeness, alias_pairs, relation_pairs
from pharmatriples.windows import EncodedText

TEXT = "Acme ( AC ) tested X1 . Beta tested X2 and X1 with AC"


def encoded(text: str) -> EncodedText:
    offsets = np.array(word_spans(text))
    none = np.zeros(0, dtype=np.int64)
    zeros = np.zeros(len(offsets), dtype=np.int64)
    sentences = np.cumsum([0, *(text[a:b] == "." for a, b in offsets)])[:-1]
    return EncodedText(text, offsets, zeros, zeros, sentences, zeros, none, none, ())


def spans(text: str, *mentions: tuple[int, int]) -> Spans:
    """Single-word mentions as (word, type)."""
    words = np.array([w for w, _ in mentions])
    return Spans(words, words, np.array([t for _, t in mentions]), np.ones(len(mentions)))


# Acme, AC, X1, Beta, X2, X1, AC
MENTIONS = spans(TEXT, (0, 0), (2, 0), (5, 1), (7, 0), (9, 1), (11, 1), (13, 0))


def test_alias_pairs_join_groups_of_one_type_and_know_initials_and_brackets() -> None:
    text = encoded(TEXT)
    groups = name_groups(MENTIONS, MENTIONS.wordings(TEXT, text.offsets), [True, True])
    pairs, features = alias_pairs(MENTIONS, groups, text, [True, False])
    assert pairs.tolist() == [[0, 1], [0, 3], [1, 3]]  # Acme-AC, Acme-Beta, AC-Beta
    assert features[:, 3].tolist() == [1, 0, 0]
    assert (features[:, 1:] < ALIAS_FEATURES).all()


def test_a_head_is_paired_with_the_nearest_mention_of_each_tail_entity() -> None:
    entities = np.array([0, 0, 1, 2, 3, 1, 0])
    pairs, features, between = relation_pairs(MENTIONS, entities, encoded(TEXT), [(0, 0, 1, False)])
    assert pairs.tolist() == [[0, 2], [0, 4], [1, 2], [1, 4], [3, 2], [3, 4], [6, 5], [6, 4]]
    assert (features[:, 1:] < RELATION_FEATURES).all()
    nearest = dict(zip(map(tuple, pairs.tolist()), features[:, 3].tolist(), strict=True))
    assert nearest[(6, 5)] == 0
    assert nearest[(6, 4)] == 1
    assert between[0].tolist() == [1, 5]  # from Acme to X1


def test_a_pair_knows_its_order_and_the_sentences_between() -> None:
    entities = np.array([0, 0, 1, 2, 3, 1, 0])
    pairs, features, _ = relation_pairs(MENTIONS, entities, encoded(TEXT), [(0, 0, 1, False)])
    rows = dict(zip(map(tuple, pairs.tolist()), features[:, 1:3].tolist(), strict=True))
    distances, sentences = RELATION_FEATURES[0] // 2, RELATION_FEATURES[1] // 2
    assert rows[0, 2] == [4, 0]  # from Acme to X1 before the full stop
    assert rows[0, 4][1] == 1  # to X2, in the sentence after
    assert rows[3, 2] == [distances + 2, sentences + 1]  # from Beta back to X1
    assert rows[3, 4] == [2, 0]


def test_in_a_long_text_the_four_nearest_entities_are_candidates_however_far() -> None:
    words = [0, *(3000 + 10 * i for i in range(8))]
    text = " ".join(["w"] * 3100)

    def tails(types: list[int], signature: tuple[int, int, int, bool]) -> list[int]:
        found = spans(text, *zip(words, types, strict=True))
        pairs, _, _ = relation_pairs(found, np.arange(9), encoded(text), [signature])
        return [tail for head, tail in pairs.tolist() if head == 0]

    assert tails([0] + [1] * 8, (0, 0, 1, False)) == [1, 2, 3, 4]
    assert tails([0] * 9, (0, 0, 0, False)) == [1, 2, 3, 4]
    assert tails([0] * 9, (0, 0, 0, True)) == [1, 2, 3, 4]


def test_a_mention_is_no_candidate_of_its_own_entity() -> None:
    entities = np.array([0, 0, 1, 2, 3, 1, 0])
    pairs, _, _ = relation_pairs(MENTIONS, entities, encoded(TEXT), [(0, 0, 0, False)])
    assert all(entities[a] != entities[b] for a, b in pairs)
    assert {(int(entities[a]), int(entities[b])) for a, b in pairs} == {(0, 2), (2, 0)}


def test_a_symmetric_relation_of_one_type_has_one_candidate_for_two_entities() -> None:
    entities = np.array([0, 0, 1, 2, 3, 1, 0])
    pairs, features, _ = relation_pairs(MENTIONS, entities, encoded(TEXT), [(3, 0, 0, True)])
    assert {(int(entities[a]), int(entities[b])) for a, b in pairs} == {(0, 2)}
    assert set(features[:, 0].tolist()) == {3}


def test_the_number_of_pairs_of_a_long_text_is_bounded() -> None:
    count = 4000
    text = encoded("w " * count)
    many = Spans(np.arange(count), np.arange(count), np.arange(count) % 2, np.ones(count))
    pairs, _, _ = relation_pairs(many, np.arange(count), text, [(0, 0, 1, False)])
    assert len(pairs) <= 2000 * (1024 + 4)
    groups = name_groups(many, ["w"] * count, [False, False])
    assert len(alias_pairs(many, groups, text, [True, True])[0]) <= count * 128


@pytest.mark.parametrize(
    ("one", "other", "value"),
    [
        ("nmosd", "nmosd", 0),
        ("neuromyelitis optica spectrum disorder", "nmosd", 5),
        ("national medical products administration", "nmpa", 1),
        ("bat4406f", "bat4406", 2),
        ("ovarian cancer", "recurrent ovarian cancer", 3),
        ("bio-thera solutions", "bio-thera", 2),
        ("hansoh pharma", "jiangsu hansoh group", 4),
        ("fda", "ema", 5),
    ],
)
def test_likeness_of_wordings(one: str, other: str, value: int) -> None:
    assert _likeness(one, other) == _likeness(other, one) == value
