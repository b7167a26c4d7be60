"""The tables of the bench: means over seeds, their deviation, and intervals, from the counts of every document.

An interval is that of a bootstrap over the documents (Efron and Tibshirani 1993): what other releases of the kind would
have given.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .blocks import table
from .evaluation import Counts, Scores
from .records import has_records
from .schema import Schema

RESAMPLES = 1000
SCORE = ("mentions", "relations", "records")  # whose mean is `Scores.score`


class TableError(ValueError):
    """A file that a table cannot be made with; the message names it."""


def figures(scores: Scores) -> dict[str, Counts]:
    """Figure -> counts; `mentions/TYPE` and `relations/TYPE` are parts."""
    return {
        "mentions": scores.mentions.micro,
        **{f"mentions/{type_}": counts for type_, counts in scores.mentions.labels.items()},
        **{name: by_value.micro for name, by_value in scores.attributes.items()},
        "relations": scores.relations.micro,
        **{f"relations/{type_}": counts for type_, counts in scores.relations.labels.items()},
        "records": scores.records,
    }


def columns(schema: Schema) -> list[str]:
    """The figures that a table shows."""
    attributes = dict.fromkeys(name for own in schema.attributes.values() for name in own)
    return [
        "mentions",
        *(f"mentions/{type_}" for type_ in schema.attributes),
        *attributes,
        "relations",
        *(["records"] if has_records(schema) else []),
        "score",
    ]


@dataclass(frozen=True)
class Figure:
    """The F1, in [0, 1], of one figure of a row.

    Attributes:
        seeds: of each seed.
        low, high: where 95 % of the means over the seeds lie when the documents are drawn anew.
    """

    seeds: tuple[float, ...]
    low: float
    high: float

    @property
    def mean(self) -> float:
        return float(np.mean(self.seeds))

    @property
    def deviation(self) -> float:
        """Standard deviation over the seeds; 0 where there is one."""
        return float(np.std(self.seeds, ddof=1)) if len(self.seeds) > 1 else 0.0

    def to_dict(self) -> dict[str, Any]:
        rounded = {name: round(getattr(self, name), 4) for name in ("mean", "deviation", "low", "high")}
        return {**rounded, "seeds": [round(value, 4) for value in self.seeds]}

    def __str__(self) -> str:
        spread = f" ± {100 * self.deviation:.1f}" if len(self.seeds) > 1 else ""
        return f"{100 * self.mean:.1f}{spread} ({100 * self.low:.0f}–{100 * self.high:.0f})"


def summarize(runs: Sequence[Mapping[str, Mapping[str, Sequence[int]]]]) -> dict[str, Figure]:
    """The figures of one set.

    Args:
        runs: of each seed document id -> figure -> true positives, false positives, false negatives.
    """
    ids = list(runs[0])
    weights = np.random.default_rng(0).multinomial(len(ids), [1 / len(ids)] * len(ids), size=RESAMPLES)  # [B, D]
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # F1 of each seed [seeds], of each draw and seed [B, seeds]
    parts = []
    for figure in runs[0][ids[0]]:
        counts = np.array([[run[id_][figure] for id_ in ids] for run in runs])  # [seeds, D, 3]
        totals = counts.sum(axis=1), np.einsum("bd,sdc->bsc", weights, counts)
        whole, drawn = found[figure] = _f1(totals[0]), _f1(totals[1])
        if figure in SCORE:  # what is not annotated is no part of the score, see `Scores.score`
            parts.append([np.where(_annotated(c), f1, np.nan) for c, f1 in zip(totals, (whole, drawn), strict=True)])
    whole, drawn = (_mean(np.array(own), axis=0) for own in zip(*parts, strict=True))
    found["score"] = whole, drawn
    return {
        figure: Figure(tuple(np.nan_to_num(whole).tolist()), *_interval(_mean(drawn, axis=1)))
        for figure, (whole, drawn) in found.items()
    }


def _f1(counts: np.ndarray) -> np.ndarray:
    """[...] of counts [..., 3]; NaN over nothing."""
    tp, fp, fn = np.moveaxis(counts, -1, 0)
    total = 2 * tp + fp + fn
    return np.where(total > 0, 2 * tp / np.maximum(total, 1), np.nan)


def _annotated(counts: np.ndarray) -> np.ndarray:
    return counts[..., 0] + counts[..., 2] > 0


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    """The mean of what is not NaN; NaN where nothing is."""
    known = ~np.isnan(values)
    numbers = known.sum(axis=axis)
    return np.where(numbers > 0, np.where(known, values, 0).sum(axis=axis) / np.maximum(numbers, 1), np.nan)


def _interval(drawn: np.ndarray) -> tuple[float, float]:
    """Where 95 % of the values lie that are not NaN; 0 where none is."""
    known = drawn[~np.isnan(drawn)]
    low, high = np.percentile(known, [2.5, 97.5]) if known.size else (0.0, 0.0)
    return float(low), float(high)


@dataclass(frozen=True)
class Row:
    """What the seeds of an entry gave on one set of documents.

    Attributes:
        documents: how many the set has.
        name, config: of the entry, and how it was asked for.
        trained_on: documents, where a part of the train split was asked for; else 0.
    """

    set: str
    documents: int
    name: str
    config: str
    trained_on: int
    figures: Mapping[str, Figure]

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "figures": {name: figure.to_dict() for name, figure in self.figures.items()}}


def agreement(path: str | Path) -> dict[str, dict[str, Any]]:
    """Set -> `label` and `f1` (figure -> per cent) of two annotators, of a file such as benchmarks/agreement.json.

    Raises:
        TableError: the file is not of this form.
    """
    try:
        return {
            name: {"label": str(one["label"]), "f1": {figure: float(value) for figure, value in one["f1"].items()}}
            for name, one in json.loads(Path(path).read_text(encoding="utf-8"))["sets"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TableError(f"{path}: tells no agreement as benchmarks/agreement.json does: {error!r}") from None


def markdown(rows: Sequence[Row], shown: Sequence[str], ceiling: Mapping[str, Mapping[str, Any]]) -> str:
    """The table in Markdown: set by set a line for each entry, and last the agreement of two annotators."""
    cells = []
    for name in dict.fromkeys([row.set for row in rows] or ceiling):
        own = [row for row in rows if row.set == name]
        last = 0
        for row in own:
            title = f"{name}, {row.documents} documents" if row.documents != last else ""
            last = row.documents
            cells.append([title, row.name, *(str(row.figures[figure]) for figure in shown)])
        if name in ceiling:
            f1 = ceiling[name]["f1"]
            cells.append(
                ["" if own else name, ceiling[name]["label"], *(f"{f1[c]:.1f}" if c in f1 else "" for c in shown)]
            )
    return _table(rows, ["set", "", *shown], cells, "")


def curve_markdown(rows: Sequence[Row], shown: Sequence[str]) -> str:
    """The learning curve in Markdown: set by set a line for each size, of rows in their order."""
    cells = []
    for name in dict.fromkeys(row.set for row in rows):
        last: Row | None = None
        for row in (row for row in rows if row.set == name):
            title = "" if last else f"{name}, {row.documents} documents"
            figures = [f"{row.figures[figure]}{_gain(last, row, figure)}" for figure in shown]
            cells.append([title, str(row.trained_on), *figures])
            last = row
    note = "\nAfter the comma: what a hundred training documents more have added since the line above."
    return _table(rows, ["set", "trained on", *shown], cells, note)


def _gain(last: Row | None, row: Row, figure: str) -> str:
    if last is None:
        return ""
    hundreds = (row.trained_on - last.trained_on) / 100
    return f", {100 * (row.figures[figure].mean - last.figures[figure].mean) / hundreds:+.1f}"


def _table(rows: Sequence[Row], titles: Sequence[str], cells: Sequence[Sequence[str]], note: str) -> str:
    seeds = sorted({len(figure.seeds) for row in rows for figure in row.figures.values()})
    whole = table([title.rpartition("/")[2].replace("_", " ") for title in titles], cells, left=2)
    if not rows:
        return whole
    of = "one seed" if seeds == [1] else f"mean of {' or '.join(map(str, seeds))} seeds ± their standard deviation"
    return f"""{whole}

F1 in per cent: {of}, and in brackets where 95 % of the values lie
when the documents are drawn anew (bootstrap). `score` is the mean of {", ".join(SCORE[:-1])} and {SCORE[-1]};
configurations are compared by it on validation.{note}"""
