"""The schema: entity types, their attributes, relation types with head and tail, alias types.

One YAML file is the source of every name: the labeling configuration, the label ids, the checks on
annotations, the candidate pairs and the records derive from it. It travels in a model's config.json.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")
SECTIONS = ("name", "version", "entities", "attributes", "relations", "symmetric", "alias")
TOTAL = "micro"  # what figures call the sum over all labels
# The tag of no mention, and what figures and thresholds name beside the types.
RESERVED_TYPES = frozenset({"O", "records", "documents", TOTAL})
# Keys of a mention or entity in JSON, and the names of the other controls of the labeling configuration.
RESERVED_ATTRIBUTES = frozenset(
    {"id", "start", "end", "type", "entity", "text", "score", "name", "mentions", "attributes", "label"}
    # The heads of a model stand under the names of their attributes, beside what a module of torch has by itself.
    | set(
        """T_destination add_module apply bfloat16 buffers call_super_init children clear compile cpu cuda double
        dump_patches eval extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu
        items keys load_state_dict modules mtia named_buffers named_children named_modules named_parameters
        parameters pop register_backward_hook register_buffer register_forward_hook register_forward_pre_hook
        register_full_backward_hook register_full_backward_pre_hook register_load_state_dict_post_hook
        register_load_state_dict_pre_hook register_module register_parameter register_state_dict_post_hook
        register_state_dict_pre_hook requires_grad_ set_extra_state set_submodule share_memory smart_apply state_dict
        to to_empty train training update values xpu zero_grad""".split()  # noqa: SIM905
    )
)

Path_ = tuple[str, ...]
Signature = tuple[str, str]  # head type, tail type


class SchemaError(ValueError):
    """A schema that cannot be used; the message names the file and the line where these are known."""


@dataclass(frozen=True)
class Schema:
    """The label set of one annotation task.

    Attributes:
        name: what the schema is called.
        version: raised by its author when a name changes its meaning.
        entities: entity type -> description.
        attributes: entity type -> attribute -> value -> description. Every mention of the type
            carries one value of each.
        relations: relation type -> the pairs of types (head type, tail type) that it joins, at least one.
        symmetric: the relation types without direction: head and tail say the same either way round. The head is of
            the first type of the pair, or, of two entities of one type, the one that is mentioned first.
        alias: name of the relation between mentions of one thing; empty where the schema has none.
        alias_types: the entity types whose mentions may be aliases of each other.
    """

    name: str
    version: int
    entities: Mapping[str, str]
    attributes: Mapping[str, Mapping[str, Mapping[str, str]]] = field(default_factory=dict)
    relations: Mapping[str, tuple[Signature, ...]] = field(default_factory=dict)
    symmetric: tuple[str, ...] = ()
    alias: str = ""
    alias_types: tuple[str, ...] = ()

    @property
    def tags(self) -> tuple[str, ...]:
        """The BIO tags in the order of their label ids: O, then B- and I- of each entity type."""
        return ("O", *(f"{prefix}-{type_}" for type_ in self.entities for prefix in "BI"))

    def attribute_names(self, type_: str) -> tuple[str, ...]:
        """Names of the attributes that each mention of `type_` carries."""
        return tuple(self.attributes.get(type_, ()))

    @property
    def named_types(self) -> tuple[str, ...]:
        """Entity types without attributes: their mentions are names, so equal wording is one entity."""
        return tuple(type_ for type_ in self.entities if type_ not in self.attributes)

    @property
    def indexed_signatures(self) -> list[tuple[int, int, int, bool]]:
        """What each relation joins: its index, those of the head and the tail type, and whether it is symmetric."""
        index = list(self.entities).index
        return [
            (relation, index(head), index(tail), name in self.symmetric)
            for relation, (name, signatures) in enumerate(self.relations.items())
            for head, tail in signatures
        ]

    @property
    def rival_relations(self) -> bool:
        """Whether there are types, head and tail, that more than one relation may join."""
        signatures = [signature for own in self.relations.values() for signature in own]
        return len(set(signatures)) < len(signatures)

    def relation_between(self, head: str, tail: str) -> str | None:
        """The one relation type from entity type `head` to entity type `tail`, None where there is none or several."""
        names = [name for name, signatures in self.relations.items() if (head, tail) in signatures]
        return names[0] if len(names) == 1 else None

    def relation_key(self, relation: str, head: Hashable, tail: Hashable) -> tuple[str, Hashable]:
        """What two relations share that say the same: without direction, the order of head and tail is left out."""
        return relation, frozenset((head, tail)) if relation in self.symmetric else (head, tail)

    def joins(self, relation: str) -> str:
        """The pairs of types that a relation joins, for a message."""
        return " or ".join(" -> ".join(signature) for signature in self.relations[relation])

    @classmethod
    def from_yaml(cls, path: str | Path) -> Schema:
        """Read and check a schema file.

        Raises:
            SchemaError: the file is missing, is no YAML, or breaks a rule; with file and line.
        """
        path = Path(path)
        lines: dict[Path_, int] = {}
        try:
            node = yaml.compose(path.read_text(encoding="utf-8"))
            return cls._checked(_plain(node, (), lines), lines)
        except _Fault as fault:
            raise SchemaError(f"{path}:{fault.line(lines)}: {fault.message}") from None
        except FileNotFoundError:
            raise SchemaError(f"{path}: no such schema file") from None
        except OSError as error:
            raise SchemaError(f"{path}: cannot be read: {error.strerror}") from None
        except RecursionError:
            raise SchemaError(f"{path}: nested too deeply, or an alias inside its own anchor") from None
        except UnicodeDecodeError as error:
            raise SchemaError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise SchemaError(f"{path}:{line}: not YAML: {error.problem}") from None
        except yaml.YAMLError as error:
            raise SchemaError(f"{path}: not YAML: {' '.join(str(error).split())}") from None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Schema:
        """Build a schema from what `to_dict` gave (or any mapping of the file's shape)."""
        try:
            return cls._checked(data, {})
        except _Fault as fault:
            raise SchemaError(f"schema: {'.'.join(map(str, fault.path)) or 'top level'}: {fault.message}") from None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, in the shape of the file."""
        data: dict[str, Any] = {"name": self.name, "version": self.version, "entities": dict(self.entities)}
        if self.attributes:
            data["attributes"] = {
                type_: {name: dict(values) for name, values in attributes.items()}
                for type_, attributes in self.attributes.items()
            }
        data["relations"] = {
            name: list(signatures[0]) if len(signatures) == 1 else [list(signature) for signature in signatures]
            for name, signatures in self.relations.items()
        }
        if self.symmetric:
            data["symmetric"] = list(self.symmetric)
        if self.alias:
            data["alias"] = {self.alias: list(self.alias_types)}
        return data

    def to_json(self) -> str:
        """The schema as a JSON text that keeps the order of its names, and so of the label ids.

        It travels in config.json, whose writer sorts the keys of every mapping.
        """
        return json.dumps(self.to_dict(), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Schema:
        """Read what `to_json` gave."""
        try:
            return cls.from_dict(json.loads(text))
        except (json.JSONDecodeError, RecursionError) as error:
            raise SchemaError(f"schema: not JSON: {error}") from None

    @classmethod
    def _checked(cls, data: Any, lines: Mapping[Path_, int]) -> Schema:
        if not isinstance(data, Mapping):
            raise _Fault((), f"a schema is a mapping with the keys {', '.join(SECTIONS)}; found {data!r:.60}")
        for fault in _faults(data):
            raise fault
        alias = dict(data.get("alias") or {})
        return cls(
            name=data["name"],
            version=data["version"],
            entities={type_: description or "" for type_, description in data["entities"].items()},
            attributes={
                type_: {
                    attribute: {value: description or "" for value, description in values.items()}
                    for attribute, values in attributes.items()
                }
                for type_, attributes in (data.get("attributes") or {}).items()
            },
            relations={
                name: tuple((head, tail) for head, tail in _signatures(given))
                for name, given in (data.get("relations") or {}).items()
            },
            symmetric=tuple(data.get("symmetric") or ()),
            alias=next(iter(alias), ""),
            alias_types=tuple(next(iter(alias.values()), ())),
        )


class _Fault(Exception):
    def __init__(self, path: Path_, message: str):
        super().__init__(message)
        self.path = path
        self.message = message

    def line(self, lines: Mapping[Path_, int]) -> int:
        """Line of the place at fault, or of the nearest place around it that the file has."""
        for length in range(len(self.path), -1, -1):
            if self.path[:length] in lines:
                return lines[self.path[:length]]
        return 1


def _plain(node: Any, path: Path_, lines: dict[Path_, int]) -> Any:
    """The plain value of a YAML node; `lines` receives the line (from 1) of each key and item."""
    lines.setdefault(path, node.start_mark.line + 1 if node is not None else 1)
    if node is None:
        return None
    if isinstance(node, yaml.MappingNode):
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _Fault(path, "a key must be a plain name, found a list or a mapping")
            key = key_node.value
            if key in result:
                raise _Fault(
                    path + (key,),
                    f"{key!r} stands twice (lines {lines[path + (key,)]} and {key_node.start_mark.line + 1}); keep one",
                )
            lines[path + (key,)] = key_node.start_mark.line + 1
            result[key] = _plain(value_node, path + (key,), lines)
        return result
    if isinstance(node, yaml.SequenceNode):
        # Keys and items are names, read as written: YAML itself would take NO and ON for truth values.
        return [
            item.value if isinstance(item, yaml.ScalarNode) else _plain(item, path + (str(i),), lines)
            for i, item in enumerate(node.value)
        ]
    try:
        return yaml.SafeLoader("").construct_object(node)
    except (ValueError, LookupError, AttributeError, TypeError):  # what the tags of YAML raise
        raise _Fault(path, f"{node.value!r:.60} cannot be read as a value; put it in quotes") from None


def _faults(data: Mapping[str, Any]) -> Iterator[_Fault]:
    """The first fault of each rule, in the order in which a reader would meet them."""
    for key in data:
        if key not in SECTIONS:
            yield _Fault((key,), f"unknown section {key!r}; known are {', '.join(SECTIONS)}")
    if not isinstance(data.get("name"), str) or not data["name"]:
        yield _Fault(("name",), f"'name' must be a text, found {data.get('name')!r}")
    if not isinstance(data.get("version"), int) or isinstance(data.get("version"), bool):
        yield _Fault(("version",), f"'version' must be a whole number, found {data.get('version')!r}")
    for section in ("entities", "attributes", "relations", "alias"):
        value = data.get(section)
        if value is not None and not isinstance(value, Mapping):
            yield _Fault((section,), f"{section!r} must be a mapping, found {value!r:.60}")
    entities = data.get("entities") or {}
    if not entities:
        yield _Fault(("entities",), "'entities' must name at least one entity type")
    for type_, description in entities.items():
        yield from _name_faults(("entities", type_), "entity type", type_, RESERVED_TYPES)
        yield from _description_faults(("entities", type_), description)
    yield from _attribute_faults(data.get("attributes") or {}, entities)
    yield from _relation_faults(data.get("relations") or {}, data.get("symmetric") or (), entities)
    yield from _alias_faults(data.get("alias") or {}, data.get("relations") or {}, entities)


def _attribute_faults(attributes: Mapping[str, Any], entities: Mapping[str, Any]) -> Iterator[_Fault]:
    owner: dict[str, str] = {}
    for type_, named in attributes.items():
        path: Path_ = ("attributes", type_)
        if not _known(type_, entities):
            yield _Fault(path, _unknown_type(type_, entities))
        if not isinstance(named, Mapping) or not named:
            yield _Fault(path, f"the attributes of {type_} must be a mapping of name to values, found {named!r:.60}")
            continue
        for name, values in named.items():
            at = (*path, name)
            yield from _name_faults(at, "attribute", name, RESERVED_ATTRIBUTES)
            if name in owner:
                yield _Fault(at, f"attribute {name!r} belongs to {owner[name]} already; give it another name")
            owner[name] = type_
            if not isinstance(values, Mapping) or len(values) < 2:
                yield _Fault(at, f"attribute {name!r} needs a mapping of at least two values, found {values!r:.60}")
                continue
            for value, description in values.items():
                if not isinstance(value, str) or not value or value != value.strip():
                    yield _Fault((*at, str(value)), f"a value of {name!r} must be a text without blanks around it")
                elif value == TOTAL:
                    yield _Fault((*at, value), f"{TOTAL!r} is what figures call the total; give the value another name")
                yield from _description_faults((*at, str(value)), description)


def _signatures(given: Any) -> list[Any]:
    """The list of pairs that a relation is written with; one pair stands without a list around it."""
    if not isinstance(given, (list, tuple)):
        return [given]
    return list(given) if given and all(isinstance(item, (list, tuple)) for item in given) else [given]


def _relation_faults(relations: Mapping[str, Any], symmetric: Any, entities: Mapping[str, Any]) -> Iterator[_Fault]:
    if not isinstance(symmetric, (list, tuple)):
        yield _Fault(("symmetric",), f"'symmetric' must be a list of relation types, found {symmetric!r:.60}")
        symmetric = ()
    for i, name in enumerate(symmetric):
        if not isinstance(name, str) or name not in relations:
            known = ", ".join(map(str, relations)) or "none"
            yield _Fault(("symmetric", str(i)), f"'symmetric' names {name!r}, no relation type; known are {known}")
    for name, given in relations.items():
        path = ("relations", name)
        yield from _name_faults(path, "relation type", name, RESERVED_TYPES | set(entities))
        pairs: set[Signature] = set()
        for signature in _signatures(given):
            if not isinstance(signature, (list, tuple)) or len(signature) != 2:
                yield _Fault(path, f"relation {name!r} needs [HEAD, TAIL], or a list of them, found {signature!r:.60}")
                continue
            for type_ in signature:
                if not _known(type_, entities):
                    yield _Fault(path, f"relation {name!r}: {_unknown_type(type_, entities)}")
            head, tail = map(str, signature)
            if (head, tail) in pairs or (name in symmetric and (tail, head) in pairs):
                yield _Fault(path, f"relation {name!r} joins {head} and {tail} twice; keep one")
            pairs.add((head, tail))


def _alias_faults(
    alias: Mapping[str, Any], relations: Mapping[str, Any], entities: Mapping[str, Any]
) -> Iterator[_Fault]:
    if len(alias) > 1:
        yield _Fault(("alias",), f"'alias' names one relation, found {', '.join(map(str, alias))}")
    for name, types in alias.items():
        path = ("alias", name)
        yield from _name_faults(path, "alias relation", name, frozenset(relations))
        if not isinstance(types, (list, tuple)) or not types:
            yield _Fault(path, f"alias {name!r} needs a list of entity types, found {types!r:.60}")
            continue
        for type_ in types:
            if not _known(type_, entities):
                yield _Fault(path, f"alias {name!r}: {_unknown_type(type_, entities)}")
        if len(set(map(str, types))) < len(types):
            yield _Fault(path, f"alias {name!r} names an entity type twice")


def _name_faults(path: Path_, what: str, name: Any, reserved: frozenset[str]) -> Iterator[_Fault]:
    if not isinstance(name, str) or not NAME.match(name):
        yield _Fault(path, f"{what} {name!r}: a name begins with a letter and holds letters, digits and _ only")
    elif name in reserved:
        yield _Fault(path, f"{what} {name!r} is a reserved name; choose another")


def _description_faults(path: Path_, description: Any) -> Iterator[_Fault]:
    if description is not None and not isinstance(description, str):
        yield _Fault(path, f"the description of {path[-1]!r} must be a text, found {description!r:.60}")


def _known(type_: Any, entities: Mapping[str, Any]) -> bool:
    return isinstance(type_, str) and type_ in entities


def _unknown_type(type_: Any, entities: Mapping[str, Any]) -> str:
    return f"unknown entity type {type_!r}; known are {', '.join(map(str, entities))}"
