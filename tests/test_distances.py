from __future__ import annotations

from dataclasses import replace

from pharmatriples.distances import DISTANCES, Distances, Together, measure
from pharmatriples.documents import Document, Mention, Relation
from pharmatriples.evaluation import Counts
from pharmatriples.schema import Schema
from test_errors import BIORED, binding, both_ways
from tiny import SCHEMA, tiny_model, tiny_windower

WINDOWER = tiny_windower(tiny_model())  # 32 pieces in a window, 8 shared
#       gout stands in the sentence of A1, lupus in the next, and asthma far away
FILLER = "The nmpa said that. " * 12
TEXT = f"A1 for gout and B2. The fda approved lupus. {FILLER}For asthma."
DRUGS = (Mention(0, 2, "DRUG", "a"), Mention(16, 18, "DRUG", "b"))


def indication(wording: str) -> Mention:
    start = TEXT.index(wording)
    return Mention(start, start + len(wording), "INDICATION", wording)


GOLD = Document("x", TEXT, (*DRUGS, indication("gout"), indication("lupus"), indication("asthma")))


def related(*tails: str, head: str = "a") -> Document:
    return replace(GOLD, relations=tuple(Relation("treats", head, tail) for tail in tails))


def measured(gold: Document, predicted: Document, schema: Schema = SCHEMA) -> Distances:
    return measure([gold], [predicted], schema, WINDOWER)


def test_a_relation_is_counted_where_its_nearest_mentions_stand() -> None:
    every = related("gout", "lupus", "asthma")
    assert measured(every, every).relations.labels == dict.fromkeys(DISTANCES, Counts(tp=1))
    found = measured(related("gout", "asthma"), related("lupus", "asthma")).relations.labels
    assert found == dict(zip(DISTANCES, [Counts(fn=1), Counts(fp=1), Counts(tp=1)], strict=True))


def test_a_second_mention_in_the_sentence_makes_it_the_same_sentence() -> None:
    again = TEXT.index("fda")  # whatever: a mention of the drug beside lupus
    near = replace(related("lupus"), mentions=(*GOLD.mentions, Mention(again, again + 3, "DRUG", "a")))
    assert measured(near, near).relations.labels["same sentence"] == Counts(tp=1)


def test_pairs_that_merely_stand_together_are_counted_with_those_that_are_joined() -> None:
    # a and b stand with gout in one sentence, no drug with lupus; gold joins a to it.
    assert measured(related("gout"), related("gout")).together == Together(pairs=1, joined=0)
    both = replace(GOLD, relations=(*related("gout").relations, *related("gout", head="b").relations))
    assert measured(related("gout"), both).together == Together(pairs=1, joined=1)
    assert measured(GOLD, both).together == Together(pairs=2, joined=2)


def test_a_relation_without_direction_is_right_either_way_round() -> None:
    found = measured(binding(), binding(first=False), BIORED)
    assert found.relations.micro == Counts(tp=1)
    assert found.together == Together(pairs=3, joined=0)  # three more relations join two genes
    assert measured(both_ways(), both_ways(), BIORED).relations.micro == Counts(tp=1)


def test_a_text_without_words_has_nothing_to_measure() -> None:
    empty = Document("x", " \n")
    assert measured(empty, empty) == measured(Document("x", ""), Document("x", ""))
