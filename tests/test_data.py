"""The annotated releases themselves: data/releases.json, its card, and the seeds."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
import yaml
from pharmatriples.documents import SPLITS, Document
from pharmatriples.labelstudio import export_text, read_export, read_tasks
from pharmatriples.schema import Schema

ROOT = Path(__file__).parents[1]
SCHEMA = Schema.from_yaml(ROOT / "configs" / "schema.yaml")
EXPORTS = ("data/releases.json", "seeds/gold.json")


@pytest.fixture(scope="module")
def releases() -> list[Document]:
    return read_export(ROOT / "data" / "releases.json", SCHEMA).documents


@pytest.fixture(scope="module")
def seeds() -> list[Document]:
    return read_export(ROOT / "seeds" / "gold.json", SCHEMA).documents


@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_is_in_the_committed_form(name: str) -> None:
    text = (ROOT / name).read_bytes().decode("utf-8")
    assert text == export_text(read_tasks(ROOT / name))


@pytest.mark.parametrize("name", EXPORTS)
def test_every_item_of_an_export_is_kept_and_fits_the_schema(name: str) -> None:
    documents, report = read_export(ROOT / name, SCHEMA)
    assert {item.outcome for item in report.items} == {"kept"}
    for document in documents:
        document.check(SCHEMA)


def test_the_number_of_a_release_of_the_first_batches_gives_its_split(releases: list[Document]) -> None:
    batches = Counter(release.id.split("-")[0] for release in releases)
    later = dict.fromkeys("ijklpqrstuw", 30) | dict.fromkeys("mno", 40) | {"v": 27, "x": 29, "y": 26, "z": 33}
    last = {"a" + letter: 11 if letter in "mnowy" else 12 for letter in "efghijklmnopqrstuvwxyz"}
    assert batches == dict.fromkeys("abcdefgh", 40) | later | {"aa": 32, "ab": 26, "ac": 30, "ad": 29} | last
    for release in releases:
        batch, number = release.id.split("-")[:2]
        place = int(number) if batch in "abcdefgh" else 0
        assert release.split == ("train" if place <= 32 else "validation" if place <= 36 else "test")


def test_no_group_falls_into_two_splits(releases: list[Document]) -> None:
    assert all(release.group for release in releases)
    pairs = {(release.group, release.split) for release in releases}
    assert len(pairs) == len({release.group for release in releases})


def test_the_seed_texts_are_exactly_those_of_their_gold(seeds: list[Document]) -> None:
    texts = {path.stem: path.read_bytes().decode("utf-8") for path in (ROOT / "seeds").glob("*.txt")}
    assert texts == {seed.id: seed.text for seed in seeds}
    assert len(seeds) == 4


def runs(text: str, length: int = 8) -> set[tuple[str, ...]]:
    """All runs of `length` words."""
    words = text.casefold().split()
    return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}


def test_the_seeds_are_a_test_and_no_part_of_the_data(seeds: list[Document], releases: list[Document]) -> None:
    assert {seed.split for seed in seeds} == {"test"}
    known = set().union(*(runs(release.text) for release in releases))
    for seed in seeds:
        own = runs(seed.text)
        assert len(own & known) < 0.05 * len(own), seed.id  # the footer of a news site, no more


# --- the card


def test_the_card_begins_with_the_header_that_the_hub_reads() -> None:
    card = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    header = yaml.safe_load(card.split("---\n")[1])
    assert card.startswith("---\n")
    assert header["license"] == "cc-by-4.0"
    assert header["language"] == ["en"]
    assert header["task_categories"] == ["token-classification"]
    assert header["size_categories"] == ["1K<n<10K"]


def counted(documents: list[Document]) -> dict[str, int]:
    mentions = [m for document in documents for m in document.mentions]
    counts = {
        "releases": len(documents),
        "characters": sum(len(document.text) for document in documents),
        "mentions": len(mentions),
        "entities": sum(len(document.entities) for document in documents),
        "relations": sum(len(document.relations) for document in documents),
    }
    counts |= {type_: sum(m.type == type_ for m in mentions) for type_ in SCHEMA.entities}
    for type_, attributes in SCHEMA.attributes.items():
        for name, values in attributes.items():
            counts |= {v: sum(m.type == type_ and m.attributes[name] == v for m in mentions) for v in values}
    return counts | {t: sum(r.type == t for d in documents for r in d.relations) for t in SCHEMA.relations}


def test_the_counts_of_the_card_are_those_of_the_data(releases: list[Document]) -> None:
    columns = [counted([r for r in releases if r.split == split]) for split in SPLITS] + [counted(releases)]
    expected = {name: [f"{column[name]:,}" for column in columns] for name in columns[0]}
    card = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `?(\w+)`? \|((?: [\d,]+ \|){4})$", card, flags=re.MULTILINE)
    assert {name: cells.replace("|", " ").split() for name, cells in rows} == expected
    assert len(rows) == len(expected)
