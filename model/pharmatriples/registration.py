"""`AutoModel` knows the package's model after `import pharmatriples`, which yet imports neither torch nor transformers.

transformers has a register of classes, but no way to name one that is still to be imported. So the package waits for
the module of transformers that holds the register, and imports `modeling`, which enters itself, right after it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

REGISTER = "transformers.models.auto.modeling_auto"


def register_when_needed() -> None:
    """Enter the model into the register of transformers: now, where it is imported already, else once it is."""
    if REGISTER in sys.modules:
        _register()
    elif not any(isinstance(finder, _Waiting) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Waiting())


def _register() -> None:
    import_module(".modeling", __package__)


class _Waiting(MetaPathFinder):
    """Finds nothing by itself; of REGISTER it gives the usual loader with one more step."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != REGISTER:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Then(spec.loader, self)
        return spec


class _Then(Loader):
    """A loader that registers when the module is whole; only then nobody need wait for it any more."""

    def __init__(self, loader: Loader, finder: _Waiting):
        self.loader = loader
        self.finder = finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        if self.finder in sys.meta_path:
            sys.meta_path.remove(self.finder)
        _register()
