"""Documents as a Hugging Face data set, and back without loss; reading documents from any of their forms.

`mentions` and `relations` are exact. `tokens` and `ner_tags` are the view of it that stock token-classification
scripts and seqeval read; what this view cannot hold is counted and named in a `TokenReport`.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from datasets import ClassLabel, Dataset, DatasetDict, DatasetInfo, Features, List, Value, load_dataset, load_from_disk
from datasets.exceptions import DatasetsError
from datasets.info import DatasetInfosDict
from huggingface_hub import DatasetCardData

from .bioc import read_bioc
from .database_ids import Corpus
from .documents import SPLITS, Document, DocumentError, read_lines, word_spans
from .import_report import BARE, ImportReport, Item
from .labelstudio import read_export
from .labelstudio_task import Policy, everyone
from .pubtator import read_pubtator
from .schema import Schema
from .splits import splits_of

FOLDER = {"README.md", "data", "schema.yaml"}
EXACT_COLUMNS = ("id", "text", "mentions", "relations", "group", "source")
# How the name of a file ends whose annotations carry database ids, before .gz -> what reads it.
CORPORA: dict[str, Callable[[Path, Schema], Corpus]] = {
    ".pubtator": read_pubtator,
    ".txt": read_pubtator,
    ".xml": read_bioc,
    ".bioc.json": read_bioc,
}


class DatasetError(ValueError):
    """A data set, or a file of documents, that cannot be used; the message names it and says what to do."""


# --- documents to a data set


@dataclass(frozen=True)
class TokenLoss:
    """A mention that the token view holds narrower than it is, or not at all."""

    document: str
    start: int
    end: int
    reason: str

    def __str__(self) -> str:
        return f"document {self.document!r}: mention [{self.start}, {self.end}) {self.reason}"


@dataclass(frozen=True)
class TokenReport:
    """What the data set holds of its documents.

    Attributes:
        documents, mentions, tokens: how many.
        lost: the mentions that the token view does not hold exactly (`mentions` does).
        scores: how many mentions and relations had a score; the data set has no column for it.
    """

    documents: int = 0
    mentions: int = 0
    tokens: int = 0
    lost: tuple[TokenLoss, ...] = ()
    scores: int = 0

    def __str__(self) -> str:
        lines = [
            f"{self.documents} documents, {self.tokens} tokens, {self.mentions} mentions, "
            f"{len(self.lost)} of them not exact in the token view"
        ]
        lines += [f"  {loss}" for loss in self.lost]
        if self.scores:
            lines.append(f"{self.scores} mentions and relations lost their score: a data set holds annotations")
        return "\n".join(lines)


def features(schema: Schema) -> Features:
    """The columns of a data set of this schema."""
    whole, text = Value("int64"), Value("string")
    attributes = {name: text for type_ in schema.entities for name in schema.attribute_names(type_)}
    return Features(
        {
            "id": text,
            "text": text,
            "tokens": List(text),
            "token_offsets": List(List(whole)),
            "ner_tags": List(ClassLabel(names=list(schema.tags))),
            "mentions": List({"start": whole, "end": whole, "type": text, "entity": text, **attributes}),
            "relations": List({"type": text, "head": text, "tail": text}),
            "group": text,
            "source": text,
        }
    )


def to_dataset(documents: Iterable[Document], schema: Schema) -> tuple[DatasetDict, TokenReport]:
    """A data set with the splits that the documents name, in the order of the documents.

    Words are cut where a mention begins or ends inside them, so that the token view holds every mention whose
    first and last character is no blank.

    Raises:
        DocumentError: a document does not fit the schema.
        DatasetError: a document has no split, an id stands twice in a split, or a text is no Unicode.
    """
    columns = features(schema)
    rows: dict[str, dict[str, dict[str, Any]]] = {split: {} for split in SPLITS}
    counts = dict.fromkeys(("documents", "mentions", "tokens", "scores"), 0)
    lost: list[TokenLoss] = []
    for document in documents:
        document.check(schema)
        _check_encodable(document)
        if document.split is None:
            raise DatasetError(f"document {document.id!r} has no split; give it one, or draw one with assign_splits")
        if document.id in rows[document.split]:
            raise DatasetError(f"document id {document.id!r} stands twice in {document.split}; ids must be unique")
        spans = _token_spans(document)
        tags, losses = _tags(document, spans, schema)
        rows[document.split][document.id] = _row(document, spans, tags, columns)
        lost += losses
        counts["documents"] += 1
        counts["mentions"] += len(document.mentions)
        counts["tokens"] += len(spans)
        scores = [item.score for items in (document.mentions, document.relations) for item in items]
        counts["scores"] += len(scores) - scores.count(None)
    dataset = DatasetDict(
        {split: Dataset.from_list(list(held.values()), features=columns) for split, held in rows.items() if held}
    )
    return dataset, TokenReport(lost=tuple(lost), **counts)


def _row(document: Document, spans: list[tuple[int, int]], tags: list[int], columns: Features) -> dict[str, Any]:
    attributes = dict.fromkeys(columns["mentions"].feature)
    return {
        "id": document.id,
        "text": document.text,
        "tokens": [document.text[start:end] for start, end in spans],
        "token_offsets": [list(span) for span in spans],
        "ner_tags": tags,
        "mentions": [
            attributes | {"start": m.start, "end": m.end, "type": m.type, "entity": m.entity, **m.attributes}
            for m in document.mentions
        ],
        "relations": [{"type": r.type, "head": r.head, "tail": r.tail} for r in document.relations],
        "group": document.group,
        "source": document.source,
    }


def _token_spans(document: Document) -> list[tuple[int, int]]:
    """The words, cut at the boundaries of mentions; together they cover all but the blanks."""
    cuts = sorted({offset for m in document.mentions for offset in (m.start, m.end)})
    spans: list[tuple[int, int]] = []
    for start, end in word_spans(document.text):
        inside = cuts[bisect_right(cuts, start) : bisect_left(cuts, end)]
        spans += pairwise([start, *inside, end])
    return spans


def _check_encodable(document: Document) -> None:
    try:
        json.dumps(document.to_dict(), ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        found = error.object[error.start]
        raise DatasetError(
            f"document {document.id!r} holds half of a surrogate pair ({found!r}), which Parquet cannot; replace it"
        ) from None


def _tags(document: Document, spans: list[tuple[int, int]], schema: Schema) -> tuple[list[int], list[TokenLoss]]:
    ids = {tag: number for number, tag in enumerate(schema.tags)}
    tags = [ids["O"]] * len(spans)
    starts = [start for start, _ in spans]
    lost = []
    for m in document.mentions:
        first, end = bisect_left(starts, m.start), bisect_left(starts, m.end)
        if first == end:
            lost.append(TokenLoss(document.id, m.start, m.end, "holds nothing but blanks: it has no token"))
            continue
        held = starts[first], spans[end - 1][1]
        if held != (m.start, m.end):
            reason = f"begins or ends with blanks: its tokens span [{held[0]}, {held[1]})"
            lost.append(TokenLoss(document.id, m.start, m.end, reason))
        tags[first:end] = [ids[f"B-{m.type}"]] + [ids[f"I-{m.type}"]] * (end - first - 1)
    return tags, lost


# --- a data set to documents


def from_dataset(dataset: DatasetDict) -> list[Document]:
    """The documents of a data set, split by split in its order; the token view is not read.

    Raises:
        DatasetError: a column is missing.
        DocumentError: a row contradicts itself.
    """
    documents = []
    for split, rows in dataset.items():
        missing = [column for column in EXACT_COLUMNS if column not in rows.column_names]
        if missing:
            raise DatasetError(
                f"split {split!r} has no column {missing[0]!r}, only {', '.join(rows.column_names)}; "
                "make the data set with scripts/convert.py"
            )
        documents += [_document(row, split) for row in rows.select_columns(list(EXACT_COLUMNS))]
    return documents


def _document(row: dict[str, Any], split: str) -> Document:
    if not isinstance(row["mentions"], list):
        raise DatasetError(f"document {row['id']!r}: 'mentions' must be a list, found {row['mentions']!r:.60}")
    # A mention has a value in the columns of its own type's attributes only.
    mentions = [{k: v for k, v in m.items() if v is not None} if isinstance(m, dict) else m for m in row["mentions"]]
    return Document.from_dict({**row, "mentions": mentions, "split": split})


# --- the folder


def write_dataset(dataset: DatasetDict, schema: Schema, folder: str | Path) -> None:
    """Write a folder that `datasets.load_dataset` loads: `data/SPLIT-00000-of-00001.parquet`, a card, the schema.

    It is written beside its place and moved there at the end; one written earlier is replaced.

    Raises:
        DatasetError: the folder holds something else, or `load_dataset` would not find it.
    """
    folder = Path(folder).resolve()
    _check_name(folder)
    if folder.exists():
        others = {item.name for item in folder.iterdir()} - FOLDER if folder.is_dir() else {folder.name}
        if others:
            raise DatasetError(f"{folder}: {min(others)!r} is no part of a data set; choose another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as beside:
        new = Path(beside) / "new"
        (new / "data").mkdir(parents=True)
        for split, rows in dataset.items():
            rows.to_parquet(new / _parquet(split))
        (new / "README.md").write_text(_card(dataset, schema), encoding="utf-8")
        plain = yaml.safe_dump(schema.to_dict(), sort_keys=False, allow_unicode=True)
        (new / "schema.yaml").write_text(plain, encoding="utf-8")
        old = Path(beside) / "old"
        if folder.exists():
            folder.rename(old)
        try:
            new.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise


def splits_in(folder: str | Path) -> dict[str, str]:
    """Release -> split in a folder that `write_dataset` may replace; nothing where there is none yet.

    Raises:
        DatasetError: what is there cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir() or {item.name for item in folder.iterdir()} != FOLDER:
        return {}
    try:
        return splits_of(_read_folder(folder))
    except ValueError as error:
        raise DatasetError(f"{error}; so its splits cannot be kept: remove it, or draw them anew (--seed)") from None


def _check_name(folder: Path) -> None:
    if found := re.search(r"[*?\[\]]|::", str(folder)):
        raise DatasetError(f"{folder}: datasets reads {found.group()!r} in a path as a pattern; choose another folder")


def _parquet(split: str) -> str:
    return f"data/{split}-00000-of-00001.parquet"


def _card(dataset: DatasetDict, schema: Schema) -> str:
    """README.md: the header that the Hub and `load_dataset` read, and what a reader wants to know."""
    files = [{"split": split, "path": _parquet(split)} for split in dataset]
    header = DatasetCardData(
        task_categories=["token-classification"], configs=[{"config_name": "default", "data_files": files}]
    )
    DatasetInfosDict({"default": DatasetInfo(features=features(schema))}).to_dataset_card_data(header)
    counts = {
        split: Counter(
            kind
            for row in rows.select_columns(["mentions", "relations"])
            for kind in ("documents", *(item["type"] for item in (*row["mentions"], *row["relations"])))
        )
        for split, rows in dataset.items()
    }
    kinds = ["documents", *schema.entities, *schema.relations]
    table = [["", *counts], ["---"] * (len(counts) + 1)]
    table += [[kind, *(str(count[kind]) for count in counts.values())] for kind in kinds]
    lines = "\n".join(f"| {' | '.join(row)} |" for row in table)
    return f"""---
{header}
---
# Documents annotated by the schema {schema.name}, version {schema.version}

Made by `scripts/convert.py` of pharmatriples. The terms are those of the documents it was made from.

{lines}

`mentions` and `relations` are exact; offsets are Unicode code points into `text`, half-open. A relation joins the
entities that the mentions name. `tokens`, `token_offsets` and `ner_tags` (BIO) are a view of the mentions for
token-classification scripts. Documents of one `group` or of one text stand in one split. `schema.yaml` tells what the
types mean.
"""


# --- documents from files


def read_documents(
    path: str | Path,
    schema: Schema,
    split: str | None = None,
    report: Callable[[ImportReport], object] = ImportReport.check,
    policy: Policy = everyone,
) -> list[Document]:
    """The documents of a Label Studio export (.json), of JSON lines (.jsonl), of PubTator (.pubtator, .txt), of BioC
    (.xml, .bioc.json), or of a folder that `scripts/convert.py` wrote or that holds a saved DatasetDict. All but the
    export may be gzipped (.gz).

    Args:
        split: only its documents.
        report: is called with the import report of an export, PubTator or BioC, and of JSON lines some of which do
            not say what is marked; as long as nobody takes it, an item that the import refused is an error.
        policy: which annotations of a task in a Label Studio export become documents; see `annotators.policy`.

    Raises:
        ValueError: the file is missing, cannot be read, or does not fit the schema, or the split has no documents;
            the message names the file and the place.
    """
    path = Path(path)
    if not path.exists():
        raise DatasetError(f"{path}: no such file or folder")
    documents = []
    seen: set[str] = set()
    for document in _read(path, schema, report, policy):
        try:
            documents.append(document.check(schema))
        except DocumentError as error:
            raise DatasetError(f"{path}: {error}") from None
        if document.id in seen:
            raise DatasetError(f"{path}: document id {document.id!r} stands twice; ids must be unique")
        seen.add(document.id)
    return of_split(documents, split, path)


def of_split(documents: Sequence[Document], split: str | None, path: str | Path) -> list[Document]:
    """Those of a file's documents that are of a split, None for all.

    Raises:
        DatasetError: there are none.
    """
    chosen = [document for document in documents if split in (None, document.split)]
    if not chosen:
        found = ", ".join(sorted({document.split or "documents without a split" for document in documents}))
        found += "; scripts/convert.py gives splits" if any(d.split is None for d in documents) else ""
        wanted = f"no documents of the split {split!r}; it holds {found or 'none'}" if split else "no documents"
        raise DatasetError(f"{path}: {wanted}")
    return chosen


def _read(path: Path, schema: Schema, report: Callable[[ImportReport], object], policy: Policy) -> Iterator[Document]:
    if path.is_dir():
        yield from _read_folder(path)
    elif path.name.endswith((".jsonl", ".jsonl.gz")):
        yield from _read_lines(path, report)
    elif reader := _corpus_reader(path):
        corpus = reader(path, schema)
        report(corpus.report)
        yield from corpus.documents
    elif path.suffix == ".json":
        imported = read_export(path, schema, policy)
        report(imported.report)
        yield from imported.documents
    else:
        raise DatasetError(
            f"{path}: not a form that is read here: a Label Studio export (.json), JSON lines (.jsonl), PubTator "
            "(.pubtator, .txt), BioC (.xml, .bioc.json), all but the first also with .gz, or a folder with a data set"
        )


def _read_lines(path: Path, report: Callable[[ImportReport], object]) -> list[Document]:
    """The documents of JSON lines; where a line does not say what is marked, a report tells which are left out."""
    lines = list(read_lines(path))
    documents = [document for document, marked in lines if marked]
    if len(documents) < len(lines):
        items = [
            Item("kept", "document", document.id) if marked else Item("ignored", "document", document.id, reason=BARE)
            for document, marked in lines
        ]
        report(ImportReport(str(path), tuple(items), len(documents)))
    return documents


def _corpus_reader(path: Path) -> Callable[[Path, Schema], Corpus] | None:
    name = path.name.lower().removesuffix(".gz")
    return next((reader for ending, reader in CORPORA.items() if name.endswith(ending)), None)


def read_corpus(path: str | Path, schema: Schema) -> Corpus:
    """The documents of a PubTator or BioC file with the relations between their database ids.

    Raises:
        ValueError: the file cannot be read, or is of another form.
    """
    path = Path(path)
    reader = _corpus_reader(path)
    if reader is None or path.is_dir():
        raise DatasetError(
            f"{path}: database ids are read from PubTator or BioC ({', '.join(CORPORA)}); give such a file"
        )
    return reader(path, schema)


def _read_folder(path: Path) -> list[Document]:
    _check_name(path.resolve())
    try:
        if (path / "dataset_dict.json").exists():
            return from_dataset(load_from_disk(str(path)))
        if not any(path.glob("**/*.parquet")):
            raise DatasetError("holds neither Parquet files nor a saved DatasetDict; scripts/convert.py writes one")
        # A cache of its own: nothing stays behind, and a data set that was written anew is read anew.
        with TemporaryDirectory() as cache:
            return from_dataset(load_dataset(str(path), cache_dir=cache, keep_in_memory=True))
    except (DatasetsError, OSError, ValueError, yaml.YAMLError, LookupError, TypeError, AttributeError) as error:
        # Of a damaged file datasets says only that something went wrong, and of a damaged description a name.
        ours = isinstance(error, DatasetError | DocumentError)
        told = [path, *([] if ours else ["cannot be read"]), error, error.__cause__]
        raise DatasetError(": ".join(" ".join(str(one).split()) for one in told if one is not None)) from None
