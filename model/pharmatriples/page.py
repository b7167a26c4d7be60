"""One self-contained HTML page: each release with its mentions in colour, and its records as a table.

A result is what the pipeline returns for one text, with the release's `id` and `text` added; or an `id` and an `error`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

# The keys of an entity in a result that are no attributes.
_ENTITY_KEYS = ("id", "type", "name", "score", "mentions")


@dataclass(frozen=True)
class Piece:
    """A stretch of the text: a mention, or what stands between two (then all but `text` is empty).

    Attributes:
        anchor: id of the element, unique on the page; `entity` likewise names its entity.
        colour: index of its type in the legend.
        label: the values of its attributes.
        tooltip: type, name, attributes and score.
    """

    text: str
    anchor: str = ""
    entity: str = ""
    colour: int = 0
    label: str = ""
    tooltip: str = ""


@dataclass(frozen=True)
class Row:
    """A record as the page shows it: with the anchor of its event and the page's names of all its entities."""

    record: Mapping[str, Any]
    anchor: str
    entities: tuple[str, ...]


@dataclass(frozen=True)
class Release:
    """A release as the page shows it; `anchor` is the id of its section, `title` its first line.

    One that could not be read has an `error` alone.
    """

    id: str
    anchor: str
    title: str = ""
    pieces: tuple[Piece, ...] = ()
    rows: tuple[Row, ...] = ()
    error: str = ""


def render_page(results: Sequence[Mapping[str, Any]], types: Sequence[str]) -> str:
    """The page as HTML, everything of the releases escaped.

    Args:
        results: one for each release, in the order of the page.
        types: the entity types in the order of the legend; the order gives the colours.
    """
    found = dict.fromkeys(entity["type"] for result in results for entity in result.get("entities", ()))
    colours = {type_: i for i, type_ in enumerate(dict.fromkeys([*types, *found]))}
    releases = [_release(result, f"r{number}", colours) for number, result in enumerate(results, 1)]
    return render("page.html", releases=releases, colours=colours)


def render(template: str, **values: Any) -> str:
    """A template of the package as HTML, every value escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)


def _release(result: Mapping[str, Any], anchor: str, colours: Mapping[str, int]) -> Release:
    if "error" in result:
        return Release(result["id"], anchor, error=result["error"])
    names = {entity["id"]: f"{anchor}-e{number}" for number, entity in enumerate(result["entities"], 1)}
    pieces = tuple(_pieces(result, anchor, names, colours))
    first = {piece.entity: piece.anchor for piece in reversed(pieces)}
    rows = []
    for record in result["records"]:
        event = names[record["entity_ids"]["event"]]
        rows.append(Row(record, first[event], tuple(names[id_] for id_ in _ids(record["entity_ids"]))))
    title = next((line.strip() for line in result["text"].splitlines() if line.strip()), "")
    return Release(result["id"], anchor, title, pieces, tuple(rows))


def _pieces(
    result: Mapping[str, Any], anchor: str, names: Mapping[str, str], colours: Mapping[str, int]
) -> Iterator[Piece]:
    # HTML has no NUL: a browser would drop it.
    text = result["text"].replace("\0", "\N{REPLACEMENT CHARACTER}")
    mentions = sorted(
        ((mention, entity) for entity in result["entities"] for mention in entity["mentions"]),
        key=lambda pair: pair[0]["start"],
    )
    last = 0
    for number, (mention, entity) in enumerate(mentions, 1):
        if last < mention["start"]:
            yield Piece(text[last : mention["start"]])
        attributes = {key: value for key, value in entity.items() if key not in _ENTITY_KEYS}
        tooltip = [
            entity["type"],
            entity["name"],
            *(f"{key}: {value}" for key, value in attributes.items()),
            f"score {mention['score']:.2f}",
        ]
        yield Piece(
            text=text[mention["start"] : mention["end"]],
            anchor=f"{anchor}-m{number}",
            entity=names[entity["id"]],
            colour=colours[entity["type"]],
            label=" · ".join(attributes.values()),
            tooltip=" · ".join(tooltip),
        )
        last = mention["end"]
    if last < len(text):
        yield Piece(text[last:])


def _ids(entity_ids: Mapping[str, Any]) -> Iterator[str]:
    for value in entity_ids.values():
        yield from value if isinstance(value, list) else [value] if value is not None else []
