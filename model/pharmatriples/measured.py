"""evaluation.json of a trained model: the figures that scripts/evaluate.py found, by the name of the set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .files import write_json

FILE = "evaluation.json"
WEIGHTS = "model.safetensors"


class MeasuredError(ValueError):
    """The figures beside a model are not its own, or cannot be read; the message says what to do."""


def weights_sha256(folder: Path) -> str:
    """Of the weights in a model's folder.

    Raises:
        OSError: it holds none.
    """
    with open(folder / WEIGHTS, "rb") as weights:
        digest = hashlib.sha256()
        while block := weights.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def model_sha256(folder: Path) -> str:
    """Of all that decides what a model gives: its weights, configuration and tokenizer.

    Raises:
        OSError: it holds no weights or no configuration.
    """
    digest = hashlib.sha256(weights_sha256(folder).encode())
    digest.update((folder / "config.json").read_bytes())
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (folder / name).exists():
            digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def keep(folder: Path, name: str, figures: Mapping[str, Any]) -> Path:
    """Put the figures of the set `name` beside a model; those of other weights that were there go.

    Returns:
        the file.

    Raises:
        OSError: the folder holds no weights.
        OutputError: it cannot be written.
    """
    weights, path = weights_sha256(folder), folder / FILE
    try:
        found = _read(path)
    except MeasuredError:
        found = {}
    sets = found["sets"] if found.get("weights_sha256") == weights else {}
    content = {"weights_sha256": weights, "sets": {**sets, name: dict(figures)}}
    write_json(content, path)
    return path


def kept(folder: Path) -> dict[str, dict[str, Any]]:
    """Name of a set -> its figures; empty where there was no evaluation.

    Raises:
        MeasuredError: they belong to other weights than those in the folder, or cannot be read.
    """
    path = folder / FILE
    found = _read(path)
    if not found:
        return {}
    if found["weights_sha256"] != weights_sha256(folder):
        raise MeasuredError(f"{path}: the figures of other weights; run scripts/evaluate.py again, or remove the file")
    return found["sets"]


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MeasuredError(f"{path}: cannot be read ({error}); run scripts/evaluate.py again") from None
    if not isinstance(found, dict) or not isinstance(found.get("sets"), dict) or "weights_sha256" not in found:
        raise MeasuredError(f"{path}: not written by scripts/evaluate.py; remove it, and evaluate again")
    return found
