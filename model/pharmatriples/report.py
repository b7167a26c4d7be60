"""The error report: one self-contained HTML page with gold and predicted side by side, and every error as a row."""

from __future__ import annotations

import base64
import json
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from .calibration import Reliability
from .confidence import Confidence
from .differences import one_line
from .documents import Document, Mention
from .errors import PARTS, Finding, Span, findings
from .evaluation import ScoreRow, paired
from .page import render
from .plots import PlotError, plot_calibration, plot_learning
from .runs import RECORD
from .schema import Schema

PICTURES = ("calibration", "learning_curve")
AROUND = 60  # characters of the text before and after a place


@dataclass(frozen=True)
class Mark:
    """A stretch of the text of one side that is marked, or, as a ghost, that the other side alone marks.

    Attributes:
        colour: index of its type in the legend.
        label: the values of its attributes; error: what is wrong with it, or with one of them.
        tooltip: type, entity, attributes and score.
    """

    start: int
    end: int
    colour: int
    label: str = ""
    error: str = ""
    tooltip: str = ""
    ghost: bool = False


@dataclass(frozen=True)
class Piece:
    """A stretch of a line with its mark, or without one."""

    text: str
    mark: Mark | None = None


@dataclass(frozen=True)
class Row:
    """A finding as the page shows it.

    Attributes:
        release, section: id of its release, and of the element on the page.
        before, words, after: its first place in the text and what stands around it.
        places: its places as `start-end start-end`.
    """

    finding: Finding
    release: str
    section: str
    before: str
    words: str
    after: str
    places: str


@dataclass(frozen=True)
class Release:
    """A release as the page shows it.

    Attributes:
        section: id of its element on the page; title: its first line.
        lines: of each line of the text the pieces of gold and of predicted.
        rows: its findings by part; errors: how many of all are errors.
    """

    id: str
    section: str
    title: str
    lines: tuple[tuple[tuple[Piece, ...], tuple[Piece, ...]], ...]
    rows: Mapping[str, tuple[Row, ...]]
    errors: int


@dataclass(frozen=True)
class Group:
    """The errors of one label: how many, how many of each type, and how many follow from what; most first."""

    label: str
    count: int
    types: tuple[tuple[str, int], ...]
    follows: tuple[tuple[str, int], ...]


def render_report(
    gold: Sequence[Document],
    predicted: Sequence[Document],
    schema: Schema,
    scores: Iterable[ScoreRow] = (),
    title: str = "",
    notes: Sequence[str] = (),
    pictures: Mapping[str, bytes] | None = None,
    confidence: Confidence | None = None,
) -> str:
    """The page as HTML, everything of the releases escaped.

    Args:
        schema: of both; the order of its entity types is that of the legend and gives the colours.
        scores: figures for the top of the page.
        title: what was evaluated on what; notes: lines that stand under the figures.
        pictures: caption -> PNG.
        confidence: of the model, which makes probabilities of the scores of records.

    Raises:
        EvaluationError: the documents cannot be paired.
    """
    pairs = paired(gold, predicted)
    found = dict.fromkeys(m.type for pair in pairs for document in pair for m in document.mentions)
    colours = {type_: i for i, type_ in enumerate(dict.fromkeys([*schema.entities, *found]))}
    releases = [_release(g, p, schema, f"r{number}", colours, confidence) for number, (g, p) in enumerate(pairs, 1)]
    rows = [row for release in releases for part in PARTS for row in release.rows[part] if row.finding.error]
    return render(
        "report.html",
        title=title,
        notes=notes,
        scores=list(scores),
        pictures={name: base64.b64encode(png).decode("ascii") for name, png in (pictures or {}).items()},
        colours=colours,
        groups=groups([row.finding for row in rows]),
        rows=rows,
        releases=releases,
    )


def write_report(
    folder: str | Path,
    model: str | Path,
    gold: Sequence[Document],
    predicted: Sequence[Document],
    schema: Schema,
    reliabilities: Mapping[str, Reliability],
    scores: Iterable[ScoreRow] = (),
    title: str = "",
    notes: Sequence[str] = (),
    confidence: Confidence | None = None,
) -> list[str]:
    """Write report.html, calibration.png and learning_curve.png into a folder; returns what there is to tell.

    Without matplotlib, or where the model's training.json holds no history of evaluations, the page has fewer pictures.

    Args:
        model: its folder.
        reliabilities: what `calibration.calibration` found; the others as for `render_report`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    plots: dict[str, Callable[[Path], None]] = {}
    told = []
    if reliabilities:
        plots[PICTURES[0]] = partial(plot_calibration, reliabilities)
    if past := history(model):
        plots[PICTURES[1]] = partial(plot_learning, past)
    else:
        told.append(
            f"no learning curve: {Path(model) / RECORD} holds no history of evaluations; a new training run does"
        )
    pictures = {}
    for name in PICTURES:
        (folder / f"{name}.png").unlink(missing_ok=True)  # of an earlier report
    try:
        for name, plot in plots.items():
            plot(folder / f"{name}.png")
            pictures[name.replace("_", " ").capitalize()] = (folder / f"{name}.png").read_bytes()
    except PlotError as error:
        told.append(str(error))
    page = render_report(gold, predicted, schema, scores, title, notes, pictures, confidence)
    # Half of a surrogate pair has no UTF-8; a browser shows its reference as the replacement character.
    (folder / "report.html").write_text(page, encoding="utf-8", errors="xmlcharrefreplace")
    return [*told, f"report: {folder / 'report.html'}"]


def history(model: str | Path) -> list[dict[str, Any]]:
    """The evaluations of the run that made a model; none where its folder does not tell."""
    try:
        found = json.loads((Path(model) / RECORD).read_text(encoding="utf-8")).get("history")
    except (OSError, ValueError):
        return []
    return found or []


def groups(errors: Sequence[Finding]) -> list[Group]:
    """The errors by label: part by part, the largest group of a part first."""
    by_label: dict[str, list[Finding]] = {}
    for error in errors:
        by_label.setdefault(error.label, []).append(error)
    order = sorted(by_label.items(), key=lambda item: (PARTS.index(item[1][0].part), -len(item[1]), item[0]))
    return [
        Group(
            label,
            len(own),
            tuple(Counter(error.type for error in own).most_common()),
            tuple(Counter(error.follows for error in own if error.follows).most_common()),
        )
        for label, own in order
    ]


def _release(
    gold: Document,
    predicted: Document,
    schema: Schema,
    section: str,
    colours: Mapping[str, int],
    confidence: Confidence | None,
) -> Release:
    # HTML has no NUL: a browser would drop it.
    text = gold.text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    found = findings(gold, predicted, schema, confidence)
    wrong: dict[Span, dict[str, None]] = {}
    for finding in found:
        if finding.error and finding.part in ("mention", "attribute"):
            for place in finding.places:
                wrong.setdefault(place, {})[finding.error] = None
    sides = [_marks(ours, theirs, wrong, colours) for ours, theirs in ((gold, predicted), (predicted, gold))]
    lines, start = [], 0
    for line in text.splitlines(keepends=True):
        left, right = (tuple(_pieces(text, marks, start, start + len(line))) for marks in sides)
        lines.append((left, right))
        start += len(line)
    rows = {part: tuple(_row(f, gold.id, section, text) for f in found if f.part == part) for part in PARTS}
    title = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return Release(gold.id, section, title, tuple(lines), rows, sum(bool(f.error) for f in found))


def _row(finding: Finding, release: str, section: str, text: str) -> Row:
    start, end = finding.places[0]
    before, after = text[max(start - AROUND, 0) : start], text[end : end + AROUND]
    if start > AROUND:  # whole words
        before = before.partition(" ")[2]
    if end + AROUND < len(text):
        after = after.rpartition(" ")[0]
    before, after = one_line(before, AROUND), one_line(after, AROUND)
    gap_before, gap_after = (" " * text[i : i + 1].isspace() for i in (max(start - 1, 0), end))
    places = " ".join(f"{a}-{b}" for a, b in finding.places)
    return Row(finding, release, section, before + gap_before, one_line(text[start:end]), gap_after + after, places)


def _marks(
    document: Document, other: Document, wrong: Mapping[Span, Iterable[str]], colours: Mapping[str, int]
) -> list[Mark]:
    """The mentions of one side, and ghosts where only the other side has one, in the order of the text."""
    names = {entity.id: entity.name(document.text) for entity in document.entities.values()}
    marks = [
        Mark(
            m.start,
            m.end,
            colours[m.type],
            " · ".join(m.attributes.values()),
            ", ".join(wrong.get((m.start, m.end), ())),
            _tooltip(document, m, names[m.entity]),
        )
        for m in document.mentions
    ]
    starts, ends = [m.start for m in document.mentions], [m.end for m in document.mentions]
    for m in other.mentions:
        if bisect_right(ends, m.start) == bisect_left(starts, m.end):  # none of this side touches it
            error = ", ".join(wrong.get((m.start, m.end), ()))
            marks.append(Mark(m.start, m.end, colours[m.type], "", error, f"not marked here: {m.type}", ghost=True))
    return sorted(marks, key=lambda mark: mark.start)


def _tooltip(document: Document, mention: Mention, called: str) -> str:
    known = [mention.type, f"{mention.entity}: {called} ({len(document.entities[mention.entity].mentions)})"]
    known += [f"{name}: {value}" for name, value in mention.attributes.items()]
    return " · ".join(known if mention.score is None else [*known, f"score {mention.score:.2f}"])


def _pieces(text: str, marks: Sequence[Mark], start: int, end: int) -> Iterator[Piece]:
    """The pieces of a line; a mark that goes on over its end is cut there."""
    for place in range(bisect_right(marks, start, key=lambda mark: mark.end), len(marks)):
        mark = marks[place]
        if mark.start >= end:
            break
        if start < mark.start:
            yield Piece(text[start : mark.start])
        yield Piece(text[max(start, mark.start) : min(end, mark.end)], mark)
        start = min(end, mark.end)
    if start < end:
        yield Piece(text[start:end])
