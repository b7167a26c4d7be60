"""Records: what happened to which drug, assembled from the entities and relations of a document.

The one module that knows the names of the drug-events schema. A document of another schema has no records.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any, Literal

import numpy as np

from .dates import Period, dateline, normalized
from .documents import Document, Entity, Mention, Relation
from .layout import sentence_spans

EVENT, DRUG, DATE = "EVENT", "DRUG", "DATE"
EVENT_TYPE, STATUS = "event_type", "status"
# Where the date of an event lies, seen from the release.
_SIDES: dict[str, Literal["past", "future"]] = {"occurred": "past", "expected": "future"}


def record_tuples(document: Document) -> list[tuple[str | None, str, str, str | None]]:
    """(drug, event type, status, indication), entity ids or None, of each event, drug and indication, without doubles.

    This is the unit that the evaluation counts.
    """
    return list(
        dict.fromkeys(
            (drug, event.attributes[EVENT_TYPE], event.attributes[STATUS], indication)
            for event, drugs, links in _events(document)
            for drug in drugs or [None]
            for indication in links.get("event_indication", {}) or [None]
        )
    )


def dated(document: Document) -> date | None:
    """The day of the release, where its dateline tells it."""
    return dateline(document.text, [(m.start, m.end) for m in document.mentions if m.type == DATE])


def records(document: Document, release_date: date | None = None) -> list[dict[str, Any]]:
    """One record for each event and drug, in the order of the text; an event without a drug has `"drug": None`.

    The score is the probability that trigger, drug and their link are all right, taken as independent.

    Args:
        release_date: of the release, for dates that name no year (see `dated`).
    """
    entities, text = document.entities, document.text
    targets, sentences = _links(document, "targets"), _Sentences(text)
    result = []
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
            scores = [mention_score(event)]
            if drug is not None:
                link = drugs[drug].score
                scores += [mention_score(entities[drug]), 1.0 if link is None else link]
            result.append(
                {
                    **{
                        key: [entities[i].name(text) for i in value]
                        if isinstance(value, list)
                        else value and entities[value].name(text)
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
                    "score": round(math.prod(scores), 4),
                    "evidence": sentences.around(evidence),
                    "entity_ids": ids,
                }
            )
    return result


def mention_score(entity: Entity) -> float:
    """Probability that the entity's best mention is right (1.0 for an annotation)."""
    return max(1.0 if m.score is None else m.score for m in entity.mentions)


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
    starts = [m.start for m in other.mentions]
    pairs = []
    for mention in one.mentions:
        at = bisect(starts, mention.start)
        pairs += [(mention, near) for near in other.mentions[max(at - 1, 0) : at + 1]]
    return min(pairs, key=lambda pair: max(pair[0].start - pair[1].end, pair[1].start - pair[0].end))


class _Sentences:
    """The sentences of a text, cut once."""

    def __init__(self, text: str):
        self.text = text
        self.spans = sentence_spans(text)

    def around(self, mentions: Sequence[Mention]) -> dict[str, Any]:
        """The whole sentences from the first of the mentions to the last."""
        first = np.searchsorted(self.spans[:, 1], min(m.start for m in mentions), side="right")
        last = np.searchsorted(self.spans[:, 0], max(m.end for m in mentions), side="left") - 1
        start, end = int(self.spans[first, 0]), int(self.spans[last, 1])
        return {"start": start, "end": end, "text": self.text[start:end]}
