"""Work by turns: who runs when, what is counted, and the ratios of rounds."""

from __future__ import annotations

import pytest
from pharmatriples import timing
from pharmatriples.timing import Ratio, TimingError, by_turns, ratios


def test_all_warm_up_then_take_turns_back_and_forth(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    turns: list[str] = []

    def work(name: str, seconds: float) -> float:
        turns.append(name)
        now[0] += seconds
        return 100.0

    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    rates = by_turns({"slow": lambda: work("slow", 10.0), "fast": lambda: work("fast", 4.0)}, rounds=2)
    assert turns == ["slow", "fast", "slow", "fast", "fast", "slow"]
    assert rates == {"slow": [10.0, 10.0], "fast": [25.0, 25.0]}


def test_ratios_are_taken_round_by_round() -> None:
    # The machine was half as fast in the second round, for both.
    found = ratios({"ours": [30.0, 15.0, 32.0], "stock": [10.0, 5.0, 8.0], "other": [5.0, 2.0, 8.0]}, base="stock")
    assert found == {"ours": Ratio(3.0, 3.0, 4.0), "other": Ratio(0.5, 0.4, 1.0)}
    assert str(found["ours"]) == "3.00 x (3.00–4.00)"


def test_what_cannot_be_timed_is_refused() -> None:
    with pytest.raises(TimingError, match="rounds must be 1 or more, found 0"):
        by_turns({"a": lambda: 1.0}, rounds=0)
    with pytest.raises(TimingError, match="a: did 0.0 in a round"):
        by_turns({"a": lambda: 0.0}, rounds=1)
    with pytest.raises(TimingError, match="no work is named 'stock'; there are a, b"):
        ratios({"a": [1.0], "b": [1.0]}, base="stock")
