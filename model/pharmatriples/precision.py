"""Whether bf16 is faster than fp32 on this machine: measured, since having the instructions does not tell."""

from __future__ import annotations

import json
import math
import os
import platform
import time
from pathlib import Path

import torch


def fast_bf16() -> bool:
    """Whether bf16 is at least a quarter faster than fp32 on this device, by a measurement of two seconds at most."""
    if torch.accelerator.is_available():
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported()

    def seconds(dtype: torch.dtype, limit: float = math.inf) -> float:
        a, b = torch.randn(1024, 384).to(dtype), torch.randn(384, 1536).to(dtype)
        times: list[float] = []
        for count in range(1, 13):
            start = time.perf_counter()
            a @ b
            times.append(time.perf_counter() - start)
            # The first product prepares. Beyond the limit one can take most of a second, and the second tells enough.
            if count > 1 and min(times) >= limit:
                break
        return min(times)

    plain = seconds(torch.float32)
    return plain > 1.25 * seconds(torch.bfloat16, limit=4 * plain)


def fastest_dtype() -> torch.dtype:
    """bf16 where it is fast, else fp32; what was measured on a processor is kept in the user's cache folder."""
    if torch.accelerator.is_available():
        return torch.bfloat16 if fast_bf16() else torch.float32
    path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pharmatriples" / "bf16.json"
    name, flags = processor()
    on = " ".join([name, *(flag for flag in ("avx512_bf16", "amx_bf16") if flag in flags)])
    key = f"{on}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    if not isinstance(known, dict) or not isinstance(known.get(key), bool):
        known = {**(known if isinstance(known, dict) else {}), key: fast_bf16()}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(f".{os.getpid()}.part")
            part.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
            part.replace(path)
        except OSError:
            pass  # a home that cannot be written: it is measured each time
    return torch.bfloat16 if known[key] else torch.float32


def processor() -> tuple[str, list[str]]:
    """Its name, and its flags as Linux names them: the same name is given to machines with and without fast bf16."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    found = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return found.get("model name") or platform.processor() or platform.machine(), found.get("flags", "").split()
