"""How fast texts are read beside transformers' own token-classification pipeline, and where the time goes.

The pipeline has the same encoder, and finds entities only; pharmatriples finds relations and records, too. Where a
model keeps some layers of its encoder, the pipeline reads with all of them, and once more with those alone. Beside each
speed stands what its results have in common with those of the model in fp32 that reads one text at a time.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForTokenClassification, AutoTokenizer, pipeline

from .checkpoint import DTYPES
from .loading import load
from .modeling import TriplesModel, quiet
from .onnx_model import exported
from .precision import fastest_dtype
from .prediction import Reading, predict
from .results import result
from .runs import RECORD
from .timing import TimingError, by_turns
from .training import encoder_path

STOCK = "transformers' pipeline, entities only"
STEPS = ("tokenise", "encoder", "words and tags", "mentions", "entities and relations", "records")
_START = """
import sys
from transformers import pipeline
found = pipeline("token-classification", sys.argv[1], aggregation_strategy="simple", stride=128, device="cpu")
print(len(found(open(sys.argv[2], encoding="utf-8").read())))
"""


def measure(run: Path, texts: Sequence[str], rounds: int) -> dict[str, Any]:
    """Pieces a second of a model in each backend and dtype that is at hand, and of the stock pipeline.

    Args:
        run: folder of a trained model; with an export to ONNX in it, this is measured, too.

    Raises:
        ValueError: the model cannot be loaded.
    """
    base: Any = load(run, device="cpu", dtype="float32")
    pieces = sum(len(base.windower.encode(text).pieces) for text in texts)
    readers: dict[str, Any] = {"torch, fp32": base}
    if fastest_dtype() is DTYPES["bfloat16"]:
        readers["torch, bf16"] = load(run, device="cpu", dtype="bfloat16")
    for name, dtype in (("onnx, fp32", "float32"), ("onnx, int8", "int8")):
        try:
            readers[name] = load(run, backend="onnx", dtype=dtype)
        except ValueError as error:
            print(f"not measured: {error}", file=sys.stderr)
    whole = stock(base, run)
    works: dict[str, Callable[[], list[Any]]] = {STOCK: partial(_entities, whole, texts)}
    layers = base.model.config.encoder_config.num_hidden_layers
    if layers < whole.model.config.num_hidden_layers:
        works[f"{STOCK}, {layers} layers"] = partial(_entities, stock(base), texts)
    works["torch, fp32, one text at a time"] = partial(_one_by_one, base, texts)
    works |= {name: partial(reader, list(texts)) for name, reader in readers.items()}
    expected = _one_by_one(base, texts)
    alike = {name: _alike(expected, reader(list(texts))) for name, reader in readers.items()}
    rates = by_turns({name: partial(_amount, work, pieces) for name, work in works.items()}, rounds)
    return {
        "what": f"Inference, pieces a second ({len(texts)} texts, {pieces:,} pieces)",
        "base": STOCK,
        "rates": rates,
        "columns": {"mentions as one by one": alike},
        "shares": {"where the time of torch, fp32 goes, on one thread": shares(base, texts)},
    }


def stock(extract: Any, run: Path | None = None) -> Any:
    """The pipeline of transformers over the encoder of a model, with its tagger for a classifier.

    Args:
        run: the model's folder; where its record names the encoder that it was made of, the layers that the model did
            not keep are that encoder's.
    """
    model: TriplesModel = extract.model
    config = copy.deepcopy(model.config.encoder_config)
    config.id2label = dict(enumerate(model.schema.tags))
    config.label2id = {tag: number for number, tag in config.id2label.items()}
    kind = AutoModelForTokenClassification
    options: dict[str, Any] = {"dtype": torch.float32, "attn_implementation": "sdpa"}
    if run is not None and (run / RECORD).is_file():
        path = encoder_path(json.loads((run / RECORD).read_text(encoding="utf-8"))["config"]["encoder"])
        config.num_hidden_layers = AutoConfig.from_pretrained(path, trust_remote_code=False).num_hidden_layers
        with quiet():
            tagger = kind.from_pretrained(path, config=config, use_safetensors=True, **options)
    else:
        tagger = kind.from_config(config, **options)
    getattr(tagger, tagger.base_model_prefix).load_state_dict(model.encoder.state_dict(), strict=False)
    tagger.classifier.load_state_dict(model.tagger.state_dict())
    tokenizer = copy.deepcopy(extract.tokenizer)
    tokenizer.model_max_length = model.config.window
    return pipeline(
        "token-classification",
        model=tagger.eval(),
        tokenizer=tokenizer,
        aggregation_strategy="simple",
        stride=model.config.stride,
        device="cpu",
    )


def startup(run: Path, text: Path, rounds: int) -> dict[str, Any]:
    """Starts a second of the command with a text, in a process of its own, and of the stock pipeline.

    Raises:
        TimingError: a process failed.
        ValueError: the model cannot be loaded.
    """
    command = [sys.executable, "-m", "pharmatriples", "extract", str(text), "--model", str(run), "--backend"]
    with TemporaryDirectory() as folder, quiet():
        found = stock(load(run, device="cpu", dtype="float32"), run)
        found.model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(run).save_pretrained(folder)
        commands = {
            STOCK: [sys.executable, "-c", _START, folder, str(text)],
            "pharmatriples extract, torch": [*command, "torch"],
        }
        if exported(run):
            commands["pharmatriples extract, onnx"] = [*command, "onnx"]
        else:
            print(f"not measured: onnx, as {run} has no export; run: scripts/export_onnx.py {run}", file=sys.stderr)
        works = {name: partial(_started, arguments) for name, arguments in commands.items()}
        rates = by_turns(works, rounds)
    return {"what": f"Start of a process to the result of {text.name}", "base": STOCK, "rates": rates, "seconds": True}


def shares(extract: Any, texts: Sequence[str]) -> dict[str, float]:
    """Step -> share of the time, where one thread reads one text after the other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = [_spent(extract, text) for text in texts]
    finally:
        torch.set_num_threads(threads)
    spent = [sum(one[step] for one in times) for step in STEPS]
    return {step: round(seconds / sum(spent), 3) for step, seconds in zip(STEPS, spent, strict=True)}


def _spent(extract: Any, text: str) -> dict[str, float]:
    """Step -> seconds that one text takes."""
    model, windower = extract.model, extract.windower
    spent = {}

    def timed(step: str, do: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        value = do()
        spent[step] = time.perf_counter() - start
        return value

    def encode() -> None:
        for window in batch["windows"]:
            model.encode(**{name: torch.from_numpy(array) for name, array in window.items()})

    with model.inference():
        batch = timed("tokenise", lambda: windower.batch([windower.encode(text)], model.token_budget))
        timed("encoder", encode)
        log_probs, states = timed("words and tags", lambda: model.read(batch))
        reading = Reading(batch["texts"][0], log_probs, states)
        timed("mentions", lambda: reading.spans(model))
    document = timed("entities and relations", lambda: next(predict(model, windower, [text], 1, extract.thresholds)))
    timed("records", lambda: result(document, extract.confidence, 0.0))
    # These two did the steps before them, too.
    spent["entities and relations"] -= spent["tokenise"] + spent["words and tags"] + spent["mentions"]
    spent["words and tags"] -= spent["encoder"]
    return spent


def _entities(found: Any, texts: Sequence[str]) -> list[Any]:
    return [found(text) for text in texts]


def _one_by_one(extract: Any, texts: Sequence[str]) -> list[Any]:
    return [extract(text) for text in texts]


def _amount(work: Callable[[], Any], amount: int) -> int:
    work()
    return amount


def _started(arguments: Sequence[str]) -> float:
    done = subprocess.run(arguments, capture_output=True, text=True, errors="replace")
    if done.returncode:
        said = done.stderr.strip().rpartition("\n")[2]
        raise TimingError(f"{' '.join(arguments)}: ended with {done.returncode}: {said}")
    return 1.0


def _alike(expected: Sequence[Any], found: Sequence[Any]) -> str:
    """The share of mentions that both have, and the largest difference of the score of one."""
    one, other = (
        {
            (number, entity["type"], mention["start"], mention["end"]): mention["score"]
            for number, one in enumerate(results)
            for entity in one["entities"]
            for mention in entity["mentions"]
        }
        for results in (expected, found)
    )
    both = one.keys() & other.keys()
    share = len(both) / max(len(one.keys() | other.keys()), 1)
    largest = max((abs(one[key] - other[key]) for key in both), default=0.0)
    return f"{100 * share:.1f} %, scores within {largest:.4f}"
