"""`load`: from a folder or a hub id to the pipeline, on torch or, without importing it, on onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .extractor import Extractor
from .prediction import BATCH_SIZE
from .safety import PATTERNS, ModelError

BACKENDS = ("torch", "onnx")


def load(
    model: str | Path,
    *,
    device: Any = None,
    dtype: Any = "auto",
    batch_size: int = BATCH_SIZE,
    threshold: float | Mapping[str, float] | None = None,
    precision: float | Mapping[str, float] | None = None,
    backend: str = "torch",
    verify: bool = False,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Extractor:
    """The pipeline of a trained model.

    Nothing but JSON and safetensors (with onnx: JSON and graphs) is read of the model, and no code of it is run.

    Args:
        model: a folder, or a hub id.
        device: such as "cpu", "cuda:1" or a torch.device; a GPU where there is one.
        dtype: of the encoder's weights; those of the heads are rounded to it and work in float32. With torch "float32",
            "float16", "bfloat16", "auto" (the one they were saved in), or "fastest" (bfloat16 where it is faster than
            float32 on this machine, by a measurement that is kept; about one mention in a hundred differs). With onnx
            "float32", which is "auto", or "int8".
        batch_size, threshold, precision: see `Extractor`.
        backend: "torch", or "onnx" for a model that scripts/export_onnx.py exported: on the CPU, without torch.
        verify: recompute the golden inputs that the model carries, as `pharmatriples verify` does.
        revision, token, cache_dir, local_files_only: of a hub id, as `huggingface_hub.snapshot_download` takes them.

    Returns:
        a `TriplesPipeline`, or with onnx an `Extractor`, which is called in the same way.

    Raises:
        ValueError: there is no model that can be loaded; the message names the folder, and what is missing or wrong
            in it. Or the device is not there, or another argument is none of those named above.
        GoldenError, DriftError (both a ValueError): the model carries no golden inputs, or gives other results.
    """
    hub = {"revision": revision, "token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}
    options = {"batch_size": batch_size, "threshold": threshold, "precision": precision}
    if backend not in BACKENDS:
        raise ValueError(f"backend must be {' or '.join(BACKENDS)}, found {backend!r:.60}")
    if backend == "onnx":
        if verify or str(device or "cpu") not in ("cpu", "-1"):
            raise ValueError("backend onnx runs on the cpu, and verifies nothing; use torch for a GPU and for verify")
        return _load_onnx(str(model), dtype, hub, options)
    from .checkpoint import checked_device

    device = checked_device(device)
    extract = _load_torch(str(model), dtype, hub, {"device": device, **options})
    if verify:
        from .golden import verify as verify_golden

        verify_golden(extract, str(model), **hub)
    return extract


def _load_torch(name: str, dtype: Any, hub: Mapping[str, Any], options: Mapping[str, Any]) -> Extractor:
    from .checkpoint import load_model
    from .pipeline import TriplesPipeline

    loaded, tokenizer = load_model(name, dtype, lambda: folder_of(name, PATTERNS, hub))
    return TriplesPipeline(model=loaded, tokenizer=tokenizer, **options)


def _load_onnx(name: str, dtype: Any, hub: Mapping[str, Any], options: Mapping[str, Any]) -> Extractor:
    try:
        from .onnx_model import FOLDER, load_onnx

        folder = folder_of(name, (*PATTERNS, f"{FOLDER}/*"), hub)
        loaded, tokenizer = load_onnx(folder, "float32" if dtype == "auto" else dtype)
    except ImportError as error:
        raise ModelError(f"{name}: backend onnx needs onnxruntime ({error}): pip install onnxruntime") from error
    except Exception as error:  # tokenizers raise no narrower one, and a configuration can fail at any place
        kind = type(error) if isinstance(error, ModelError) else ModelError
        raise kind(f"{name}: {' '.join(str(error).split())[:300]}") from error
    return Extractor(loaded, tokenizer, **options)


def folder_of(name: str, patterns: tuple[str, ...], hub: Mapping[str, Any]) -> Path:
    """The folder of a model: the name itself, or that of a hub id in the cache, downloaded where need be.

    Args:
        patterns: of the files that are taken of a hub repository; hub: arguments of `snapshot_download`.

    Raises:
        ModelError: it is the name of a folder, and there is none.
        FileNotFoundError: it is neither.
    """
    if Path(name).is_dir():
        return Path(name)
    if not name or name.startswith(("/", ".", "~")) or name.count("/") > 1 or "\\" in name:
        raise ModelError("no such folder")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(patterns), **hub))
    except Exception as error:  # as many kinds as there are ways not to reach a hub
        # No ModelError: those who load make one line of what a hub says.
        raise FileNotFoundError(f"no such folder here, and the hub does not give it: {error}") from error
