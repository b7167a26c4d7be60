"""Several annotators of a task: which of their annotations become documents, and who they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from .agreement import by_annotator, majority
from .documents import Document
from .import_report import LabelStudioError
from .labelstudio import read_export
from .labelstudio_task import Annotated, Policy, everyone
from .schema import Schema

POLICIES = "all, ground_truth, latest, by:EMAIL, agreement"


def policy(name: str, schema: Schema) -> Policy:
    """The policy of a name, for `read_export`.

    - `all`: each annotation is a document; those of one task are one group.
    - `ground_truth`: the annotation that is marked so; of several, the latest.
    - `latest`: the one that was changed last.
    - `by:EMAIL`: that annotator's; of several, the latest.
    - `agreement`: what more than half of the annotators say, each with the latest annotation; see `majority`.

    Raises:
        LabelStudioError: the name is none of these.
    """
    if name == "all":
        return everyone
    if name == "latest":
        return _latest
    if name == "ground_truth":
        return lambda given: _latest([one for one in given if one.ground_truth])
    if name == "agreement":
        return lambda given: _agreement(given, schema)
    by, _, who = name.casefold().partition(":")
    if by != "by" or not who:
        raise LabelStudioError(f"policy {name!r} is none of {POLICIES}")
    return lambda given: _latest([one for one in given if one.annotator.casefold() == who])


def _latest(given: Sequence[Annotated]) -> Sequence[Annotated]:
    """The last one, as a list; of equals the later in the export."""
    return [max(reversed(given), key=lambda one: one.time)] if given else []


def _agreement(given: Sequence[Annotated], schema: Schema) -> Sequence[Annotated]:
    voices: dict[str, list[Annotated]] = {}
    for number, one in enumerate(given):
        voices.setdefault(one.annotator or f"annotation {number}", []).append(one)
    votes = [one for own in voices.values() for one in _latest(own)]
    return votes if len(votes) == 1 else [Annotated(majority([one.document for one in votes], schema))]


def annotations_by(paths: Iterable[Path], schema: Schema) -> dict[str, list[Document]]:
    """Annotator -> documents, of exports whose tasks have several annotators, or of one export for each of them.

    In an export without annotators all is one annotator's, named as the file.

    Raises:
        ReadError: an export cannot be read, or something in it is refused.
    """
    found: dict[str, list[Document]] = {}
    for path in paths:
        documents, report = read_export(path, schema)
        report.check()
        named = by_annotator(documents) or {path.stem: documents}
        for who, own in named.items():
            found.setdefault(who, []).extend(own)
    return found
