"""The model: shapes, independence from the batch, and that every head learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pharmatriples import Document, Schema
from pharmatriples.configuration import TriplesConfig
from pharmatriples.decoding import Spans
from pharmatriples.features import Collator, example
from pharmatriples.modeling import Targets, TriplesModel, match, numbered, owners
from pharmatriples.prediction import predict
from pharmatriples.training import evaluate_model
from tiny import RIVALS, SCHEMA, acme, tiny_encoder_config, tiny_model, tiny_tokenizer, tiny_windower
from torch.nn.functional import softplus


@pytest.mark.parametrize("crf", [False, True])
def test_an_overfitted_model_predicts_its_document_also_after_save_and_load(tmp_path: Path, crf: bool) -> None:
    document = acme()
    model = tiny_model(crf=crf).train()
    windower = tiny_windower(model)
    batch = Collator(windower, 1024)([example(document, windower, SCHEMA)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(80):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    model.eval()
    scores = evaluate_model(model, windower, [document])
    assert scores.flat() == pytest.approx(dict.fromkeys(scores.flat(), 1.0))

    model.save_pretrained(tmp_path)
    loaded = TriplesModel.from_pretrained(tmp_path)
    assert next(predict(loaded, windower, [document.text])) == next(predict(model, windower, [document.text]))
    assert loaded.schema == model.schema
    assert list(loaded.schema.entities) == list(SCHEMA.entities)  # config.json sorts keys; label ids must not move


@pytest.mark.parametrize(("schema", "crf"), [(SCHEMA, False), (SCHEMA, True), (RIVALS, False)])
def test_every_parameter_gets_a_gradient(schema: Schema, crf: bool) -> None:
    model = tiny_model(schema, crf=crf).train()
    assert (model.relation_head.own is not None) == (schema is RIVALS)
    windower = tiny_windower(model)
    batch = Collator(windower, 1024)([example(acme(), windower, schema)])
    model(**batch).loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_the_loss_of_relations_is_shared_by_those_that_are_and_not_by_all_pairs() -> None:
    model = tiny_model()
    torch.nn.init.zeros_(model.rivals.score.weight)
    torch.nn.init.zeros_(model.rivals.score.bias)
    windower = tiny_windower(model)
    batch = Collator(windower, 1024)([example(acme(), windower, SCHEMA)])
    (target,), (text,) = batch["targets"], batch["texts"]
    with torch.no_grad():
        states = model(**batch).word_states
        vectors = model.structure(states, target.spans, text).vectors
        triples, logits = model.relation_logits(states, vectors, target.spans, target.entities, text)
        found = [
            model._structure_loss(states, target.spans, np.arange(len(target.spans)), text, one)
            for one in (target, replace(target, relations=frozenset()))
        ]
    assert len(triples) == len(target.relations) == 7  # the schema allows no other of this document
    # The pairs are scored by themselves and beside their rivals, which here change nothing.
    expected = 2 * (softplus(-logits).sum() / 8 - softplus(logits).sum())
    assert torch.isclose(found[0] - found[1], expected, rtol=1e-4)


def test_relations_that_may_join_one_pair_rival_in_the_loss() -> None:
    model = tiny_model(RIVALS)
    windower = tiny_windower(model)
    batch = Collator(windower, 1024)([example(acme(), windower, SCHEMA)])
    (target,), (text,) = batch["targets"], batch["texts"]
    treats, worsens = (list(RIVALS.relations).index(name) for name in ("treats", "worsens"))
    with torch.no_grad():
        states = model(**batch).word_states
        vectors = model.structure(states, target.spans, text).vectors
        triples, logits = model._pair_logits(states, vectors, target.spans, target.entities, text)
        (pair,) = {triple[1:] for triple in target.relations if triple[0] == treats}
        places = [triples.tolist().index([relation, *pair]) for relation in (treats, worsens)]
        both = torch.cat([logits[places], torch.zeros(1)])
        torch.nn.init.zeros_(model.rivals.score.weight)
        torch.nn.init.zeros_(model.rivals.score.bias)
        found = [
            model._structure_loss(
                states, target.spans, np.arange(len(target.spans)), text, replace(target, relations=one)
            )
            for one in (frozenset({(treats, *pair)}), frozenset({(worsens, *pair)}))
        ]
    expected = (both.log_softmax(0)[1] - both.log_softmax(0)[0]).item()
    assert (found[0] - found[1]).item() == pytest.approx(expected, rel=1e-3)  # twice, and shared by two


def test_entities_are_numbered_in_training_as_they_are_predicted() -> None:
    """Else the order of a pair that a symmetric relation may join tells which entity is no gold one."""
    numbers, names = numbered(np.array([7, 2, 7, 9, 2]))
    assert numbers.tolist() == [0, 1, 0, 2, 1]
    assert names.tolist() == [7, 2, 9]


def test_a_name_is_of_the_entity_of_one_of_its_annotated_mentions_though_another_is_not_annotated() -> None:
    groups, entities = np.array([0, 1, 0, 2]), np.array([0, 0, 1, 2])
    assert owners(groups, entities, np.array([True, True, False, False])).tolist() == [0, 0, 2]
    assert owners(groups, entities, np.array([True, True, True, True])).tolist() == [1, 0, 2]


def test_a_symmetric_relation_is_annotated_whichever_of_its_entities_is_predicted_first() -> None:
    schema = {
        "name": "small",
        "version": 1,
        "entities": {"G": "", "C": ""},
        "relations": {"bind": ["G", "G"], "cause": ["C", "G"]},
        "symmetric": ["bind"],
    }
    # Gold entities 0 and 1 are G, 2 is C; the first one is found second, and number 3 is no gold one.
    none = np.zeros(0, dtype=np.int64)
    related = frozenset({(0, 0, 1), (1, 2, 0)})
    target = Targets(none, Spans(none, none, none, none), np.array([0, 1, 2]), {}, related)
    triples = np.array([[0, 0, 1], [0, 0, 2], [0, 1, 2], [1, 3, 1], [1, 3, 2], [1, 2, 3]])
    found = tiny_model(Schema.from_dict(schema))._related(triples, np.array([3, 1, 0, 2]), target)
    assert found.tolist() == [False, False, True, False, True, False]


def test_the_states_of_a_text_do_not_depend_on_the_batch() -> None:
    model = tiny_model()
    windower = tiny_windower(model)
    texts = [acme().text, "fda " * 70, "", "NMPA"]
    together = model(**windower.batch([windower.encode(t) for t in texts], 64)).tag_logits
    alone = [model(**windower.batch([windower.encode(t)], 64)).tag_logits for t in texts]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)
    assert together.shape == (sum(len(windower.encode(t)) for t in texts), len(SCHEMA.tags))


def test_a_schema_without_relations_attributes_or_aliases_trains() -> None:
    schema = Schema.from_dict({"name": "names", "version": 1, "entities": {"Chemical": "", "Disease": ""}})
    model = tiny_model(schema).train()
    windower = tiny_windower(model)
    document = acme()
    plain = document.from_dict(
        {
            "id": "x",
            "text": document.text,
            "mentions": [{"start": 0, "end": 4, "type": "Chemical", "entity": "c1"}],
        }
    )
    loss = model(**Collator(windower, 1024)([example(plain, windower, schema)])).loss
    loss.backward()
    assert loss.item() > 0
    assert next(predict(model.eval(), windower, [document.text])).text == document.text


def test_a_configuration_without_a_schema_is_refused() -> None:
    with pytest.raises(ValueError, match="holds no schema"):
        TriplesModel(TriplesConfig(encoder_config=tiny_encoder_config()))


def test_a_predicted_mention_stands_for_the_gold_one_that_it_shares_most_words_with() -> None:
    def spans(*rows: tuple[int, int, int]) -> Spans:
        table = np.array(rows).reshape(-1, 3)
        return Spans(table[:, 0], table[:, 1], table[:, 2], np.ones(len(table)))

    gold = spans((0, 1, 0), (2, 5, 0), (7, 7, 1))
    predicted = spans((1, 4, 0), (7, 7, 0), (6, 8, 1), (9, 9, 1))
    assert match(predicted, gold).tolist() == [1, -1, 2, -1]
    assert match(predicted, spans()).tolist() == [-1] * 4


def test_the_tokenizer_of_the_tests_is_a_fast_one() -> None:
    assert tiny_tokenizer().is_fast


def test_the_loss_of_blank_texts_is_nothing() -> None:
    model = tiny_model().train()
    windower = tiny_windower(model)
    blank = [example(Document("a", " "), windower, SCHEMA), example(Document("b", "\n"), windower, SCHEMA)]
    loss = model(**Collator(windower, 1024)(blank)).loss
    loss.backward()
    assert loss.item() == 0


def test_a_mention_has_one_vector_wherever_in_a_long_text_it_stands() -> None:
    model = tiny_model()
    text = tiny_windower(model).encode("fda " * 10)
    states = torch.randn(300_000, model.tagger.in_features, generator=torch.Generator().manual_seed(0)) + 5
    states[-10:] = states[:10]
    spans = Spans(np.array([2, 299_992]), np.array([8, 299_998]), np.array([0, 0]), np.ones(2))
    text = replace(text, offsets=np.zeros((300_000, 2), dtype=np.int64), sentences=np.zeros(300_000, dtype=np.int64))
    first, last = model.structure(states, spans, text).vectors
    assert torch.allclose(first, last, atol=1e-5)
