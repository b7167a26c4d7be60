"""A real Label Studio server for the tests that need one: `from server import label_studio`.

Its migrated data folder is kept in `.label_studio_cache`, so that only the first run waits for the migrations.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import label_studio as script  # noqa: E402
from label_studio_server import CONSTRAINTS, REQUIREMENT, Server, ServerError, environment, running  # noqa: E402

__all__ = ["ROOT", "Server", "ServerError", "environment", "label_studio", "migrated", "running", "script"]


def migrated(folder: Path) -> Path:
    """A copy, at `folder`, of the data folder of a server that was started once."""
    version = hashlib.sha256(REQUIREMENT.encode() + CONSTRAINTS.read_bytes()).hexdigest()[:16]
    cached = ROOT / ".label_studio_cache" / version
    if not cached.exists():
        fresh = folder.with_name(f"{folder.name}-fresh")
        with running(fresh, environment()):
            pass
        cached.parent.mkdir(exist_ok=True)
        draft = cached.with_suffix(f".{folder.parent.name}")
        shutil.copytree(fresh, draft)
        draft.rename(cached)
    shutil.copytree(cached, folder)
    return folder


@pytest.fixture(scope="session")
def label_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running server; the virtual environment is built where it is missing."""
    with running(migrated(tmp_path_factory.mktemp("label_studio") / "data"), environment()) as server:
        yield server
