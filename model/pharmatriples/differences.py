"""Where two documents of one text differ: an annotator from another, or a model from the annotation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import NamedTuple

from .documents import Document, Entity, Mention
from .evaluation import relation_keys, stand_ins
from .schema import Schema

Key = tuple[int, int, str]  # start, end and type of a mention


def key_of(mention: Mention) -> Key:
    """What two mentions share that are strictly the same."""
    return mention.start, mention.end, mention.type


class Difference(NamedTuple):
    """A place of a text about which two differ.

    Attributes:
        kind: mention, where only one has one; type or boundary, where their mentions overlap; the name of an
            attribute; entity; relation.
        start, end: code points, half-open; of a relation, from its head to its tail or the other way.
        text: the words there; of a relation `HEAD -> TAIL`.
        first, second: what each says; empty where one says nothing.
    """

    kind: str
    start: int
    end: int
    text: str
    first: str
    second: str


def differences(first: Document, second: Document, schema: Schema) -> list[Difference]:
    """The places where two documents of one text differ, in the order of the text.

    Attributes are compared where both have the mention, relations where both have the two entities: what one
    lacks altogether is told once.
    """
    found: list[Difference] = []
    for a, b in align(first.mentions, second.mentions):
        if a is None or b is None or key_of(a) != key_of(b):
            found.append(mention_difference(first.text, a, b))
            continue
        for name in a.attributes.keys() | b.attributes.keys():
            one, other = a.attributes.get(name, ""), b.attributes.get(name, "")
            if one != other:
                found.append(Difference(name, a.start, a.end, first.wording(a), one, other))
    stand_in = stand_ins(first, second)
    found += _entity_differences(first, second, stand_in)
    found += _relation_differences(first, second, stand_in, schema)
    return sorted(found, key=lambda d: (d.start, d.end, d.kind, d))


def align(first: Sequence[Mention], second: Sequence[Mention]) -> Iterator[tuple[Mention | None, Mention | None]]:
    """One-to-one pairs of overlapping mentions, as many as there can be; None beside a mention that has no other.

    Both sides are in the order of the text and without overlaps, as a document has them.
    """
    i = j = 0
    while i < len(first) or j < len(second):
        if j == len(second) or (i < len(first) and first[i].end <= second[j].start):
            yield first[i], None
            i += 1
        elif i == len(first) or second[j].end <= first[i].start:
            yield None, second[j]
            j += 1
        else:
            yield first[i], second[j]
            i, j = i + 1, j + 1


def mention_difference(text: str, first: Mention | None, second: Mention | None) -> Difference:
    """How two mentions that `align` paired, and that are not the same, differ."""
    given = [m for m in (first, second) if m is not None]
    start, end = min(m.start for m in given), max(m.end for m in given)
    kind = "mention" if len(given) == 1 else "type" if given[0].type != given[1].type else "boundary"

    def says(mention: Mention | None) -> str:
        if mention is None:
            return ""
        whole = (mention.start, mention.end) == (start, end)
        return mention.type if whole else f"{mention.type} {text[mention.start : mention.end]!r}"

    return Difference(kind, start, end, text[start:end], says(first), says(second))


def _entity_differences(first: Document, second: Document, stand_in: Mapping[str, str]) -> Iterator[Difference]:
    other = {key_of(m): m for m in second.mentions}
    seen: set[tuple[str, str]] = set()
    for a in first.mentions:
        b = other.get(key_of(a))
        if b is not None and stand_in.get(b.entity) != a.entity and (a.entity, b.entity) not in seen:
            seen.add((a.entity, b.entity))
            sides = [wordings(d, d.entities[m.entity]) for d, m in ((first, a), (second, b))]
            yield Difference("entity", a.start, a.end, first.wording(a), *sides)


def wordings(document: Document, entity: Entity) -> str:
    """What is joined in an entity, with the number of its mentions: `ACM-101 (3) = acmizumab (1)`."""
    counts = Counter(document.wording(m) for m in entity.mentions)
    return " = ".join(f"{wording} ({count})" for wording, count in counts.items())


def _relation_differences(
    first: Document, second: Document, stand_in: Mapping[str, str], schema: Schema
) -> Iterator[Difference]:
    known = set(stand_in.values())
    ours = {
        key: (r.head, r.tail) for key, r in relation_keys(first, schema).items() if r.head in known and r.tail in known
    }
    theirs = {
        key: (stand_in[r.head], stand_in[r.tail])
        for key, r in relation_keys(second, schema, stand_in).items()
        if r.head in stand_in and r.tail in stand_in
    }
    for key in ours.keys() ^ theirs.keys():
        type_, (head, tail) = key[0], ours.get(key) or theirs[key]
        place = link(first.text, first.entities[head].mentions, first.entities[tail].mentions)
        yield Difference("relation", *place, *((type_, "") if key in ours else ("", type_)))


def link(text: str, heads: Sequence[Mention], tails: Sequence[Mention]) -> tuple[int, int, str]:
    """Start and end of the stretch that holds the two nearest mentions of head and tail, and `HEAD -> TAIL`."""
    a, b = nearest(heads, tails)
    return min(a.start, b.start), max(a.end, b.end), f"{text[a.start : a.end]} -> {text[b.start : b.end]}"


def nearest(heads: Sequence[Mention], tails: Sequence[Mention]) -> tuple[Mention, Mention]:
    """The mention of each with the fewest characters between the two."""
    return min(product(heads, tails), key=lambda pair: max(pair[0].start - pair[1].end, pair[1].start - pair[0].end))


def one_line(text: str, width: int = 80) -> str:
    """The text in one line of at most `width` characters, without signs that could steer a terminal."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= width else f"{line[: width - 4]} ..."
