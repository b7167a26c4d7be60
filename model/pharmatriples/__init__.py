"""pharmatriples: drug-target-indication-event records from pharma press releases.

Each public name is imported when it is first used, so that `import pharmatriples` is quick and takes no torch.
`AutoModel` and `AutoConfig` of transformers then read checkpoints of this package without a trust flag.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .registration import register_when_needed

if TYPE_CHECKING:
    from .configuration import TriplesConfig
    from .dates import DateError
    from .documents import Document, DocumentError, Entity, Mention, Relation
    from .loading import load
    from .modeling import TriplesModel
    from .pipeline import TriplesPipeline
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

# name -> module
_MODULES = {
    "DateError": "dates",
    "Document": "documents",
    "DocumentError": "documents",
    "Entity": "documents",
    "Mention": "documents",
    "Relation": "documents",
    "Schema": "schema",
    "SchemaError": "schema",
    "TriplesConfig": "configuration",
    "TriplesModel": "modeling",
    "TriplesPipeline": "pipeline",
    "load": "loading",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


register_when_needed()
