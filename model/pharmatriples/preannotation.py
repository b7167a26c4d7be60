"""Pre-annotation: a model's predictions on the tasks of Label Studio, for annotators to accept or to correct.

A prediction holds spans, filled choices and arrows, with their scores; its `model_version` names the model and its
weights, so that the server can tell the predictions of two models apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import tee
from pathlib import Path
from typing import Any

import torch

from .documents import Document
from .labelstudio import task_from_document


def model_version(extract: Any) -> str:
    """`NAME-HASH` of a pipeline: the last part of its folder or hub id, and ten hex digits over its weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(extract.model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return f"{Path(extract.model.name_or_path).name or 'model'}-{digest.hexdigest()[:10]}"


def predictions(texts: Iterable[str], extract: Any, version: str) -> Iterator[dict[str, Any]]:
    """The prediction on each text, in order: `result`, `model_version`, and `score`, the mean over the mentions.

    A text in which nothing is found has an empty result and no score.

    Args:
        texts: read as they are needed.
        extract: a pipeline, as `load` gives it.
        version: see `model_version`.
    """
    for_model, texts = tee(texts)
    for found, text in zip(extract(for_model), texts, strict=True):
        document = Document.from_dict({**found, "id": "text", "text": text})
        yield task_from_document(document, extract.model.schema, "predictions", version)["predictions"][0]
