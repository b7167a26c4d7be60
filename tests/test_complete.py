"""prediction.complete: attributes and relations over given mentions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pharmatriples.documents import Document, Mention
from pharmatriples.modeling import TriplesModel
from pharmatriples.prediction import complete
from tiny import SCHEMA, acme, tiny_model, tiny_windower

GOLD = acme()


@pytest.fixture(scope="module")
def model() -> TriplesModel:
    made = tiny_model()
    with torch.no_grad():
        made.relation_head.score.bias += 1.0
    return made


def completed(model: TriplesModel, *documents: Document) -> list[Document]:
    return list(complete(model, tiny_windower(model), documents))


def test_mentions_and_entities_stay_and_the_rest_follows_the_schema(model: TriplesModel) -> None:
    (found,) = completed(model, GOLD)
    found.check(SCHEMA)
    assert [replace(m, attributes={}) for m in found.mentions] == [replace(m, attributes={}) for m in GOLD.mentions]
    assert found.relations
    assert all(0.5 <= (r.score or 0) <= 1 for r in found.relations)


def test_annotated_attributes_and_relations_are_not_looked_at(model: TriplesModel) -> None:
    bare = replace(GOLD, mentions=tuple(replace(m, attributes={}) for m in GOLD.mentions), relations=())
    assert completed(model, bare) == completed(model, GOLD)


def test_a_threshold_keeps_fewer_relations(model: TriplesModel) -> None:
    thresholds = dict.fromkeys(SCHEMA.relations, 1.0)
    (found,) = complete(model, tiny_windower(model), [GOLD], thresholds)
    assert found.relations == ()


def test_a_result_does_not_depend_on_the_other_documents(model: TriplesModel) -> None:
    other = Document("b", "The fda approved X for gout.", (Mention(17, 18, "DRUG", "x"),))
    assert completed(model, other, GOLD, Document("c", ""))[1] == completed(model, GOLD)[0]


def test_parts_of_words_are_read_and_a_text_without_words_comes_back_without_mentions(model: TriplesModel) -> None:
    parts = Document("a", "abcdef", (Mention(0, 2, "DRUG", "x"), Mention(3, 6, "TARGET", "y")))
    blank = Document("b", " \n ", (Mention(0, 1, "EVENT", "e"),))
    found = completed(model, parts, blank)
    assert found[0].mentions == parts.mentions
    assert found[1].mentions == ()
