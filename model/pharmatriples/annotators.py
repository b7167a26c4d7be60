"""Several annotators of a task: which of their annotations become documents, and who they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from .agreement import majority
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
    votes = list(_voices(given).values())
    return votes if len(votes) == 1 else [Annotated(majority([one.document for one in votes], schema))]


def _voices(given: Sequence[Annotated]) -> dict[str, Annotated]:
    """Annotator -> their latest annotation of a task.

    Of several annotations each one without an annotator is another person's, called `annotation 1` and so on.
    """
    voices: dict[str, list[Annotated]] = {}
    for number, one in enumerate(given, 1):
        voices.setdefault(one.annotator or (f"annotation {number}" if len(given) > 1 else ""), []).append(one)
    return {who: _latest(own)[0] for who, own in voices.items()}


def annotations_by(paths: Iterable[Path], schema: Schema) -> dict[str, list[Document]]:
    """Annotator -> documents, of exports whose tasks have several annotators, or of one export for each of them.

    The documents have the ids of their tasks. Annotators are called as the file says:

    - An export that names one annotator or none is one annotator's, called as the file (by its path, where two files
      have one name), unless an export of several names that annotator's email, too. A number is a person on one server
      alone, and joins no such file to another.
    - In an export of several each is called by email, else by number. An annotation there that does not say whose it
      is, is counted under the name of the file; where its task has several, as `annotation 1` and so on.
    - Of several annotations of one task by one annotator the latest counts, as in the policy `agreement`.

    Raises:
        ReadError: an export cannot be read, or something in it is refused.
    """
    paths = list(paths)
    stems = Counter(path.stem for path in paths)
    exports = [(path.stem if stems[path.stem] == 1 else str(path), _voices_of(path, schema)) for path in paths]
    people = [{who for who, _ in voices if who} for _, voices in exports]
    emails = {who for names in people if len(names) > 1 for who in names if "@" in who}
    found: dict[str, list[Document]] = {}
    for (stem, voices), names in zip(exports, people, strict=True):
        named = names if len(names) > 1 else names & emails
        for who, document in voices:
            found.setdefault(who if who in named else stem, []).append(document)
    return found


def _voices_of(path: Path, schema: Schema) -> list[tuple[str, Document]]:
    """Annotator, empty where it is not said, and document, with the id of its task, of all that counts in an export."""
    voices: list[tuple[str, Document]] = []

    def listen(given: Sequence[Annotated]) -> Sequence[Annotated]:
        # The ids of the documents do not tell it: those of releases may hold an @, too.
        voices.extend((who, one.document) for who, one in _voices(given).items())
        return given

    read_export(path, schema, listen).report.check()
    return voices
