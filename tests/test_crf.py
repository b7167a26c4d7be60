"""The CRF: its loss and its marginals are those of all tag sequences, told one by one."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
import torch
from pharmatriples.crf import line_steps, marginals
from pharmatriples.decoding import decode_tags
from pharmatriples.heads import Crf
from torch import Tensor

TAGS = 5


def random_crf(seed: int = 0) -> Crf:
    torch.manual_seed(seed)
    crf = Crf(TAGS)
    torch.nn.init.normal_(crf.transitions, std=0.1)
    return crf


def sequences(logits: Tensor, transitions: Tensor) -> dict[tuple[int, ...], Tensor]:
    """The logit of each sequence of tags of one line."""
    return {
        tags: transitions[0, tags[0]]
        + sum(logits[i, tag] for i, tag in enumerate(tags))
        + sum(transitions[1 + one, other] for one, other in pairwise(tags))
        for tags in product(range(TAGS), repeat=len(logits))
    }


@pytest.mark.parametrize("lines", [[0], [0, 0, 0, 1, 1, 2], [0, 1, 1, 1, 1], [3, 3, 4, 6, 6, 6]])
def test_loss_and_marginals_are_those_of_all_sequences(lines: list[int]) -> None:
    crf, logits = random_crf(), torch.randn(len(lines), TAGS)
    tags = torch.randint(TAGS, (len(lines),))
    loss = torch.zeros(())
    expected = torch.zeros(len(lines), TAGS)
    for line in sorted(set(lines)):
        own = [i for i, number in enumerate(lines) if number == line]
        scores = sequences(logits[own], crf())
        total = torch.stack(list(scores.values())).logsumexp(0)
        loss = loss + total - scores[tuple(tags[own].tolist())]
        for tagged, score in scores.items():
            for i, tag in zip(own, tagged, strict=True):
                expected[i, tag] += (score - total).exp().item()
    assert crf.loss(logits, tags, np.array(lines)).item() == pytest.approx(loss.item(), rel=1e-5)
    found = marginals(logits.double().numpy(), crf().detach().double().numpy(), np.array(lines))
    np.testing.assert_allclose(np.exp(found), expected.numpy(), atol=1e-6)


def test_the_gradient_of_the_loss_is_what_the_marginals_and_the_truth_differ_by() -> None:
    lines = np.array([0, 0, 0, 0, 1, 1])
    crf, logits = random_crf(1), torch.randn(6, TAGS, requires_grad=True)
    tags = torch.tensor([1, 2, 0, 3, 0, 1])
    crf.loss(logits, tags, lines).backward()
    shares = marginals(logits.detach().double().numpy(), crf().detach().double().numpy(), lines)
    assert logits.grad is not None
    np.testing.assert_allclose(logits.grad.numpy(), np.exp(shares) - np.eye(TAGS)[tags], atol=1e-5)


def test_no_line_begins_inside_a_mention_however_its_words_look() -> None:
    logits = np.eye(TAGS)[[2, 2, 2, 2]] * 5.0  # I-0, in two lines
    lines = np.array([0, 0, 0, 1])
    log_probs = marginals(logits, Crf(TAGS)().detach().double().numpy(), lines)
    assert np.exp(log_probs)[[0, 3], 2].max() < 1e-6
    found = decode_tags(log_probs, lines)
    assert (found.first.tolist()[0], found.last.tolist()[0], found.types.tolist()[0]) == (0, 2, 0)


def test_an_annotation_over_the_end_of_a_line_has_a_finite_loss() -> None:
    logits = torch.zeros(3, TAGS, requires_grad=True)
    loss = Crf(TAGS).loss(logits, torch.tensor([1, 2, 2]), np.array([0, 1, 1]))
    loss.backward()
    assert logits.grad is not None
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_long_lines_and_sure_words_leave_nothing_undefined() -> None:
    logits = np.random.default_rng(0).normal(scale=300, size=(20_000, TAGS))
    found = marginals(logits, random_crf()().detach().double().numpy(), np.zeros(len(logits), dtype=int))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1.0)


def test_what_all_tags_of_a_word_gain_or_lose_changes_nothing() -> None:
    logits, lines = np.random.default_rng(0).normal(size=(6, TAGS)), np.array([0, 0, 0, 1, 1, 2])
    transitions = random_crf()().detach().double().numpy()
    moved = logits + np.array([[-500.0], [0.0], [900.0], [-70.0], [-70.0], [-1e6]])
    np.testing.assert_allclose(marginals(moved, transitions, lines), marginals(logits, transitions, lines), atol=1e-6)


def test_no_words_have_no_tags() -> None:
    none = np.zeros(0, dtype=int)
    assert marginals(np.zeros((0, TAGS)), Crf(TAGS)().detach().double().numpy(), none).shape == (0, TAGS)


def test_each_word_has_one_step_and_a_line_one_word_in_a_step() -> None:
    order, counts = line_steps(np.array([0, 1, 1, 1, 2, 2]))
    assert order.tolist() == [1, 4, 0, 2, 5, 3]
    assert counts.tolist() == [3, 2, 1]
