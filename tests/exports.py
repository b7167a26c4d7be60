"""A small release, and Label Studio exports of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pharmatriples.documents import Document, Mention, Relation
from pharmatriples.labelstudio import task_from_document
from pharmatriples.schema import Schema

ROOT = Path(__file__).parents[1]
SCHEMA = Schema.from_yaml(ROOT / "configs" / "schema.yaml")
BARE = Schema.from_dict(  # no alias, no attributes, a relation within one type
    {
        "name": "bare",
        "version": 1,
        "entities": {"GENE": "", "DISEASE": ""},
        "relations": {"regulates": ["GENE", "GENE"], "causes": ["GENE", "DISEASE"]},
    }
)

TEXT = "NMPA today accepts ACM-101. The NMPA accepted Acme's NDA for ACM-101, an anti-CD19 antibody, 2025."
ACCEPTED = {"event_type": "acceptance", "status": "occurred"}


def at(words: str, number: int = 1) -> tuple[int, int]:
    start = -1
    for _ in range(number):
        start = TEXT.index(words, start + 1)
    return start, start + len(words)


RELEASE = Document(
    id="acme",
    text=TEXT,
    mentions=(
        Mention(*at("NMPA"), "ORGANIZATION", "o2"),
        Mention(*at("accepts"), "EVENT", "e1", ACCEPTED),
        Mention(*at("ACM-101"), "DRUG", "d1"),
        Mention(*at("NMPA", 2), "ORGANIZATION", "o2"),
        Mention(*at("accepted"), "EVENT", "e1", ACCEPTED),
        Mention(*at("Acme"), "ORGANIZATION", "o1"),
        Mention(*at("ACM-101", 2), "DRUG", "d1"),
        Mention(*at("CD19"), "TARGET", "g1"),
        Mention(*at("2025"), "DATE", "t1"),
    ),
    relations=(
        Relation("targets", "d1", "g1"),
        Relation("event_drug", "e1", "d1"),
        Relation("event_organization", "e1", "o2"),
    ),
    group="g",
    source="s",
    split="train",
)


def items(document: Document = RELEASE) -> list[dict[str, Any]]:
    return task_from_document(document, SCHEMA)["annotations"][0]["result"]


def task(result: list[Any], id_: str = "acme") -> dict[str, Any]:
    return {"data": {"id": id_, "text": TEXT}, "annotations": [{"result": result}]}


def span(id_: str, words: tuple[int, int], label: str, **choices: str) -> list[dict[str, Any]]:
    place = {"start": words[0], "end": words[1]}
    shared = {"id": id_, "to_name": "text"}
    labels = {**shared, "from_name": "label", "type": "labels", "value": {**place, "labels": [label]}}
    chosen = [
        {**shared, "from_name": name, "type": "choices", "value": {**place, "choices": [value]}}
        for name, value in choices.items()
    ]
    return [labels, *chosen]


def arrow(head: str, tail: str, *labels: str, direction: str | None = "right") -> dict[str, Any]:
    return {"type": "relation", "from_id": head, "to_id": tail, "direction": direction, "labels": list(labels)}


def same(a: Document, b: Document) -> bool:
    """Equal, relations in any order."""
    return replace(a, relations=()) == replace(b, relations=()) and set(a.relations) == set(b.relations)


def count_of(tasks: list[Any]) -> int:
    """How many items an export has, counted without the reader."""

    def lists(holder: Any, key: str) -> list[Any]:
        found = holder.get(key) if isinstance(holder, dict) else None
        return found if isinstance(found, list) else []

    holders = [one for task in tasks for key in ("annotations", "drafts", "predictions") for one in lists(task, key)]
    return len(tasks) + len(holders) + sum(len(lists(holder, "result")) for holder in holders)
