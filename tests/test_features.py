"""Features: documents to training examples."""

from __future__ import annotations

import torch
from pharmatriples import Document
from pharmatriples.features import Collator, example
from tiny import SCHEMA, acme, tiny_model, tiny_windower

MODEL = tiny_model()
WINDOWER = tiny_windower(MODEL)


def test_targets_say_what_the_document_says() -> None:
    made = example(acme(), WINDOWER, SCHEMA)
    words = [made.text.text[a:b] for a, b in made.text.offsets]
    tags = [SCHEMA.tags[t] for t in made.targets.tags]
    marked = [(w, t) for w, t in zip(words, tags, strict=True) if t != "O"]
    assert marked[:4] == [
        ("Acme", "B-ORGANIZATION"),
        ("NMPA", "B-ORGANIZATION"),
        ("accepted", "B-EVENT"),
        ("ACM", "B-DRUG"),
    ]
    assert ("nephritis", "I-INDICATION") in marked
    assert made.targets.entities.tolist() == [0, 1, 2, 3, 4, 3, 5, 6]
    assert made.targets.attributes["status"].tolist() == [-100, -100, 0, -100, -100, -100, -100, -100]
    assert (list(SCHEMA.relations).index("targets"), 3, 5) in made.targets.relations
    assert len(made.targets.relations) == 7


def test_mentions_that_words_cannot_hold_are_named() -> None:
    document = Document.from_dict(
        {
            "id": "cut",
            "text": "AxB and Cd",
            "mentions": [
                {"start": 0, "end": 1, "type": "TARGET", "entity": "a"},
                {"start": 2, "end": 3, "type": "TARGET", "entity": "b"},
                {"start": 8, "end": 10, "type": "TARGET", "entity": "c"},
            ],
        }
    )
    made = example(document, WINDOWER, SCHEMA)
    assert made.misaligned == ("cut: TARGET 'A' at [0, 1)",)
    assert made.lost == ("cut: TARGET 'B' at [2, 3)",)
    assert made.targets.entities.tolist() == [0, 1]


def pieces(masking: float) -> list[str]:
    collator = Collator(WINDOWER, 1024, masking, MODEL.named)
    batch = collator([example(acme(), WINDOWER, SCHEMA)])
    flat = torch.cat([w["input_ids"].flatten() for w in batch["windows"]])
    return WINDOWER.tokenizer.convert_ids_to_tokens(flat[batch["piece_index"]])


def test_masking_hides_names_and_leaves_the_words_around_them() -> None:
    assert "[MASK]" not in pieces(0.0)
    masked = pieces(1.0)
    assert "accepted" in masked  # a trigger is no name
    assert "acme" not in masked
    assert "nmpa" not in masked
    assert {"said", "that", "for", "its"} <= set(masked)


def test_masking_is_drawn_anew_and_repeats_with_the_seed() -> None:
    torch.manual_seed(1)
    first, second = pieces(0.5), pieces(0.5)
    torch.manual_seed(1)
    assert pieces(0.5) == first
    assert first != second
