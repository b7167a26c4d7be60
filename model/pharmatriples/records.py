"""Records: what happened to which drug, assembled from the entities and relations of a document.

The one module that knows the names of the drug-events schema. A document of another schema has no records.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np

from .dates import Period, dateline, normalized
from .documents import Document, Entity, Mention, Relation
from .layout import sentence_spans
from .schema import Schema

EVENT, DRUG, DATE = "EVENT", "DRUG", "DATE"
EVENT_TYPE, STATUS = "event_type", "status"
# About how often a model is right that an event has no drug, or no indication: it mostly has overlooked it.
NO_DRUG, NO_INDICATION = 0.2, 0.5
# Where the date of an event lies, seen from the release.
_SIDES: dict[str, Literal["past", "future"]] = {"occurred": "past", "expected": "future"}


def has_records(schema: Schema) -> bool:
    """Whether documents of a schema have records."""
    return {EVENT_TYPE, STATUS} <= schema.attributes.get(EVENT, {}).keys()


class RecordTuple(NamedTuple):
    """What the evaluation counts as a record; `RECORD_ENTITIES` are entity ids or None."""

    drug: str | None
    event: str
    status: str
    indication: str | None

    def standing(self, stand_in: Mapping[str, str]) -> tuple[Hashable, ...]:
        """The fields, each entity as the one that it stands for; one that stands for none equals no other."""

        def stand(entity: str | None) -> Hashable:
            return None if entity is None else stand_in.get(entity, (entity, "stands for none"))

        return stand(self.drug), self.event, self.status, stand(self.indication)


RECORD_ENTITIES = ("drug", "indication")


def record_tuples(document: Document) -> list[RecordTuple]:
    """The records of each event, drug and indication, without doubles."""
    return list(record_sources(document))


class Source(NamedTuple):
    """Where a record comes from: the entity of its event, and its score as `records` gives it."""

    entity: str
    score: float


def record_sources(document: Document) -> dict[RecordTuple, Source]:
    """The record of each event, drug and indication, in the order of the text; of doubles, the source that is first."""
    found: dict[RecordTuple, Source] = {}
    believed = _mention_scores(document)
    for event, drugs, links in _events(document):
        values = event.attributes
        indications = links.get("event_indication", {})
        for drug in drugs or [None]:
            link = drugs[drug] if drug else None
            source = Source(event.id, _score(event, link, indications.values(), believed))
            for indication in indications or [None]:
                found.setdefault(RecordTuple(drug, values[EVENT_TYPE], values[STATUS], indication), source)
    return found


def dated(document: Document) -> date | None:
    """The day of the release, where its dateline tells it."""
    return dateline(document.text, [(m.start, m.end) for m in document.mentions if m.type == DATE])


def records(document: Document, release_date: date | None = None) -> list[dict[str, Any]]:
    """One record for each event and drug, in the order of the text; an event without a drug has `"drug": None`.

    Args:
        release_date: of the release, for dates that name no year (see `dated`).
    """
    entities, text = document.entities, document.text
    targets, sentences, believed = _links(document, "targets"), _Sentences(text), _mention_scores(document)
    result = []

    @cache
    def name(id_: str) -> str:
        return entities[id_].name(text)

    for event, drugs, links in _events(document):
        for drug in drugs or [None]:
            dates = list(links.get("event_date", ()))
            ids = {
                "drug": drug,
                "targets": list(targets.get(drug, ())) if drug else [],
                "indications": list(links.get("event_indication", ())),
                "event": event.id,
                "organizations": list(links.get("event_organization", ())),
                "dates": dates,
            }
            evidence = event.mentions[:1] if drug is None else _nearest(event, entities[drug])
            result.append(
                {
                    **{
                        key: list(map(name, value)) if isinstance(value, list) else value and name(value)
                        for key, value in ids.items()
                        if key != "event"
                    },
                    "dates_iso": [
                        period and period.to_dict()
                        for period in (_period(document, entities[id_], release_date, event) for id_ in dates)
                    ],
                    "event": event.attributes[EVENT_TYPE],
                    "status": event.attributes[STATUS],
                    "trigger": document.wording(evidence[0]),
                    "score": _score(
                        event,
                        drugs[drug] if drug else None,
                        links.get("event_indication", {}).values(),
                        believed,
                    ),
                    "evidence": sentences.around(evidence),
                    "entity_ids": ids,
                }
            )
    return result


def mention_score(entity: Entity) -> float:
    """Probability that the entity's best mention is right (1.0 for an annotation)."""
    return max(1.0 if m.score is None else m.score for m in entity.mentions)


def _mention_scores(document: Document) -> dict[str, float]:
    return {id_: mention_score(entity) for id_, entity in document.entities.items()}


def _score(
    event: Entity, link: Relation | None, indications: Iterable[Relation], believed: Mapping[str, float]
) -> float:
    """The probability that trigger, drug and indications and their links are right, taken as independent.

    Args:
        link: of the event to the drug; indications: its links to the indications.
        believed: entity id -> its `mention_score`.
    """
    links = [*([link] if link else []), *indications]
    scores = [believed[event.id], *(believed[r.tail] for r in links)]
    scores += [1.0 if r.score is None else r.score for r in links]
    if event.mentions[0].score is not None:  # an annotation is sure of what it leaves out
        scores += [1.0 if link else NO_DRUG, NO_INDICATION if len(links) == bool(link) else 1.0]
    return round(math.prod(scores), 4)


def _events(document: Document) -> Iterator[tuple[Entity, dict[str, Relation], dict[str, dict[str, Relation]]]]:
    """Each event with its drugs and with its other links: relation type -> tail -> relation."""
    by_type = {r.type for r in document.relations}
    links = {type_: _links(document, type_) for type_ in by_type}
    for entity in document.entities.values():
        if entity.type == EVENT and {EVENT_TYPE, STATUS} <= entity.attributes.keys():
            own = {type_: heads.get(entity.id, {}) for type_, heads in links.items()}
            yield entity, own.pop("event_drug", {}), own


def _links(document: Document, type_: str) -> dict[str, dict[str, Relation]]:
    """head -> tail -> relation, tails in the order of the text."""
    order = {id_: i for i, id_ in enumerate(document.entities)}
    found: dict[str, dict[str, Relation]] = {}
    for relation in sorted((r for r in document.relations if r.type == type_), key=lambda r: order[r.tail]):
        found.setdefault(relation.head, {})[relation.tail] = relation
    return found


def _period(document: Document, when: Entity, release_date: date | None, event: Entity) -> Period | None:
    """What a date of an event means: by its name, or by another of its mentions, with a year sooner than without."""
    wordings = list(dict.fromkeys([when.name(document.text), *map(document.wording, when.mentions)]))
    for known, side in ((None, None), (release_date, _SIDES.get(event.attributes[STATUS]))):
        for wording in wordings:
            if period := normalized(wording, known, side):
                return period
    return None


def _nearest(one: Entity, other: Entity) -> tuple[Mention, Mention]:
    """The pair of mentions with the fewest characters between them, the first of equals."""
    pairs = []
    for mention in one.mentions:
        at = bisect(other.mentions, mention.start, key=lambda m: m.start)
        pairs += [(mention, near) for near in other.mentions[max(at - 1, 0) : at + 1]]
    return min(pairs, key=lambda pair: max(pair[0].start - pair[1].end, pair[1].start - pair[0].end))


class _Sentences:
    """The sentences of a text, cut once."""

    def __init__(self, text: str):
        self.text = text
        self.spans = sentence_spans(text)

    def around(self, mentions: Sequence[Mention]) -> dict[str, Any]:
        """The whole sentences from the first of the mentions to the last."""
        start, end = min(m.start for m in mentions), max(m.end for m in mentions)
        first = int(np.searchsorted(self.spans[:, 1], start, side="right"))
        last = int(np.searchsorted(self.spans[:, 0], end, side="left")) - 1
        if first <= last:  # blanks between sentences are in none
            start, end = self.spans[first, 0].item(), self.spans[last, 1].item()
        return {"start": start, "end": end, "text": self.text[start:end]}
