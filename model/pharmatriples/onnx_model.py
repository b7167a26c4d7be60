"""A model that `scripts/export_onnx.py` exported, run by onnxruntime: neither torch nor transformers is imported.

Letters as in `modeling`. The graphs do what the modules of that name do in `TriplesModel`; what lies between them is
numpy.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Tokenizer

from .decoding import Spans, name_groups
from .lanes import Lanes
from .measured import weights_sha256
from .pairs import alias_pairs, entity_pairs, pair_numbers, relation_pairs, rival_features
from .prediction import PAIRS, Structure, tag_log_probs
from .safety import CONFIG, LARGEST_CONFIG, TOKENIZER, ModelError, check_settings, json_object
from .schema import Schema
from .windows import EncodedText

FOLDER, EXPORT = "onnx", "export.json"
GRAPHS = ("encoder", "words", "tags", "mentions", "aliases", "relations", "rivals")
# Of the encoder -> its file; the heads are always in fp32.
DTYPES = {"float32": "encoder.onnx", "int8": "encoder.int8.onnx"}
HINT = "make one with: python scripts/export_onnx.py"


class NoExport(ModelError):
    """A model without an export of its present weights."""


class ExportedTokenizer(NamedTuple):
    """What `Windower` needs of a tokenizer."""

    backend_tokenizer: Tokenizer
    sep_token_id: int
    pad_token_id: int


class OnnxModel:
    """What `predict` needs of a model.

    Args:
        folder: of a trained model, with its export in it.
        export: what `exported` found in it.
        dtype: a name of DTYPES.

    Raises:
        ModelError: a graph is missing or is none.
    """

    token_budget = 512

    def __init__(self, folder: Path, export: Mapping[str, Any], dtype: str = "float32"):
        import onnxruntime

        self.name_or_path = str(folder)
        # In int8 the numbers of a batch share one scale.
        self.alone = dtype == "int8"
        self._made_of = folder, export, dtype
        values = {"window": 512, "stride": 128, "name_threshold": 0.25, "thresholds": None, "calibration": None}
        found = json_object(folder / CONFIG, LARGEST_CONFIG)
        check_settings(found)
        self.config = SimpleNamespace(**values | found)
        self.schema = Schema.from_json(self.config.schema)
        self.named = [type_ in self.schema.named_types for type_ in self.schema.entities]
        self.aliased = [type_ in self.schema.alias_types for type_ in self.schema.entities]
        self.signatures = self.schema.indexed_signatures
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # the lanes are the threads
        options.log_severity_level = 3
        self.graphs = {}
        for name in GRAPHS:
            path = folder / FOLDER / (DTYPES[dtype] if name == "encoder" else f"{name}.onnx")
            if not path.is_file():
                raise ModelError(f"{FOLDER}/{path.name} is missing; {HINT} {folder}")
            try:
                self.graphs[name] = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            except Exception as error:  # onnxruntime's own have no common base
                reason = " ".join(str(error).split())[:200]
                raise ModelError(f"{FOLDER}/{path.name} is no graph that onnxruntime reads: {reason}") from error
        self.attributes: list[str] = export["attributes"]
        self._width = int(self.graphs["words"].get_outputs()[0].shape[1])
        self.lanes = Lanes(_processors())
        self._pool: tuple[int, ThreadPoolExecutor] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Read anew from its folder: sessions of onnxruntime can be neither pickled nor copied."""
        return OnnxModel, self._made_of

    @property
    def _encoders(self) -> ThreadPoolExecutor:
        """Threads of this process; one that was forked has none of its parent's."""
        if self._pool is None or self._pool[0] != os.getpid():
            self._pool = os.getpid(), ThreadPoolExecutor(self.lanes.count)
        return self._pool[1]

    def inference(self) -> AbstractContextManager[None]:
        return nullcontext()

    def read(self, batch: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """As `TriplesModel.read`; the states are [N, H + K], each with what it adds to the context between mentions."""
        texts: list[EncodedText] = batch["texts"]
        pieces = list(self._encoders.map(self._encode, batch["windows"]))
        if not len(batch["shapes"]):
            return np.zeros((0, 1 + 2 * len(self.named))), np.zeros((0, 1), dtype=np.float32)
        words = _means(np.concatenate(pieces)[batch["piece_index"]], batch["piece_words"])
        parts, alike, low = [], [], 0
        for text in texts:
            if len(text):
                high = low + len(text)
                parts.append(self._run("words", words[low:high], text.shapes, text.gaps)[0])
                alike.append(_means(parts[-1], text.wordings)[text.wordings])
                low = high
        states, logits, context, *crf = self._run("tags", np.concatenate(parts), np.concatenate(alike))
        return tag_log_probs(logits, texts, *crf), np.concatenate([states, context], axis=1)

    def structure(self, states: np.ndarray, spans: Spans, text: EncodedText) -> Structure:
        """As `TriplesModel.structure`, of the states that `read` gave."""
        states = states[:, : self._width]
        words, owners = spans.words()
        mean = _means(states[words], owners)
        vectors, *attributes = self._run("mentions", states[spans.first], states[spans.last], mean, spans.types)
        groups = name_groups(spans, spans.wordings(text.text, text.offsets), self.named)
        pairs, features = alias_pairs(spans, groups, text, self.aliased)
        return Structure(
            vectors=vectors,
            attribute_logits=dict(zip(self.attributes, attributes, strict=True)),
            groups=groups,
            alias_pairs=pairs,
            alias_logits=self._pairs("aliases", _means(vectors, groups), pairs, features),
        )

    def relation_logits(
        self, states: np.ndarray, vectors: np.ndarray, spans: Spans, entities: np.ndarray, text: EncodedText
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `TriplesModel.relation_logits`."""
        pairs, features, between = relation_pairs(spans, entities, text, self.signatures)
        context = states[:, self._width :]
        sums = np.concatenate([np.zeros((1, context.shape[1])), context.cumsum(axis=0, dtype=np.float64)])
        scores = self._pairs("relations", vectors, pairs, features, sums, between)
        triples, inverse = entity_pairs(pairs, features, entities)
        alone = _logsumexp(scores, inverse)
        relations, numbers = triples[:, 0], pair_numbers(triples)
        if len(alone):
            rivals = rival_features(triples, _odds(alone, relations, numbers)).astype(np.float32)
            alone = alone + self._run("rivals", rivals, relations)[0]
        return triples, _odds(alone, relations, numbers)

    def _encode(self, window: Mapping[str, np.ndarray]) -> np.ndarray:
        """[w * l, H] states of the pieces of a batch of windows."""
        states = self.graphs["encoder"].run(None, dict(window))[0]
        return states.reshape(-1, states.shape[-1])

    def _run(self, name: str, *inputs: np.ndarray) -> list[np.ndarray]:
        graph = self.graphs[name]
        return graph.run(None, {node.name: value for node, value in zip(graph.get_inputs(), inputs, strict=True)})

    def _pairs(
        self,
        name: str,
        vectors: np.ndarray,
        pairs: np.ndarray,
        features: np.ndarray,
        sums: np.ndarray | None = None,
        between: np.ndarray | None = None,
    ) -> np.ndarray:
        """[P] logits, in stretches that bound the memory; see `TriplesModel._score`."""
        parts = [np.zeros(0, dtype=np.float32)]
        for at in range(0, len(pairs), PAIRS):
            part = slice(at, at + PAIRS)
            inputs = [vectors, pairs[part, 0], pairs[part, 1], features[part]]
            if sums is not None and between is not None:
                low, high = between[part].T
                inputs.append(((sums[high] - sums[low]) / np.maximum(high - low, 1)[:, None]).astype(np.float32))
            parts += self._run(name, *inputs)
        return np.concatenate(parts)


def exported(folder: Path) -> dict[str, Any] | None:
    """What the export in a model's folder says of itself; None where there is none, or that of other weights.

    Raises:
        ModelError: it cannot be read.
    """
    path = folder / FOLDER / EXPORT
    if not path.is_file():
        return None
    found = json_object(path, LARGEST_CONFIG)
    if not isinstance(found.get("attributes"), list) or not isinstance(found.get("sep_token_id"), int):
        raise ModelError(f"{FOLDER}/{EXPORT} was not written by scripts/export_onnx.py; {HINT} {folder}")
    return found if found.get("weights_sha256") == weights_sha256(folder) else None


def load_onnx(folder: Path, dtype: str) -> tuple[OnnxModel, ExportedTokenizer]:
    """The exported model in a folder, and its tokenizer.

    Raises:
        NoExport: there is no export of the model that is in the folder.
        ModelError: it cannot be read, or has no such dtype.
    """
    export = exported(folder)
    if export is None:
        raise NoExport(f"no ONNX export of these weights; {HINT} {folder}")
    if dtype not in DTYPES:
        raise ModelError(f"with onnx, dtype must be auto, {', '.join(DTYPES)}, found {dtype!r:.60}")
    if dtype == "int8" and not export.get("int8"):
        raise ModelError(f"its export has no int8 encoder; {HINT} {folder} --int8 DATA")
    model = OnnxModel(folder, export, dtype)
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    return model, ExportedTokenizer(tokenizer, export["sep_token_id"], export["pad_token_id"])


def _means(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Mean of the rows with each index; every index from 0 to the largest has at least one."""
    order = np.argsort(index, kind="stable")
    counts = np.bincount(index)
    if not len(counts):
        return values[:0]
    sums = np.add.reduceat(values[order], np.cumsum(counts) - counts, axis=0)
    return sums / counts[:, None].astype(np.float32)


def _logsumexp(values: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """Of the values [P] of each segment; every segment from 0 to the largest has at least one."""
    order = np.argsort(segments, kind="stable")
    counts = np.bincount(segments)
    if not len(counts):
        return values[:0]
    starts, own = np.cumsum(counts) - counts, values[order]
    peak = np.maximum.reduceat(own, starts)
    return np.log(np.add.reduceat(np.exp(own - np.repeat(peak, counts)), starts)) + peak


def _odds(logits: np.ndarray, relations: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """As `heads.odds`."""
    count = int(numbers.max(initial=-1)) + 1
    if count == len(numbers):
        return logits
    table = np.full((count, int(relations.max()) + 2), -np.inf, dtype=logits.dtype)
    table[:, -1] = 0.0
    table[numbers, relations] = logits
    others = table[numbers]
    others[np.arange(len(numbers)), relations] = -np.inf
    return logits - np.logaddexp.reduce(others, axis=1)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
