"""What to annotate next: doubt, its reasons, and that copies do not crowd the top."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from pharmatriples.documents import Document
from pharmatriples.features import Collator, example
from pharmatriples.modeling import TriplesModel
from pharmatriples.prediction import predict, readings
from pharmatriples.ranking import DECISIONS, Ranked, RankingError, _spread, rank, table
from pharmatriples.schema import Schema
from pharmatriples.windows import Windower
from tiny import SCHEMA, acme, tiny_model, tiny_windower

TEXTS = {
    "a": "The FDA approved ZX-7 for gout. Its maker Borealis will launch ZX-7 in June 2026, it said.",
    "b": "Shares fell after the trial of QRS-11 in asthma was stopped; Delta Biotech gave no reason.",
    "c": "A first patient was dosed with anti-CD19 antibody LMN-3 at two sites in Norway on 3 May 2025.",
    "d": "Nothing happened today.",
    "e": "Orphan designation for TUV-9, a KRAS G12C inhibitor, in lung cancer and in pancreatic cancer.",
    "f": "Licence: Gamma Pharma takes the rights to ABC-1 outside of Japan and pays 10 million dollars.",
}


def noisy_model(schema: Schema = SCHEMA) -> TriplesModel:
    """A model that marks many mentions, more and less surely."""
    model = tiny_model(schema, seed=1)
    with torch.no_grad():
        model.tagger.weight *= 20
    return model


@pytest.fixture(scope="module")
def model() -> TriplesModel:
    return noisy_model()


@pytest.fixture(scope="module")
def windower(model: TriplesModel) -> Windower:
    return tiny_windower(model)


def corpus() -> list[Document]:
    return [Document(id_, text) for id_, text in TEXTS.items()]


def test_readings_find_the_mentions_that_predict_finds(model: TriplesModel, windower: Windower) -> None:
    texts = [*TEXTS.values(), "", acme().text]
    for document, reading in zip(
        predict(model, windower, texts), readings(model, windower, texts, batch_size=3), strict=True
    ):
        spans = reading.spans(model)
        offsets = reading.text.offsets
        places = list(zip(offsets[spans.first, 0].tolist(), offsets[spans.last, 1].tolist(), strict=True))
        assert [(m.start, m.end) for m in document.mentions] == places
    assert any(d.mentions for d in predict(model, windower, texts))


def test_the_ranking_is_the_same_again_and_in_any_order(model: TriplesModel, windower: Windower) -> None:
    documents = [Document("z", TEXTS["a"]), *corpus()]
    first = rank(model, windower, documents)
    assert sorted(item.id for item in first) == [*sorted(TEXTS), "z"]
    assert rank(model, windower, reversed(documents)) == first
    random.Random(1).shuffle(documents)
    assert rank(model, windower, documents) == first


@pytest.fixture(scope="module")
def trained() -> TriplesModel:
    """A model that knows acme() by heart."""
    model = tiny_model().train()
    batch = Collator(tiny_windower(model), 1024)([example(acme(), tiny_windower(model), SCHEMA)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(100):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    return model.eval()


def test_a_text_that_the_model_was_trained_on_comes_after_those_that_are_new_to_it(
    trained: TriplesModel, windower: Windower
) -> None:
    ranked = rank(trained, windower, [acme(), *corpus()])
    assert ranked[-1].id == "acme"
    assert ranked[-1].score < 0.2 * sum(item.score for item in ranked[:-1]) / len(TEXTS)


def test_ten_near_copies_do_not_fill_the_top(model: TriplesModel, windower: Windower) -> None:
    worst = max(rank(model, windower, corpus()), key=lambda item: item.score).id
    copies = [Document(f"copy-{i}", f"{TEXTS[worst]} Page {i}.") for i in range(10)]
    ranked = rank(model, windower, [*corpus(), *copies])
    likest = {worst, *(copy.id for copy in copies)}
    scores = sorted((item.score for item in ranked), reverse=True)
    assert scores[len(TEXTS)] > 0.9 * scores[0], "by doubt alone the copies would fill the top"
    assert sum(item.id in likest for item in ranked[: len(TEXTS)]) == 1
    assert {item.id for item in ranked[len(TEXTS) :]} < likest


def test_likeness_discounts_doubt_and_copies_come_last() -> None:
    # Two lie in one direction and two in another, once what is common to all is taken away.
    vectors = np.array([[1.0, 0.0, 5.0], [2.0, 0.0, 5.0], [0.0, 1.0, 5.0], [0.0, 2.0, 5.0]])
    assert _spread(np.array([0.4, 0.39, 0.12, 0.01]), vectors, [[], [], [], []])[:3] == [0, 2, 1]
    unlike = np.eye(4)
    assert _spread(np.array([0.4, 0.39, 0.38, 0.1]), unlike, [[1], [0], [], []]) == [0, 2, 3, 1]
    assert _spread(np.zeros(3), np.zeros((3, 2)), [[], [], []]) == [0, 1, 2]


def test_scores_are_shares_and_reasons_quote_the_text(model: TriplesModel, windower: Windower) -> None:
    for item in rank(model, windower, corpus()):
        assert 0 < item.score < 1
        assert len(item.reasons) == 3
        for reason in item.reasons:
            quoted = reason.split("'")[1::2]
            assert quoted
            assert all(words in TEXTS[item.id] for words in quoted)
            assert "%" in reason


def test_a_short_text_is_not_the_more_doubtful_for_having_few_words(model: TriplesModel, windower: Windower) -> None:
    (item,) = rank(model, windower, [Document("short", "Pfizer")])
    # Its tag, whether it is a mention, and the two attributes of an event.
    assert item.score < 4 / DECISIONS
    assert item.score < min(other.score for other in rank(model, windower, corpus()))


def test_a_text_without_words_comes_last_and_without_reasons(model: TriplesModel, windower: Windower) -> None:
    ranked = rank(model, windower, [Document("0", ""), *corpus(), Document("1", "\n ")])
    assert ranked[-2:] == [Ranked("0", 0.0, ()), Ranked("1", 0.0, ())]
    assert rank(model, windower, []) == []


def test_every_kind_of_decision_can_be_a_reason(
    trained: TriplesModel, windower: Windower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pharmatriples.ranking.REASONS", 10_000)
    monkeypatch.setattr("pharmatriples.ranking.DECISIONS", 10_000)
    (item,) = rank(trained, windower, [acme()])
    for start in (
        "'lupus nephritis' ",
        "event_type of 'accepted' acceptance ",
        "status of 'accepted' occurred ",
        "'Acme' = 'NMPA' ",
        "event_drug 'accepted' -> 'ACM-101' ",
    ):
        assert any(reason.startswith(start) for reason in item.reasons), start


def test_a_schema_without_relations_attributes_or_aliases_is_ranked() -> None:
    schema = Schema.from_dict({"name": "names", "version": 1, "entities": {"Chemical": "", "Disease": ""}})
    model = noisy_model(schema)
    assert len(rank(model, tiny_windower(model), corpus())) == len(TEXTS)


def test_a_double_id_is_named(model: TriplesModel, windower: Windower) -> None:
    with pytest.raises(RankingError, match="'a' stands twice"):
        rank(model, windower, [*corpus(), Document("a", "x")])


def test_the_table_has_a_line_for_each_text() -> None:
    lines = table([Ranked("r1", 0.25, ("'ACM' B-DRUG 50% or O 45%",)), Ranked("r2", 0.1, ())]).splitlines()
    assert lines[1:] == ["    1  0.250  r1: 'ACM' B-DRUG 50% or O 45%", "    2  0.100  r2: "]
