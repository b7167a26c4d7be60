"""Work on a stream in several threads, with the results in the order of the stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from threading import Barrier
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Lanes:
    """Threads that work beside each other.

    Attributes:
        count: how many; one is the thread of the caller.
        enter: called in each thread before it works.
        entered: called in the thread of the caller when all have.
    """

    count: int = 1
    enter: Callable[[], None] = _nothing
    entered: Callable[[], None] = _nothing

    def open(self) -> ThreadPoolExecutor:
        """The threads, each of which has entered."""
        pool = ThreadPoolExecutor(self.count)
        barrier = Barrier(self.count + 1)

        def enter() -> None:
            try:
                self.enter()
            finally:
                barrier.wait()

        for _ in range(self.count):
            pool.submit(enter)
        barrier.wait()
        self.entered()
        return pool


def in_order(
    work: Callable[[list[T]], list[R]],
    items: Iterable[T],
    size: Callable[[T], int],
    lanes: Lanes,
    *,
    ahead: int,
    most: int,
) -> Iterator[R]:
    """The results of items, in their order, where items of like size are worked on together.

    Args:
        work: a group of items to their results.
        items: read as they are needed.
        size: of an item, by which they are put together.
        ahead: most items that are read before the first result is given.
        most: the size of a group of more than one item.
    """
    stream = iter(items)
    waiting: deque[list[Callable[[], list[tuple[int, R]]]]] = deque()
    pool = None
    try:
        while True:
            chunk = _chunk(stream, size, max(ahead // 2, 1), most)
            groups = list(_groups(chunk, size, most))
            if pool is None and lanes.count > 1 and len(groups) > 1:
                pool = lanes.open()
            tasks: list[Callable[[], list[tuple[int, R]]]] = [partial(_done, work, chunk, group) for group in groups]
            if chunk:
                waiting.append([pool.submit(task).result for task in tasks] if pool else tasks)
            if not waiting:
                return
            if len(waiting) == min(ahead, 2) or not chunk:
                found = sorted((pair for task in waiting.popleft() for pair in task()), key=lambda pair: pair[0])
                yield from (result for _, result in found)
    finally:
        if pool:
            pool.shutdown(cancel_futures=True)


def _chunk(stream: Iterator[T], size: Callable[[T], int], count: int, most: int) -> list[T]:
    """The next `count` items, or fewer where they are large."""
    chunk: list[T] = []
    total = 0
    while len(chunk) < count and total < count * most:
        try:
            item = next(stream)
        except StopIteration:
            break
        chunk.append(item)
        total += size(item)
    return chunk


def _groups(chunk: Sequence[T], size: Callable[[T], int], most: int) -> Iterator[list[int]]:
    """The places in a chunk, from the largest item to the smallest, in groups."""
    sizes = [size(item) for item in chunk]
    group: list[int] = []
    total = 0
    for place in sorted(range(len(chunk)), key=lambda place: -sizes[place]):
        if group and total + sizes[place] > most:
            yield group
            group, total = [], 0
        group.append(place)
        total += sizes[place]
    if group:
        yield group


def _done(work: Callable[[list[T]], list[R]], chunk: Sequence[T], group: list[int]) -> list[tuple[int, R]]:
    return list(zip(group, work([chunk[place] for place in group]), strict=True))
