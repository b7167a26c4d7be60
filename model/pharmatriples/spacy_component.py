"""A spaCy component that reads records into a Doc: `nlp.add_pipe("pharmatriples", config={"model": ...})`.

It needs the extra `spacy`. Installing the package makes spaCy know the component: nothing has to be imported.
"""

# No postponed annotations: spaCy reads those of the factory to check its settings.
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from spacy.language import Language
from spacy.tokens import Doc, Span

from .loading import load

NAME = "pharmatriples"
BATCH_SIZE = 32


@Language.factory(
    NAME,
    assigns=["doc.ents", "doc.spans", "doc._.records", "doc._.relations", "token.ent_type", "token.ent_iob"],
    default_config={
        **{"batch_size": BATCH_SIZE, "device": None, "dtype": "auto", "backend": "torch"},
        **{"threshold": None, "precision": None},
    },
)
def make_component(
    nlp: Language,
    name: str,
    model: str,
    batch_size: int,
    device: str | int | None,
    dtype: str,
    backend: str,
    threshold: float | dict[str, float] | None,
    precision: float | dict[str, float] | None,
) -> "TriplesComponent":
    """The component of a pipeline; spaCy calls this with the settings of its config.

    Args:
        model: a folder, or a hub id.
        batch_size: most texts that are read at once.
        device, dtype, backend, threshold, precision: as for `load`.

    Raises:
        ValueError: as for `load`.
    """
    settings: dict[str, Any] = {"device": device, "dtype": dtype, "backend": backend}
    extract = load(model, batch_size=batch_size, threshold=threshold, precision=precision, **settings)
    return TriplesComponent(extract, batch_size)


class TriplesComponent:
    """Sets what the model finds on a Doc.

    - `doc.spans["pharmatriples"]`: all mentions. The label is the type, `span.id_` the id of its entity in
      `doc._.relations` and in a record's "entity_ids".
    - `doc.ents`: the same, without a mention that shares a token with one before it, and with the entities of earlier
      components where there is no mention.
    - `doc._.records`, `doc._.relations`: lists as `load` gives them, with offsets into `doc.text`. None for a Doc that
      was not read.

    A mention that begins or ends inside a token is widened to the token.

    `nlp.to_disk` stores the settings, with the model as a reference: its folder has to be there when the pipeline is
    loaded again. Use `nlp.pipe` in one process: torch has the cores already.
    """

    def __init__(self, extract: Any, batch_size: int = BATCH_SIZE):
        self.extract = extract
        self.batch_size = batch_size
        for extension in ("records", "relations"):
            if not Doc.has_extension(extension):
                Doc.set_extension(extension, default=None)

    def __call__(self, doc: Doc) -> Doc:
        """The Doc, read."""
        return _set(doc, self.extract(doc.text))

    def pipe(self, stream: Iterable[Doc], batch_size: int = BATCH_SIZE) -> Iterator[Doc]:
        """The Docs of a stream in their order; at most `batch_size` of them, or of the component's, at once."""
        waiting: deque[Doc] = deque()

        def texts() -> Iterator[str]:
            for doc in stream:
                waiting.append(doc)
                yield doc.text

        for result in self.extract(texts(), batch_size=min(batch_size, self.batch_size)):
            yield _set(waiting.popleft(), result)


def _set(doc: Doc, result: Mapping[str, Any]) -> Doc:
    mentions = sorted(
        (mention["start"], mention["end"], entity["type"], entity["id"])
        for entity in result["entities"]
        for mention in entity["mentions"]
    )
    # Of a stretch that is not empty, "expand" always makes a span.
    spans = [
        cast(Span, doc.char_span(start, end, label=type_, span_id=id_, alignment_mode="expand"))
        for start, end, type_, id_ in mentions
    ]
    doc.spans[NAME] = spans
    doc.ents = _disjoint([*spans, *doc.ents])
    doc._.records, doc._.relations = result["records"], result["relations"]
    return doc


def _disjoint(spans: Iterable[Span]) -> list[Span]:
    """The spans without those that share a token with one before."""
    taken: set[int] = set()
    kept = []
    for span in spans:
        if taken.isdisjoint(range(span.start, span.end)):
            taken.update(range(span.start, span.end))
            kept.append(span)
    return kept
