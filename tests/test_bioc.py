"""BioC, as XML and as JSON: the same documents as from PubTator, and what is refused."""

from __future__ import annotations

import gzip
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from pharmatriples.bioc import read_bioc
from pharmatriples.dataset import read_documents
from pharmatriples.import_report import ReadError
from pharmatriples.pubtator import read_pubtator
from test_pubtator import ABSTRACT, LINES, SCHEMA, TITLE


def collection() -> dict[str, Any]:
    """The document of test_pubtator in BioC."""
    rows = [line.split("\t") for line in LINES[2:]]
    annotations = [
        {
            "id": f"T{i}",
            "infons": {"type": row[4], "identifier": row[5]},
            "text": row[3],
            "locations": [{"offset": int(row[1]), "length": int(row[2]) - int(row[1])}],
        }
        for i, row in enumerate(r for r in rows if r[1].isdigit())
    ]
    relations = [
        {"id": f"R{i}", "infons": {"type": row[1], "entity1": row[2], "entity2": row[3]}, "nodes": []}
        for i, row in enumerate(r for r in rows if not r[1].isdigit())
    ]
    start = len(TITLE) + 1
    passages = [
        {"offset": 0, "text": TITLE, "annotations": [a for a in annotations if a["locations"][0]["offset"] < start]},
        {
            "offset": start,
            "text": ABSTRACT,
            "annotations": [a for a in annotations if a["locations"][0]["offset"] >= start],
        },
    ]
    return {"source": "test", "documents": [{"id": "1", "infons": {}, "passages": passages, "relations": relations}]}


def xml(tag: str, data: dict[str, Any]) -> ElementTree.Element:
    """The same as an element: ids and places are attributes of the small elements."""
    element = ElementTree.Element(tag)
    for key, value in data.items():
        if key == "infons":
            for name, text in value.items():
                ElementTree.SubElement(element, "infon", key=name).text = text
        elif isinstance(value, list):
            element.extend(xml(key[:-1], item) for item in value)
        elif tag in ("location", "node") or (tag in ("annotation", "relation") and key == "id"):
            element.set(key, str(value))
        else:
            ElementTree.SubElement(element, key).text = str(value)
    return element


def write(path: Path, data: dict[str, Any]) -> Path:
    if ".xml" in path.name.lower():
        content = ElementTree.tostring(xml("collection", data), encoding="utf-8", xml_declaration=True)
    else:
        content = json.dumps(data).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def test_a_text_with_elements_in_it_is_read_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "some.xml", collection())
    path.write_text(path.read_text().replace(TITLE, f"<i>{TITLE[:4]}</i>{TITLE[4:]}"))
    (document,) = read_bioc(path, SCHEMA).documents
    assert document.text.startswith(TITLE)


@pytest.mark.parametrize("name", ["some.xml", "some.BioC.XML.gz", "some.bioc.json"])
def test_the_same_is_read_as_from_pubtator(tmp_path: Path, name: str) -> None:
    (tmp_path / "some.txt").write_text("\n".join(LINES), encoding="utf-8")
    same = read_pubtator(tmp_path / "some.txt", SCHEMA)
    corpus = read_bioc(write(tmp_path / name, collection()), SCHEMA)
    (ours,), (theirs,) = corpus.documents, same.documents
    assert (ours.id, ours.text, ours.mentions, ours.relations) == (
        theirs.id,
        theirs.text,
        theirs.mentions,
        theirs.relations,
    )
    assert corpus.relations == same.relations
    assert corpus.report.counts == same.report.counts
    assert read_documents(tmp_path / name, SCHEMA) == corpus.documents


def test_relations_may_name_their_ends_by_type_or_by_annotation(tmp_path: Path) -> None:
    data = collection()
    by_type = {"id": "R0", "infons": {"relation": "induces", "Chemical": "D1", "Disease": "D20"}}
    nodes = [{"refid": "T6", "role": "a"}, {"refid": "T5", "role": "b"}]
    data["documents"][0]["relations"] = [by_type, {"id": "R1", "infons": {"type": "binds"}, "nodes": nodes}]
    for name in ("some.xml", "some.bioc.json"):
        corpus = read_bioc(write(tmp_path / name, data), SCHEMA)
        assert corpus.relations["1"] == {("induces", "D1", "D20"), ("binds", "8", "7")}


def test_ids_stand_in_one_of_two_infons(tmp_path: Path) -> None:
    data = collection()
    infons = data["documents"][0]["passages"][0]["annotations"][0]["infons"]
    infons["MESH"] = infons.pop("identifier")
    (document,) = read_bioc(write(tmp_path / "some.xml", data), SCHEMA).documents
    assert document.mentions[0].entity == "Chemical:D1"


def test_sentences_make_a_passage_that_has_no_text(tmp_path: Path) -> None:
    data = collection()
    passage = data["documents"][0]["passages"][1]
    text, offset = passage.pop("text"), passage["offset"]
    cut = text.index(" ABC1") + 1
    passage["sentences"] = [
        {"offset": offset, "text": text[: cut - 1], "annotations": passage.pop("annotations")},
        {"offset": offset + cut, "text": text[cut:]},
    ]
    (document,) = read_bioc(write(tmp_path / "some.xml", data), SCHEMA).documents
    assert document.text == f"{TITLE}\n{text[: cut - 1]}\n{text[cut:]}"
    assert len(document.mentions) == 8


def test_a_mention_in_pieces_is_refused_unless_they_touch(tmp_path: Path) -> None:
    data = collection()
    annotation = data["documents"][0]["passages"][0]["annotations"][1]
    (at,) = annotation["locations"]
    half = {"offset": at["offset"], "length": 9}
    annotation["locations"] = [{"offset": at["offset"] + 9, "length": at["length"] - 9}, half]
    assert not read_bioc(write(tmp_path / "some.xml", data), SCHEMA).report.of("refused")
    annotation["text"] = "liver failure"
    annotation["locations"] = [{"offset": at["offset"], "length": 5}, {"offset": at["offset"] + 16, "length": 7}]
    first = read_bioc(write(tmp_path / "some.xml", data), SCHEMA).report.of("refused")[0]
    assert str(first).endswith("[16, 39) 'liver failure': stands in 2 pieces, a mention in one")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<collection><document>", r":1: not BioC: no element found"),
        ('{"documents": [', r":1: not BioC: Expecting value"),
        ("{}", "a collection of documents was expected"),
        ("<View/>", "a collection of documents was expected"),
        ('{"documents": [{"passages": []}]}', "document 1 '': not BioC: 'id' is missing; export it anew"),
        ('{"documents": [{"id": "1", "passages": [{"text": "a"}]}]}', "document 1 '1': not BioC: 'offset' is missing"),
        (
            '{"documents": [{"id": "1", "passages": [{"text": "a", "offset": "x"}]}]}',
            "document 1 '1': .* 'x' is no whole",
        ),
        (
            '{"documents": [{"id": "1", "passages": [{"text": ["a"], "offset": 0}]}]}',
            r"a passage is \['a'\], a text was",
        ),
        ('{"documents": [{"id": "1"}, {"id": ""}]}', "document 2 '': not BioC: its id is empty; export it anew"),
        ("<collection><document><id/></document></collection>", "document 1 '': not BioC: its id is empty"),
        ('{"documents": [{"id": null}]}', "document 1 '': not BioC: its id is None, a text was expected"),
        (
            '{"documents": [{"id": "1", "passages": [{"text": "ab", "offset": 0}, {"text": "c", "offset": 1}]}]}',
            "document 1 '1': not BioC: a passage begins at 1, but the text before it ends at 2",
        ),
        (
            '{"documents": [{"id": "1", "passages": [], "relations": [{"id": "R7", "infons": {"type": "binds"}}]}]}',
            "relation 'R7' has 0 ends, not 2",
        ),
        ('{"documents": [7]}', "document 1 '': not BioC"),
    ],
)
def test_a_file_that_is_no_bioc_is_named_with_the_place(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad.xml"
    path.write_text(content)
    with pytest.raises(ReadError, match=r"bad\.xml.*" + message):
        read_bioc(path, SCHEMA)


@pytest.mark.parametrize("key", ["offset", "length"])
@pytest.mark.parametrize("number", ["0.9", "1e999", "Infinity", "NaN", "1e2", "true", "null", "[]", "9" * 5000])
def test_a_place_that_is_no_whole_number_is_an_error_with_its_annotation(tmp_path: Path, key: str, number: str) -> None:
    data = collection()
    data["documents"][0]["passages"][0]["annotations"][1]["locations"][0][key] = "NUMBER"
    path = tmp_path / "bad.bioc.json"
    path.write_text(json.dumps(data).replace('"NUMBER"', number), encoding="utf-8")
    message = rf"bad\.bioc\.json: document 1 '1': not BioC: annotation 'T1': {key} .* is no whole number of at most 15"
    with pytest.raises(ReadError, match=message):
        read_bioc(path, SCHEMA)


def test_a_passage_stands_at_a_whole_number_too(tmp_path: Path) -> None:
    data = collection()
    passage = data["documents"][0]["passages"][1]
    passage["offset"] = float(passage["offset"])
    for name in ("some.xml", "some.bioc.json"):
        assert not read_bioc(write(tmp_path / name, data), SCHEMA).report.of("refused"), "1.0 is 1"
        write(
            tmp_path / f"half-{name}",
            collection() | {"documents": [{"id": "1", "passages": [passage | {"offset": 0.9}]}]},
        )
        with pytest.raises(ReadError, match="document 1 '1': not BioC: a passage: offset '0.9' is no whole number"):
            read_bioc(tmp_path / f"half-{name}", SCHEMA)


def test_numbers_are_read_as_texts_where_a_text_is_expected(tmp_path: Path) -> None:
    passages = [{"offset": 0, "text": 7.50, "annotations": []}]
    annotation = {
        "id": 3,
        "infons": {"type": "Gene", "identifier": 70},
        "text": 7,
        "locations": [{"offset": 0, "length": 1}],
    }
    passages[0]["annotations"] = [annotation]
    data = {"documents": [{"id": 12, "passages": passages}]}
    (document,) = read_bioc(write(tmp_path / "some.bioc.json", data), SCHEMA).documents
    assert (document.id, document.text, document.mentions[0].entity) == ("12", "7.5", "Gene:70")
    annotation["text"] = ["7"]
    write(tmp_path / "some.bioc.json", data)
    with pytest.raises(ReadError, match=r"document 1 '12': not BioC: annotation '3' is \['7'\], a text was expected"):
        read_bioc(tmp_path / "some.bioc.json", SCHEMA)
    annotation["text"] = 8
    (item,) = read_bioc(write(tmp_path / "some.bioc.json", data), SCHEMA).report.of("refused")
    assert str(item).startswith("refused mention: document '12', 3 [0, 1) '8': the text there is '7'")
