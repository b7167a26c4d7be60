"""The result of a document: the plain dict that the pipeline, the command and the model's own `extract` give."""

from __future__ import annotations

from datetime import date
from typing import Any

from .confidence import RECORDS, Confidence
from .documents import Document
from .records import dated, mention_score, records


def result(
    document: Document, confidence: Confidence, lowest: float, release_date: date | None = None
) -> dict[str, Any]:
    """A predicted document as a plain dict of entities, relations and records.

    Args:
        confidence: gives the probabilities of records; `lowest` is the smallest of a record that is kept.
        release_date: the dateline's, where it is not given.
    """
    found = records(document, release_date or dated(document))
    for record in found:
        record["score"] = round(float(confidence.probability(RECORDS, record["score"])), 4)
    return {
        "entities": [
            {
                "id": entity.id,
                "type": entity.type,
                "name": entity.name(document.text),
                "score": mention_score(entity),
                **entity.attributes,
                "mentions": [
                    {"start": m.start, "end": m.end, "text": document.wording(m), "score": m.score}
                    for m in entity.mentions
                ],
            }
            for entity in document.entities.values()
        ],
        "relations": [{"type": r.type, "head": r.head, "tail": r.tail, "score": r.score} for r in document.relations],
        "records": [record for record in found if record["score"] >= lowest],
    }
