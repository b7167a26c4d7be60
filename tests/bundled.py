"""A bundle of a tiny run, made once for all tests: `from bundled import bundle_dir`."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from pharmatriples.bundle import bundle
from tiny import ROOT, tiny_run_dir

REPO_ID = "acme/triples"


@cache
def _made(folder: Path) -> Path:
    card = (ROOT / "MODEL_CARD.md").read_text(encoding="utf-8")
    bundle(tiny_run_dir(folder / "run"), folder / "bundle", REPO_ID, card)
    return folder / "bundle"


@pytest.fixture(scope="session")
def bundle_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be written to; the run that it was made of stands beside it."""
    return _made(tmp_path_factory.getbasetemp() / "bundled")
