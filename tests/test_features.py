"""Features: documents to training examples."""

from __future__ import annotations

import re
from random import Random

import torch
from pharmatriples import Document, Mention
from pharmatriples.features import Examples, Variations, example
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
        ("ACM-101", "B-DRUG"),
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


def test_codes_change_everywhere_alike_and_the_text_around_names_stays() -> None:
    document = acme()
    other = Variations([document], SCHEMA).vary(document, Random(3)).check(SCHEMA)
    codes = {other.wording(m) for m in other.mentions if m.type == "DRUG"}
    assert len(codes) == 1
    assert codes != {"ACM-101"}
    assert other.relations == document.relations
    assert len(other.mentions) == len(document.mentions)
    around = [
        [d.text[a.end : b.start] for a, b in zip(d.mentions, d.mentions[1:], strict=False)] for d in (document, other)
    ]
    assert around[0] == around[1]


def test_codes_come_with_and_without_a_hyphen() -> None:
    variations = Variations([acme()], SCHEMA)
    codes = [d.wording(d.mentions[3]) for d in (variations.vary(acme(), Random(i)) for i in range(20))]
    assert {"-" in code for code in codes} == {True, False}
    assert all(re.fullmatch(r"[A-Z]{2,4}(-\d{3,5}|\d{2,5})[A-Z]?", code) for code in codes)
    assert len(set(codes)) == 20


def test_symbols_get_the_shape_of_another_of_their_type_or_stay() -> None:
    text = "B7-H3 and CD19 and B7-H3 in B7-H3-positive gout"
    starts = ((0, 5, "TARGET", "a"), (10, 14, "TARGET", "b"), (19, 24, "TARGET", "a"), (28, 47, "INDICATION", "i"))
    document = Document("x", text, tuple(Mention(*m) for m in starts))
    variations = Variations([document], SCHEMA)
    assert variations.shapes["TARGET"] == ["A1-A1", "AA11"]
    varied = [variations.vary(document, Random(i)) for i in range(40)]
    found = [[d.wording(m) for m in d.mentions] for d in varied]
    assert {re.sub(r"\d", "1", re.sub("[A-Z]", "A", words[0])) for words in found} == {"A1-A1", "AA11"}
    assert 5 < sum(words[0] == "B7-H3" for words in found) < 35
    for first, _, again, inside in found:
        assert first == again
        assert inside.endswith("-positive gout")


def test_names_are_swapped_within_their_type_and_triggers_and_entities_of_two_wordings_are_not() -> None:
    text = "Beta (BT) approved Zed for gout."
    starts = {"Beta": "o1", "BT": "o1", "gout": "i1"}
    other = Document(
        "other",
        text,
        tuple(
            Mention(text.index(w), text.index(w) + len(w), "INDICATION" if w == "gout" else "ORGANIZATION", e)
            for w, e in starts.items()
        ),
    )
    variations = Variations([acme(), other], SCHEMA)
    varied = [variations.vary(other, Random(i)) for i in range(30)]
    assert {d.wording(d.mentions[2]) for d in varied} == {"gout", "lupus nephritis"}
    assert {(d.wording(d.mentions[0]), d.wording(d.mentions[1])) for d in varied} == {("Beta", "BT")}


def test_examples_vary_and_repeat_with_the_seed() -> None:
    def draw(varied: float, count: int = 8) -> list[str]:
        examples = Examples([acme()], WINDOWER, SCHEMA, varied)
        torch.manual_seed(1)
        return [examples[0].text.text for _ in range(count)]

    assert draw(0.75) == draw(0.75)
    assert len(set(draw(0.75))) > 2
    assert 8 < sum(text == acme().text for text in draw(0.75, 100)) < 42
    assert set(draw(0.0)) == {acme().text}
    assert acme().text not in draw(1.0)


def test_a_mention_over_the_end_of_a_line_is_named() -> None:
    broken = Document("x", "Acme\nCorp said", (Mention(0, 9, "ORGANIZATION", "o1"),))
    assert example(broken, WINDOWER, SCHEMA).broken == ("x: ORGANIZATION 'Acme\\nCorp' at [0, 9)",)
    assert example(acme(), WINDOWER, SCHEMA).broken == ()


def test_a_fiscal_year_is_no_code() -> None:
    text = "Data in Q4 FY26, FY2027 or MID-2026 of FYM-2027"
    wordings = ("Q4 FY26", "FY2027", "MID-2026", "FYM-2027")
    marks = [Mention(text.index(w), text.index(w) + len(w), "DATE", w) for w in wordings]
    document = Document("x", text, tuple(marks))
    varied = [Variations([document], SCHEMA).vary(document, Random(i)) for i in range(20)]
    assert {tuple(d.wording(m) for m in d.mentions[:3]) for d in varied} == {wordings[:3]}
    assert len({d.wording(d.mentions[3]) for d in varied}) == 20


def test_no_name_is_swapped_for_that_of_another_entity() -> None:
    text = "gout, lupus and asthma"
    marks = [Mention(text.index(w), text.index(w) + len(w), "INDICATION", w) for w in ("gout", "lupus", "asthma")]
    document = Document("x", text, tuple(marks))
    variations = Variations([document, acme()], SCHEMA)
    varied = [variations.vary(document, Random(i)) for i in range(60)]
    found = [[d.wording(m) for m in d.mentions] for d in varied]
    assert any("lupus nephritis" in names for names in found)
    assert all(len(set(names)) == 3 for names in found)
