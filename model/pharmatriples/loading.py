"""`load`: from a folder or a hub id to the pipeline; what is there is checked before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from transformers import AutoTokenizer

from .configuration import TriplesConfig
from .golden import verify as verify_golden
from .modeling import TriplesModel, quiet
from .pipeline import BATCH_SIZE, TriplesPipeline
from .safety import PATTERNS, ModelError, check_folder, check_weights

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def load(
    model: str | Path,
    *,
    device: Any = None,
    dtype: Any = "auto",
    batch_size: int = BATCH_SIZE,
    threshold: float | Mapping[str, float] | None = None,
    precision: float | Mapping[str, float] | None = None,
    verify: bool = False,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> TriplesPipeline:
    """The pipeline of a trained model.

    Nothing but JSON and safetensors is read of the model, and no code of it is run.

    Args:
        model: a folder, or a hub id.
        device: such as "cpu", "cuda:1" or a torch.device; a GPU where there is one.
        dtype: of the encoder's weights: "float32", "float16", "bfloat16", or "auto", the one they were saved in.
        batch_size, threshold, precision: see `TriplesPipeline`.
        verify: recompute the golden inputs that the model carries, as `pharmatriples verify` does.
        revision, token, cache_dir, local_files_only: of a hub id, as `huggingface_hub.snapshot_download` takes them.

    Raises:
        ValueError: there is no model that can be loaded; the message names the folder, and what is missing or wrong
            in it. Or the device is not there, or another argument is none of those named above.
        GoldenError, DriftError (both a ValueError): the model carries no golden inputs, or gives other results.
    """
    device = checked_device(device)
    hub = {"revision": revision, "token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}
    loaded, tokenizer = load_model(str(model), dtype, hub)
    extract = TriplesPipeline(
        model=loaded,
        tokenizer=tokenizer,
        device=device,
        batch_size=batch_size,
        threshold=threshold,
        precision=precision,
    )
    if verify:
        verify_golden(extract, str(model), **hub)
    return extract


def load_model(name: str, dtype: Any, hub: Mapping[str, Any]) -> tuple[TriplesModel, Any]:
    """The model, with its heads in fp32, and its tokenizer.

    Args:
        name: a folder, or a hub id.
        dtype: of the encoder, a name or a value of DTYPES, or "auto".
        hub: arguments of `snapshot_download`, for a hub id.

    Raises:
        ModelError: there is no model that can be loaded; the message begins with the name.
        ValueError: there is no such dtype.
    """
    if dtype != "auto" and dtype not in DTYPES.values() and (not isinstance(dtype, str) or dtype not in DTYPES):
        raise ValueError(f"dtype must be auto, {', '.join(DTYPES)}, found {dtype!r:.60}")
    try:
        folder = Path(name) if Path(name).is_dir() else _snapshot(name, hub)
        shapes = check_folder(folder, TriplesConfig.model_type)
        with quiet():
            config = TriplesConfig.from_pretrained(folder)
            with torch.device("meta"):  # takes no memory
                expected = TriplesModel(config).state_dict()
            check_weights({key: tuple(weight.shape) for key, weight in expected.items()}, shapes)
            found: Any = TriplesModel.from_pretrained(
                folder,
                config=config,
                dtype=DTYPES.get(dtype, dtype),
                use_safetensors=True,
                output_loading_info=True,
            )
        model, report = found
        if report["missing_keys"]:
            raise ModelError(f"its weights lack {', '.join(sorted(report['missing_keys'])[:3])} ...")
        tokenizer = AutoTokenizer.from_pretrained(folder, config=config, trust_remote_code=False)
    except ModelError as error:
        raise ModelError(f"{name}: {error}") from error
    except Exception as error:  # tokenizers raise no narrower one, and a configuration can fail at any place
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{name}: no model that can be loaded from a folder or the hub: {reason}") from error
    return model.heads_in_fp32(), tokenizer


def checked_device(device: Any) -> Any:
    """The device as given (None, a name, a number or a torch.device), if tensors can be made there.

    Raises:
        ValueError: they cannot.
    """
    if device is None:
        return None
    wanted = "cpu" if device == -1 else device
    try:
        if torch.empty(0, device=wanted).device.type == "meta":
            raise ValueError("it holds no numbers")
    except (RuntimeError, AssertionError, ValueError, TypeError) as error:
        raise ValueError(
            f"device must be cpu, or a GPU that is there such as cuda:0, found {device!r}: {str(error).splitlines()[0]}"
        ) from error
    return wanted


def _snapshot(name: str, hub: Mapping[str, Any]) -> Path:
    """The folder of a hub id in the cache, downloaded where need be."""
    if name.startswith(("/", ".", "~")) or name.count("/") > 1 or "\\" in name:
        raise ModelError("no such folder")
    return Path(snapshot_download(name, allow_patterns=list(PATTERNS), **hub))
