"""The likeliest label errors: a planted one comes first, whatever its kind, and cross-validation finds it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pharmatriples.arguments import TrainingConfig
from pharmatriples.documents import Document, Mention, Relation, write_jsonl
from pharmatriples.features import Collator, example
from pharmatriples.modeling import TriplesModel
from pharmatriples.prediction import readings
from pharmatriples.schema import Schema
from pharmatriples.splits import near_duplicates
from pharmatriples.suspects import (
    Suspect,
    SuspectsError,
    _Structure,
    cross_validate,
    cross_validated_suspects,
    deal,
    suspects,
    table,
)
from pharmatriples.windows import Windower
from tiny import ROOT, SCHEMA, tiny_encoder_dir, tiny_model, tiny_windower

AGENCIES = ("FDA", "NMPA", "EMA")
STEPS = {"accepted": ("acceptance", "occurred"), "approved": ("approval", "occurred")}


def release(number: int) -> Document:
    """A release of one sentence, unlike the others, annotated like all of them."""
    agency, step = AGENCIES[number % 3], sorted(STEPS)[number % 2]
    code, target = f"{chr(97 + number).upper()}{chr(107 + number % 9).upper()}-{number}", f"CD{number + 10}"
    text = f"{agency} {step} {code} in lupus. {code} (antibody {number}) binds {target}."
    event_type, status = STEPS[step]
    found = [
        (agency, "ORGANIZATION", "o", {}),
        (step, "EVENT", "e", {"event_type": event_type, "status": status}),
        (code, "DRUG", "d", {}),
        ("lupus", "INDICATION", "i", {}),
        (f"antibody {number}", "DRUG", "d", {}),
        (target, "TARGET", "t", {}),
    ]
    mentions = [
        Mention(at, at + len(words), type_, entity, attributes)
        for words, type_, entity, attributes in found
        for at in range(len(text))
        if text.startswith(words, at)
    ]
    links = (("event_organization", "e", "o"), ("event_drug", "e", "d"), ("treats", "d", "i"), ("targets", "d", "t"))
    return Document(f"r{number:02}", text, tuple(mentions), tuple(Relation(*link) for link in links))


def planted(document: Document, wording: str, keep: bool = True, **values: object) -> Document:
    """The document with its last mention of these words changed, or taken away with the relations of its entity."""
    place = max(i for i, m in enumerate(document.mentions) if document.wording(m) == wording)
    mention = document.mentions[place]
    others = [m for i, m in enumerate(document.mentions) if i != place]
    if keep:
        return replace(document, mentions=(*others, replace(mention, **values)))  # type: ignore[arg-type]
    names = {m.entity for m in others}
    return replace(
        document,
        mentions=tuple(others),
        relations=tuple(r for r in document.relations if {r.head, r.tail} <= names),
    )


def with_relations(document: Document, *relations: Relation, without: str = "") -> Document:
    kept = [r for r in document.relations if r.type != without]
    return replace(document, relations=(*kept, *relations))


@pytest.fixture(scope="module")
def trained() -> tuple[TriplesModel, Windower]:
    """A model that has learnt how the releases are annotated."""
    model = tiny_model(window=64, stride=8).train()
    windower = tiny_windower(model)
    batch = Collator(windower, 1024)([example(release(number), windower, SCHEMA) for number in range(12)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(80):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    return model.eval(), windower


def test_a_model_that_agrees_suspects_nothing(trained: tuple[TriplesModel, Windower]) -> None:
    assert suspects(*trained, [release(number) for number in range(12)]) == []


ERRORS: dict[str, tuple[Callable[[Document], Document], str, str, str]] = {
    # error: damage to release 4 (FDA accepted EO-4 in lupus ... binds CD14), text, gold, predicted
    "mention missed": (lambda d: planted(d, "lupus", keep=False), "lupus", "", "INDICATION"),
    "mention too many": (
        lambda d: replace(d, mentions=(*d.mentions, Mention(d.text.index("binds"), d.text.index(" CD"), "EVENT", "x",
                                                             {"event_type": "launch", "status": "occurred"}))),
        "binds", "EVENT", "",
    ),
    "type": (lambda d: planted(with_relations(d, without="targets"), "CD14", type="DRUG"), "CD14", "DRUG", "TARGET"),
    "boundary": (
        lambda d: planted(d, "antibody 4", end=d.text.index("antibody") + len("antibody")),
        "antibody 4", "DRUG 'antibody'", "DRUG",
    ),
    "event_type": (
        lambda d: planted(d, "accepted", attributes={"event_type": "launch", "status": "occurred"}),
        "accepted", "launch", "acceptance",
    ),
    "status": (
        lambda d: planted(d, "accepted", attributes={"event_type": "acceptance", "status": "expected"}),
        "accepted", "expected", "occurred",
    ),
    "entity": (lambda d: planted(d, "antibody 4", entity="d2"), "EO-4 = antibody 4", "two entities", "one entity"),
    "relation missed": (lambda d: with_relations(d, without="treats"), "EO-4 -> lupus", "", "treats"),
    "relation too many": (
        lambda d: with_relations(d, Relation("event_indication", "e", "i")),
        "accepted -> lupus", "event_indication", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("error", ERRORS)
def test_a_planted_error_comes_first(trained: tuple[TriplesModel, Windower], error: str) -> None:
    damage, *expected = ERRORS[error]
    wrong = damage(release(4)).check(SCHEMA)
    found = suspects(*trained, [*(release(number) for number in range(4)), wrong])
    first = found[0]
    assert (first.document, first.kind) == ("r04", error.split()[0])
    assert [first.text, first.gold, first.predicted] == expected
    assert first.confidence > 0.8
    if first.kind == "relation":
        assert all(words in wrong.text[first.start : first.end] for words in first.text.split(" -> "))
    elif first.kind == "entity":
        assert wrong.text[first.start : first.end] == "antibody 4"
    else:
        assert wrong.text[first.start : first.end] == first.text


def test_the_confidence_of_a_contradiction_orders_the_suspects(trained: tuple[TriplesModel, Windower]) -> None:
    wrong = [ERRORS[error][0](release(4)) for error in ERRORS]
    found = suspects(*trained, [replace(d, id=f"w{i}") for i, d in enumerate(wrong)])
    confidences = [s.confidence for s in found]
    assert confidences == sorted(confidences, reverse=True)
    assert len({s.document for s in found}) == len(wrong)
    assert all(0 < c <= 1 for c in confidences)
    assert json.loads(json.dumps([asdict(s) for s in found]))[0]["confidence"] == confidences[0]
    assert suspects(*trained, [replace(d, id=f"w{i}") for i, d in enumerate(wrong)]) == found


def test_what_hangs_on_a_torn_entity_is_not_suspected_too(trained: tuple[TriplesModel, Windower]) -> None:
    found = suspects(*trained, [ERRORS["entity"][0](release(4))])
    assert {s.kind for s in found} == {"entity"}


def test_the_confidence_in_a_boundary_is_that_in_the_words_about_which_the_two_differ(
    trained: tuple[TriplesModel, Windower],
) -> None:
    model, windower = trained
    wrong = ERRORS["boundary"][0](release(4))
    found = next(s for s in suspects(model, windower, [wrong]) if s.kind == "boundary")
    (reading,) = readings(model, windower, [wrong.text])
    word = int(np.searchsorted(reading.text.offsets[:, 0], wrong.text.index(" 4)") + 1))
    assert found.confidence == pytest.approx(np.exp(reading.log_probs[word, SCHEMA.tags.index("I-DRUG")]))


def test_one_error_in_several_places_is_one_suspect(trained: tuple[TriplesModel, Windower]) -> None:
    once = release(4)
    wrong = replace(
        once,
        mentions=tuple(m for m in once.mentions if once.wording(m) != "EO-4"),
        relations=(),
    )
    first = next(s for s in suspects(*trained, [wrong]) if s.text == "EO-4")
    assert (first.kind, first.gold, first.predicted, first.places) == ("mention", "", "DRUG", 2)


def test_a_document_without_words_or_annotation_can_be_judged(trained: tuple[TriplesModel, Windower]) -> None:
    bare = Document("bare", release(4).text)
    found = suspects(*trained, [Document("empty", ""), bare])
    assert {s.kind for s in found} == {"mention"}
    assert {s.text for s in found} >= {"EO-4", "lupus", "accepted"}


@pytest.mark.parametrize(("symmetric", "pair"), [(["with"], (0, 1, 2)), ([], (0, 2, 1))])
def test_what_follows_from_a_join_is_no_suspect_either_way_round(symmetric: list[str], pair: tuple[int, ...]) -> None:
    """`with` joins a and b, and the model takes c for a: of c and b it says nothing new."""
    given = {"name": "s", "version": 1, "entities": {"DRUG": ""}, "relations": {"with": ["DRUG", "DRUG"]}}
    mentions = [Mention(3 * i, 3 * i + 2, "DRUG", entity) for i, entity in enumerate("abc")]
    structure = object.__new__(_Structure)
    structure.schema = Schema.from_dict({**given, "symmetric": symmetric})
    structure.document, structure.mentions = Document("x", "aa bb cc", tuple(mentions)), mentions
    structure.members, structure.belief = [np.array([i]) for i in range(3)], np.ones(3)
    structure.names, structure.owner, structure.alias = np.array([[2, 0]]), np.arange(3), np.array([0.9])
    structure.targets = replace(example(release(0), tiny_windower(tiny_model()), SCHEMA).targets, relations={(0, 0, 1)})
    structure.triples, structure.related = np.array([(0, 0, 1), pair, (0, 0, 2)]), [0.9, 0.9, 0.9]
    assert [s.text for s in structure._relations()] == ["aa -> cc"]


def test_folds_hold_each_document_once_and_tear_nothing_apart() -> None:
    documents = [replace(release(number), split="train") for number in range(14)]
    copies = [replace(release(number), id=f"copy-{number}", split="test") for number in range(3)]
    grouped = [replace(release(number), group="g", split=None) for number in range(14, 17)]
    dealt = deal([*documents, *copies, *grouped], 4, seed=1)
    assert sorted(d.id for fold in dealt for d in fold) == sorted(d.id for d in [*documents, *copies, *grouped])
    assert {len(fold) for fold in dealt} == {5}
    fold_of = {d.id: i for i, fold in enumerate(dealt) for d in fold}
    assert all(fold_of[f"copy-{number}"] == fold_of[f"r{number:02}"] for number in range(3))
    assert len({fold_of[d.id] for d in grouped}) == 1
    again = deal([*reversed(grouped), *copies, *documents], 4, seed=1)
    assert [{d.id for d in fold} for fold in again] == [{d.id for d in fold} for fold in dealt]


def test_folds_that_cannot_be_made_are_refused() -> None:
    with pytest.raises(SuspectsError, match="at least 2 folds, found 1"):
        deal([release(1), release(2)], 1, seed=1)
    with pytest.raises(SuspectsError, match="fewer than 3 unlike groups"):
        deal([release(1), replace(release(1), id="again"), release(2)], 3, seed=1)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainingConfig:
    """A training on 24 releases, of which one has an error."""
    folder = tmp_path_factory.mktemp("suspects")
    documents = [replace(release(number), split="train" if number % 4 else "test") for number in range(24)]
    assert near_duplicates(documents) == []
    documents[4] = planted(documents[4], "accepted", attributes={"event_type": "approval", "status": "occurred"})
    write_jsonl(documents, folder / "data.jsonl")
    return TrainingConfig(
        output_dir=str(folder / "unused"),
        data=str(folder / "data.jsonl"),
        schema=str(ROOT / "configs" / "schema.yaml"),
        encoder=str(tiny_encoder_dir(folder / "encoder")),
        epochs=40,
        batch_size=4,
        learning_rate=5e-3,
        head_learning_rate=5e-3,
        window=64,
        stride=8,
        mention_size=32,
        pair_size=16,
        precision="fp32",
    )


def test_cross_validation_finds_the_error_and_takes_finished_folds_as_they_are(
    config: TrainingConfig, tmp_path: Path
) -> None:
    found = cross_validated_suspects(config, 2, tmp_path)
    # A tiny model on eight releases errs more than the annotator: the error is found, not always first.
    planted_error = ("r04", "event_type", "accepted", "approval", "acceptance")
    assert planted_error in [(s.document, s.kind, s.text, s.gold, s.predicted) for s in found[:20]]
    weights = [tmp_path / f"fold-{number}" / "model.safetensors" for number in (1, 2)]
    written = [path.stat().st_mtime_ns for path in weights]
    assert cross_validated_suspects(config, 2, tmp_path) == found
    assert [path.stat().st_mtime_ns for path in weights] == written
    assert not Path(config.output_dir).exists()

    judged = []
    for number, (_, _, held_out) in enumerate(cross_validate(config, 2, tmp_path), 1):
        seen = (tmp_path / f"fold-{number}.jsonl").read_text()
        assert all(f'"{document.id}"' not in seen for document in held_out)
        judged += [document.id for document in held_out]
    assert sorted(judged) == [f"r{number:02}" for number in range(24)]


def test_too_few_documents_to_validate_on_are_refused(config: TrainingConfig, tmp_path: Path) -> None:
    write_jsonl([release(1), release(2)], tmp_path / "two.jsonl")
    with pytest.raises(SuspectsError, match="too few unlike documents to train on some"):
        cross_validated_suspects(replace(config, data=str(tmp_path / "two.jsonl")), 2, tmp_path / "folds")


def test_the_table_has_a_line_for_each_suspect_and_steers_no_terminal() -> None:
    lines = table(
        [
            Suspect("r1", "mention", 3, 8, "AB\x1b[2J1", "", "DRUG", 0.98765, 3),
            Suspect("r2", "relation", 3, 8, "A -> B", "treats", "", 0.5),
        ]
    ).splitlines()
    assert lines[1:] == [
        "    1      0.9877  r1 [3, 8) mention 'AB [2J1': nothing -> DRUG (in 3 places)",
        "    2      0.5000  r2 [3, 8) relation 'A -> B': treats -> nothing",
    ]
