"""Which of the predicted mentions, relations and records are right, and what that says of a model's scores."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

from .confidence import RECORDS, Confidence
from .documents import Document, Mention, Relation
from .evaluation import evaluate, paired, relation_keys, stand_ins
from .records import RecordTuple, record_tuples, records
from .scaling import fit
from .schema import Schema

# Relations are judged down to this score, and kept from the best of these probabilities on.
LOWEST = 0.02
THRESHOLDS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55)


def judged(
    gold: Sequence[Document], predicted: Sequence[Document], schema: Schema
) -> dict[str, list[tuple[float, bool]]]:
    """Entity type, relation type, or RECORDS -> (score, whether it is right) of all that was predicted and has a score.

    Mentions and relations are right as `evaluation.evaluate` counts them. A record is right where all that it says of
    drug, event type, status and indications is in the gold records.

    Raises:
        EvaluationError: the documents cannot be paired.
    """
    found: dict[str, list[tuple[float, bool]]] = {name: [] for name in (*schema.entities, *schema.relations, RECORDS)}
    for g, p in paired(gold, predicted):
        stand_in = stand_ins(g, p)
        mentions = {(m.start, m.end, m.type) for m in g.mentions}
        for m in p.mentions:
            if m.score is not None:
                found[m.type].append((m.score, (m.start, m.end, m.type) in mentions))
        relations = relation_keys(g, schema)
        for key, r in relation_keys(p, schema, stand_in).items():
            if r.score is not None:
                found[r.type].append((r.score, key in relations))
        tuples: set[tuple[Hashable, ...]] = set(record_tuples(g))
        for record in records(p):
            ids = record["entity_ids"]
            said = {
                RecordTuple(ids["drug"], record["event"], record["status"], indication).standing(stand_in)
                for indication in ids["indications"] or [None]
            }
            found[RECORDS].append((record["score"], said <= tuples))
    return found


def scales_and_thresholds(
    gold: Sequence[Document], predicted: Sequence[Document], schema: Schema
) -> tuple[Confidence, dict[str, float]]:
    """What makes scores probabilities, and relation type -> threshold by which `Scores.score` is best.

    Args:
        gold: documents that were not trained on.
        predicted: what an uncalibrated model finds in them, with all relations that have a score of LOWEST.
    """
    by_name = judged(gold, predicted, schema)
    del by_name[RECORDS]
    pools = [list(schema.entities), list(schema.relations)]
    confidence = fit(by_name, pools)
    scored = [_scored(document, confidence) for document in predicted]
    choices = {threshold: [_kept(document, threshold) for document in scored] for threshold in THRESHOLDS}
    best = max(THRESHOLDS, key=lambda threshold: evaluate(gold, choices[threshold], schema).score)
    by_name[RECORDS] = judged(gold, choices[best], schema)[RECORDS]
    # Where much under LOWEST is as probable as the best threshold, nobody has judged what a lower one would let in.
    judged_from = {name: float(confidence.probability(name, LOWEST)) for name in schema.relations}
    return fit(by_name, [*pools, [RECORDS]]), {name: max(best, lowest) for name, lowest in judged_from.items()}


def _scored(document: Document, confidence: Confidence) -> Document:
    def probable(item: Mention | Relation) -> float | None:
        return None if item.score is None else float(confidence.probability(item.type, item.score))

    return replace(
        document,
        mentions=tuple(replace(m, score=probable(m)) for m in document.mentions),
        relations=tuple(replace(r, score=probable(r)) for r in document.relations),
    )


def _kept(document: Document, threshold: float) -> Document:
    return replace(document, relations=tuple(r for r in document.relations if (r.score or 0.0) >= threshold))
