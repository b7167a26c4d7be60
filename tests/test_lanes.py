"""Work in several threads: the order, the groups, and what happens when something goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from pharmatriples.lanes import Lanes, in_order
from tiny import tiny_model


def doubled(group: list[int]) -> list[int]:
    return [2 * item for item in group]


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("items", [0, 1, 7, 100])
def test_the_results_are_in_the_order_of_the_items(count: int, items: int) -> None:
    sizes = [(37 * i) % 11 for i in range(items)]
    found = in_order(doubled, range(items), lambda i: sizes[i], Lanes(count), ahead=8, most=20)
    assert list(found) == [2 * i for i in range(items)]


def test_items_of_like_size_are_worked_on_together_and_no_group_is_too_large() -> None:
    groups: list[list[int]] = []

    def work(group: list[int]) -> list[int]:
        groups.append(group)
        return group

    assert list(in_order(work, [3, 9, 1, 8, 2, 50], lambda i: i, Lanes(), ahead=12, most=10)) == [3, 9, 1, 8, 2, 50]
    assert groups == [[50], [9], [8], [3, 2, 1]]


def counted(count: int, read: list[int]) -> Iterator[int]:
    """The numbers below `count`; those that were asked for are in `read`."""
    for i in range(count):
        read.append(i)
        yield i


def test_no_more_is_read_ahead_than_asked_for() -> None:
    read: list[int] = []
    found = in_order(doubled, counted(100, read), lambda _: 1, Lanes(2), ahead=10, most=2)
    assert not read
    assert next(found) == 0
    assert len(read) == 10
    assert [next(found) for _ in range(5)] == [2, 4, 6, 8, 10]
    assert len(read) == 15
    before = set(threading.enumerate())
    found.close()
    assert len(before - set(threading.enumerate())) == 2


def test_one_at_a_time_waits_for_no_second() -> None:
    read: list[int] = []
    found = in_order(doubled, counted(3, read), lambda _: 1, Lanes(), ahead=1, most=1)
    assert (next(found), read) == (0, [0])
    assert list(found) == [2, 4]


def test_an_error_comes_where_its_group_is_due() -> None:
    def work(group: list[int]) -> list[int]:
        return [100 // (item - 6) for item in group]

    found = in_order(work, range(10), lambda _: 1, Lanes(3), ahead=4, most=1)
    assert [next(found) for _ in range(6)] == [100 // (i - 6) for i in range(6)]
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_the_threads_of_torch_share_its_processors_and_the_caller_keeps_its_own() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        lanes = tiny_model().lanes
        assert lanes.count == 2

        def work(group: list[int]) -> list[int]:
            return [torch.get_num_threads() for _ in group]

        assert set(in_order(work, range(20), lambda _: 1, lanes, ahead=20, most=1)) == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
