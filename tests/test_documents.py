"""Documents: what is checked, and that JSON lines give back what went in."""

from __future__ import annotations

import dataclasses
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pharmatriples.documents import (
    Document,
    DocumentError,
    Entity,
    Mention,
    Relation,
    read_jsonl,
    word_spans,
    write_jsonl,
)
from strategies import SCHEMA, documents

TEXT = "Abc starts: abc hits CD20."
GENE = Mention(21, 25, "GENE", "g1")
DRUG = Mention(0, 3, "DRUG", "d1")
AGAIN = Mention(12, 15, "DRUG", "d1")
EVENT = Mention(4, 10, "EVENT", "e1", {"kind": "start"})
RELATIONS = (Relation("acts_on", "d1", "g1"), Relation("event_drug", "e1", "d1"))


def document(**changes: Any) -> Document:
    whole: dict[str, Any] = {"id": "r1", "text": TEXT, "mentions": (GENE, AGAIN, EVENT, DRUG), "relations": RELATIONS}
    return Document(**{**whole, **changes})


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    data = document().to_dict()
    change(data)
    return data


# --- what a document holds


def test_mentions_stand_in_the_order_of_the_text() -> None:
    assert document().mentions == (DRUG, EVENT, AGAIN, GENE)


def test_mentions_of_one_entity_are_grouped() -> None:
    entities = document().entities
    assert list(entities) == ["d1", "e1", "g1"]
    assert entities["d1"] == Entity("d1", "DRUG", (DRUG, AGAIN))
    assert entities["e1"].attributes == {"kind": "start"}


def test_wording_is_the_text_as_given() -> None:
    text = "🧬\r\nΑβγ\x00 x"
    assert Document("r", text, (Mention(3, 6, "GENE", "g"),)).wording(Mention(3, 6, "GENE", "g")) == "Αβγ"


def test_a_document_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        document().text = ""  # type: ignore[misc]


def test_an_entity_takes_the_attribute_value_of_most_mentions_and_of_equals_the_first() -> None:
    def entity(*kinds: str) -> Entity:
        return Entity("e", "EVENT", tuple(Mention(i, i + 1, "EVENT", "e", {"kind": k}) for i, k in enumerate(kinds)))

    assert entity("stop", "start", "start").attributes == {"kind": "start"}
    assert entity("stop", "start").attributes == {"kind": "stop"}


def test_a_split_is_set_on_a_copy() -> None:
    whole = document()
    assert whole.with_split("test").split == "test"
    assert whole.split is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("HS-20089 (anti-B7-H4)", ["HS-20089", "(", "anti", "-", "B7-H4", ")"]),
        ("PD-1/PD-L1 IL-4Rα CD20-targeted", ["PD-1", "/", "PD-L1", "IL-4Rα", "CD20", "-", "targeted"]),
        ("PD-1xCTLA-4 ANTI-CD3 CD3-CD20", ["PD-1", "x", "CTLA-4", "ANTI", "-", "CD3", "CD3", "-", "CD20"]),
        ("EGFRxB7-H3 PD-L1x4-1BB HS\u20111", ["EGFR", "x", "B7-H3", "PD-L1", "x", "4", "-", "1BB", "HS\u20111"]),
        ("PD-1抗 10-20 2026-08", ["PD-1", "抗", "10", "-", "20", "2026", "-", "08"]),
        ("a_b\r\nÄ2 🧬", ["a", "_", "b", "Ä2", "🧬"]),
        ("恒瑞HR1号", ["恒", "瑞", "HR1", "号"]),
        (" \t\n", []),
    ],
)
def test_words_are_codes_runs_of_letters_and_digits_and_single_signs(text: str, words: list[str]) -> None:
    assert [text[start:end] for start, end in word_spans(text)] == words


@settings(deadline=None)
@given(st.text())
def test_words_cover_everything_but_blanks(text: str) -> None:
    covered = [i for start, end in word_spans(text) for i in range(start, end)]
    assert covered == [i for i, character in enumerate(text) if not character.isspace()]


# --- what is refused when a document is made


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": ""}, "a document's id must be a text that is not empty"),
        ({"id": 7}, "a document's id must be a text that is not empty"),
        ({"text": None, "mentions": (), "relations": ()}, "document 'r1': the text must be a text, found NoneType"),
        ({"group": 7}, "document 'r1': the group must be a text"),
        ({"split": "dev"}, "document 'r1': split 'dev' is none of train, validation, test"),
        ({"mentions": (DRUG, EVENT, Mention(21, 27, "GENE", "g1"))}, r"\[21, 27\) of type GENE is empty or outside"),
        ({"mentions": (DRUG, EVENT, Mention(21, 21, "GENE", "g1"))}, r"\[21, 21\) of type GENE is empty or outside"),
        ({"mentions": (DRUG, EVENT, Mention(-4, 3, "GENE", "g1"))}, r"\[-4, 3\) of type GENE is empty or outside"),
        (
            {"mentions": (DRUG, EVENT, GENE, Mention(24, 26, "GENE", "g2"))},
            r"document 'r1': mentions 'CD20' at \[21, 25\) and '0.' at \[24, 26\) overlap",
        ),
        (
            {"mentions": (DRUG, EVENT, GENE, Mention(12, 15, "GENE", "d1"))},
            r"entity 'd1' is DRUG at \[0, 3\) and GENE at \[12, 15\)",
        ),
        ({"mentions": (DRUG, EVENT)}, "document 'r1': relation acts_on: its tail 'g1' is no entity"),
        ({"mentions": (GENE, EVENT)}, "document 'r1': relation acts_on: its head 'd1' is no entity"),
        ({"relations": RELATIONS + RELATIONS[:1]}, "relation acts_on from 'd1' to 'g1' stands twice"),
    ],
)
def test_a_contradiction_names_document_and_place(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        document(**changes)


def test_mentions_may_touch() -> None:
    assert len(Document("r", "abab", (Mention(0, 2, "GENE", "a"), Mention(2, 4, "GENE", "b"))).mentions) == 2


# --- what the schema refuses


def test_a_document_of_the_schema_passes() -> None:
    whole = document()
    assert whole.check(SCHEMA) is whole


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mentions": (Mention(0, 3, "DOG", "d"),)}, r"'Abc' at \[0, 3\): entity type 'DOG' is none of GENE"),
        ({"mentions": (Mention(4, 10, "EVENT", "e"),)}, r"'starts' at \[4, 10\): kind is None, must be one of start"),
        ({"mentions": (Mention(4, 10, "EVENT", "e", {"kind": "end"}),)}, "kind is 'end', must be one of start, stop"),
        ({"mentions": (Mention(0, 3, "DRUG", "d", {"kind": "stop"}),)}, "DRUG carries no attribute 'kind'"),
        ({"relations": (Relation("hits", "d1", "g1"),)}, "relation type 'hits' is none of acts_on, event_drug"),
        ({"relations": (Relation("acts_on", "g1", "d1"),)}, "joins GENE -> DRUG, must join DRUG -> GENE"),
    ],
)
def test_what_the_schema_does_not_know_names_document_and_place(changes: dict[str, Any], message: str) -> None:
    changes.setdefault("relations", ())
    with pytest.raises(DocumentError, match=f"document 'r1': .*{message}"):
        document(**changes).check(SCHEMA)


def test_an_attribute_value_of_the_wrong_kind_is_refused_too() -> None:
    bad: dict[str, Any] = {"kind": ["start"]}
    with pytest.raises(DocumentError, match=r"kind is \['start'\]"):
        document(mentions=(Mention(4, 10, "EVENT", "e", bad),), relations=()).check(SCHEMA)


# --- JSON


def test_json_tells_the_wording_and_leaves_out_what_is_not_set() -> None:
    data = document().to_dict()
    assert data["mentions"][1] == {
        "start": 4,
        "end": 10,
        "type": "EVENT",
        "entity": "e1",
        "kind": "start",
        "text": "starts",
    }
    assert set(data) == {"id", "text", "mentions", "relations"}


def test_a_line_of_the_extraction_commands_is_read() -> None:
    line = {
        "id": "r1",
        "text": TEXT,
        "entities": [
            {
                "id": "D-1",
                "type": "DRUG",
                "name": "Abc",
                "score": 0.9,
                "mentions": [{"start": 0, "end": 3, "score": 1}],
            },
            {
                "id": "E-1",
                "type": "EVENT",
                "name": "starts",
                "kind": "start",
                "mentions": [{"start": 4, "end": 10, "text": "starts", "score": 0.8}],
            },
        ],
        "relations": [{"type": "event_drug", "head": "E-1", "tail": "D-1", "score": 0.5}],
        "records": [],
    }
    read = Document.from_dict(line).check(SCHEMA)
    assert read.mentions == (
        Mention(0, 3, "DRUG", "D-1", {}, 1),
        Mention(4, 10, "EVENT", "E-1", {"kind": "start"}, 0.8),
    )
    assert read.relations == (Relation("event_drug", "E-1", "D-1", 0.5),)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (["r1"], "a document is a JSON object, found list"),
        ({"text": "x"}, "a document's id must be a text that is not empty, found None"),
        ({"id": "r1"}, "document 'r1': the text must be a text, found NoneType"),
        ({"id": "r1", "text": "x", "mentions": {}}, "document 'r1': 'mentions' must be a list of objects"),
        ({"id": "r1", "text": "x", "mentions": ["x"]}, "document 'r1': 'mentions' must be a list of objects"),
        ({"id": "r1", "text": "x", "entities": "x"}, "document 'r1': 'entities' must be a list of objects"),
        ({"id": "r1", "text": "x", "entities": [{"type": "DRUG"}]}, "document 'r1': an entity without an id"),
        (changed(lambda d: d["mentions"][0].pop("end")), "document 'r1': a mention's 'end' must be int"),
        (changed(lambda d: d["mentions"][0].update(start=True)), "document 'r1': a mention's 'start' must be int"),
        (changed(lambda d: d["mentions"][0].update(start=0.0)), "document 'r1': a mention's 'start' must be int"),
        (changed(lambda d: d["mentions"][1].update(kind=None)), "document 'r1': a mention's 'kind' must be a text"),
        (changed(lambda d: d["mentions"][0].update(score="high")), "document 'r1': a score is a probability"),
        (changed(lambda d: d["relations"][0].update(score=7)), "document 'r1': a score is a probability"),
        (changed(lambda d: d["relations"][0].update(head=1)), "document 'r1': a relation's 'head' must be str"),
        (
            changed(lambda d: d["mentions"][3].update(text="CD-20")),
            r"document 'r1': mention \[21, 25\) says 'CD-20' but the text there is 'CD20'; offsets count Unicode",
        ),
    ],
)
def test_bad_json_names_document_and_place(data: Any, message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        Document.from_dict(data)


@settings(deadline=None)
@given(st.lists(documents(), unique_by=lambda d: d.id, max_size=4))
def test_json_lines_give_back_the_documents(tmp_path_factory: pytest.TempPathFactory, given_: list[Document]) -> None:
    path = tmp_path_factory.mktemp("jsonl") / "documents.jsonl"
    assert write_jsonl(given_, path) == len(given_)
    assert list(read_jsonl(path)) == given_
    assert path.read_bytes().count(b"\n") == len(given_)


def test_a_lone_surrogate_survives(tmp_path: Path) -> None:
    broken = Document("r", "\ud83d x \ude00", (Mention(4, 5, "GENE", "\udc00"),))
    write_jsonl([broken], tmp_path / "documents.jsonl")
    assert list(read_jsonl(tmp_path / "documents.jsonl")) == [broken]


def test_packed_lines_are_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "documents.jsonl.gz"
    write_jsonl([document()], path)
    assert json.loads(gzip.decompress(path.read_bytes()))["id"] == "r1"
    assert list(read_jsonl(path)) == [document()]


def test_a_byte_order_mark_and_empty_lines_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "documents.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"id": "a", "text": ""}\r\n\r\n{"id": "b", "text": ""}')
    assert [d.id for d in read_jsonl(path)] == ["a", "b"]


GOOD = b'{"id": "a", "text": "x"}\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD + b"{", r":2: not JSON"),
        (GOOD + b"[" * 100_000, r":2: not JSON"),
        (GOOD + b'{"id": "b"}', r":2: document 'b': the text must be a text"),
        (GOOD + GOOD, r":2: document 'a' stood in line 1 already"),
        (b'{"id": "\xe9"}', r"cannot be read as UTF-8 text"),
    ],
)
def test_a_bad_line_names_file_and_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "documents.jsonl"
    path.write_bytes(content)
    with pytest.raises(DocumentError, match=rf"documents\.jsonl.*{message}"):
        list(read_jsonl(path))


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(GOOD * 50)[:-9], gzip.compress(GOOD)[:12] + b"\xff" * 9])
def test_a_broken_packed_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "documents.jsonl.gz"
    path.write_bytes(content)
    with pytest.raises(DocumentError, match=r"documents\.jsonl\.gz"):
        list(read_jsonl(path))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"gone\.jsonl: no such file"):
        list(read_jsonl(tmp_path / "gone.jsonl"))
    with pytest.raises(DocumentError, match="cannot be read"):
        list(read_jsonl(tmp_path))


@pytest.mark.parametrize(
    ("wordings", "name"),
    [
        (["NMOSD", "NMOSD", "NMOSD", "neuromyelitis optica spectrum disorder"], "NMOSD"),
        (["NMOSD", "neuromyelitis optica spectrum disorder"], "neuromyelitis optica spectrum disorder"),
        (["ovarian cancer", "Ovarian cancer", "resistant ovarian cancer"], "resistant ovarian cancer"),
        (["ACME", "Acme", "Acme"], "Acme"),
        (["Acme"], "Acme"),
    ],
)
def test_the_name_of_an_entity_is_its_most_informative_mention(wordings: list[str], name: str) -> None:
    text = " ".join(wordings)
    starts = [sum(len(w) + 1 for w in wordings[:i]) for i in range(len(wordings))]
    mentions = tuple(Mention(s, s + len(w), "DRUG", "d1") for s, w in zip(starts, wordings, strict=True))
    assert Document("x", text, mentions).entities["d1"].name(text) == name
