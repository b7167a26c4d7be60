"""Figures in Markdown, and the blocks of pages that scripts renew."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


class BlockError(ValueError):
    """A page without the place for a block; the message says what to add."""


def markdown(figures: Mapping[str, Any]) -> str:
    """The rates over all labels in Markdown, of what `Scores.to_dict` gives."""
    parts = {
        "mentions, strict": figures["mentions"]["micro"],
        "mentions, relaxed": figures["mentions_relaxed"]["micro"],
        "mentions, words (seqeval)": figures["mentions_seqeval"],
        **{name.replace("_", " "): found["micro"] for name, found in figures["attributes"].items()},
        "entities, B-cubed": figures["entities"],
        "entities, B-cubed, end to end": figures["entities_end_to_end"],
        "relations": figures["relations"]["micro"],
    }
    counts = ("tp", "fp", "fn")
    if any(figures["records"][count] for count in counts):
        parts["records"] = figures["records"]
    rows = (
        [
            name,
            *(percent(part[rate]) for rate in ("precision", "recall", "f1")),
            *(str(part.get(c, "")) for c in counts),
        ]
        for name, part in parts.items()
    )
    return table(["", "precision", "recall", "F1", *counts], rows)


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A table in Markdown, of which the first `left` columns are aligned to the left."""
    lines = [titles, ["---"] * left + ["---:"] * (len(titles) - left), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def percent(rate: float) -> str:
    """A rate from 0 to 1 in per cent."""
    return f"{100 * rate:.1f}"


def replace_block(page: str, name: str, block: str, place: object = "the page") -> str:
    """`page` with `block` between its lines `<!-- evaluation:NAME -->` and `<!-- /evaluation:NAME -->`.

    Args:
        place: what an error calls the page, such as its file.

    Raises:
        BlockError: the two markers are not there once each, in this order.
    """
    begin, end = f"<!-- evaluation:{name} -->", f"<!-- /evaluation:{name} -->"
    before, _, rest = page.partition(begin)
    inside, _, after = rest.partition(end)
    if page.count(begin) != 1 or page.count(end) != 1 or end in before:
        raise BlockError(f"{place}: needs the lines {begin} and {end}, once each and in this order; add them")
    return f"{before}{begin}\n{block}\n{end}{after}"
