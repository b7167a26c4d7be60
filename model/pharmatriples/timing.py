"""Which of several ways to do a work is faster: they take turns, so that what else the machine does meets them all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median


class TimingError(ValueError):
    """Work that cannot be timed or compared; the message says what to change."""


@dataclass(frozen=True)
class Ratio:
    """How many times as fast as another something is: the median over the rounds, and the lowest and highest."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} x ({self.low:.2f}–{self.high:.2f})"


def by_turns(work: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Rates, in amount a second, of each work in each round.

    Each does one round that is not counted first. Then a round is one turn of each, in every second round in the
    opposite order.

    Args:
        work: name -> what does a round of work and returns how much it did, such as tokens.

    Raises:
        TimingError: there is no round, or a work did nothing.
    """
    if rounds < 1:
        raise TimingError(f"rounds must be 1 or more, found {rounds}")
    for do in work.values():
        do()
    rates: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds):
        for name in reversed(list(work)) if number % 2 else work:
            start = time.perf_counter()
            amount = work[name]()
            seconds = time.perf_counter() - start
            if amount <= 0:
                raise TimingError(f"{name}: did {amount} in a round; give it something to do")
            rates[name].append(amount / seconds)
    return rates


def ratios(rates: Mapping[str, Sequence[float]], base: str) -> dict[str, Ratio]:
    """How many times as fast as `base` each other work of `by_turns` was, round by round.

    Raises:
        TimingError: no work has the name `base`.
    """
    if base not in rates:
        raise TimingError(f"no work is named {base!r}; there are {', '.join(rates)}")
    found = {}
    for name, own in rates.items():
        if name != base:
            pairs = [rate / other for rate, other in zip(own, rates[base], strict=True)]
            found[name] = Ratio(median(pairs), min(pairs), max(pairs))
    return found
