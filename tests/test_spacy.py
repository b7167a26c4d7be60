"""The spaCy component: what it sets on a Doc, alone and among other components."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import spacy
from pharmatriples import load
from pharmatriples.onnx_export import export
from pharmatriples.spacy_component import NAME, TriplesComponent
from spacy.language import Language
from spacy.tokens import Doc
from spacy.vocab import Vocab
from tiny import acme, tiny_model_dir

TEXTS = [acme().text[i:] for i in range(0, 90, 3)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_dir(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def nlp(model: Path) -> Language:
    nlp = spacy.blank("en")
    nlp.add_pipe("pharmatriples", config={"model": str(model)})
    return nlp


def test_records_and_relations_are_those_of_load(nlp: Language, model: Path) -> None:
    extract = load(model)
    for text in TEXTS[:5]:
        doc, result = nlp(text), extract(text)
        assert doc._.records == result["records"]
        assert doc._.relations == result["relations"]
    assert any(nlp(text)._.records for text in TEXTS)


def test_the_component_reads_with_the_backend_that_it_is_given(model: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(model, tmp_path / "run"))
    export(run)
    component = spacy.blank("en").add_pipe("pharmatriples", config={"model": str(run), "backend": "onnx"})
    assert isinstance(component, TriplesComponent)
    assert type(component.extract) is type(load(run, backend="onnx"))
    with pytest.raises(ValueError, match="backend must be torch or onnx"):
        spacy.blank("en").add_pipe("pharmatriples", config={"model": str(run), "backend": "jax"})


def test_all_mentions_are_in_the_span_group_with_type_and_entity(nlp: Language, model: Path) -> None:
    text = acme().text
    doc, entities = nlp(text), load(model)(text)["entities"]
    expected = sorted((m["start"], e["type"], e["id"]) for e in entities for m in e["mentions"])
    assert len(expected) > 3
    spans = doc.spans[NAME]
    assert [(span.label_, span.id_) for span in spans] == [(type_, id_) for _, type_, id_ in expected]
    for span, (start, _, _) in zip(spans, expected, strict=True):
        assert span.start_char <= start < span.end_char


def test_entities_are_the_mentions_without_those_that_share_a_token_with_one(nlp: Language) -> None:
    for doc in nlp.pipe(TEXTS):
        places = {(ent.start, ent.end, ent.label_, ent.id_) for ent in doc.ents}
        assert places
        assert places <= {(span.start, span.end, span.label_, span.id_) for span in doc.spans[NAME]}
        covered = {token.i for ent in doc.ents for token in ent}
        for span in doc.spans[NAME]:
            assert covered & {token.i for token in span}


class Two:
    """Finds two mentions in one token, and one that is a whole token."""

    def __call__(self, text: str) -> dict:
        places = [(0, 4, "DRUG"), (5, 9, "TARGET"), (14, 18, "EVENT")]
        return {
            "entities": [
                {"id": f"{type_}-1", "type": type_, "mentions": [{"start": start, "end": end}]}
                for start, end, type_ in places
            ],
            "relations": [],
            "records": [],
        }


def test_a_mention_inside_a_token_is_widened_and_two_in_one_are_both_in_the_group() -> None:
    doc = TriplesComponent(Two())(Doc(Vocab(), words=["ABCD/EFGH", "was", "filed"], spaces=[True, True, False]))
    assert [(span.text, span.label_) for span in doc.spans[NAME]] == [
        ("ABCD/EFGH", "DRUG"),
        ("ABCD/EFGH", "TARGET"),
        ("filed", "EVENT"),
    ]
    assert [(ent.text, ent.label_, ent.id_) for ent in doc.ents] == [
        ("ABCD/EFGH", "DRUG", "DRUG-1"),
        ("filed", "EVENT", "EVENT-1"),
    ]


def test_entities_of_an_earlier_component_stay_where_there_is_no_mention() -> None:
    doc = Doc(Vocab(), words=["ABCD/EFGH", "was", "filed"], spaces=[True, True, False])
    doc.ents = [doc.char_span(0, 9, label="ORG"), doc.char_span(10, 13, label="VERB")]
    assert [ent.label_ for ent in TriplesComponent(Two())(doc).ents] == ["DRUG", "VERB", "EVENT"]


def test_pipe_keeps_the_order_and_gives_what_single_calls_give(nlp: Language) -> None:
    docs = list(nlp.pipe(TEXTS, batch_size=4))
    assert [doc.text for doc in docs] == TEXTS
    assert [doc._.records for doc in docs] == [nlp(text)._.records for text in TEXTS]


def test_pipe_reads_its_stream_as_needed(nlp: Language) -> None:
    read = []

    def docs() -> Iterator[Doc]:
        for text in TEXTS:
            read.append(text)
            yield nlp.make_doc(text)

    next(nlp.get_pipe("pharmatriples").pipe(docs(), batch_size=4))
    assert len(read) <= 8


@pytest.mark.parametrize("text", ["", " ", "😀\r\n\tNMPA accepted\x00 X", "國家藥監局受理"])
def test_any_text_gives_a_doc(nlp: Language, text: str) -> None:
    doc = nlp(text)
    assert doc.text == text
    assert isinstance(doc._.records, list)


def test_a_doc_that_was_not_read_has_none(nlp: Language) -> None:
    assert nlp.make_doc("x")._.records is None


def test_a_read_doc_survives_bytes(nlp: Language) -> None:
    doc = nlp(acme().text)
    again = Doc(nlp.vocab).from_bytes(doc.to_bytes())
    assert again._.records == doc._.records
    assert [(e.label_, e.id_) for e in again.ents] == [(e.label_, e.id_) for e in doc.ents]


def test_a_saved_pipeline_finds_its_model_again(nlp: Language, tmp_path: Path) -> None:
    nlp.to_disk(tmp_path / "nlp")
    assert not list((tmp_path / "nlp").rglob("*.safetensors"))
    assert spacy.load(tmp_path / "nlp")(acme().text)._.records == nlp(acme().text)._.records


def test_settings_reach_the_model(model: Path) -> None:
    nlp = spacy.blank("en")
    settings = {"model": str(model), "threshold": {"records": 1.0}, "batch_size": 2, "device": "cpu"}
    nlp.add_pipe("pharmatriples", config=settings)
    assert [doc._.records for doc in nlp.pipe(TEXTS[:3])] == [[], [], []]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "model"),
        ({"model": "./nowhere"}, "nowhere: no such folder"),
        ({"model": "./nowhere", "treshold": 0.5}, "treshold"),
        ({"model": "./nowhere", "batch_size": "many"}, "batch_size"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spacy.blank("en").add_pipe("pharmatriples", config=settings)
