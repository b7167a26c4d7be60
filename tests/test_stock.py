"""The stock recipe: its labels, its windows and its two rules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pharmatriples.arguments import TrainingConfig
from pharmatriples.documents import write_jsonl
from pharmatriples.evaluation import evaluate
from pharmatriples.runs import is_current
from pharmatriples.stock import annotate, recipe, train
from tiny import ROOT, SCHEMA, acme, copies, tiny_encoder_dir


def configured(folder: Path) -> TrainingConfig:
    """A configuration on copies of one release."""
    tiny_encoder_dir(folder / "encoder")
    splits = ["train"] * 16 + ["validation"]
    write_jsonl(copies(splits), folder / "data.jsonl")
    return TrainingConfig(
        output_dir=str(folder / "stock"),
        data=str(folder / "data.jsonl"),
        schema=str(ROOT / "configs" / "schema.yaml"),
        encoder=str(folder / "encoder"),
        window=64,
        stride=16,
    )


def test_it_learns_a_release_by_heart_and_links_within_its_sentences(tmp_path: Path) -> None:
    config = replace(recipe(configured(tmp_path)), learning_rate=5e-3, epochs=40.0)
    assert (config.window, config.batch_size, config.precision) == (64, 8, "auto")
    train(config)
    assert is_current(config)
    document = acme()
    (found,) = annotate(config, [document])
    scores = evaluate([document], [found], SCHEMA)
    assert scores.mentions.micro.f1 == 1
    assert scores.attributes["event_type"].micro.f1 == 1
    assert scores.entities_end_to_end.f1 == 1
    # What stands in one sentence is linked, and nothing else.
    wordings = {
        (
            r.type,
            document.wording(found.entities[r.head].mentions[0]),
            document.wording(found.entities[r.tail].mentions[0]),
        )
        for r in found.relations
    }
    assert ("event_drug", "accepted", "ACM-101") in wordings
    assert ("event_date", "accepted", "May 2025") not in wordings


def test_the_recipe_is_the_same_for_configurations_of_one_encoder_and_data(tmp_path: Path) -> None:
    config = configured(tmp_path)
    assert recipe(replace(config, tag_weight=20.0, max_steps=7, encoder_layers=1)) == recipe(config)
    assert recipe(replace(config, seed=14)) != recipe(config)


def test_an_empty_text_has_nothing(tmp_path: Path) -> None:
    config = replace(recipe(configured(tmp_path)), max_steps=1)
    train(config)
    empty = replace(acme(), text="", mentions=(), relations=())
    assert [d.mentions for d in annotate(config, [empty])] == [()]
    broken = replace(empty, text="half \ud800 of a pair")
    assert [d.text for d in annotate(config, [broken])] == [broken.text]
