"""The result of one Label Studio annotation -> mentions and relations, with a verdict on every item of it.

A result is a list of items: spans (`labels`), choices that repeat the id of their span, and arrows (`relation`)
between ids. The server checks none of it.
"""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count, pairwise
from typing import Any, NamedTuple

from .documents import Mention, Relation
from .import_report import OTHER_WORDS, printable
from .labelstudio_offsets import Utf16Text, agrees, trimmed
from .schema import Schema

KINDS = {"labels": "region", "choices": "choice", "relation": "relation"}  # type of an item -> its kind
TEXT = "text"  # name of the text in the labeling configuration
# The browser makes a CSS class of a region id: blanks, dots and `#` would break the page or its colours. Its own
# ids are of letters, digits, `-` and `_`, so that the dot `·` tells ours from those.
DOT = "·"
UNSAFE = re.compile(r"[^A-Za-z0-9_-]")
ESCAPED = re.compile(rf"{DOT}([0-9a-f]{{1,5}}|10[0-9a-f]{{4}}){DOT}")
REGION_ID = re.compile(rf"((?:[A-Za-z0-9_-]|{ESCAPED.pattern})*){DOT}[1-9][0-9]{{,8}}\Z")


def region_id(entity: str, number: int) -> str:
    """The id `ENTITY·K` of the K-th mention of an entity, unsafe characters as `·HEX·`."""
    return UNSAFE.sub(lambda match: f"{DOT}{ord(match[0]):x}{DOT}", entity) + f"{DOT}{number}"


def entity_of(region: str) -> str | None:
    """The entity in an id that `region_id` made; None for the ids of regions that a person drew."""
    match = REGION_ID.match(region)
    return ESCAPED.sub(lambda escaped: chr(int(escaped[1], 16)), match[1]) if match else None


def number_of(region: str) -> int:
    """The K of an id that `region_id` made."""
    return int(region.rpartition(DOT)[2])


def kind_of(item: Any) -> str:
    """region, choice, relation, or other."""
    return KINDS.get(text_of(item, "type"), "other")


def text_of(item: Any, key: str) -> str:
    """`item[key]` where that is a text, else an empty one."""
    value = item.get(key) if isinstance(item, Mapping) else None
    return value if isinstance(value, str) else ""


def value_of(item: Any, key: str) -> Any:
    """`item["value"][key]`, None where there is none."""
    value = item.get("value") if isinstance(item, Mapping) else None
    return value.get(key) if isinstance(value, Mapping) else None


def offset_of(item: Any, key: str) -> int | None:
    """The whole number `item["value"][key]`, None where it is none."""
    value = value_of(item, key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


class Verdict(NamedTuple):
    """kept; or repaired or refused, for a reason."""

    outcome: str
    reason: str = ""


class Marked(NamedTuple):
    """What a result says: mentions and relations that make a document, and for each item one verdict, and the
    mentions that it is about: one of a span or choice, head and tail of a relation, none where it is refused."""

    mentions: tuple[Mention, ...]
    relations: tuple[Relation, ...]
    verdicts: tuple[Verdict, ...]
    about: tuple[tuple[Mention, ...], ...]


def read_result(result: list[Any], text: str, schema: Schema, utf16: Utf16Text | None = None) -> Marked:
    """Read the result of one annotation of `text`, whose offsets count UTF-16 units where `utf16` is given.

    Items are grouped by region id; entities are the connected components of the alias arrows, and of those that went
    with a mention that is gone; regions that a person drew are joined to them by their wording; relations between
    regions become relations between entities.
    Never raises for what the result holds.
    """
    reader = _Reader(result, text, schema, utf16)
    entities = _entities(reader.distinct(), reader.arrows, text, schema)
    mentions = {r: Mention(r.start, r.end, r.type, entity, r.attributes) for r, entity in entities.items()}
    links = (Relation(a.label, entities[a.head], entities[a.tail]) for a in reader.arrows if a.label != schema.alias)
    about: list[tuple[Mention, ...]] = [()] * len(result)
    for region, mention in mentions.items():
        for place in region.items:
            about[place] = (mention,)
    for arrow in reader.arrows:
        about[arrow.place] = (mentions[arrow.head], mentions[arrow.tail])
    return Marked(tuple(mentions.values()), tuple(dict.fromkeys(links)), tuple(reader.verdicts), tuple(about))


class _Refused(Exception):
    """Why an item is refused."""


@dataclass(eq=False)
class _Region:
    id: str
    start: int
    end: int
    type: str
    ids: list[str] = field(default_factory=list)  # its own, and those of its doubles
    items: list[int] = field(default_factory=list)  # places of its spans and choices in the result
    attributes: dict[str, str] = field(default_factory=dict)


class _Arrow(NamedTuple):
    place: int
    label: str
    head: _Region
    tail: _Region


class _Reader:
    """Regions, then choices, then what contradicts itself, then arrows; `verdicts` follows all along."""

    def __init__(self, result: list[Any], text: str, schema: Schema, utf16: Utf16Text | None):
        self.result = result
        self.text = text
        self.schema = schema
        self.utf16 = utf16
        self.verdicts = [Verdict("kept")] * len(result)
        self.regions: dict[str, _Region] = {}  # region id -> region; ids of doubles lead to the same region
        self.refused: set[str] = set()  # region ids
        self.arrows: list[_Arrow] = []
        self._each("region", self._read_span)
        self._refuse_torn()
        self._each("choice", self._read_choice)
        self._merge_doubles()
        self._refuse_unfinished()
        self._refuse_overlaps()
        self._each("relation", self._read_arrow)
        self._each("other", self._refuse_other)

    def distinct(self) -> list[_Region]:
        """The regions, each once."""
        return list(dict.fromkeys(self.regions.values()))

    def _each(self, kind: str, read: Callable[[int, Any], None]) -> None:
        for place, item in enumerate(self.result):
            if kind_of(item) == kind:
                try:
                    read(place, item)
                except _Refused as fault:
                    self.verdicts[place] = Verdict("refused", str(fault))

    def _repaired(self, place: int, reason: str) -> None:
        before = self.verdicts[place].reason
        self.verdicts[place] = Verdict("repaired", f"{before}; {reason}" if before else reason)

    def _refuse(self, region: _Region, reason: str) -> None:
        self.refused.update(region.ids)
        for id_ in region.ids:
            del self.regions[id_]
        for place in region.items:
            if self.verdicts[place].outcome != "refused":
                self.verdicts[place] = Verdict("refused", reason)

    def _refuse_other(self, place: int, item: Any) -> None:
        found = item.get("type") if isinstance(item, Mapping) else item
        raise _Refused(f"a result holds spans, choices and relations, found {found!r:.60}")

    def _read_span(self, place: int, item: Any) -> None:
        id_ = text_of(item, "id") or f"item {place}"
        try:
            start, end, label = self._span(place, item)
        except _Refused:
            self.refused.add(id_)
            raise
        region = self.regions.setdefault(id_, _Region(id_, start, end, label, [id_]))
        if (region.start, region.end, region.type) != (start, end, label):
            self.refused.add(id_)
            raise _Refused(f"region {id_!r} is {region.type} at [{region.start}, {region.end}) already")
        if region.items:
            self._repaired(place, "stands twice; merged")
        region.items.append(place)

    def _span(self, place: int, item: Any) -> tuple[int, int, str]:
        if (marked := text_of(item, "to_name") or TEXT) != TEXT:
            raise _Refused(f"marks {marked!r}; what is marked must be called {TEXT!r} in the labeling configuration")
        label = _only(value_of(item, "labels"), "label")
        if label not in self.schema.entities:
            raise _Refused(f"label {label!r} is none of {', '.join(self.schema.entities)}")
        start, end = offset_of(item, "start"), offset_of(item, "end")
        if start is None or end is None:
            found = f"{value_of(item, 'start')!r:.30} and {value_of(item, 'end')!r:.30}"
            raise _Refused(f"offsets must be whole numbers, found {found}")
        if self.utf16:
            span = self.utf16.span(start, end)
            if span is None:
                raise _Refused("offsets count UTF-16 units here, and these lie outside the text or inside a character")
            if span != (start, end):
                self._repaired(place, "offsets counted UTF-16 units")
            start, end = span
        if not 0 <= start < end <= len(self.text):
            raise _Refused(f"the span is empty, inverted or outside the text of {len(self.text)} characters")
        words, given = self.text[start:end], value_of(item, "text")
        if isinstance(given, str) and not agrees(words, given):
            self._repaired(place, f"{OTHER_WORDS} {given!r:.60}, the text there {words!r:.60}; the text counts")
        shorter = trimmed(self.text, start, end)
        if shorter[0] == shorter[1]:
            raise _Refused("the span holds nothing but blanks and brackets")
        if shorter != (start, end):
            self._repaired(place, f"blanks or brackets at the ends cut off: [{shorter[0]}, {shorter[1]})")
        return *shorter, label

    def _refuse_torn(self) -> None:
        """Nobody knows which span was meant where one of a region's spans is refused."""
        for region in self.distinct():
            if region.id in self.refused:
                self._refuse(region, "another span or label of the same region is refused")

    def _region(self, item: Any, key: str) -> _Region:
        id_ = text_of(item, key)
        if not id_:
            raise _Refused(f"without a region: its {key!r} is {item.get(key)!r:.60}")
        if id_ in self.refused:
            raise _Refused(f"its region {id_!r} is refused")
        if id_ not in self.regions:
            raise _Refused(f"its region {id_!r} is not in the annotation")
        return self.regions[id_]

    def _read_choice(self, place: int, item: Any) -> None:
        region = self._region(item, "id")
        name = text_of(item, "from_name")
        values = self.schema.attributes.get(region.type, {}).get(name)
        if values is None:
            raise _Refused(f"{region.type} carries no attribute {name!r}")
        value = _only(value_of(item, "choices"), f"value of {name}")
        if value not in values:
            raise _Refused(f"{name} {value!r} is none of {', '.join(values)}")
        if name in region.attributes:
            if region.attributes[name] != value:
                raise _Refused(f"{name} {value!r} contradicts {region.attributes[name]!r} of the same region")
            self._repaired(place, "stands twice; merged")
        region.attributes[name] = value
        region.items.append(place)

    def _merge_doubles(self) -> None:
        """Two regions of one span and type are one, unless their attributes contradict each other."""
        first: dict[tuple[int, int, str], _Region] = {}
        for region in self.distinct():
            kept = first.setdefault((region.start, region.end, region.type), region)
            if kept is region:
                continue
            if any(kept.attributes.get(name, value) != value for name, value in region.attributes.items()):
                self._refuse(region, f"contradicts region {kept.id!r} of the same span")
                continue
            kept.attributes |= region.attributes
            kept.ids += region.ids
            kept.items += region.items
            self.regions[region.id] = kept
            for place in region.items:
                self._repaired(place, f"double of region {kept.id!r}; merged")

    def _refuse_unfinished(self) -> None:
        for region in self.distinct():
            missing = [n for n in self.schema.attribute_names(region.type) if n not in region.attributes]
            if missing:
                self._refuse(region, f"{region.type} without {', '.join(missing)}")

    def _refuse_overlaps(self) -> None:
        """Of regions that overlap the longest stays; of equals, the first in the text."""
        kept: list[_Region] = []  # disjoint, in the order of the text
        for region in sorted(self.distinct(), key=lambda r: (r.start - r.end, r.start, r.items)):
            before = bisect_left(kept, region.end, key=lambda r: r.start)
            if before and kept[before - 1].end > region.start:
                other = kept[before - 1]
                self._refuse(region, f"overlaps the longer {other.id!r} at [{other.start}, {other.end})")
            else:
                insort(kept, region, key=lambda r: r.start)

    def _read_arrow(self, place: int, item: Any) -> None:
        a, b = self._region(item, "from_id"), self._region(item, "to_id")
        direction = item.get("direction") or "right"
        if direction not in ("right", "left", "bi"):
            raise _Refused(f"direction {direction!r:.30} is none of right, left, bi")
        if item.get("labels"):
            label = _only(item["labels"], "label")
        else:
            label = self._implied_label(a, b)
            self._repaired(place, f"without label; only {label} fits {a.type} and {b.type}")
        if label in self.schema.relations:
            self._read_relation(place, label, a, b, direction)
        elif label != self.schema.alias:
            known = filter(None, (*self.schema.relations, self.schema.alias))
            raise _Refused(f"relation {label!r} is none of {', '.join(known)}")
        elif a.type != b.type or a.type not in self.schema.alias_types:
            types = ", ".join(self.schema.alias_types)
            raise _Refused(f"{label} joins mentions of one type out of {types}, found {a.type} and {b.type}")
        elif a is b:
            self._repaired(place, f"{label} from a mention to itself; dropped")
        else:
            self.arrows.append(_Arrow(place, label, a, b))

    def _read_relation(self, place: int, label: str, a: _Region, b: _Region, direction: str) -> None:
        signatures, joins = self.schema.relations[label], self.schema.joins(label)
        ways = {"right": [(a, b)], "left": [(b, a)], "bi": [(a, b), (b, a)]}[direction]
        fitting = [(head, tail) for head, tail in ways if (head.type, tail.type) in signatures]
        if not fitting and (fitting := [(h, t) for t, h in ways if (h.type, t.type) in signatures]):
            self._repaired(place, f"turned round: {label} joins {joins}")
        elif fitting and len(fitting) < len(ways):
            self._repaired(place, f"drawn both ways: {label} joins {joins}")
        if not fitting:
            raise _Refused(f"{label} joins {joins}, found {a.type} and {b.type}")
        if label in self.schema.symmetric:
            fitting = fitting[:1]  # drawn both ways says no more than one way
        self.arrows += [_Arrow(place, label, head, tail) for head, tail in fitting]

    def _implied_label(self, a: _Region, b: _Region) -> str:
        pairs = ((a.type, b.type), (b.type, a.type))
        labels = [name for name, signatures in self.schema.relations.items() if any(p in signatures for p in pairs)]
        if a.type == b.type and a.type in self.schema.alias_types:
            labels.append(self.schema.alias)
        if len(labels) != 1:
            raise _Refused(f"without label, and {' or '.join(labels) or 'none'} fits {a.type} and {b.type}")
        return labels[0]


def _only(values: Any, what: str) -> str:
    """The one text in a list of labels or choices."""
    if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
        raise _Refused(f"without {what}, found {values!r:.60}")
    if len(set(values)) > 1:
        raise _Refused(f"more than one {what}: {', '.join(map(printable, values))}")
    return str(values[0])


class _Components:
    """Regions joined into entities (union-find)."""

    def __init__(self, regions: Iterable[_Region]):
        self._leader = {region: region for region in regions}

    def of(self, region: _Region) -> _Region:
        """The region that stands for the whole component."""
        while self._leader[region] is not region:
            self._leader[region] = self._leader[self._leader[region]]
            region = self._leader[region]
        return region

    def join(self, a: _Region, b: _Region) -> None:
        self._leader[self.of(a)] = self.of(b)


def _entities(regions: list[_Region], arrows: list[_Arrow], text: str, schema: Schema) -> dict[_Region, str]:
    """Region, in the order of the text -> the id of its entity."""
    regions = sorted(regions, key=lambda region: region.start)
    components = _Components(regions)
    for arrow in arrows:
        if arrow.label == schema.alias:
            components.join(arrow.head, arrow.tail)
    firsts: dict[tuple[str, str], _Region] = {}
    for region in regions:  # where the schema has no arrow that could say it, the region ids say it
        entity = entity_of(region.id)
        if entity is not None and region.type not in schema.alias_types:
            components.join(region, firsts.setdefault((region.type, entity), region))
    _join_over_gaps(components, regions)
    _join_drawn(components, [region for region in regions if region.type in schema.named_types], text)

    grouped: dict[_Region, list[_Region]] = {}
    for region in regions:
        grouped.setdefault(components.of(region), []).append(region)
    given = {entity for region in regions if (entity := entity_of(region.id)) is not None}
    names: dict[_Region, str] = {}
    used: set[str] = set()
    numbers: dict[str, Iterator[int]] = defaultdict(lambda: count(1))
    for members in grouped.values():
        name = next((entity for region in members if (entity := entity_of(region.id)) is not None), None)
        if name is None or name in used:
            numbered = (f"{members[0].type}-{number}" for number in numbers[members[0].type])
            name = next(fresh for fresh in numbered if fresh not in used and fresh not in given)
        used.add(name)
        names |= dict.fromkeys(members, name)
    return {region: names[region] for region in regions}


def _join_over_gaps(components: _Components, regions: list[_Region]) -> None:
    """Join mentions of one entity between whose numbers some lack: with a mention its arrows were taken away, too."""
    numbered: dict[tuple[str, str], dict[int, _Region]] = {}
    for region in regions:
        if (entity := entity_of(region.id)) is not None:
            numbered.setdefault((region.type, entity), {})[number_of(region.id)] = region
    for own in numbered.values():
        for (number, earlier), (following, later) in pairwise(sorted(own.items())):
            if following > number + 1:
                components.join(earlier, later)


def _join_drawn(components: _Components, regions: list[_Region], text: str) -> None:
    """Join what a person drew to equally worded mentions: nobody draws thirty arrows for a repeated name.

    Components with a region of our own id are given; wording never joins two of them.
    """
    wording = {region: (region.type, text[region.start : region.end].casefold()) for region in regions}
    given = {components.of(region) for region in regions if entity_of(region.id) is not None}
    drawn = [region for region in regions if components.of(region) not in given]
    known: dict[tuple[str, str], _Region] = {}
    for region in regions:
        if components.of(region) in given:
            known.setdefault(wording[region], region)
    firsts: dict[tuple[str, str], _Region] = {}
    for region in drawn:
        components.join(region, firsts.setdefault(wording[region], region))
    loose = {components.of(region) for region in drawn}
    for region in drawn:
        if components.of(region) in loose and wording[region] in known:
            components.join(region, known[wording[region]])
