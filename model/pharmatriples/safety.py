"""What a model's folder is checked for before anything is built from it: it may come from anywhere.

Nothing but JSON and safetensors is read, no code of the folder runs, and nothing is allocated that the weights in it
do not account for. Links are followed, as the cache of the hub is made of them: what they lead to is parsed as JSON or
safetensors all the same.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from .measured import WEIGHTS

CONFIG = "config.json"
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
# What is taken of a hub repository; neither code nor pickle.
PATTERNS = ("*.json", "*.txt", WEIGHTS)
ADAPTER = "adapter_config.json"
# Weights in these are pickle, which can run anything when it is read.
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
# Bytes of a JSON file that is parsed; those of a large vocabulary are about 20 MB.
LARGEST_CONFIG, LARGEST_TOKENIZER = 2**22, 2**27
MOST = 10_000
# Each of these makes as many modules or names, whatever the size of the weights.
_COUNTS = re.compile(r"(labels|layers?|blocks|heads|experts|groups)$")
_FILE = re.compile(r"[\w-][\w.-]*")
# module.Class, or as in re-saved bundles owner/name--module.Class
_CODE = re.compile(r"([\w.-]+/[\w.-]+--)?\w+(\.\w+)+")
_KERNELS = (None, "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
_DTYPES = (None, "float32", "float16", "bfloat16")
# These would have weights or code read from elsewhere.
_REFUSED = ("transformers_weights", "quantization_config", "use_pretrained_backbone", "backbone", "use_kernels")


class ModelError(ValueError):
    """A folder from which no model is loaded; the message says what is wrong with it."""


def check_folder(folder: Path, model_type: str) -> dict[str, tuple[int, ...]]:
    """Look through the files of a model before it is loaded.

    Returns:
        name -> shape of the weights in it.

    Raises:
        ModelError: a file is missing, cut short or none of ours, or its content asks for what is never done.
    """
    # Of the registers of transformers; slow to import.
    from transformers.models.auto.modeling_auto import MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES as TEXT_ENCODERS

    _complete(folder)
    shapes = weight_shapes(folder / WEIGHTS)
    config = json_object(folder / CONFIG, LARGEST_CONFIG)
    found = config.get("model_type")
    if found != model_type:
        raise ModelError(f"{CONFIG} is of a model of type {found!r:.60}, not {model_type!r}")
    encoder = config.get("encoder_config")
    found = encoder.get("model_type") if isinstance(encoder, dict) else encoder
    if not isinstance(encoder, dict) or not isinstance(found, str) or found not in TEXT_ENCODERS:
        raise ModelError(f"{CONFIG}: encoder_config names no encoder of texts that transformers knows: {found!r:.60}")
    check_settings(config)
    positions = encoder.get("max_position_embeddings")
    if isinstance(positions, int) and config.get("window", 0) > positions:
        raise ModelError(f"{CONFIG}: window {config['window']} is longer than the encoder's {positions} positions")
    if config.get("stride", 0) >= config.get("window", math.inf) - 2:  # which hold [CLS] and [SEP]
        raise ModelError(f"{CONFIG}: window {config['window']} leaves no room beside a stride of {config['stride']}")
    for key, value in _items(config):
        _check(f"{CONFIG}: {key}", key, value, len(shapes))
    json_object(folder / TOKENIZER, LARGEST_TOKENIZER)
    if (folder / TOKENIZER_CONFIG).exists():
        for key, value in _items(json_object(folder / TOKENIZER_CONFIG, LARGEST_CONFIG)):
            _check_tokenizer(f"{TOKENIZER_CONFIG}: {key}", key, value)
    return shapes


def check_settings(config: Mapping[str, Any]) -> None:
    """Look at what a configuration tells of our own: sizes, thresholds and a calibration.

    Raises:
        ModelError: one is not as training leaves it.
    """
    for key in ("window", "stride", "mention_size", "pair_size"):
        if not isinstance(config.get(key, 1), int) or config.get(key, 1) < 0:
            raise ModelError(f"{CONFIG}: {key} must be a whole number, found {config[key]!r:.60}")
    if not isinstance(config.get("name_threshold", 0), int | float):
        raise ModelError(f"{CONFIG}: name_threshold must be a number, found {config['name_threshold']!r:.60}")
    thresholds, calibration = config.get("thresholds") or {}, config.get("calibration") or {}
    if not _all(thresholds, _is_share):
        raise ModelError(f"{CONFIG}: thresholds must map names to numbers from 0 to 1, found {thresholds!r:.60}")
    parts = {"scales": _is_scale, "thresholds": _are_met}
    if not isinstance(calibration, dict) or not all(
        key in parts and _all(part, parts[key]) for key, part in calibration.items()
    ):
        raise ModelError(f"{CONFIG}: calibration is not as training leaves it; set it to null to do without")


def check_weights(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> None:
    """Compare the weights that a configuration implies with those that are there, both as name -> shape.

    Raises:
        ModelError: a shape differs, or the configuration asks for far more than there is.
    """
    for name, shape in expected.items():
        if found.get(name, shape) != shape:
            raise ModelError(f"{CONFIG} implies the shape {list(shape)} of {name}, {WEIGHTS} has {list(found[name])}")
    wanted, there = (sum(map(math.prod, shapes.values())) for shapes in (expected, found))
    if wanted > 2 * there:  # some weights may be shared; which ones lack is told when they are loaded
        raise ModelError(f"{CONFIG} implies {wanted:,} weights, {WEIGHTS} has {there:,}")


def weight_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the tensors in a safetensors file, of which only the header is read.

    Raises:
        ModelError: it is no whole safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        size = path.stat().st_size
        raise ModelError(
            f"{path.name} ({size:,} bytes) is cut short or no safetensors file ({error}); copy it again"
        ) from error


def _complete(folder: Path) -> None:
    if (folder / ADAPTER).exists():  # transformers would apply it without a word
        raise ModelError(f"{ADAPTER}: adapters are not loaded; merge it into the weights, or remove it")
    missing = [name for name in (CONFIG, WEIGHTS, TOKENIZER) if not (folder / name).is_file()]
    if not missing:
        return
    what = f"{', '.join(missing)} missing"
    if WEIGHTS in missing:
        if pickles := sorted({path.name for pattern in PICKLES for path in folder.glob(pattern)}):
            what += f"; {pickles[0]} is pickle, which is never read: save the model as safetensors"
        elif (folder / f"{WEIGHTS}.index.json").exists():
            what += "; weights in several files are not read: save the model in one"
    if CONFIG in missing:
        what += "; train one with scripts/train.py"
    raise ModelError(f"no trained model, {what}")


def json_object(path: Path, largest: int) -> dict[str, Any]:
    """The JSON object in a file of at most `largest` bytes.

    Raises:
        ModelError: there is none.
    """
    if (size := path.stat().st_size) > largest:
        raise ModelError(f"{path.name} has {size:,} bytes; more than {largest:,} are not read")
    try:
        data = json.loads(path.read_bytes())
    except (ValueError, RecursionError, OSError) as error:
        raise ModelError(f"{path.name} is no JSON ({error})") from error
    if not isinstance(data, dict):
        raise ModelError(f"{path.name} must be a JSON object, found {type(data).__name__}")
    return data


def _items(data: Any) -> Iterator[tuple[str, Any]]:
    """Every key and value in nested objects."""
    waiting = [data]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield from value.items()
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _check(where: str, key: str, value: Any, tensors: int) -> None:
    """Refuse a value of config.json whose use would cost or run what it must not."""
    if _COUNTS.search(key) and isinstance(value, (int, float)):
        most = max(tensors, 1) if key.endswith(("layer", "layers", "blocks")) else MOST
        if value > most:
            raise ModelError(f"{where} is {value:,}; more than {most:,} cannot be")
    elif key in _REFUSED and value:
        raise ModelError(f"{where} is {value!r:.60}; that is not loaded")
    elif key.endswith("_implementation") or key.endswith("_implementation_internal"):
        for name in value.values() if isinstance(value, dict) else [value]:
            if name not in _KERNELS:
                raise ModelError(f"{where} is {name!r:.60}; only those of transformers are used")
    elif key in ("dtype", "torch_dtype") and value not in _DTYPES:
        raise ModelError(f"{where} is {value!r:.60}; known are {', '.join(filter(None, _DTYPES))}")
    elif key in ("auto_map", "custom_pipelines"):
        for name in _code(key, value):
            if not isinstance(name, str) or ".." in name or not _CODE.fullmatch(name):
                raise ModelError(f"{where} has {name!r:.60}; a class is named as module.Class")


def _all(values: Any, sound: Callable[[Any], bool]) -> bool:
    """Whether it is an object all of whose values are sound."""
    return isinstance(values, dict) and all(map(sound, values.values()))


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1


def _is_scale(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(v, int | float) and math.isfinite(v) for v in value)
    )


def _are_met(value: Any) -> bool:
    """Whether it maps precisions, as texts, to probabilities."""
    return _all(value, _is_share) and all(re.fullmatch(r"[01](\.\d+)?", precision) for precision in value)


def _check_tokenizer(where: str, key: str, value: Any) -> None:
    if key == "auto_map" and value:
        raise ModelError(f"{where} asks for code of its own, which is not run")
    named = value is None or (isinstance(value, str) and ".." not in value and _FILE.fullmatch(value))
    if key.endswith("_file") and not named:
        raise ModelError(f"{where} is {value!r:.60}; a file is named without a folder")


def _code(key: str, value: Any) -> Iterator[Any]:
    """The classes that an entry names."""
    if not isinstance(value, dict):
        yield value
        return
    for entry in value.values():
        if key == "custom_pipelines":
            yield entry.get("impl") if isinstance(entry, dict) else entry
        else:
            yield from entry if isinstance(entry, list) else [entry]
