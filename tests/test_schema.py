"""The schema: what is read from the file, and how a bad one is refused with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pharmatriples.schema import NAME, RESERVED_ATTRIBUTES, Schema, SchemaError
from torch import nn

SHIPPED = Path(__file__).parents[1] / "configs" / "schema.yaml"

# Line numbers count in the tests below: change a line, do not add one.
GOOD = """\
name: small
version: 1
entities:
  GENE: A gene.
  DRUG:
  EVENT: What happened.
attributes:
  EVENT:
    kind:
      start: It begins.
      stop:
relations:
  acts_on: [DRUG, GENE]
  event_drug: [EVENT, DRUG]
alias:
  alias_of: [GENE, DRUG]
"""


def read(tmp_path: Path, text: str) -> Schema:
    path = tmp_path / "schema.yaml"
    path.write_text(text, encoding="utf-8")
    return Schema.from_yaml(path)


def test_a_file_gives_its_types_attributes_relations_and_aliases(tmp_path: Path) -> None:
    schema = read(tmp_path, GOOD)
    assert (schema.name, schema.version) == ("small", 1)
    assert schema.entities == {"GENE": "A gene.", "DRUG": "", "EVENT": "What happened."}
    assert schema.attributes == {"EVENT": {"kind": {"start": "It begins.", "stop": ""}}}
    assert schema.relations == {"acts_on": (("DRUG", "GENE"),), "event_drug": (("EVENT", "DRUG"),)}
    assert (schema.alias, schema.alias_types) == ("alias_of", ("GENE", "DRUG"))


def test_tags_are_o_then_b_and_i_of_each_type_in_the_order_of_the_file(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD).tags == ("O", "B-GENE", "I-GENE", "B-DRUG", "I-DRUG", "B-EVENT", "I-EVENT")


def test_derived_names(tmp_path: Path) -> None:
    schema = read(tmp_path, GOOD)
    assert schema.named_types == ("GENE", "DRUG")
    assert schema.attribute_names("EVENT") == ("kind",)
    assert schema.attribute_names("GENE") == ()
    assert schema.relation_between("DRUG", "GENE") == "acts_on"
    assert not schema.rival_relations
    assert schema.relation_between("GENE", "DRUG") is None


def test_sections_that_are_left_out_are_empty(tmp_path: Path) -> None:
    schema = read(tmp_path, "name: bare\nversion: 2\nentities:\n  GENE:\n")
    assert (schema.attributes, schema.relations, schema.alias, schema.alias_types) == ({}, {}, "", ())


def test_a_schema_survives_json(tmp_path: Path) -> None:
    schema = read(tmp_path, GOOD)
    again = Schema.from_dict(json.loads(json.dumps(schema.to_dict())))
    assert again == schema
    assert again.tags == schema.tags


def test_names_that_yaml_takes_for_truth_values_stay_names(tmp_path: Path) -> None:
    schema = read(tmp_path, "name: x\nversion: 1\nentities:\n  NO:\n  ON:\nrelations:\n  yes: [NO, ON]\n")
    assert schema.relations == {"yes": (("NO", "ON"),)}


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("acts_on: [DRUG, GENE]", "acts_on: [DRUG, GENES]", 13, "unknown entity type 'GENES'"),
        ("acts_on: [DRUG, GENE]", "acts_on: [[DRUG, GENE], [DRUG, GENE]]", 13, "joins DRUG and GENE twice"),
        ("acts_on: [DRUG, GENE]", "acts_on: [[DRUG, GENE], GENE]", 13, "unknown entity type ['DRUG', 'GENE']"),
        ("acts_on: [DRUG, GENE]", "acts_on: []", 13, "needs [HEAD, TAIL]"),
        ("alias:\n", "symmetric: acts_on\nalias:\n", 15, "must be a list of relation types"),
        (
            "alias:\n",
            "symmetric: [acts]\nalias:\n",
            15,
            "'symmetric' names 'acts', no relation type; known are acts_on",
        ),
        ("acts_on: [DRUG, GENE]", "acts_on: [DRUG]", 13, "needs [HEAD, TAIL]"),
        ("acts_on: [DRUG, GENE]", "acts_on: DRUG", 13, "needs [HEAD, TAIL]"),
        ("acts_on: [DRUG, GENE]", "acts on: [DRUG, GENE]", 13, "letters, digits and _ only"),
        ("  DRUG:", "  O:", 5, "'O' is a reserved name"),
        ("  DRUG:", "  DR-UG:", 5, "letters, digits and _ only"),
        ("  DRUG:", "  GENE:", 4, "'GENE' stands twice (lines 4 and 5)"),
        ("  DRUG:", "  DRUG: 7", 5, "the description of 'DRUG' must be a text"),
        ("    kind:", "    start:", 9, "attribute 'start' is a reserved name"),
        ("    kind:", "    text:", 9, "attribute 'text' is a reserved name"),
        ("    kind:", "    update:", 9, "attribute 'update' is a reserved name"),
        ("  DRUG:", "  records:", 5, "'records' is a reserved name"),
        ("acts_on: [DRUG, GENE]", "GENE: [DRUG, GENE]", 13, "relation type 'GENE' is a reserved name"),
        ("version: 1", 'version: !!int ""', 2, "cannot be read as a value; put it in quotes"),
        ("version: 1", "version: !!timestamp x", 2, "cannot be read as a value; put it in quotes"),
        ("      stop:", "      ' stop':", 11, "without blanks around it"),
        ("      stop:\n", "", 9, "at least two values"),
        ("  EVENT:\n    kind", "  EVENTS:\n    kind", 8, "unknown entity type 'EVENTS'"),
        ("alias_of: [GENE, DRUG]", "alias_of: [GENE, DOG]", 16, "unknown entity type 'DOG'"),
        ("alias_of: [GENE, DRUG]", "alias_of: [GENE, GENE]", 16, "names an entity type twice"),
        ("alias_of: [GENE, DRUG]", "acts_on: [GENE]", 16, "'acts_on' is a reserved name"),
        ("alias_of: [GENE, DRUG]", "a: [GENE]\n  b: [DRUG]", 15, "names one relation, found a, b"),
        ("name: small", "names: small", 1, "unknown section 'names'"),
        ("name: small", "name: 3", 1, "'name' must be a text"),
        ("version: 1", "version: one", 2, "'version' must be a whole number"),
        ("version: 1", "version: 2024-99-99", 2, "cannot be read as a value"),
        ("version: 1", "version: !made_up 1", 2, "not YAML"),
        ("version: 1", "version: [1", 3, "not YAML"),
        ("  GENE: A gene.", "  [GENE]: A gene.", 3, "a key must be a plain name"),
    ],
)
def test_a_bad_schema_is_refused_with_its_line(tmp_path: Path, old: str, new: str, line: int, message: str) -> None:
    assert GOOD.count(old) == 1, "the case must change exactly one place"
    with pytest.raises(SchemaError) as error:
        read(tmp_path, GOOD.replace(old, new))
    assert str(error.value).startswith(f"{tmp_path / 'schema.yaml'}:{line}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_no_attribute_has_a_name_that_a_module_of_torch_has_itself() -> None:
    assert {name for name in dir(nn.ModuleDict()) if NAME.match(name)} <= RESERVED_ATTRIBUTES


def test_two_attributes_of_one_name_are_refused(tmp_path: Path) -> None:
    more = GOOD.replace("relations:", "  DRUG:\n    kind:\n      small:\n      large:\nrelations:")
    with pytest.raises(SchemaError, match=r":13: attribute 'kind' belongs to EVENT already"):
        read(tmp_path, more)


@pytest.mark.parametrize("text", ["", "- GENE\n", "GENE", "name: &a [*a]\n", "name: \x01\n"])
def test_a_file_that_holds_no_schema_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SchemaError, match=r"schema\.yaml:"):
        read(tmp_path, text)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="gone.yaml: no such schema file"):
        Schema.from_yaml(tmp_path / "gone.yaml")
    with pytest.raises(SchemaError, match="cannot be read"):
        Schema.from_yaml(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("name: é\n".encode("latin-1"))
    with pytest.raises(SchemaError, match="not UTF-8"):
        Schema.from_yaml(tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"entities": {1: "one"}}, "schema: entities.1: entity type 1: a name begins"),
        ({"relations": {"r": [["GENE"], "GENE"]}}, "schema: relations.r: relation 'r': unknown entity type"),
        ({"version": True}, "schema: version: 'version' must be a whole number"),
        ({3: "three"}, "schema: 3: unknown section 3"),
    ],
)
def test_a_bad_mapping_is_refused_with_its_place(change: dict[Any, Any], message: str) -> None:
    good = {"name": "x", "version": 1, "entities": {"GENE": "", "DRUG": ""}}
    with pytest.raises(SchemaError) as error:
        Schema.from_dict({**good, **change})
    assert str(error.value).startswith(message)


def test_the_shipped_schema_is_good_and_names_each_pair_once() -> None:
    schema = Schema.from_yaml(SHIPPED)
    assert Schema.from_dict(schema.to_dict()) == schema
    assert len(schema.tags) == 1 + 2 * len(schema.entities)
    assert all(schema.relation_between(*pair) == name for name, pairs in schema.relations.items() for pair in pairs)


def test_relations_may_join_several_pairs_of_types_and_share_them(tmp_path: Path) -> None:
    several = GOOD.replace("  event_drug:", "  touches:\n  - [DRUG, GENE]\n  - [GENE, GENE]\n  event_drug:").replace(
        "alias:\n", "symmetric: [touches]\nalias:\n"
    )
    schema = read(tmp_path, several)
    assert schema.relations["touches"] == (("DRUG", "GENE"), ("GENE", "GENE"))
    assert schema.symmetric == ("touches",)
    assert schema.joins("touches") == "DRUG -> GENE or GENE -> GENE"
    assert schema.relation_between("DRUG", "GENE") is None, "two types fit, so the pair does not name one"
    assert schema.rival_relations
    assert schema.relation_between("GENE", "GENE") == "touches"
    assert Schema.from_json(schema.to_json()) == schema
    with pytest.raises(SchemaError, match="'touches' joins GENE and DRUG twice; keep one"):
        read(tmp_path, several.replace("[GENE, GENE]", "[GENE, DRUG]"))
