"""The data set: documents go in and come back without loss, from every form in which they are kept."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import ClassLabel, Dataset, DatasetDict, List, Value, load_dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from pharmatriples.dataset import (
    DatasetError,
    features,
    from_dataset,
    read_documents,
    to_dataset,
    write_dataset,
)
from pharmatriples.documents import SPLITS, Document, DocumentError, Mention, Relation, write_jsonl
from pharmatriples.import_report import ImportReport, ReadError
from pharmatriples.labelstudio import task_from_document
from pharmatriples.schema import Schema
from strategies import SCHEMA, documents

ROOT = Path(__file__).parents[1]

TEXT = "Abc-CD20 starts. 🧬\r\n"
DOCUMENT = Document(
    "r1",
    TEXT,
    (
        Mention(0, 3, "DRUG", "d1"),
        Mention(4, 8, "GENE", "g1"),
        Mention(9, 15, "EVENT", "e1", {"kind": "start"}),
    ),
    (Relation("acts_on", "d1", "g1"), Relation("event_drug", "e1", "d1")),
    group="g",
    source="made up",
    split="train",
)
BARE = Document("r2", "", split="test")


def tagged(document: Document, schema: Schema = SCHEMA) -> list[tuple[str, str]]:
    """Tokens with their tags."""
    row = to_dataset([document], schema)[0]["train"][0]
    return [(token, schema.tags[tag]) for token, tag in zip(row["tokens"], row["ner_tags"], strict=True)]


# --- columns


def test_columns_are_those_of_the_design() -> None:
    columns = features(SCHEMA)
    assert list(columns) == [
        *("id", "text", "tokens", "token_offsets", "ner_tags", "mentions", "relations", "group", "source")
    ]
    assert columns["ner_tags"] == List(ClassLabel(names=list(SCHEMA.tags)))
    assert list(columns["mentions"].feature) == ["start", "end", "type", "entity", "kind"]
    assert list(columns["relations"].feature) == ["type", "head", "tail"]
    assert all(columns[name] == Value("string") for name in ("id", "text", "group", "source"))


def test_a_row_holds_the_document_and_its_token_view() -> None:
    row = to_dataset([DOCUMENT], SCHEMA)[0]["train"][0]
    assert row["tokens"] == ["Abc", "-", "CD20", "starts", ".", "🧬"]
    assert row["token_offsets"] == [[0, 3], [3, 4], [4, 8], [9, 15], [15, 16], [17, 18]]
    assert row["mentions"][0] == {"start": 0, "end": 3, "type": "DRUG", "entity": "d1", "kind": None}
    assert row["mentions"][2]["kind"] == "start"
    assert row["relations"][0] == {"type": "acts_on", "head": "d1", "tail": "g1"}


# --- the token view


def test_words_are_cut_where_a_mention_cuts_them() -> None:
    document = Document("r", "antiCD20mab", (Mention(4, 8, "GENE", "g"),), split="train")
    assert tagged(document) == [("anti", "O"), ("CD20", "B-GENE"), ("mab", "O")]
    assert to_dataset([document], SCHEMA)[1].lost == ()


def test_mentions_that_touch_begin_anew() -> None:
    mentions = (Mention(0, 1, "GENE", "a"), Mention(1, 4, "GENE", "b"), Mention(4, 5, "DRUG", "c"))
    document = Document("r", "ab-cd", mentions, split="train")
    assert tagged(document) == [("a", "B-GENE"), ("b", "B-GENE"), ("-", "I-GENE"), ("c", "I-GENE"), ("d", "B-DRUG")]


@pytest.mark.parametrize(
    ("start", "end", "tokens", "reason"),
    [
        (1, 3, [], "holds nothing but blanks"),
        (2, 4, ["b"], "begins or ends with blanks: its tokens span [3, 4)"),
        (0, 2, ["a"], "begins or ends with blanks: its tokens span [0, 1)"),
        (0, 4, ["a", "b"], None),
    ],
)
def test_what_the_token_view_cannot_hold_is_named(start: int, end: int, tokens: list[str], reason: str | None) -> None:
    document = Document("r", "a  b", (Mention(start, end, "GENE", "g"),), split="train")
    dataset, report = to_dataset([document], SCHEMA)
    assert [token for token, tag in tagged(document) if tag != "O"] == tokens
    assert [(loss.document, loss.start, loss.end) for loss in report.lost] == [("r", start, end)] * bool(reason)
    assert from_dataset(dataset) == [document]
    if reason:
        assert f"document 'r': mention [{start}, {end}) {reason}" in str(report)


@settings(deadline=None)
@given(documents())
def test_tokens_give_back_every_mention_that_is_not_reported(document: Document) -> None:
    document = document.with_split("train")
    dataset, report = to_dataset([document], SCHEMA)
    row = dataset["train"][0]
    found, open_ = [], None
    for (start, end), token, tag in zip(row["token_offsets"], row["tokens"], row["ner_tags"], strict=True):
        assert document.text[start:end] == token
        prefix, _, type_ = SCHEMA.tags[tag].partition("-")
        if prefix == "I":
            assert open_ is not None
            assert open_[2] == type_
            open_[1] = end
        else:
            open_ = [start, end, type_] if prefix == "B" else None
            found += [open_] if open_ else []
    lost = {(loss.start, loss.end) for loss in report.lost}
    exact = [[m.start, m.end, m.type] for m in document.mentions if (m.start, m.end) not in lost]
    assert [span for span in found if span in exact] == exact
    for m in document.mentions:
        wording = document.wording(m)
        assert ((m.start, m.end) in lost) == (wording != wording.strip())


# --- there and back


@settings(deadline=None, max_examples=50)
@given(st.lists(documents(), unique_by=lambda d: d.id, max_size=4), st.data())
def test_documents_come_back_as_they_were(given_: list[Document], data: st.DataObject) -> None:
    ready = [
        dataclasses.replace(
            document,
            mentions=tuple(dataclasses.replace(m, score=None) for m in document.mentions),
            relations=tuple(dataclasses.replace(r, score=None) for r in document.relations),
            split=document.split or "train",
        )
        for document in given_
    ]
    dataset, report = to_dataset(ready, SCHEMA)
    assert from_dataset(dataset) == sorted(ready, key=lambda d: SPLITS.index(str(d.split)))
    assert (report.documents, report.scores) == (len(ready), 0)


def test_scores_that_are_left_out_are_counted() -> None:
    scored = dataclasses.replace(DOCUMENT, relations=(Relation("acts_on", "d1", "g1", 0.5),))
    report = to_dataset([scored], SCHEMA)[1]
    assert report.scores == 1
    assert "1 mentions and relations lost their score" in str(report)


def test_a_schema_without_attributes_and_relations_works() -> None:
    bare = Schema.from_dict({"name": "bare", "version": 1, "entities": {"GENE": ""}})
    document = Document("r", "CD20", (Mention(0, 4, "GENE", "g"),), split="train")
    assert from_dataset(to_dataset([document], bare)[0]) == [document]


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ([dataclasses.replace(DOCUMENT, split=None)], "document 'r1' has no split"),
        ([DOCUMENT, BARE, DOCUMENT], "document id 'r1' stands twice in train"),
        ([dataclasses.replace(BARE, text="\ud83d")], "document 'r2' holds half of a surrogate pair"),
        ([dataclasses.replace(BARE, text="x", mentions=(Mention(0, 1, "DOG", "d"),))], "document 'r2'.*'DOG'"),
    ],
)
def test_documents_that_no_data_set_holds_are_refused(given_: list[Document], message: str) -> None:
    with pytest.raises((DatasetError, DocumentError), match=message):
        to_dataset(given_, SCHEMA)


def test_a_missing_column_is_named() -> None:
    with pytest.raises(DatasetError, match="split 'train' has no column 'id', only text"):
        from_dataset(DatasetDict(train=Dataset.from_dict({"text": ["x"]})))


def test_a_row_that_contradicts_itself_is_named() -> None:
    row = {"id": "r", "text": "x", "relations": [], "group": "", "source": ""}
    broken = DatasetDict(train=Dataset.from_list([{**row, "mentions": [{"start": 0, "end": 9, "type": "GENE"}]}]))
    with pytest.raises(DocumentError, match="document 'r': a mention's 'entity' must be str"):
        from_dataset(broken)


# --- the folder


def test_a_folder_loads_with_its_label_names(tmp_path: Path) -> None:
    dataset, _ = to_dataset([DOCUMENT, BARE], SCHEMA)
    write_dataset(dataset, SCHEMA, tmp_path / "made")
    loaded = load_dataset(str(tmp_path / "made"), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["train", "test"]
    assert loaded["train"].features == loaded["test"].features == features(SCHEMA)
    assert loaded["train"][:] == dataset["train"][:]
    assert Schema.from_yaml(tmp_path / "made" / "schema.yaml") == SCHEMA


def test_the_card_tells_splits_features_and_counts(tmp_path: Path) -> None:
    write_dataset(to_dataset([DOCUMENT, BARE], SCHEMA)[0], SCHEMA, tmp_path / "made")
    _, header, body = (tmp_path / "made" / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    (config,) = yaml.safe_load(header)["configs"]
    assert config["data_files"] == [
        {"split": "train", "path": "data/train-00000-of-00001.parquet"},
        {"split": "test", "path": "data/test-00000-of-00001.parquet"},
    ]
    assert [column["name"] for column in yaml.safe_load(header)["dataset_info"]["features"]] == list(features(SCHEMA))
    assert "| documents | 1 | 1 |" in body
    assert "| GENE | 1 | 0 |" in body
    assert "| event_drug | 1 | 0 |" in body


def test_a_folder_is_replaced_whole_and_nothing_stays_beside_it(tmp_path: Path) -> None:
    write_dataset(to_dataset([DOCUMENT, BARE], SCHEMA)[0], SCHEMA, tmp_path / "made")
    write_dataset(to_dataset([BARE], SCHEMA)[0], SCHEMA, tmp_path / "made")
    assert [path.name for path in (tmp_path / "made" / "data").iterdir()] == ["test-00000-of-00001.parquet"]
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    assert read_documents(tmp_path / "made", SCHEMA) == [BARE]


@pytest.mark.parametrize("name", ["d[1]", "what?", "x::y"])
def test_a_folder_that_datasets_would_take_for_a_pattern_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(DatasetError, match="as a pattern; choose another folder"):
        write_dataset(to_dataset([BARE], SCHEMA)[0], SCHEMA, tmp_path / name / "data")
    with pytest.raises(DatasetError, match="as a pattern; choose another folder"):
        read_documents(tmp_path / name, SCHEMA)


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DatasetError, match=r"'thesis\.txt' is no part of a data set"):
        write_dataset(to_dataset([BARE], SCHEMA)[0], SCHEMA, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


# --- documents from files


def write(kind: str, documents: list[Document], folder: Path) -> Path:
    path = folder / f"documents.{kind}"
    if kind == "json":
        path.write_text(json.dumps([task_from_document(document, SCHEMA) for document in documents]))
    elif kind == "parquet":
        write_dataset(to_dataset(documents, SCHEMA)[0], SCHEMA, path)
    elif kind == "saved":
        to_dataset(documents, SCHEMA)[0].save_to_disk(str(path))
    else:
        write_jsonl(documents, path)
    return path


@pytest.mark.parametrize("kind", ["json", "jsonl", "jsonl.gz", "parquet", "saved"])
def test_every_form_gives_the_same_documents(tmp_path: Path, kind: str) -> None:
    path = write(kind, [DOCUMENT, BARE], tmp_path)
    assert read_documents(path, SCHEMA) == [DOCUMENT, BARE]
    assert read_documents(path, SCHEMA, split="test") == [BARE]
    with pytest.raises(DatasetError, match=rf"documents\.{kind}: no documents of the split 'validation'; it holds te"):
        read_documents(path, SCHEMA, split="validation")


@pytest.mark.parametrize("kind", ["json", "jsonl", "parquet", "saved"])
def test_documents_of_another_schema_are_refused_with_file_and_document(tmp_path: Path, kind: str) -> None:
    path = write(kind, [DOCUMENT], tmp_path)
    other = Schema.from_dict({"name": "other", "version": 1, "entities": {"GENE": ""}})
    with pytest.raises(ValueError, match=rf"documents\.{kind}.*(?s:.)*'r1'.*") as error:
        read_documents(path, other)
    assert "'DRUG'" in str(error.value)


def test_what_an_import_refuses_is_an_error_unless_the_report_is_taken(tmp_path: Path) -> None:
    task = task_from_document(DOCUMENT, SCHEMA)
    task["annotations"][0]["result"][0]["value"]["end"] = 99
    path = tmp_path / "export.json"
    path.write_text(json.dumps([task]))
    with pytest.raises(ReadError, match=r"export\.json.*refused"):
        read_documents(path, SCHEMA)
    reports: list[ImportReport] = []
    (read,) = read_documents(path, SCHEMA, report=reports.append)
    assert [m.type for m in read.mentions] == ["GENE", "EVENT"]
    assert reports[0].of("refused")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.jsonl", None, "no such file or folder"),
        ("a.csv", "x", "not a form that is read here"),
        ("a.jsonl", "", "no documents"),
        ("a.jsonl", "{", ":1: not JSON"),
        ("a.json", "{", ":1: not a JSON export"),
        ("a", {"x.txt": "x"}, "holds neither Parquet files nor a saved DatasetDict"),
        ("a", {"x.parquet": "PAR1"}, "a: "),
        ("a", {"dataset_dict.json": "{"}, "a: "),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: Any, message: str) -> None:
    path = tmp_path / name
    if isinstance(content, dict):
        path.mkdir()
        for file, text in content.items():
            (path / file).write_text(text)
    elif content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        read_documents(path, SCHEMA)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("nothing", [{}, {"mentions": None}, {"mentions": None, "entities": None}])
def test_a_line_that_does_not_say_what_is_marked_is_left_out_and_told(tmp_path: Path, nothing: dict[str, Any]) -> None:
    path = write("jsonl", [BARE], tmp_path)
    path.write_text(path.read_text() + json.dumps({"id": "new", "text": TEXT, "split": "test", **nothing}) + "\n")
    reports: list[ImportReport] = []
    assert read_documents(path, SCHEMA, report=reports.append) == [BARE]
    assert [(item.task, item.reason) for item in reports[0].of("ignored")] == [
        ("new", "not annotated: its line has no 'mentions'")
    ]
    assert "1 documents are left out: they are not annotated" in str(reports[0])


@pytest.mark.parametrize(
    ("file", "content"),
    [("dataset_dict.json", "5"), ("test/state.json", "{}"), ("test/dataset_info.json", "[]")],
)
def test_a_saved_data_set_that_is_damaged_is_named(tmp_path: Path, file: str, content: str) -> None:
    path = write("saved", [BARE], tmp_path)
    (path / file).write_text(content)
    with pytest.raises(DatasetError, match=r"documents\.saved: "):
        read_documents(path, SCHEMA)


def test_a_row_without_a_list_of_mentions_is_named(tmp_path: Path) -> None:
    dataset, _ = to_dataset([BARE], SCHEMA)
    dataset.map(lambda row: {"mentions": None}, features=dataset["test"].features).save_to_disk(str(tmp_path / "d"))
    with pytest.raises(DatasetError, match="document '.*': 'mentions' must be a list, found None"):
        read_documents(tmp_path / "d", SCHEMA)


# --- the command


def convert(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "convert.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)


def test_convert_writes_a_data_set_of_several_inputs(tmp_path: Path) -> None:
    (tmp_path / "schema.yaml").write_text(yaml.safe_dump(SCHEMA.to_dict(), sort_keys=False))
    export = write("json", [DOCUMENT], tmp_path)
    lines = write("jsonl", [BARE, Document("r3", TEXT)], tmp_path)
    done = convert(export, lines, "-o", tmp_path / "made", "--schema", tmp_path / "schema.yaml")
    assert done.returncode == 0, done.stderr
    assert "documents.json: 1 documents" in done.stdout
    assert "3 documents, 12 tokens, 3 mentions, 0 of them not exact" in done.stdout
    assert "train 2, test 1" in done.stdout
    assert {d.id: d.split for d in read_documents(tmp_path / "made", SCHEMA)} == {
        "r1": "train",
        "r2": "test",
        "r3": "train",
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [('{"id": "a"}', "documents.jsonl:1: document 'a': the text must be a text"), (None, "no such file or folder")],
)
def test_convert_tells_bad_input_in_one_line(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "documents.jsonl"
    if content:
        path.write_text(content)
    done = convert(path, "-o", tmp_path / "made", "--schema", ROOT / "configs" / "schema.yaml")
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "made").exists()


def test_convert_takes_the_annotators_that_a_policy_names(tmp_path: Path) -> None:
    task = task_from_document(dataclasses.replace(DOCUMENT, split=None), SCHEMA)
    annotation = task["annotations"][0]
    task["annotations"] = [{**annotation, "completed_by": {"email": f"{who}@x.org"}} for who in ("a", "b")]
    task["annotations"][1]["result"] = []
    path = tmp_path / "two.json"
    path.write_text(json.dumps([task]))
    (tmp_path / "schema.yaml").write_text(yaml.safe_dump(SCHEMA.to_dict(), sort_keys=False))
    options = [path, "-o", tmp_path / "made", "--schema", tmp_path / "schema.yaml"]
    for name, mentions in (("all", [0, 3]), ("by:a@x.org", [3]), ("by:b@x.org", [0])):
        assert convert(*options, "--policy", name).returncode == 0
        assert sorted(len(d.mentions) for d in read_documents(tmp_path / "made", SCHEMA)) == mentions
    assert "policy 'first' is none of all, ground_truth" in convert(*options, "--policy", "first").stderr


def test_convert_goes_on_or_fails_where_an_item_is_refused(tmp_path: Path) -> None:
    task = task_from_document(DOCUMENT, SCHEMA)
    task["annotations"][0]["result"][0]["value"]["labels"] = ["UNKNOWN"]
    path = tmp_path / "bad.json"
    path.write_text(json.dumps([task]))
    (tmp_path / "schema.yaml").write_text(yaml.safe_dump(SCHEMA.to_dict(), sort_keys=False))
    options = [path, "-o", tmp_path / "made", "--schema", tmp_path / "schema.yaml"]
    strict = convert(*options, "--strict")
    assert strict.returncode == 2
    assert "UNKNOWN" in strict.stdout
    assert not (tmp_path / "made").exists()
    done = convert(*options)
    assert (done.returncode, "UNKNOWN" in done.stdout) == (0, True), done.stderr


def test_convert_names_the_files_that_hold_one_release(tmp_path: Path) -> None:
    (tmp_path / "schema.yaml").write_text(yaml.safe_dump(SCHEMA.to_dict(), sort_keys=False))
    export, lines = write("json", [DOCUMENT], tmp_path), write("jsonl", [DOCUMENT], tmp_path)
    done = convert(export, lines, "-o", tmp_path / "made", "--schema", tmp_path / "schema.yaml")
    assert done.returncode == 2
    assert f"{lines}: release 'r1' is also in {export}" in done.stderr


def test_convert_leaves_releases_in_their_split_when_more_come_unless_a_seed_is_given(tmp_path: Path) -> None:
    (tmp_path / "schema.yaml").write_text(yaml.safe_dump(SCHEMA.to_dict(), sort_keys=False))
    documents = [Document(f"r{i}", " ".join(f"w{i}x{k}" for k in range(20))) for i in range(60)]

    def made(count: int, *options: str) -> tuple[str, dict[str, str | None]]:
        lines = write("jsonl", documents[:count], tmp_path)
        done = convert(lines, "-o", tmp_path / "made", "--schema", tmp_path / "schema.yaml", *options)
        assert done.returncode == 0, done.stderr
        return done.stdout, {d.id: d.split for d in read_documents(tmp_path / "made", SCHEMA)}

    _, first = made(20)
    told, second = made(60)
    assert f"20 documents without a split stay where {tmp_path / 'made'} had them; --seed draws anew" in told
    assert {id_: second[id_] for id_ in first} == first
    assert {id_: split for id_, split in made(60, "--seed", "13")[1].items() if id_ in first} != first
