from __future__ import annotations

import json
from typing import Any

import pytest
from exports import SCHEMA
from hypothesis import given
from hypothesis import strategies as st
from pharmatriples.documents import Document
from pharmatriples.labelstudio import export_task, read_export
from pharmatriples.labelstudio_offsets import Utf16Text, agrees, trimmed, utf16_text

EMOJI = "\U0001f600"
TEXT = f"{EMOJI} ABC-1 binds CD19 {EMOJI}{EMOJI} in XY-22."


def spans(*spans: tuple[int, int, str], text: str | None = TEXT) -> dict[str, Any]:
    """A task with these regions; start and end as given, `value.text` too."""
    result = [
        {
            "id": f"r{n}",
            "from_name": "label",
            "type": "labels",
            "value": {"start": a, "end": b, "text": t, "labels": [d]},
        }
        for n, (a, b, t) in enumerate(spans)
        for d in ["DRUG"]
    ]
    return {"data": {"id": "x", "text": text}, "annotations": [{"result": result}]}


def units(words: str) -> tuple[int, int, str]:
    """Start and end in UTF-16 units, as a browser of old counted them."""
    before = TEXT[: TEXT.index(words)]
    start = len(before.encode("utf-16-le")) // 2
    return start, start + len(words.encode("utf-16-le")) // 2, words


def points(words: str) -> tuple[int, int, str]:
    return TEXT.index(words), TEXT.index(words) + len(words), words


def read(task: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The words of the mentions, and what was not simply kept."""
    (document,), report = read_export([task], SCHEMA)
    notes = [f"{i.outcome} {i.kind}: {i.reason}" for i in report.items if i.outcome != "kept"]
    return [document.wording(m) for m in document.mentions], notes


# --- units


def test_utf16_offsets_of_old_exports_are_recognised_and_repaired() -> None:
    words, notes = read(spans(units("ABC-1"), units("CD19"), units("XY-22")))
    assert words == ["ABC-1", "CD19", "XY-22"]
    assert notes == ["repaired region: offsets counted UTF-16 units"] * 3


def test_the_whole_task_decides_so_that_a_span_that_fits_both_ways_moves_with_the_others() -> None:
    start, end, _ = units("CD19")
    words, notes = read(spans(units("ABC-1"), (start, end, "")))
    assert words[0] == "ABC-1"
    assert words[1] == "CD19"
    assert notes[0] == "repaired region: offsets counted UTF-16 units"


def test_offsets_in_code_points_stay_as_they_are() -> None:
    assert read(spans(points("ABC-1"), points("XY-22"))) == (["ABC-1", "XY-22"], [])


def test_one_span_that_fits_only_in_code_points_keeps_the_task_in_code_points() -> None:
    words, notes = read(spans(points("ABC-1"), units("CD19")))
    assert words == ["ABC-1", "D19"]
    assert len(notes) == 1
    assert "value.text says 'CD19', the text there 'D19 '" in notes[0]


def test_each_annotation_counts_in_its_own_units() -> None:
    old, new = (spans(of("ABC-1"), of("CD19"))["annotations"][0] for of in (units, points))
    unsure = spans((0, 1, "x"))["annotations"][0] | {"result": []}
    task = {"data": {"id": "x", "text": TEXT}, "annotations": [old, new, unsure]}
    for export in (task, json.loads(json.dumps(export_task(task)))):
        found = [[d.wording(m) for m in d.mentions] for d in read_export([export], SCHEMA).documents]
        assert found == [["ABC-1", "CD19"], ["ABC-1", "CD19"], []]


def test_what_lies_in_the_middle_of_a_character_is_refused_in_the_committed_form_too() -> None:
    task = spans(units("ABC-1"), (1, 8, "?"))
    assert read(json.loads(json.dumps(export_task(task))))[0] == read(task)[0] == ["ABC-1"]


def test_utf16_offsets_in_the_middle_of_a_character_are_refused() -> None:
    _, notes = read(spans(units("ABC-1"), (1, 3, "?")))
    assert notes[1].startswith("refused region: offsets count UTF-16 units here")


def test_the_committed_form_has_code_points_although_it_has_no_value_text() -> None:
    exported = json.loads(json.dumps(export_task(spans(units("ABC-1"), units("XY-22")))))
    assert "text" not in exported["annotations"][0]["result"][0]["value"]
    assert read(exported) == (["ABC-1", "XY-22"], [])


def test_a_text_without_astral_characters_has_no_units_to_tell() -> None:
    assert utf16_text("caf\u00e9 ABC-1", [(0, 4, "nothing like it")]) is None
    assert utf16_text("", [(0, 4, "nothing like it")]) is None


@given(st.text(), st.data())
def test_units_lead_back_to_code_points(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    in_units = [len(text[:place].encode("utf-16-le", "surrogatepass")) // 2 for place in (start, end)]
    assert Utf16Text(text).span(*in_units) == (start, end)


# --- value.text


@pytest.mark.parametrize(
    ("words", "given", "same"),
    [
        ("two\r\n  words", "two\\n words", True),
        ("two\nwords", "two\\nwords", True),
        ("two words", "twowords", True),
        ("ABC-1", "BC-1 ", False),
        ("ABC-1", "ABC-12", False),
    ],
)
def test_value_text_may_bend_blanks_and_breaks_alone(words: str, given: str, same: bool) -> None:
    assert agrees(words, given) is same


def test_a_value_text_that_says_something_else_is_told_and_the_offsets_count() -> None:
    words, notes = read(spans((0, 5, "other"), text="ABC-1 works"))
    assert words == ["ABC-1"]
    assert notes == ["repaired region: value.text says 'other', the text there 'ABC-1'; the text counts"]


def test_crlf_counts_as_two_characters() -> None:
    text = "One\r\nABC-1\r\nCD19"
    assert read(spans((5, 10, "ABC-1"), (12, 16, "CD19"), text=text)) == (["ABC-1", "CD19"], [])


# --- ends


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (" ABC-1\t\n", "ABC-1"),
        ("(ABC-1", "ABC-1"),
        ("ABC-1)", "ABC-1"),
        ("( ABC-1 ", "ABC-1"),
        ("(ABC-1)", "(ABC-1)"),
        ("anti-(CD19", "anti-(CD19"),
        ("CD19 (B4)", "CD19 (B4)"),
        ("[(R)-ABC", "(R)-ABC"),
        ("B4) CD19 (", "B4) CD19"),
        ("(ABC]", "ABC"),
        ("\u00a0ABC\u3000", "ABC"),
        (" )( ", ""),
        ("", ""),
    ],
)
def test_blanks_and_brackets_that_are_not_closed_are_cut_off_at_the_ends(text: str, kept: str) -> None:
    start, end = trimmed(text, 0, len(text))
    assert text[start:end] == kept


@given(st.text(st.sampled_from("()[] a")))
def test_what_is_cut_needs_no_second_cut(text: str) -> None:
    span = trimmed(text, 0, len(text))
    assert trimmed(text, *span) == span


def test_a_span_with_blanks_and_brackets_at_its_ends_is_repaired_and_one_of_nothing_else_refused() -> None:
    words, notes = read(spans((3, 10, "(ABC-1 "), (10, 11, "("), text="of (ABC-1 (CD19)"))
    assert words == ["ABC-1"]
    assert notes == [
        "repaired region: blanks or brackets at the ends cut off: [4, 9)",
        "refused region: the span holds nothing but blanks and brackets",
    ]


def test_spans_that_are_one_after_the_cut_are_merged() -> None:
    words, notes = read(spans((3, 9, "(ABC-1"), (4, 9, "ABC-1"), text="of (ABC-1 x"))
    assert words == ["ABC-1"]
    assert [note.split(":")[0] for note in notes] == ["repaired region"] * 2


def test_a_document_keeps_its_text_whatever_was_repaired() -> None:
    documents, _ = read_export([spans(units("ABC-1"))], SCHEMA)
    assert documents == [Document("x", TEXT, documents[0].mentions)]
