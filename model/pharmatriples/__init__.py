"""pharmatriples: drug-target-indication-event records from pharma press releases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .registration import register_when_needed

if TYPE_CHECKING:
    from .documents import Document, Entity, Mention, Relation
    from .pipeline import load
    from .schema import Schema

# name -> module; each is imported when first used, so that `import pharmatriples` costs nothing.
_MODULES = {
    "Document": "documents",
    "Entity": "documents",
    "Mention": "documents",
    "Relation": "documents",
    "Schema": "schema",
    "load": "pipeline",
}

__all__ = ["Document", "Entity", "Mention", "Relation", "Schema", "load"]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


register_when_needed()
