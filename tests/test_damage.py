"""Damaged exports: never a traceback, never an item that nobody accounts for."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from exports import RELEASE, ROOT, SCHEMA, count_of, items, task
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pharmatriples.labelstudio import LabelStudioError, export_text, read_export, read_tasks, task_from_document
from strategies import documents_of

# What else may stand in a place: values of the wrong kind, and those that mean something somewhere.
VALUES = st.sampled_from(
    [
        *(None, True, False, 0, 1, -1, 5, 10**9, 0.5, float("nan"), "", "x", " ", "right", "left", "bi", "labels"),
        *("choices", "relation", "DRUG", "EVENT", "event_drug", "alias_of", "status", "train", "\ud800", "o1·1"),
        *([], [[]], ["DRUG"], ["DRUG", "TARGET"], [None], {}, {"id": []}, {"text": None}, {"email": 3}),
    ]
)
Place = tuple[Any, Any]  # a dict or list, and a key or index of it


def places(value: Any) -> list[Place]:
    """Every place of a JSON value that can be damaged."""
    found: list[Place] = []
    todo = [value]
    while todo:
        holder = todo.pop()
        if isinstance(holder, (dict, list)):
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            found += [(holder, key) for key in keys]
            todo += [holder[key] for key in keys]
    return found


def damage(tasks: list[Any], draw: st.DrawFn) -> None:
    """Remove, replace, double or move one place, or several."""
    for _ in range(draw(st.integers(1, 4))):
        there = places(tasks)
        if not there:
            return
        holder, key = there[draw(st.integers(0, len(there) - 1))]
        what = draw(st.sampled_from(["remove", "replace", "move", "double", "add"]))
        if what == "remove":
            del holder[key]
        elif what == "replace":
            holder[key] = copy.deepcopy(draw(VALUES))
        elif what == "move":
            other, place = there[draw(st.integers(0, len(there) - 1))]
            holder[key] = copy.deepcopy(other[place])
        elif isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key] if what == "double" else draw(VALUES)))
        else:
            added = ["annotations", "drafts", "predictions", "completions", "was_cancelled", "completed_by", "text"]
            holder[draw(st.sampled_from(added))] = copy.deepcopy(draw(VALUES))


def base() -> list[Any]:
    """Two annotators, a draft and predictions, as a full snapshot holds them."""
    one = task_from_document(RELEASE, SCHEMA)
    two = {**task(items(), "two"), "drafts": [{"result": items()}], "predictions": [1, {"result": items()}]}
    two["annotations"].append({"result": items(), "completed_by": {"email": "a@b.c"}, "updated_at": "2025-01-01"})
    return [one, two]


@st.composite
def damaged(draw: st.DrawFn) -> list[Any]:
    tasks = base()
    damage(tasks, draw)
    return tasks


@st.composite
def damaged_documents(draw: st.DrawFn) -> list[Any]:
    tasks = [task_from_document(draw(documents_of(SCHEMA)), SCHEMA)]
    damage(tasks, draw)
    return tasks


@st.composite
def damaged_releases(draw: st.DrawFn) -> list[Any]:
    tasks = copy.deepcopy([REAL[draw(st.integers(0, len(REAL) - 1))]])
    damage(tasks, draw)
    return tasks


REAL: list[Any] = sorted(read_tasks(ROOT / "data" / "releases.json"), key=lambda task: len(json.dumps(task)))[:40]


def accounted(tasks: list[Any]) -> None:
    before = count_of(tasks)
    documents, report = read_export(tasks, SCHEMA)
    assert len(report.items) == before
    assert sum(sum(outcomes.values()) for outcomes in report.counts.values()) == before
    assert len({document.id for document in documents}) == len(documents) == report.documents
    for document in documents:
        document.check(SCHEMA)
    assert all(item.reason for item in report.items if item.outcome != "kept")
    assert str(report)
    json.dumps(report.to_dict())
    if not report.of("refused"):
        text = export_text(tasks)
        again = read_export(json.loads(text), SCHEMA)
        assert {d.id: (d.text, d.mentions) for d in again.documents} == {d.id: (d.text, d.mentions) for d in documents}
    else:
        try:
            export_text(tasks)
        except LabelStudioError:
            return


MANY = settings(deadline=None, suppress_health_check=list(HealthCheck))


@settings(MANY, max_examples=6000)
@given(damaged())
def test_damage_to_an_export_is_accounted_for(tasks: list[Any]) -> None:
    accounted(tasks)


@settings(MANY, max_examples=2000)
@given(damaged_documents())
def test_damage_to_any_document_is_accounted_for(tasks: list[Any]) -> None:
    accounted(tasks)


@settings(MANY, max_examples=2000)
@given(damaged_releases())
def test_damage_to_releases_is_accounted_for(tasks: list[Any]) -> None:
    accounted(tasks)


@settings(MANY, max_examples=300)
@given(st.data())
def test_damage_to_the_bytes_of_a_file_is_an_error_with_its_name(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = bytearray(export_text(base()).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(whole) - 1))
        whole[place : place + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=4))
    path: Path = tmp_path_factory.getbasetemp() / "damaged.json"
    path.write_bytes(whole)
    try:
        _, report = read_export(path, SCHEMA)
    except LabelStudioError as error:
        message = str(error)
    else:
        message = f"{path}: read"
        assert len(report.items) == count_of(read_tasks(path))
    assert str(path) in message
