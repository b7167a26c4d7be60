"""Several annotators of a task, and the other shapes of an export."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from exports import RELEASE, SCHEMA, TEXT, count_of, items, same, task
from pharmatriples.agreement import pairwise
from pharmatriples.annotators import annotations_by, policy
from pharmatriples.documents import Document
from pharmatriples.labelstudio import LabelStudioError, export_text, read_export

ANN, BOB, CYD = "ann@x.org", "bob@x.org", "cyd@x.org"


def without(*regions: str) -> list[dict[str, Any]]:
    """The release's items without these regions, their choices and arrows."""
    gone = set(regions)
    return [i for i in items() if not {i.get("id"), i.get("from_id"), i.get("to_id")} & gone]


def by(who: str | int, result: list[Any], day: int = 1, **more: Any) -> dict[str, Any]:
    people = who if isinstance(who, int) else {"id": 7, "email": who}
    return {"result": result, "completed_by": people, "updated_at": f"2025-01-{day:02}T10:00:00.500000Z", **more}


def several(*annotations: dict[str, Any]) -> dict[str, Any]:
    return {**task([]), "annotations": list(annotations)}


def read(made: dict[str, Any], name: str) -> tuple[list[Document], list[str]]:
    """The documents under a policy, and what was not kept."""
    documents, report = read_export([made], SCHEMA, policy(name, SCHEMA))
    assert len(report.items) == count_of([made])
    return documents, [f"{i.outcome} {i.kind}: {i.reason}" for i in report.items if i.outcome != "kept"]


THREE = several(
    by(ANN, items(), day=2),
    by(BOB, without("g1·1"), day=3, ground_truth=True),
    by(CYD, without("g1·1", "t1·1"), day=1),
)


def test_all_makes_a_document_of_each_annotation_in_one_group() -> None:
    documents, notes = read(THREE, "all")
    assert [(d.id, d.group, len(d.mentions)) for d in documents] == [
        (f"acme@{ANN}", "acme", 9),
        (f"acme@{BOB}", "acme", 8),
        (f"acme@{CYD}", "acme", 7),
    ]
    assert notes == []


@pytest.mark.parametrize(
    ("name", "count"), [("ground_truth", 8), ("latest", 8), (f"by:{ANN}", 9), ("by:CYD@x.org", 7), ("agreement", 8)]
)
def test_a_policy_leaves_one_document_with_the_id_of_its_task(name: str, count: int) -> None:
    (document,), notes = read(THREE, name)
    assert (document.id, document.group, len(document.mentions)) == ("acme", "", count)
    assert all(note.startswith("ignored") for note in notes)


def test_what_is_not_asked_for_is_counted_as_ignored() -> None:
    _, notes = read(THREE, "latest")
    assert notes.count("ignored annotation: not the one that was asked for") == 2
    assert len(notes) == 2 + len(items()) + len(without("g1·1", "t1·1"))


def test_what_the_majority_does_not_say_is_counted_as_ignored() -> None:
    document, notes = read(THREE, "agreement")[0][0], read(THREE, "agreement")[1]
    assert "CD19" not in [document.wording(m) for m in document.mentions]
    assert "2025" in [document.wording(m) for m in document.mentions]
    assert notes == ["ignored region: the majority says otherwise", "ignored relation: the majority says otherwise"]


def test_an_outvoted_choice_is_counted_too() -> None:
    other = copy.deepcopy(items())
    place = next(n for n, item in enumerate(other) if item.get("from_name") == "status")
    other[place]["value"]["choices"] = ["expected"]
    (document,), notes = read(several(by(ANN, items()), by(BOB, items()), by(CYD, other)), "agreement")
    assert {m.attributes["status"] for m in document.mentions if m.attributes} == {"occurred"}
    assert notes == ["ignored choice: the majority says otherwise"]


def test_one_annotator_with_two_annotations_has_one_voice() -> None:
    twice = several(by(ANN, items(), day=1), by(ANN, without("g1·1"), day=5), by(BOB, without("g1·1")))
    (document,), _ = read(twice, "agreement")
    assert len(document.mentions) == 8


@pytest.mark.parametrize("name", ["ground_truth", "by:nobody@x.org"])
def test_a_task_without_the_annotation_that_was_asked_for_gives_no_document(name: str) -> None:
    documents, notes = read(several(by(ANN, items())), name)
    assert documents == []
    assert notes[0] == "ignored task: no annotation that was asked for"


@pytest.mark.parametrize("name", ["all", "latest", "agreement", f"by:{ANN}"])
def test_one_annotation_is_the_same_under_every_policy(name: str) -> None:
    (document,), notes = read(several(by(ANN, items())), name)
    assert same(document, Document("acme", TEXT, RELEASE.mentions, RELEASE.relations))
    assert notes == []


def test_of_equal_times_or_none_the_later_in_the_export_is_the_latest() -> None:
    first, second = {"result": items()}, {"result": []}
    assert read(several(first, second), "latest")[0][0].mentions == ()


def test_times_with_and_without_fractions_are_compared_as_times() -> None:
    early = {"result": items(), "updated_at": "2025-01-01T10:00:00Z"}
    late = {"result": [], "updated_at": "2025-01-01T10:00:00.500000Z"}
    assert read(several(late, early), "latest")[0][0].mentions == ()


@pytest.mark.parametrize("name", ["newest", "by:", "Latest", ""])
def test_an_unknown_policy_is_named(name: str) -> None:
    with pytest.raises(LabelStudioError, match=f"policy '{name}' is none of all, ground_truth, latest"):
        policy(name, SCHEMA)


def test_a_policy_survives_the_committed_form() -> None:
    committed = json.loads(export_text([THREE]))
    for name in ("all", "ground_truth", "latest", f"by:{ANN}", "agreement"):
        before, after = read(THREE, name)[0], read(committed[0], name)[0]
        assert [(d.id, d.mentions, set(d.relations)) for d in after] == [
            (d.id, d.mentions, set(d.relations)) for d in before
        ], name


# --- the annotators of exports


def annotated(id_: str, *annotations: dict[str, Any], **data: str) -> dict[str, Any]:
    return {"data": {"id": id_, "text": TEXT, **data}, "annotations": list(annotations)}


def found_in(folder: Path, **exports: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Annotator -> the tasks that are theirs, of files of these names."""
    paths = [folder / f"{name}.json" for name in exports]
    for path, tasks in zip(paths, exports.values(), strict=True):
        path.write_text(json.dumps(tasks))
    return {who: [d.id for d in own] for who, own in annotations_by(paths, SCHEMA).items()}


def test_annotators_are_read_from_one_export_or_from_one_each(tmp_path: Path) -> None:
    assert found_in(tmp_path, both=[several(by(ANN, items()), by(BOB, []))]) == {ANN: ["acme"], BOB: ["acme"]}
    assert found_in(tmp_path, ann=[task(items())], bob=[task(items())]) == {"ann": ["acme"], "bob": ["acme"]}


def test_exports_of_one_name_in_two_folders_are_of_two_annotators(tmp_path: Path) -> None:
    paths = [tmp_path / who / "releases.json" for who in ("ann", "bob")]
    for path in paths:
        path.parent.mkdir()
        path.write_text(json.dumps([task(items())]))
    assert list(annotations_by(paths, SCHEMA)) == [str(path) for path in paths]


def test_what_one_annotator_alone_has_read_counts_beside_what_several_have(tmp_path: Path) -> None:
    alone = [annotated(f"t{n}", by(ANN, items())) for n in range(5)]
    ann = [*alone, annotated("t9", by(ANN, items()), by(CYD, []))]
    bob = [annotated(f"t{n}", by(BOB, [])) for n in range(5)]
    five = [f"t{n}" for n in range(5)]
    assert found_in(tmp_path, ann=ann, bob=bob) == {ANN: [*five, "t9"], CYD: ["t9"], "bob": five}
    report = pairwise(annotations_by([tmp_path / "ann.json", tmp_path / "bob.json"], SCHEMA), SCHEMA)
    assert {names: pair.tasks for names, pair in report.pairs.items()} == {(ANN, "bob"): 5, (ANN, CYD): 1}


def test_what_does_not_say_whose_it_is_is_counted_under_the_name_of_its_file(tmp_path: Path) -> None:
    shared = annotated("t9", by(ANN, items()), by(CYD, []))
    committed = json.loads(export_text([annotated("t0", by(ANN, items())), shared]))
    bob = [annotated("t0", by(BOB, []))]
    assert found_in(tmp_path, ann=committed, bob=bob) == {ANN: ["t0", "t9"], CYD: ["t9"], "bob": ["t0"]}
    del committed[0]["annotations"][0]["completed_by"]
    assert found_in(tmp_path, ann=committed, bob=bob) == {"ann": ["t0"], ANN: ["t9"], CYD: ["t9"], "bob": ["t0"]}
    named = [annotated("t0", {"result": []}), annotated("t9", by("ann", []), by("cyd", []))]
    assert found_in(tmp_path, ann=named) == {"ann": ["t0", "t9"], "cyd": ["t9"]}


def test_annotations_of_a_task_without_annotators_are_of_several_people(tmp_path: Path) -> None:
    nobody = [annotated(id_, {"result": items()}, {"result": []}) for id_ in ("a", "b")]
    assert found_in(tmp_path, export=nobody) == {"annotation 1": ["a", "b"], "annotation 2": ["a", "b"]}
    number = [annotated("a", by(2, items()), {"result": []})]
    assert found_in(tmp_path, export=number) == {"2": ["a"], "annotation 2": ["a"]}


def test_an_export_of_one_belongs_to_whom_another_export_knows_by_email(tmp_path: Path) -> None:
    shared = annotated("a", by(ANN, items()), by(BOB, []))
    own = annotated("b", by(ANN, items()))
    assert found_in(tmp_path, both=[shared], more=[own]) == {ANN: ["a", "b"], BOB: ["a"]}
    # Everyone is number 1 on a server of their own.
    shared, own = annotated("a", by(1, items()), by(2, [])), annotated("a", by(1, items()))
    assert found_in(tmp_path, both=[shared], cyd=[own]) == {"1": ["a"], "2": ["a"], "cyd": ["a"]}


@pytest.mark.parametrize("data", [{}, {"group": "copies"}, {"group": "news"}])
def test_the_id_of_a_release_may_hold_an_at(tmp_path: Path, data: dict[str, str]) -> None:
    ids = ["news@0", "news@1"]
    one = [annotated(id_, {"result": items()}, **data) for id_ in ids]
    assert found_in(tmp_path, ann=one, bob=one) == {"ann": ids, "bob": ids}
    both = [annotated(id_, by(ANN, items()), by(BOB, []), **data) for id_ in ids]
    assert found_in(tmp_path, both=both) == {ANN: ids, BOB: ids}


@pytest.mark.parametrize("who", [ANN, 3])
def test_of_two_annotations_of_a_task_by_one_annotator_the_latest_counts(tmp_path: Path, who: str | int) -> None:
    twice = annotated("a", by(who, items(), day=5), by(who, [], day=1), by(BOB, []))
    assert found_in(tmp_path, both=[twice]) == {str(who): ["a"], BOB: ["a"]}
    (document,) = annotations_by([tmp_path / "both.json"], SCHEMA)[str(who)]
    assert len(document.mentions) == len(RELEASE.mentions)
    assert found_in(tmp_path, ann=[annotated("a", by(who, []), by(who, []))]) == {"ann": ["a"]}


# --- the shapes of an export


def shaped(**more: Any) -> dict[str, Any]:
    """A task as each form of export holds it."""
    annotation = {"id": 3, "was_cancelled": False, "ground_truth": False, "result": items()}
    return {
        "id": 11,
        "data": {"id": "acme", "text": TEXT},
        "annotations": [{**annotation, **more.pop("of", {})}],
        **more,
    }


@pytest.mark.parametrize(
    ("made", "counted"),
    [
        (shaped(of={"completed_by": 1}, predictions=[5, 6], drafts=[]), {"prediction": 2}),
        (shaped(of={"completed_by": {"id": 1, "email": ANN}}, predictions=[], drafts=[1]), {"draft": 1}),
        (
            shaped(of={"prediction": {"result": items()}}, predictions=[{"id": 5, "result": items()[:2]}]),
            {"prediction": 1, "region": 2, "relation": 0},
        ),
        (shaped(drafts=[{"id": 9, "result": items()[:1]}], predictions=None), {"draft": 1, "region": 1}),
    ],
)
def test_every_form_of_export_gives_the_same_document(made: dict[str, Any], counted: dict[str, int]) -> None:
    documents, report = read_export([made], SCHEMA)
    assert same(documents[0], Document("acme", TEXT, RELEASE.mentions, RELEASE.relations))
    assert len(report.items) == count_of([made])
    assert {kind: report.counts[kind]["ignored"] for kind in counted} == {**counted}


def test_an_export_of_before_1_0_is_refused_and_not_taken_for_empty() -> None:
    made = {"data": {"id": "old", "text": TEXT}, "completions": [{"result": items()}]}
    documents, report = read_export([made], SCHEMA)
    assert documents == []
    assert "'completions' are of Label Studio before 1.0" in report.of("refused")[0].reason


def test_regions_of_several_controls_are_read_alike() -> None:
    result = items()
    for number, item in enumerate(result):
        if item["type"] == "labels":
            item["from_name"] = f"labels{number % 2}"
    (document,), notes = read(task(result), "all")
    assert len(document.mentions) == len(RELEASE.mentions)
    assert notes == []


def test_a_choice_of_the_whole_text_is_refused() -> None:
    result = [*items(), {"id": "c", "from_name": "tone", "type": "choices", "value": {"choices": ["good"]}}]
    assert read(task(result), "all")[1] == ["refused choice: its region 'c' is not in the annotation"]
    del result[-1]["id"]
    assert read(task(result), "all")[1] == ["refused choice: without a region: its 'id' is None"]
