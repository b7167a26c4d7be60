"""A small schema, and documents of it as hypothesis draws them."""

from __future__ import annotations

from hypothesis import strategies as st
from pharmatriples.documents import Document, Mention, Relation
from pharmatriples.labelstudio_offsets import trimmed
from pharmatriples.schema import Schema

SCHEMA = Schema.from_dict(
    {
        "name": "small",
        "version": 1,
        "entities": {"GENE": "", "DRUG": "", "EVENT": ""},
        "attributes": {"EVENT": {"kind": {"start": "", "stop": ""}}},
        "relations": {"acts_on": ["DRUG", "GENE"], "event_drug": ["EVENT", "DRUG"]},
    }
)

texts = st.text(st.characters(exclude_categories=["Cs"]))
scores = st.none() | st.floats(0, 1)


@st.composite
def documents(draw: st.DrawFn) -> Document:
    text = draw(texts)
    places = st.lists(st.integers(0, len(text)), unique=True, max_size=8).map(sorted)
    ends = draw(places)
    mentions = []
    for start, end in zip(ends[::2], ends[1::2], strict=False):
        type_ = draw(st.sampled_from(list(SCHEMA.entities)))
        attributes = {n: draw(st.sampled_from(list(v))) for n, v in SCHEMA.attributes.get(type_, {}).items()}
        entity = type_ + draw(texts)
        mentions.append(Mention(start, end, type_, entity, attributes, draw(scores)))
    signatures = {pair: name for name, pairs in SCHEMA.relations.items() for pair in pairs}
    entities = {m.entity: m.type for m in mentions}
    relations = [
        Relation(signatures[entities[head], entities[tail]], head, tail, draw(scores))
        for head in entities
        for tail in entities
        if (entities[head], entities[tail]) in signatures and draw(st.booleans())
    ]
    split = draw(st.sampled_from([None, "train", "validation", "test"]))
    return Document(draw(texts.filter(bool)), text, tuple(mentions), tuple(relations), draw(texts), draw(texts), split)


anything = st.text(st.characters(exclude_categories=[]))  # lone surrogates too: JSON may hold them


@st.composite
def documents_of(draw: st.DrawFn, schema: Schema, words: st.SearchStrategy[str] = anything) -> Document:
    """A legal document of a schema, of any Unicode: spans as the guidelines want them, ids and all else of `words`."""
    text = draw(words)
    ends = sorted(draw(st.sets(st.integers(0, len(text)), max_size=12)))
    odd = st.sampled_from(["a", "a 1", "a\u00b71", "a\u00b761\u00b7", "DRUG-1"])
    ids = draw(st.lists(words | odd, min_size=1, unique=True))
    types = {id_: draw(st.sampled_from(list(schema.entities))) for id_ in ids}
    mentions = []
    for start, end in (trimmed(text, *span) for span in zip(ends, ends[1:], strict=False)):
        if start < end and draw(st.booleans()):
            entity = draw(st.sampled_from(ids))
            named = schema.attributes.get(types[entity], {})
            attributes = {name: draw(st.sampled_from(list(values))) for name, values in named.items()}
            mentions.append(Mention(start, end, types[entity], entity, attributes))
    used = dict.fromkeys(m.entity for m in mentions)
    relations = [
        Relation(name, head, tail)
        for head in used
        for tail in used
        if (name := schema.relation_between(types[head], types[tail])) and draw(st.booleans())
    ]
    split = draw(st.sampled_from([None, "train", "validation", "test"]))
    return Document(draw(words.filter(bool)), text, tuple(mentions), tuple(relations), draw(words), draw(words), split)
