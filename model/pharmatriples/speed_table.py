"""Measured speeds in one file of figures and one page, part by part, each with the machine that it was measured on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from .blocks import percent, table
from .files import write_json, write_text
from .golden import versions
from .precision import processor
from .timing import ratios

FIGURES, PAGE = "speed.json", "speed.md"
ONE = "one text"  # the rows in which a text grows


class SpeedError(ValueError):
    """A file of figures that cannot be added to; the message names it."""


def machine() -> dict[str, Any]:
    """What a speed depends on: processor, cores, threads and versions."""
    return {
        "cpu": processor()[0],
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "versions": versions(),
    }


def keep(folder: Path, parts: Mapping[str, Mapping[str, Any]], command: str) -> str:
    """Put what was measured in place of earlier figures of the same parts, and return the page, which is written anew.

    Args:
        parts: name -> `what` was measured, and either `base` and the `rates` of the works in each round, as
            `timing.by_turns` gives them, or `header` and `rows` of a table of sizes.

    Raises:
        SpeedError: the figures that are there cannot be read.
    """
    path = folder / FIGURES
    try:
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        known |= {name: {**part, "command": command, "machine": machine()} for name, part in parts.items()}
        page = "\n\n".join(_section(known[name]) for name in sorted(known)) + "\n"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SpeedError(f"{path}: holds no figures of this command: {error!r}; move it away") from None
    folder.mkdir(parents=True, exist_ok=True)
    write_json(known, path)
    write_text(page, folder / PAGE)
    return page


def summary(folder: Path) -> str:
    """What `keep` has kept in a folder in one table: how many times as fast as the stock tool each is, and the growth.

    Raises:
        SpeedError: there is nothing that can be read.
    """
    path = folder / FIGURES
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return table(
            ["", "", "times the stock tool"], [row for name in sorted(known) for row in _lines(known[name])], 2
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SpeedError(f"{path}: holds no figures of scripts/benchmark.py speed: {error!r}") from None


def _lines(part: Mapping[str, Any]) -> Iterator[list[str]]:
    if "rows" in part:
        for name in dict.fromkeys(row[0] for row in part["rows"]):
            last = [row for row in part["rows"] if row[0] == name][-2:]
            if len(last) < 2:
                continue  # nothing has grown
            small, large = last
            grown = f"{small[1]:,} -> {large[1]:,} characters: {small[2]:,} -> {large[2]:,} s"
            memory = f"{small[4]:,} -> {large[4]:,} MB"
            if name == ONE:
                memory += f" ({large[4] * 2**20 / large[1]:,.0f} bytes a character)"
            yield [part["what"], f"{name}, {grown}, {memory}", ""]
        return
    for name, ratio in ratios(part["rates"], part["base"]).items():
        own = median(part["rates"][name])
        yield [part["what"], f"{name}: {1 / own:.2f} s" if part.get("seconds") else f"{name}: {own:,.0f}", str(ratio)]


def _section(part: Mapping[str, Any]) -> str:
    where = part["machine"]
    on = ", ".join([where["cpu"], f"{where['cores']} cores", f"{where['threads']} threads", *where["gpus"]])
    libraries = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    paragraphs = [f"## {part['what']}", *(_sizes(part) if "rows" in part else _turns(part))]
    return "\n\n".join([*paragraphs, f"On {on}; {libraries}.", f"    {part['command']}"])


def _turns(part: Mapping[str, Any]) -> Iterator[str]:
    """The table of works that took turns, and in which steps the time went."""
    rates: Mapping[str, Sequence[float]] = part["rates"]
    base = part["base"]
    times = {base: "1", **{name: str(ratio) for name, ratio in ratios(rates, base).items()}}
    columns: Mapping[str, Mapping[str, str]] = part.get("columns", {})
    rows = []
    for name, own in rates.items():
        value = f"{1 / median(own):.2f} s" if part.get("seconds") else f"{median(own):,.0f}"
        rows.append([name, value, times[name], *(column.get(name, "") for column in columns.values())])
    yield table(["", "median", f"times {base}", *columns], rows)
    for what, shares in part.get("shares", {}).items():
        yield f"{what.capitalize()}: {', '.join(f'{step} {percent(share)} %' for step, share in shares.items())}."
    yield f"Of {len(rates[base])} rounds by turns: the median, and in brackets the lowest and highest."


def _sizes(part: Mapping[str, Any]) -> Iterator[str]:
    """The table of a work in several sizes."""
    rows = [[f"{value:,}" if isinstance(value, (int, float)) else value for value in row] for row in part["rows"]]
    yield table(part["header"], rows)
    if "plot" in part:
        yield f"![{part['what']}]({part['plot']})"
