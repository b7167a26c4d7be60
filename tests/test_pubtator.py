"""PubTator: what is read, repaired and refused, and that nothing is lost on the way."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pharmatriples import Mention, Schema
from pharmatriples.database_ids import Corpus, ids_of, split_ids
from pharmatriples.dataset import read_corpus, read_documents
from pharmatriples.import_report import ReadError
from pharmatriples.pubtator import read_pubtator

SCHEMA = Schema.from_dict(
    {
        "name": "small",
        "version": 1,
        "entities": {"Chemical": "", "Disease": "", "Gene": ""},
        "relations": {"induces": ["Chemical", "Disease"], "binds": [["Chemical", "Gene"], ["Gene", "Gene"]]},
        "symmetric": ["binds"],
        "alias": {"same_as": ["Chemical", "Disease", "Gene"]},
    }
)
# An emoji and an accent stand before the mentions: offsets count code points.
TITLE = "😀 Zolpimine and liver or kidney failure"
ABSTRACT = "Zolpimine (ZP) caused hépatite. ABC1 holds DEF2 and ZP; failure of the drug."


def span(words: str, type_: str, ids: str, nth: int = 0, extra: str = "") -> str:
    """A mention line of the document above, its offsets into title + " " + abstract."""
    text, start = f"{TITLE} {ABSTRACT}", -1
    for _ in range(nth + 1):
        start = text.index(words, start + 1)
    return "\t".join(["1", str(start), str(start + len(words)), words, type_, ids, *([extra] if extra else [])])


LINES = [
    f"1|t|{TITLE}",
    f"1|a|{ABSTRACT}",
    span("Zolpimine", "Chemical", "D1"),
    span("liver or kidney failure", "Disease", "D20|D21", extra="liver failure|kidney failure"),
    span("Zolpimine", "Chemical", "D1", nth=1),
    span("ZP", "Chemical", "D1"),
    span("hépatite", "Disease", "-1"),
    span("ABC1", "Gene", "7"),
    span("DEF2", "Gene", "8"),
    span("ZP", "Chemical", "D1", nth=1),
    "1\tinduces\tD1\tD20",
    "1\tinduces\tD1\tD21\tNovel",
    "1\tbinds\t8\t7",
    "1\tbinds\t7\tD1",
]

Read = Callable[..., Corpus]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read_lines(*lines: str, end: str = "\n") -> Corpus:
        path = tmp_path / "some.PubTator"
        path.write_text(end.join(lines) + end, encoding="utf-8", newline="")
        return read_pubtator(path, SCHEMA)

    return read_lines


def changed(old: str, new: str) -> list[str]:
    assert old in LINES
    return [new if line == old else line for line in LINES]


def refused(corpus: Corpus) -> str:
    (item,) = corpus.report.of("refused")
    return str(item)


def test_a_document_has_its_mentions_entities_and_relations(read: Read) -> None:
    corpus = read(*LINES)
    (document,) = corpus.documents
    assert document.check(SCHEMA) is document
    assert document.text == f"{TITLE}\n{ABSTRACT}", "the title is a line of its own"
    assert [(document.wording(m), m.entity) for m in document.mentions] == [
        ("Zolpimine", "Chemical:D1"),
        ("liver or kidney failure", "Disease:D20,D21"),
        ("Zolpimine", "Chemical:D1"),
        ("ZP", "Chemical:D1"),
        ("hépatite", "Disease-1"),
        ("ABC1", "Gene:7"),
        ("DEF2", "Gene:8"),
        ("ZP", "Chemical:D1"),
    ]
    assert [(r.type, r.head, r.tail) for r in document.relations] == [
        ("induces", "Chemical:D1", "Disease:D20,D21"),
        ("binds", "Gene:7", "Gene:8"),  # of one type, the first in the text is the head
        ("binds", "Chemical:D1", "Gene:7"),  # in the order of the signature
    ]
    assert (document.id, document.source, document.split) == ("1", "some.PubTator", None)


def test_every_line_is_accounted_for(read: Read) -> None:
    report = read(*LINES).report
    assert report.counts == {
        "document": {"kept": 1, "repaired": 0, "refused": 0, "ignored": 0},
        "mention": {"kept": 8, "repaired": 0, "refused": 0, "ignored": 0},
        "relation": {"kept": 2, "repaired": 2, "refused": 0, "ignored": 0},
    }
    reasons = [item.reason for item in report.of("repaired")]
    assert reasons == [
        "goes to mentions of several ids: Chemical:D1 -> Disease:D20,D21",
        "goes to mentions of several ids: Chemical:D1 -> Disease:D20,D21; joins what an earlier relation joins",
    ]


def test_relations_between_ids_stay_as_they_were_annotated(read: Read) -> None:
    without = [line for line in LINES if line != "1\tinduces\tD1\tD21\tNovel"]
    assert read(*without).relations == {
        "1": frozenset({("induces", "D1", "D20"), ("binds", "8", "7"), ("binds", "D1", "7")})
    }


@pytest.mark.parametrize(
    ("field", "ids"),
    [
        ("D003409", ("D003409",)),
        ("D2|D1", ("D1", "D2")),
        ("3172,3651", ("3172", "3651")),
        ("D004829+D003294", ("D003294", "D004829")),
        (" CVCL_0023", ("CVCL_0023",)),
        ("OMIM:601665", ("OMIM:601665",)),
        ("c|SUB|G|643|T", ("c|SUB|G|643|T",)),
        ("c|SUB|C|IVS3+5|T", ("c|SUB|C|IVS3+5|T",)),
        ("rs113488022,p|SUB|V|600|E", ("p|SUB|V|600|E", "rs113488022")),
        ("D1,D2|D3", ("D1", "D2", "D3")),
        ("1,2-dichloroethane", ("1,2-dichloroethane",)),
        ("D1|-1", ("D1",)),
        ("-1", ()),
        ("-", ()),
        ("", ()),
    ],
)
def test_ids_are_told_apart_and_come_back_from_the_entity(field: str, ids: tuple[str, ...]) -> None:
    assert split_ids(field) == ids
    if field != "1,2-dichloroethane":  # its comma is written otherwise in an entity
        assert ids_of(f"Type:{','.join(ids)}") == ids


@pytest.mark.parametrize("other", ["p|SUB|V|600|E", "NM_004333.6:c.1799T>A", "1,2-dichloroethane", "100%2C"])
def test_ids_of_one_span_come_back_one_by_one_whatever_they_look_like(read: Read, other: str) -> None:
    lines = [span("ABC1", "Gene", other), span("ABC1", "Gene", "rs113488022"), span("ABC1", "Gene", "rs113488022")]
    corpus = read(*LINES[:3], *lines, "1\tbinds\trs113488022\tD1", f"1\tbinds\tD1\t{other}")
    assert not corpus.report.of("refused")
    (document,) = corpus.documents
    assert [ids_of(m.entity) for m in document.mentions] == [("D1",), tuple(sorted([other, "rs113488022"]))]
    assert corpus.relations["1"] == {("binds", "D1", "rs113488022"), ("binds", "D1", other)}


def test_an_entity_without_database_ids_has_none() -> None:
    assert ids_of("Disease-1") == ids_of("d1") == ()


def test_mentions_without_id_are_one_entity_where_they_are_worded_alike(read: Read) -> None:
    lines = ["1|t|Pain and fever", "1|a|pain", "1\t0\t4\tPain\tDisease\t-", "1\t9\t14\tfever\tDisease\t-1"]
    (document,) = read(*lines, "1\t15\t19\tpain\tDisease").documents
    assert [m.entity for m in document.mentions] == ["Disease-1", "Disease-2", "Disease-1"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (span("ABC1", "Protein", "7"), "entity type 'Protein' is none of Chemical, Disease, Gene"),
        ("1\t0\t9\tZolpimine\tChemical\tD1", "the text there is '😀 Zolpimi'; offsets count Unicode code points"),
        ("1\t990\t999\tZolpimine\tChemical\tD1", "outside the text of 116 characters"),
        ("1\t9\t9\t\tChemical\tD1", "empty, or outside"),
        (span("kidney failure", "Disease", "D21"), "overlaps Disease 'liver or kidney failure' at [16, 39)"),
        (span("ZP", "Disease", "D9"), "overlaps Chemical 'ZP' at"),
        ("1\tinduces\tD1\tD99", "no mention that is kept has the id 'D99'"),
        ("1\tinduces\tD1\t-1", "has an end without an id"),
        ("1\tinduces\t7\tD1", "induces joins Chemical -> Disease, found Gene and Chemical"),
        ("1\tcures\tD1\tD20", "relation type 'cures' is none of induces, binds"),
    ],
)
def test_what_contradicts_text_or_schema_is_refused_with_its_line(read: Read, line: str, reason: str) -> None:
    corpus = read(*LINES, line)
    assert reason in refused(corpus)
    assert f"document '1', line {len(LINES) + 1}" in refused(corpus)
    assert len(corpus.documents[0].mentions) == 8
    with pytest.raises(ReadError, match=r"some\.PubTator: 1 items of the file are refused"):
        corpus.report.check()


def test_of_nested_mentions_the_longest_is_kept_in_whatever_order(read: Read) -> None:
    whole, part = span("liver or kidney failure", "Disease", "D20"), span("liver", "Gene", "9")
    for lines in ([whole, part], [part, whole]):
        (document,) = read(*LINES[:2], *lines).documents
        assert [document.wording(m) for m in document.mentions] == ["liver or kidney failure"]


def test_a_relation_that_was_refused_still_counts_between_the_ids(read: Read) -> None:
    assert ("induces", "D1", "D99") in read(*LINES, "1\tinduces\tD1\tD99").relations["1"]


def test_repairs_are_told(read: Read) -> None:
    wide = span("ABC1 ", "Gene", "7")
    assert [i.reason for i in read(*changed(span("ABC1", "Gene", "7"), wide)).report.of("repaired")][0] == (
        "blanks around it are cut off"
    )
    corpus = read(*LINES, span("ABC1", "Gene", "70"), "1\tinduces\tD20\tD1")
    reasons = [item.reason for item in corpus.report.of("repaired")]
    assert "stands at line 8 already; their ids are put together" in reasons
    assert any(reason.startswith("turned round: induces joins Chemical -> Disease") for reason in reasons)
    assert "Gene:7,70" in corpus.documents[0].entities


def test_a_document_that_stands_twice_is_read_once(read: Read) -> None:
    corpus = read("", *LINES, "", *LINES)
    assert len(corpus.documents) == 1
    (item,) = corpus.report.of("ignored")
    assert (item.kind, item.reason) == ("document", "stood at line 2 already, just the same")
    assert corpus.report.warnings == []
    assert "stood at line 1 already, with other content" in refused(read(*LINES, *LINES[:-1]))


def test_blank_lines_windows_ends_and_gzip_change_nothing(read: Read, tmp_path: Path) -> None:
    plain = read(*LINES)
    assert read("", *LINES, "", "", end="\r\n").documents == plain.documents
    packed = tmp_path / "some.PubTator.txt.gz"
    packed.write_bytes(gzip.compress("\n".join(LINES).encode("utf-8-sig")))
    assert [d.mentions for d in read_documents(packed, SCHEMA)] == [d.mentions for d in plain.documents]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["A plain text."], r":1: not PubTator: 'A plain text\.'; a line is ID\|t\|TITLE"),
        (["1\t0\t3\tABC\tGene"], r":1: a line of '1', but no document before it; begin one with ID\|t\|TITLE"),
        (["1|a|Abstract"], r":1: a line of '1', but no document before it"),
        ([*LINES, "2\t0\t3\tABC\tGene"], r":15: a line of '2', but the document of line 1 is '1'"),
        ([*LINES, "1|a|More"], r":15: a second abstract of '1'"),
        ([*LINES, "1\t0\t3\tABC"], r":15: not PubTator: '1\\t0\\t3\\tABC'"),
        ([*LINES, "1\tinduces\tD1"], r":15: not PubTator"),
        ([*LINES, f"1\t0\t{'9' * 5000}\tABC\tGene"], r":15: not PubTator: '1\\t0\\t9{9,}; an offset has at most 15"),
    ],
)
def test_a_line_without_the_form_is_an_error_with_file_and_line(read: Read, lines: list[str], message: str) -> None:
    with pytest.raises(ReadError, match=r"some\.PubTator" + message):
        read(*lines)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="gone.txt: cannot be read: No such file"):
        read_pubtator(tmp_path / "gone.txt", SCHEMA)
    (tmp_path / "bad.txt.gz").write_bytes(b"no gzip")
    with pytest.raises(ReadError, match=r"bad\.txt\.gz: cannot be read"):
        read_pubtator(tmp_path / "bad.txt.gz", SCHEMA)
    (tmp_path / "latin.txt").write_bytes("1|t|é".encode("latin-1"))
    with pytest.raises(ReadError, match="not UTF-8 text"):
        read_pubtator(tmp_path / "latin.txt", SCHEMA)


def test_reading_documents_is_strict_and_ids_need_a_file_that_has_them(tmp_path: Path) -> None:
    path = tmp_path / "some.txt"
    path.write_text("\n".join([*LINES, "1\tcures\tD1\tD20"]), encoding="utf-8")
    with pytest.raises(ReadError, match="1 items of the file are refused"):
        read_documents(path, SCHEMA)
    assert len(read_corpus(path, SCHEMA).documents) == 1
    with pytest.raises(ValueError, match="database ids are read from PubTator or BioC"):
        read_corpus(tmp_path / "some.jsonl", SCHEMA)


def test_a_title_alone_is_a_document(read: Read) -> None:
    (document,) = read("1|t|Zolpimine", "1\t0\t9\tZolpimine\tChemical\tD1").documents
    assert (document.text, document.mentions) == ("Zolpimine", (Mention(0, 9, "Chemical", "Chemical:D1"),))


def test_the_character_after_a_title_counts_where_the_title_is_empty(read: Read) -> None:
    (document,) = read("1|t|", "1|a|Zolpimine works", "1\t1\t10\tZolpimine\tChemical\tD1").documents
    assert (document.text, document.mentions) == (
        "\nZolpimine works",
        (Mention(1, 10, "Chemical", "Chemical:D1"),),
    )
    assert [document.text for document in read("1|t|", "2|t|", "2|a|").documents] == ["", ""]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes_are_read_or_refused_with_the_file(tmp_path: Path, data: st.DataObject) -> None:
    whole = bytearray("\n".join(LINES).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(whole) - 1))
        whole[place : place + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=4) | st.just(b"\t"))
    path = tmp_path / "damaged.txt"
    path.write_bytes(whole)
    message = ""
    try:
        corpus = read_pubtator(path, SCHEMA)
    except ReadError as error:
        message = str(error)
    if message:
        assert str(path) in message
        return
    # A line is an item, but for the texts, which are documents.
    lines = [line for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
    texts = sum("|t|" in line.partition("\t")[0] or "|a|" in line.partition("\t")[0] for line in lines)
    assert len([i for i in corpus.report.items if i.kind != "document"]) == len(lines) - texts
    assert all(document.check(SCHEMA) for document in corpus.documents)
