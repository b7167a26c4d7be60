"""A small schema, and documents of it as hypothesis draws them."""

from __future__ import annotations

from hypothesis import strategies as st
from pharmatriples.documents import Document, Mention, Relation
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
    signatures = {(h, t): name for name, (h, t) in SCHEMA.relations.items()}
    entities = {m.entity: m.type for m in mentions}
    relations = [
        Relation(signatures[entities[head], entities[tail]], head, tail, draw(scores))
        for head in entities
        for tail in entities
        if (entities[head], entities[tail]) in signatures and draw(st.booleans())
    ]
    split = draw(st.sampled_from([None, "train", "validation", "test"]))
    return Document(draw(texts.filter(bool)), text, tuple(mentions), tuple(relations), draw(texts), draw(texts), split)
