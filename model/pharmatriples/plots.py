"""The pictures of a report: calibration and learning curve, as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .calibration import Reliability


class PlotError(ValueError):
    """Nothing can be drawn; the message says what to install."""


def plot_calibration(reliabilities: Mapping[str, Reliability], path: str | Path) -> None:
    """A reliability diagram: mean score of each bin against the share of it that is right.

    Raises:
        PlotError: matplotlib is not installed.
    """
    figure, axes = _figure("score", "share that is right")
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="calibrated")
    for (name, found), marker in zip(reliabilities.items(), "osD^v", strict=False):
        label = f"{name} (ECE {found.error:.3f}, n = {found.counts.sum()})"
        axes.plot(found.scores, found.right, marker=marker, label=label)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal")
    _save(figure, axes, path)


def plot_learning(history: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """The validation scores of a run by epoch.

    Args:
        history: the evaluations of a run in its order, as training.json holds them: epoch and `eval_<part>_f1`.

    Raises:
        PlotError: matplotlib is not installed.
    """
    figure, axes = _figure("epoch", "F1 on validation")
    names = [name for name in history[0] if name.startswith("eval_") and name.endswith("_f1")]
    epochs = [entry["epoch"] for entry in history]
    for i, name in enumerate(names):
        values = [entry[name] for entry in history]
        label = name.removeprefix("eval_").removesuffix("_f1").replace("_", " ")
        axes.plot(epochs, values, marker=".", linestyle=("-", "--")[i >= 10], label=f"{label} ({max(values):.3f})")
    axes.set(ylim=(0, 1.02), xlim=(0, None))
    _save(figure, axes, path)


def new_figure(size: tuple[float, float]) -> Any:
    """An empty figure of matplotlib.

    Args:
        size: width and height in inches.

    Raises:
        PlotError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise PlotError("plots need matplotlib; run: pip install 'pharmatriples[report]'") from None
    return Figure(figsize=size, layout="constrained")


def _figure(across: str, up: str) -> tuple[Any, Any]:
    figure = new_figure((6.4, 5.2))
    axes = figure.add_subplot(xlabel=across, ylabel=up)
    axes.grid(alpha=0.3)
    return figure, axes


def _save(figure: Any, axes: Any, path: str | Path) -> None:
    axes.legend(loc="best", fontsize="small")
    figure.savefig(path, dpi=150, format="png")
