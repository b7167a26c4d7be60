"""Splits that leak nothing: documents that belong together never fall into two of them.

Together belong documents of one group, of one text, and near-duplicates (syndicated and lightly edited copies):
texts whose sets of five-word sequences have a Jaccard similarity of at least 0.5. Candidates for these come from
MinHash signatures (Broder 1997) and are compared exactly.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from datasketch import MinHash, MinHashLSH

from .documents import CJK, SPLITS, Document

_WORD = re.compile(rf"[{CJK}]|[^\W{CJK}]+")  # where no blanks stand between words, a sign
SHINGLE = 5
SIMILAR = 0.5
# 64 bands of 2 rows: a pair of similarity 0.5 is missed once in 10^8.
BANDS, ROWS = 64, 2


class SplitError(ValueError):
    """Documents that cannot be split; the message names them."""


@dataclass(frozen=True)
class NearDuplicate:
    """Two documents with nearly one text; `similarity` is the Jaccard similarity of their five-word sequences."""

    first: Document
    second: Document
    similarity: float

    def __str__(self) -> str:
        pair = " and ".join(f"{d.id!r} ({d.split or 'no split'})" for d in (self.first, self.second))
        return f"documents {pair} share {self.similarity:.0%} of their wording"


def near_duplicates(documents: Iterable[Document]) -> list[NearDuplicate]:
    """All pairs of near-duplicates (equal texts among them), the most similar first."""
    index = MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))
    shingles: dict[str, set[str]] = {}
    by_id = {document.id: document for document in sorted(documents, key=lambda d: d.id)}
    pairs = []
    for id_, document in by_id.items():
        shingles[id_] = _shingles(document.text)
        if not shingles[id_]:
            continue
        signature = MinHash(num_perm=BANDS * ROWS)
        signature.update_batch(shingle.encode("utf-8") for shingle in shingles[id_])
        for other in index.query(signature):
            common = len(shingles[id_] & shingles[other])
            similarity = common / (len(shingles[id_]) + len(shingles[other]) - common)
            if similarity >= SIMILAR:
                pairs.append(NearDuplicate(by_id[other], document, similarity))
        index.insert(id_, signature)
    return sorted(pairs, key=lambda pair: (-pair.similarity, pair.first.id, pair.second.id))


def _shingles(text: str) -> set[str]:
    words = _WORD.findall(text.casefold())
    return {" ".join(words[i : i + SHINGLE]) for i in range(max(len(words) - SHINGLE + 1, bool(words)))}


def leaks(documents: Iterable[Document]) -> list[NearDuplicate]:
    """The near-duplicates that stand in two splits, the most similar first."""
    return [pair for pair in near_duplicates(documents) if pair.first.split != pair.second.split]


def release_of(document: Document) -> str:
    """The id of its release: its own, but where it is by one of several annotators, which `ID@ANNOTATOR` tells."""
    by_one = document.group and document.id.startswith(f"{document.group}@")
    return document.group if by_one else document.id


def splits_of(documents: Iterable[Document]) -> dict[str, str]:
    """Release -> split, of documents that have one."""
    return {release_of(document): document.split for document in documents if document.split}


def assign_splits(
    documents: Iterable[Document],
    seed: int = 13,
    ratios: tuple[float, float, float] = (0.8, 0.1, 0.1),
    before: Mapping[str, str] | None = None,
) -> list[Document]:
    """The documents, in their order, each with a split.

    A split that a document has stays. The others are drawn in whole clusters of what belongs together: a cluster
    with a member that has a split takes that split; where a document is a near-duplicate of documents in two
    splits, it goes with the more similar one (`leaks` names the other). The draw depends on the seed, the ids and
    the texts, not on the order.

    Args:
        ratios: shares of train, validation and test in what has no split yet; their sum is 1.
        before: release -> split of an earlier draw (`splits_of`). What has no split goes there again, so that nothing
            is held out that an earlier model was trained on; what was in two splits and belongs together now, to the
            first of train, validation and test.

    Raises:
        SplitError: an id stands twice, or two documents of one group or text have different splits.
    """
    if len(ratios) != len(SPLITS) or min(ratios) < 0 or abs(sum(ratios) - 1) > 1e-6:
        raise SplitError(f"the ratios of {', '.join(SPLITS)} must be three shares with the sum 1, found {ratios}")
    documents = list(documents)
    twice = [id_ for id_, count in Counter(d.id for d in documents).items() if count > 1]
    if twice:
        raise SplitError(f"document id {twice[0]!r} stands twice; ids must be unique")
    clusters = _Clusters(documents)
    _join_same(clusters, sorted(documents, key=lambda d: d.id))
    if any(document.split is None for document in documents):
        for pair in near_duplicates(documents):
            clusters.join(pair.first, pair.second)
    _draw(clusters, seed, ratios, _drawn_before(clusters, documents, before or {}))
    return [document.with_split(clusters.split_of(document)) for document in documents]


class _Clusters:
    """Union-find over documents; a cluster has at most one given split, that of its document `given`."""

    def __init__(self, documents: Sequence[Document]):
        self.parent = {document.id: document.id for document in documents}
        self.given = {document.id: document for document in documents if document.split}
        self.drawn: dict[str, str] = {}

    def find(self, id_: str) -> str:
        while self.parent[id_] != id_:
            self.parent[id_] = self.parent[self.parent[id_]]
            id_ = self.parent[id_]
        return id_

    def join(self, first: Document, second: Document) -> tuple[Document, Document] | None:
        """Make one cluster of two; where their given splits differ, leave them and return who has which."""
        # The smaller id leads, so that the draw does not depend on the order of the joins.
        leader, other = sorted((self.find(first.id), self.find(second.id)))
        a, b = self.given.get(leader), self.given.get(other)
        if a is not None and b is not None and a.split != b.split:
            return a, b
        self.parent[other] = leader
        if b is not None:
            self.given[leader] = b
        return None

    def undecided(self) -> Counter[str]:
        """Leader -> number of documents, of the clusters without a given split."""
        sizes = Counter(map(self.find, self.parent))
        return Counter({leader: size for leader, size in sizes.items() if leader not in self.given})

    def split_of(self, document: Document) -> str:
        leader = self.find(document.id)
        return self.drawn.get(leader) or str(self.given[leader].split)


def _join_same(clusters: _Clusters, documents: Sequence[Document]) -> None:
    firsts: dict[tuple[str, str], Document] = {}
    for document in documents:
        for what, value in (("group", document.group), ("text", document.text)):
            if not value:
                continue
            first = firsts.setdefault((what, value), document)
            clash = clusters.join(first, document)
            if clash:
                a, b = clash
                same = "have one text" if what == "text" else f"are of the group {value!r}"
                raise SplitError(
                    f"documents {a.id!r} ({a.split}) and {b.id!r} ({b.split}) may not fall into two splits, "
                    f"because {first.id!r} and {document.id!r} {same}; give them one split, or none"
                )


def _drawn_before(clusters: _Clusters, documents: Iterable[Document], before: Mapping[str, str]) -> dict[str, str]:
    """Leader -> split of an earlier draw."""
    known = [(clusters.find(d.id), split) for d in documents if (split := before.get(release_of(d)))]
    return dict(sorted(known, key=lambda pair: -SPLITS.index(pair[1])))


def _draw(clusters: _Clusters, seed: int, ratios: Sequence[float], before: Mapping[str, str]) -> None:
    """Where it was before, else large clusters first, each to the split that lacks most; among equals chance decides
    who comes first."""
    sizes = clusters.undecided()
    lacking = {split: ratio * sizes.total() for split, ratio in zip(SPLITS, ratios, strict=True)}
    chance = {leader: hashlib.sha256(f"{seed} {leader}".encode()).digest() for leader in sizes}
    for leader in sorted(sizes, key=lambda leader: (leader not in before, -sizes[leader], chance[leader])):
        split = before.get(leader) or max(SPLITS, key=lambda split: lacking[split])
        clusters.drawn[leader] = split
        lacking[split] -= sizes[leader]
