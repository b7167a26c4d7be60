"""Export of a model to ONNX: graphs of the encoder and of each head, and the check that they give the same."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from .golden import INPUTS, unequal, versions
from .loading import load
from .measured import weights_sha256
from .modeling import TriplesModel
from .onnx_model import DTYPES, EXPORT, FOLDER
from .pairs import ALIAS_FEATURES, RELATION_FEATURES

# Scores have four digits, so that equal ones may differ by one in the last. The score of a record is made of several of
# them, and its scaling to a probability stretches what they differ by.
TOLERANCE, RECORD_TOLERANCE = 1.5e-4, 1e-3
_OPSET = 17


class ExportError(ValueError):
    """An export that is not what it should be; the message says how."""


class _Graph(nn.Module):
    """A function over a model's weights as a module, which is what can be exported."""

    def __init__(self, model: TriplesModel, function: Callable[..., Any]):
        super().__init__()
        self.model = model
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


def graphs(model: TriplesModel) -> Iterator[tuple[str, nn.Module, dict[str, Tensor]]]:
    """Name, module and an example of the inputs by name, of each graph; the first axis of each input is free."""

    def tags(states: Tensor, alike: Tensor) -> tuple[Tensor, ...]:
        states = model.words.met(states, alike)
        crf = () if model.crf is None else (model.crf(),)
        return states, model.tagger(states), model.context(states), *crf

    def mentions(*inputs: Tensor) -> tuple[Tensor, ...]:
        vectors = model.mention_vectors(*inputs)
        return vectors, *(head(vectors) for head in model.attribute_heads.values())

    width, size = model.config.encoder_config.hidden_size, model.config.mention_size
    few = torch.arange(3)
    vectors = torch.randn(3, size)
    ids = torch.ones(2, 8, dtype=torch.long)
    yield "encoder", _Graph(model, model.encode), {"input_ids": ids, "attention_mask": ids, "piece_shapes": ids}
    yield "words", _Graph(model, model.words.mixed), {"words": torch.randn(3, width), "shapes": few, "gaps": few}
    yield "tags", _Graph(model, tags), {"states": torch.randn(3, width), "alike": torch.randn(3, width)}
    states = {name: torch.randn(3, width) for name in ("first", "last", "mean")}
    yield "mentions", _Graph(model, mentions), {**states, "types": torch.zeros(3, dtype=torch.long)}
    for name, head, features in (
        ("aliases", model.alias_head, ALIAS_FEATURES),
        ("relations", model.relation_head, RELATION_FEATURES),
    ):
        inputs = {"vectors": vectors, "head": few, "tail": few}
        inputs["features"] = torch.zeros(3, 1 + len(features), dtype=torch.long)
        if name == "relations":
            inputs["between"] = torch.randn(3, model.config.pair_size)
        yield name, head, inputs
    yield "rivals", model.rivals, {"features": torch.randn(3, 7), "relations": torch.zeros(3, dtype=torch.long)}


def export(run: str | Path, texts: Sequence[str] = INPUTS) -> float:
    """Write the graphs of a trained model into its folder `run`, in place of any that are there, and compare both.

    Args:
        texts: on which they are compared.

    Returns:
        the largest difference of a score.

    Raises:
        ExportError: the export gives something else than the model; there is none, then.
        ValueError: the model cannot be loaded.
    """
    run = Path(run)
    extract: Any = load(run, device="cpu", dtype="float32")
    folder = _write_graphs(extract.model, extract.tokenizer, run)
    try:
        largest = compare(extract(list(texts)), load(run, backend="onnx")(list(texts)))
    except BaseException:
        shutil.rmtree(folder)
        raise
    note(run, checked={"texts": len(texts), "largest_difference_of_a_score": round(largest, 6)})
    return largest


def _write_graphs(model: TriplesModel, tokenizer: Any, run: Path) -> Path:
    """The folder of the graphs, which appears when it is whole."""
    folder, attention = run / FOLDER, model.encoder.config._attn_implementation
    with TemporaryDirectory(dir=run, prefix=f".{FOLDER}.") as parent:
        draft = Path(parent) / FOLDER
        draft.mkdir()
        model.set_attn_implementation("eager")  # plain matmul and softmax, which onnxruntime fuses by itself
        try:
            for name, module, inputs in graphs(model):
                _export(module.eval(), inputs, draft / f"{name}.onnx", name == "encoder")
        finally:
            model.set_attn_implementation(attention)
        about = {
            "weights_sha256": weights_sha256(run),
            "attributes": list(model.attribute_heads),
            "sep_token_id": tokenizer.sep_token_id,
            "pad_token_id": tokenizer.pad_token_id or 0,
            "versions": versions(),
        }
        _write(draft / EXPORT, about)
        if folder.exists():
            shutil.rmtree(folder)
        return draft.rename(folder)


def quantize(run: str | Path) -> Path:
    """Add an encoder with int8 weights to the export in a model's folder; returns its file.

    Raises:
        ImportError: package onnx is not installed.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    folder = Path(run) / FOLDER
    path = folder / DTYPES["int8"]
    quantize_dynamic(folder / DTYPES["float32"], path, weight_type=QuantType.QInt8, per_channel=True)
    return path


def note(run: str | Path, **figures: Any) -> None:
    """Keep what was measured of the export in a model's folder."""
    path = Path(run) / FOLDER / EXPORT
    _write(path, {**json.loads(path.read_text(encoding="utf-8")), **figures})


def compare(torch_results: Sequence[Mapping[str, Any]], onnx_results: Sequence[Mapping[str, Any]]) -> float:
    """The largest difference of a score between the results of the same texts.

    Raises:
        ExportError: something else differs, or a score by more than its tolerance.
    """
    largest = 0.0
    for number, (one, other) in enumerate(zip(torch_results, onnx_results, strict=True)):
        for place, was, now in unequal(one, other, f"text {number}"):
            tolerance = RECORD_TOLERANCE if ".records[" in place else TOLERANCE
            if not place.endswith(".score") or not abs(now - was) <= tolerance:  # NaN is no rounding
                raise ExportError(f"the export gives something else than the model: {place} is {now!r}, was {was!r}")
            largest = max(largest, abs(now - was))
    return largest


def _export(module: nn.Module, inputs: dict[str, Tensor], path: Path, windows: bool) -> None:
    axes = {name: {0: "windows", 1: "length"} if windows else {0: name} for name in inputs}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # that tracing is the old way; the new one cannot free these axes
        torch.onnx.export(
            module,
            tuple(inputs.values()),
            str(path),
            dynamo=False,
            input_names=list(inputs),
            dynamic_axes=axes,
            opset_version=_OPSET,
        )


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
