"""PubTator: a title line, an abstract line, a line for each mention and each relation between ids.

    1234567|t|Naloxone reverses the effect of clonidine.
    1234567|a|In rats ...
    1234567<tab>0<tab>8<tab>Naloxone<tab>Chemical<tab>D009270
    1234567<tab>CID<tab>D009270<tab>D007022

Offsets count code points of title, one character, abstract; that character is read as a line break, which tells the
model where the title ends. Two columns are not read: the names of the single things in a mention of several ids, and
what some corpora say of a relation beside its type.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .database_ids import Annotated, Annotation, Corpus, Link, make_corpus, read_text
from .import_report import ReadError
from .schema import Schema

_TEXT = re.compile(r"([^|\t]+)\|([ta])\|(.*)")
_DIGITS = 15  # most of an offset
_FORM = (
    "a line is ID|t|TITLE, ID|a|ABSTRACT, a mention (ID, START, END, WORDS, TYPE, IDS) or a relation (ID, TYPE, IDS, "
    "IDS), the last two parted by tabs"
)


@dataclass
class _Open:
    """The document whose lines are being read."""

    line: int
    id: str
    title: str
    abstract: str | None = None
    annotations: list[Annotation] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)

    def close(self) -> Annotated:
        text = self.title + (f"\n{self.abstract}" if self.abstract else "")  # offsets count it after no title too
        return Annotated(f"line {self.line}", self.id, text, tuple(self.annotations), tuple(self.links))


def read_pubtator(path: str | Path, schema: Schema) -> Corpus:
    """The documents of a PubTator file (`.gz` is unpacked) and an account of every line.

    Raises:
        ReadError: the file cannot be read, or a line has not the form; with the line and what to do. What contradicts
            the text or the schema is refused, in the report.
    """
    path = Path(path)
    return make_corpus(path, _documents(path), schema)


def _documents(path: Path) -> Iterator[Annotated]:
    current: _Open | None = None
    for number, raw in enumerate(read_text(path).split("\n"), 1):
        line = raw.removesuffix("\r")
        if not line.strip():
            continue
        text = _TEXT.fullmatch(line)
        if text and text[2] == "t":
            if current:
                yield current.close()
            current = _Open(number, text[1], text[3])
            continue
        id_, *fields = [text[1], text[3]] if text else line.split("\t")
        if text is None and (len(fields) < 3 or _is_span(fields) and len(fields) < 4):
            raise ReadError(f"{path}:{number}: not PubTator: {line!r:.80}; {_FORM}")
        if current is None or id_ != current.id:
            belongs = f"the document of line {current.line} is {current.id!r}" if current else "no document before it"
            raise ReadError(f"{path}:{number}: a line of {id_!r:.40}, but {belongs}; begin one with ID|t|TITLE")
        if text:
            if current.abstract is not None:
                raise ReadError(f"{path}:{number}: a second abstract of {id_!r}; put it into one line")
            current.abstract = text[3]
        elif _is_span(fields):
            start, end, words, type_, *rest = fields
            if max(len(start), len(end)) > _DIGITS:
                raise ReadError(f"{path}:{number}: not PubTator: {line!r:.80}; an offset has at most {_DIGITS} digits")
            ids = rest[0] if rest else ""
            current.annotations.append(Annotation(f"line {number}", int(start), int(end), words, type_.strip(), ids))
        else:
            type_, head, tail = fields[:3]
            current.links.append(Link(f"line {number}", type_.strip(), head, tail))
    if current:
        yield current.close()


def _is_span(fields: list[str]) -> bool:
    return all(field.isascii() and field.isdigit() for field in fields[:2])
