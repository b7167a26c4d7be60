"""A trained model from a folder or a hub id into torch; what is there is checked before anything is built."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from .configuration import TriplesConfig
from .modeling import TriplesModel, quiet
from .precision import fastest_dtype
from .safety import ModelError, check_folder, check_weights

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def load_model(name: str, dtype: Any, folder_of: Callable[[], Path]) -> tuple[TriplesModel, Any]:
    """The model and its tokenizer.

    Args:
        name: what it is called in messages.
        dtype: of the weights, a name or a value of DTYPES, "auto", or "fastest".
        folder_of: gives the folder of its files.

    Raises:
        ModelError: there is no model that can be loaded; the message begins with the name.
        ValueError: there is no such dtype.
    """
    if dtype == "fastest":
        dtype = fastest_dtype()
    if dtype != "auto" and dtype not in DTYPES.values() and (not isinstance(dtype, str) or dtype not in DTYPES):
        raise ValueError(f"dtype must be auto, fastest, {', '.join(DTYPES)}, found {dtype!r:.60}")
    try:
        folder = folder_of()
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
            lacking = ", ".join(sorted(report["missing_keys"])[:3])
            raise ModelError(f"its weights lack {lacking} ...; where an earlier version made it, train it again")
        if report["unexpected_keys"]:
            beyond = ", ".join(sorted(report["unexpected_keys"])[:3])
            raise ModelError(f"its configuration has no place for {beyond} ...; it would not read as it was trained to")
        tokenizer = AutoTokenizer.from_pretrained(folder, config=config, trust_remote_code=False)
    except ModelError as error:
        raise ModelError(f"{name}: {error}") from error
    except Exception as error:  # tokenizers raise no narrower one, and a configuration can fail at any place
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{name}: no model that can be loaded from a folder or the hub: {reason}") from error
    return model, tokenizer


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
