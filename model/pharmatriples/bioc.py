"""BioC: collections of documents with passages, annotations and relations, as XML or as JSON of the same shape.

Passages stand where their offsets say; what is between them is read as line breaks. Of an annotation the type and the
ids are read from its infons; of a relation the type, and the two ids from infons that name them, from one infon for
each of two entity types, or from nodes that refer to annotations.
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .database_ids import Annotated, Annotation, Corpus, Link, make_corpus, read_text
from .import_report import ReadError
from .schema import Schema

IDS = ("identifier", "MESH")  # the infons that hold the ids of an annotation
ENDS = ("entity1", "entity2")
_LISTS = {
    name: f"{name}s" for name in ("document", "passage", "sentence", "annotation", "location", "relation", "node")
}
_GAP = 1000  # most characters between two passages
_WHOLE = re.compile(r"\s*([+-]?[0-9]{1,15})(?:\.0*)?\s*")


def read_bioc(path: str | Path, schema: Schema) -> Corpus:
    """The documents of a BioC file, XML or JSON (`.gz` is unpacked), and an account of every annotation.

    Raises:
        ReadError: the file cannot be read or is no BioC; with document and place. What contradicts the text or the
            schema is refused, in the report.
    """
    path = Path(path)
    text = read_text(path)
    try:
        collection = _from_json(text) if text.lstrip().startswith("{") else _from_xml(ElementTree.fromstring(text))
    except json.JSONDecodeError as error:
        raise ReadError(f"{path}:{error.lineno}: not BioC: {error.msg}, column {error.colno}") from None
    except ElementTree.ParseError as error:
        raise ReadError(f"{path}:{error.position[0]}: not BioC: {error}") from None
    except RecursionError:
        raise ReadError(f"{path}: not BioC: nested too deeply") from None
    if not isinstance(collection.get("documents"), list):
        raise ReadError(f"{path}: not BioC: a collection of documents was expected")
    return make_corpus(path, _documents(path, collection["documents"], schema), schema)


def _from_json(text: str) -> dict[str, Any]:
    """A collection in which numbers are texts, as in XML: none is rounded, or too large to be read."""
    return json.loads(text, parse_int=str, parse_float=str)


def _from_xml(element: ElementTree.Element) -> dict[str, Any]:
    """An element in the shape that BioC has in JSON."""
    found: dict[str, Any] = {**element.attrib, "infons": {}}
    for child in element:
        if child.tag == "infon":
            found["infons"][child.get("key", "")] = child.text or ""
        elif child.tag in _LISTS:
            found.setdefault(_LISTS[child.tag], []).append(_from_xml(child))
        else:
            found[child.tag] = "".join(child.itertext())
    return found


def _documents(path: Path, documents: list[Any], schema: Schema) -> Iterator[Annotated]:
    for number, given in enumerate(documents, 1):
        id_ = ""
        try:
            id_ = _words(given["id"], "its id")
            if not id_.strip():
                raise ValueError("its id is empty")
            passages = given.get("passages", [])
            parts = [part for passage in passages for part in _parts(passage)]
            holders = [given, *passages, *(sentence for p in passages for sentence in p.get("sentences", []))]
            annotations = [a for holder in holders for a in _annotations(holder)]
            links = [link for holder in holders for link in _links(holder, annotations, schema)]
            yield Annotated(f"document {number}", id_, _text(parts), tuple(annotations), tuple(links))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise ReadError(f"{path}: document {number} {id_!r}: not BioC: {what}; export it anew") from None


def _parts(passage: Mapping[str, Any]) -> list[tuple[int, str]]:
    """(offset, text) of a passage, or of its sentences where it has no text of its own."""
    holders = [passage] if passage.get("text") else passage.get("sentences", [])
    return [
        (_whole(holder, "offset", "a passage"), _words(holder.get("text") or "", "a passage")) for holder in holders
    ]


def _words(given: Any, what: str) -> str:
    if not isinstance(given, str):
        raise ValueError(f"{what} is {given!r:.40}, a text was expected")
    return given


def _whole(given: Mapping[str, Any], key: str, what: str) -> int:
    """A place or a length of `what`; what is no whole number is not rounded."""
    value = given[key]
    if not isinstance(value, str) or not (match := _WHOLE.fullmatch(value)):
        raise ValueError(f"{what}: {key} {value!r:.40} is no whole number of at most 15 digits")
    return int(match[1])


def _text(parts: list[tuple[int, str]]) -> str:
    text = ""
    for offset, part in parts:
        gap = offset - len(text)
        if not part:
            continue
        if not 0 <= gap <= _GAP:
            raise ValueError(f"a passage begins at {offset}, but the text before it ends at {len(text)}")
        text += "\n" * gap + part
    return text


def _annotations(holder: Mapping[str, Any]) -> Iterator[Annotation]:
    for given in holder.get("annotations", []):
        id_, infons = str(given["id"]), given.get("infons", {})
        name = f"annotation {id_!r:.40}"
        locations = given.get("locations", [])
        spans = sorted((_whole(at, "offset", name), _whole(at, "length", name)) for at in locations)
        start = spans[0][0] if spans else 0
        end = max((offset + length for offset, length in spans), default=0)
        ids = next((str(infons[key]) for key in IDS if infons.get(key)), "")
        type_, text = str(infons.get("type", "")), _words(given.get("text") or "", name)
        yield Annotation(id_, start, end, text, type_, ids, len(spans))


def _links(holder: Mapping[str, Any], annotations: list[Annotation], schema: Schema) -> Iterator[Link]:
    for given in holder.get("relations", []):
        infons = given.get("infons", {})
        ends = [str(infons[key]) for key in ENDS if key in infons]
        ends = ends or [str(infons[type_]) for type_ in schema.entities if type_ in infons]
        if not ends:
            ids = {annotation.place: annotation.ids for annotation in annotations}
            ends = [ids.get(str(node["refid"]), "") for node in given.get("nodes", [])]
        if len(ends) != 2:
            raise ValueError(f"relation {given.get('id')!r} has {len(ends)} ends, not 2")
        type_ = str(infons.get("type") or infons.get("relation") or "")
        yield Link(str(given.get("id", "")), type_, *ends)
