"""pharmatriples: drug-target-indication-event records from pharma press releases.

Each public name is imported when it is first used, so that `import pharmatriples` is quick and takes no torch.
`AutoModel` and `AutoConfig` of transformers read checkpoints of this package, without a trust flag, once `load` or a
name that begins with Triples has been imported from here; and at once where transformers is imported first.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .configuration import TriplesConfig
    from .dates import DateError
    from .documents import Document, DocumentError, Entity, Mention, Relation
    from .modeling import TriplesModel
    from .pipeline import TriplesPipeline, load
    from .schema import Schema, SchemaError

__all__ = [
    "DateError",
    "Document",
    "DocumentError",
    "Entity",
    "Mention",
    "Relation",
    "Schema",
    "SchemaError",
    "TriplesConfig",
    "TriplesModel",
    "TriplesPipeline",
    "load",
]

# name -> module. Model and configuration come by way of the pipeline, whose import makes transformers know them.
_MODULES = {
    "DateError": "dates",
    "Document": "documents",
    "DocumentError": "documents",
    "Entity": "documents",
    "Mention": "documents",
    "Relation": "documents",
    "Schema": "schema",
    "SchemaError": "schema",
    "TriplesConfig": "pipeline",
    "TriplesModel": "pipeline",
    "TriplesPipeline": "pipeline",
    "load": "pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if "transformers" in sys.modules:
    import_module(".pipeline", __name__)
