"""Splits: what belongs together never falls apart, whatever the order."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pharmatriples.documents import Document
from pharmatriples.splits import SplitError, assign_splits, leaks, near_duplicates, splits_of


def text(seed: int, length: int = 60) -> str:
    """Words that no text of another seed shares."""
    return " ".join(f"w{seed}x{random.Random(seed * 1000 + i).randrange(10**6)}" for i in range(length))


def edited(seed: int, kept: int, length: int = 60) -> str:
    """The text of `seed`, but of its own from word `kept` on."""
    return " ".join(text(seed, length).split()[:kept] + text(seed + 10_000, length).split()[kept:])


def splits(documents: list[Document], seed: int = 13) -> dict[str, str | None]:
    return {document.id: document.split for document in assign_splits(documents, seed)}


PLAIN = [Document(f"r{i}", text(i)) for i in range(50)]


def test_ratios_are_kept_and_the_order_of_the_documents_too() -> None:
    assigned = assign_splits(PLAIN)
    assert Counter(d.split for d in assigned) == {"train": 40, "validation": 5, "test": 5}
    assert [d.id for d in assigned] == [d.id for d in PLAIN]
    assert Counter(d.split for d in assign_splits(PLAIN, ratios=(0.5, 0.5, 0))) == {"train": 25, "validation": 25}


def test_the_draw_depends_on_the_seed_but_not_on_the_order() -> None:
    shuffled = random.Random(1).sample(PLAIN, len(PLAIN))
    assert splits(shuffled) == splits(PLAIN)
    assert splits(PLAIN, seed=14) != splits(PLAIN, seed=13)


def test_a_split_that_is_given_stays() -> None:
    given_ = [d.with_split("test") if d.id in ("r1", "r2") else d for d in PLAIN]
    assigned = splits(given_)
    assert (assigned["r1"], assigned["r2"]) == ("test", "test")
    assert Counter(assigned.values()) == {"train": 38, "validation": 5, "test": 7}


def test_documents_of_a_group_stay_together() -> None:
    documents = [Document(f"r{i}", text(i), group=f"g{i // 5}") for i in range(50)]
    by_group: dict[str, set[str | None]] = {}
    for document in assign_splits(documents):
        by_group.setdefault(document.group, set()).add(document.split)
    assert all(len(found) == 1 for found in by_group.values())
    assert Counter(next(iter(found)) for found in by_group.values()) == {"train": 8, "validation": 1, "test": 1}


@pytest.mark.parametrize("given_", ["train", "validation", "test"])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Document("a", text(900), group="g"), Document("b", text(901), group="g")),
        (Document("a", text(900)), Document("b", text(900))),
        (Document("a", text(900)), Document("b", edited(900, 50))),
        (Document("a", "Acme files."), Document("b", "ACME files!")),
    ],
    ids=["group", "equal text", "near-duplicate", "short text"],
)
def test_a_document_goes_where_its_like_is(first: Document, second: Document, given_: str) -> None:
    for pair in ([first.with_split(given_), second], [first, second.with_split(given_)]):
        assigned = splits([*PLAIN, *pair])
        assert assigned["a"] == assigned["b"] == given_


def test_likeness_is_handed_on() -> None:
    chain = [
        Document("z", text(900), group="g", split="validation"),
        Document("y", text(901), group="g"),
        Document("x", text(901)),
        Document("w", edited(901, 50)),
    ]
    for seed in range(5):
        random.Random(seed).shuffle(chain)
        assert {splits([*PLAIN, *chain])[name] for name in "wxyz"} == {"validation"}


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (Document("a", text(1), group="g"), Document("b", text(2), group="g"), "are of the group 'g'"),
        (Document("a", text(1)), Document("b", text(1)), "have one text"),
    ],
)
def test_one_group_or_text_in_two_given_splits_is_refused(first: Document, second: Document, reason: str) -> None:
    with pytest.raises(SplitError) as error:
        assign_splits([first.with_split("train"), second.with_split("test")])
    assert "documents 'a' (train) and 'b' (test)" in str(error.value)
    assert reason in str(error.value)
    assert "give them one split" in str(error.value)


def test_a_conflict_over_a_third_document_names_who_has_the_splits() -> None:
    documents = [
        Document("a", text(1), group="g", split="train"),
        Document("b", text(2), group="g"),
        Document("c", text(2), split="test"),
    ]
    with pytest.raises(SplitError, match=r"'a' \(train\) and 'c' \(test\).*because 'b' and 'c' have one text"):
        assign_splits(documents)


def test_near_duplicates_in_two_given_splits_stay_there_and_are_named() -> None:
    documents = [Document("a", text(1), split="train"), Document("b", edited(1, 55), split="test"), *PLAIN[2:]]
    assigned = assign_splits(documents)
    assert {d.id: d.split for d in assigned if d.id in "ab"} == {"a": "train", "b": "test"}
    (leak,) = leaks(assigned)
    assert str(leak).startswith("documents 'a' (train) and 'b' (test) share 8")


def test_a_document_between_two_splits_goes_with_the_more_similar_one() -> None:
    words = text(1).split()
    near, far = [*words[:58], "other", "end"], ["own", "beginning", "of", "its", *words[4:54], *text(2).split()[54:]]
    documents = [
        Document("far", " ".join(far), split="train"),
        Document("middle", text(1)),
        Document("near", " ".join(near), split="test"),
    ]
    assigned = assign_splits(documents)
    assert assigned[1].split == "test"
    assert ("far", "middle") in {(pair.first.id, pair.second.id) for pair in leaks(assigned)}


@pytest.mark.parametrize(("kept", "similar"), [(45, True), (42, True), (39, False), (30, False), (0, False)])
def test_half_of_the_five_word_sequences_make_a_near_duplicate(kept: int, similar: bool) -> None:
    # Of 56 sequences kept - 4 are common: the similarity is (kept - 4) / (112 - (kept - 4)).
    pairs = near_duplicates([Document("a", text(1)), Document("b", edited(1, kept))])
    assert bool(pairs) == similar
    if pairs:
        assert pairs[0].similarity == pytest.approx((kept - 4) / (112 - (kept - 4)))


def test_no_near_duplicate_is_missed_among_many() -> None:
    documents = [Document(f"{i:04}{side}", edited(i, k)) for i in range(300) for side, k in (("a", 60), ("b", 42))]
    pairs = {(pair.first.id, pair.second.id) for pair in near_duplicates(documents)}
    assert pairs == {(f"{i:04}a", f"{i:04}b") for i in range(300)}


def test_texts_without_words_are_no_near_duplicates() -> None:
    assert near_duplicates([Document("a", ""), Document("b", " \n"), Document("c", "!!")]) == []


def test_an_id_that_stands_twice_is_refused() -> None:
    with pytest.raises(SplitError, match="document id 'r3' stands twice"):
        assign_splits([*PLAIN, PLAIN[3]])


@pytest.mark.parametrize("ratios", [(0.5, 0.4, 0.2), (1.2, -0.1, -0.1), (0.5, 0.5)])
def test_ratios_that_are_no_shares_are_refused(ratios: tuple[float, float, float]) -> None:
    with pytest.raises(SplitError, match="three shares with the sum 1"):
        assign_splits(PLAIN, ratios=ratios)


def test_nothing_gives_nothing() -> None:
    assert assign_splits([]) == []


@given(
    st.lists(
        st.tuples(st.integers(0, 8), st.integers(0, 8), st.sampled_from([None, None, None, "train"])), max_size=20
    ),
    st.integers(0, 3),
)
def test_no_group_or_text_ever_falls_apart(drawn: list[tuple[int, int, str | None]], seed: int) -> None:
    documents = [Document(f"r{i}", text(t), group=f"g{g}" if g else "", split=s) for i, (t, g, s) in enumerate(drawn)]
    assigned = assign_splits(documents, seed)
    for key in ("text", "group"):
        found: dict[str, set[str | None]] = {}
        for document in assigned:
            found.setdefault(getattr(document, key), set()).add(document.split)
        found.pop("", None)
        assert all(len(names) == 1 and None not in names for names in found.values())


def test_what_was_drawn_before_stays_where_it_was_when_more_comes() -> None:
    before = splits_of(assign_splits(PLAIN))
    more = [*PLAIN, *(Document(f"a{i}", text(100 + i)) for i in range(50))]
    assigned = {d.id: d.split for d in assign_splits(more, before=before)}
    assert {id_: assigned[id_] for id_ in before} == before
    assert Counter(assigned.values()) == {"train": 80, "validation": 10, "test": 10}
    assert splits(more) != assigned


def test_a_release_stays_in_its_split_when_it_gets_a_second_annotator_and_a_given_split_wins() -> None:
    two = [Document(f"r1@{who}", text(1), group="r1") for who in ("ann", "bob")]
    assert [d.split for d in assign_splits([*two, *PLAIN[2:]], before={"r1": "test"})[:2]] == ["test", "test"]
    assert assign_splits([Document("r1", text(1))], before=splits_of([two[0].with_split("test")]))[0].split == "test"
    assert assign_splits([two[0], two[1].with_split("train")], before={"r1": "test"})[0].split == "train"


def test_what_was_in_two_splits_and_belongs_together_now_is_trained_on() -> None:
    joined = [Document(id_, text(i), group="g") for i, id_ in enumerate("ab")]
    for before in ({"a": "test", "b": "train"}, {"b": "test", "a": "train"}):
        assert {d.split for d in assign_splits(joined, before=before)} == {"train"}


def test_near_duplicates_are_found_where_no_blanks_stand_between_words() -> None:
    first = "公司今日宣布，国家药品监督管理局已受理其新药上市申请，用于治疗系统性红斑狼疮。该药物预计于明年获得批准。"
    other = "公司今日宣布，其三期临床试验未达到主要终点，将终止开发。"
    assert near_duplicates([Document("a", first), Document("b", first.replace("今日", "昨日"))])
    assert not near_duplicates([Document("a", first), Document("b", other)])
