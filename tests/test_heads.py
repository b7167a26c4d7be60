"""The parts on the encoder: word states that know their wording elsewhere, and rival pairs."""

from __future__ import annotations

import numpy as np
import torch
from pharmatriples.heads import PairHead, RivalHead, odds, pair_loss
from pharmatriples.pairs import pair_numbers, rival_features, rivals
from tiny import tiny_model, tiny_windower


def test_rivals_are_the_others_of_a_group() -> None:
    best, total, rank = rivals(np.array([7, 3, 7, 7]), np.array([0.0, 5.0, 2.0, -1.0]))
    assert best.tolist() == [2.0, -10.0, 0.0, 2.0]
    sigmoid = 1 / (1 + np.exp(-np.array([0.0, 2.0, -1.0])))
    np.testing.assert_allclose(total, [sigmoid[1] + sigmoid[2], 0, sigmoid[0] + sigmoid[2], sigmoid[0] + sigmoid[1]])
    np.testing.assert_allclose(rank, np.log1p([1, 0, 0, 2]))


def test_no_pairs_have_no_rivals() -> None:
    triples = np.zeros((0, 3), dtype=np.int64)
    features = rival_features(triples, np.zeros(0))
    assert RivalHead(3)(torch.from_numpy(features).float(), torch.from_numpy(triples[:, 0])).shape == (0,)


def test_a_rival_changes_the_score_of_a_pair_only_where_they_share_relation_and_entity() -> None:
    torch.manual_seed(0)
    head = RivalHead(2)
    triples = np.array([[0, 1, 2], [0, 1, 3], [1, 1, 3], [0, 4, 5]])
    relations = torch.from_numpy(triples[:, 0])
    logits = np.array([[1.0, 0, 0, 0], [-1.0, 0, 0, 0]])
    one, other = (head(torch.from_numpy(rival_features(triples, own)).float(), relations) for own in logits)
    assert (one != other).tolist() == [True, True, False, False]


def test_relations_that_may_join_one_pair_share_its_probability_with_none() -> None:
    triples = np.array([[0, 4, 2], [0, 2, 4], [1, 4, 2], [2, 4, 2], [2, 1, 5]])
    pairs = torch.from_numpy(pair_numbers(triples))
    assert [pairs.tolist().count(number) for number in pairs] == [3, 1, 3, 3, 1]
    logits = torch.tensor([1.0, -2.0, 40.0, -3.0, 0.5])
    found = odds(logits, torch.from_numpy(triples[:, 0]), pairs)
    assert torch.equal(found[[1, 4]], logits[[1, 4]])  # only one relation may join these
    expected = torch.cat([logits[[0, 2, 3]], torch.zeros(1)]).softmax(0)[:3]
    assert torch.allclose(found[[0, 2, 3]].sigmoid(), expected)


def test_the_loss_of_pairs_is_least_where_their_softmax_is_the_truth() -> None:
    # Of ten pairs that two relations may join, four have the first, four the second, and two none.
    numbers = torch.arange(10).repeat(2)
    true = torch.zeros(2, 10)
    true[0, :4] = true[1, 4:8] = 1
    logits = torch.log(torch.tensor([2.0, 2.0], dtype=torch.double)).requires_grad_()
    pair_loss(logits.repeat_interleave(10), true.flatten().double(), numbers).backward()
    assert logits.grad is not None
    assert torch.allclose(logits.grad, torch.zeros(2, dtype=torch.double), atol=1e-12)


def test_the_loss_of_pairs_with_one_relation_is_that_of_each_by_itself() -> None:
    logits, true = torch.tensor([-30.0, 0.5, 7.0]), torch.tensor([0.0, 1.0, 0.0])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, true, reduction="sum")
    assert torch.isclose(pair_loss(logits, true, torch.tensor([2, 0, 1])), expected)


@torch.no_grad()
def test_a_relation_with_a_vector_of_its_own_is_scored_by_it_too() -> None:
    torch.manual_seed(0)
    head = PairHead(4, 3, (2, 5), 0.0, own=True)
    vectors, first, second = torch.randn(2, 4), torch.tensor([0, 0]), torch.tensor([1, 1])
    features = torch.tensor([[0, 4], [1, 4]])
    before = head(vectors, first, second, features)
    assert head.own is not None
    head.own.weight[1] += 1
    assert (head(vectors, first, second, features) == before).tolist() == [True, False]
    assert PairHead(4, 3, (2, 5), 0.0).own is None


@torch.no_grad()
def test_a_word_knows_what_stands_around_it_elsewhere() -> None:
    model = tiny_model()
    windower = tiny_windower(model)
    far = " the" * 60
    texts = [f"acme{far} nmpa accepted acme", f"acme said{far} nmpa accepted acme"]
    last = [model(**windower.batch([windower.encode(text)], 64)).word_states for text in texts]
    assert torch.equal(last[0][-2], last[1][-2])  # too far to be in one window
    assert not torch.equal(last[0][-1], last[1][-1])


@torch.no_grad()
def test_the_encoder_reads_the_shapes_of_words() -> None:
    model = tiny_model()
    windower = tiny_windower(model)
    batches = [windower.batch([windower.encode(text)], 64) for text in ("nmpa acme", "NMPA acme")]
    assert np.array_equal(batches[0]["windows"][0]["input_ids"], batches[1]["windows"][0]["input_ids"])
    windows = [{name: torch.from_numpy(array) for name, array in batch["windows"][0].items()} for batch in batches]
    states = [model.encode(**window) for window in windows]
    assert not torch.equal(states[0][-2], states[1][-2])  # of the word after it
