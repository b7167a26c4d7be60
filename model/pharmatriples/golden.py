"""Golden inputs: a model carries texts with what it made of them, so that a change of anything below it shows.

A new version of a library can turn a model into nonsense without an error: a tokenizer that cuts otherwise, a special
token with another id, weights in another dtype. `check` recomputes the texts and says which of these it is.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from transformers.utils import cached_file

FILE = "golden.json"
# Scores have four digits. Processors and libraries that sum in another order move them in the last; nonsense does more.
TOLERANCE = 1e-3
LIBRARIES = ("pharmatriples", "transformers", "tokenizers", "torch", "numpy", "safetensors", "huggingface-hub")
_FROM_HUB = ("revision", "token", "cache_dir", "local_files_only", "force_download")
_LONG = "\n\n".join(
    f"Part {n}. Acme Therapeutics said that the {agency} has {verb} its {filing} for ACM-{100 + n} in {disease}. "
    f"ACM-{100 + n} is an antibody that binds {target}; interim results are expected in the second half of {2025 + n}."
    for n, (agency, verb, filing, disease, target) in enumerate(
        [
            ("NMPA", "accepted", "new drug application", "lupus nephritis", "CD19"),
            ("FDA", "cleared", "investigational new drug application", "advanced solid tumors", "PD-1"),
            ("EMA", "validated", "marketing authorisation application", "myasthenia gravis", "FcRn"),
            ("PMDA", "approved", "supplemental application", "ulcerative colitis", "TL1A"),
        ]
        * 6
    )
)
INPUTS = (
    "",
    " \r\n\t\n ",
    "Acme (HKEX: 9999) said on March 3, 2025 that the NMPA has accepted its NDA for ACM-101, a CD19xCD3 bispecific "
    "antibody, in systemic lupus erythematosus (SLE).",
    "SHANGHAI, 8 May 2025 \N{EM DASH} Zenbio\N{RIGHT SINGLE QUOTATION MARK}s ZB\N{NON-BREAKING HYPHEN}02\r\n\r\n"
    "\N{BULLET} ZB-02 met its primary endpoint \N{GRINNING FACE} in NSCLC (n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}312)\r"
    "\n\N{BULLET} BLA filing planned for 2H26 \N{WOMAN}\N{ZERO WIDTH JOINER}\N{MICROSCOPE}\r\n",
    "国家药品监督管理局受理了 ZB-02 的 NDA。 Beta-2-\u0391\u0392 caf\u00e9 cafe\u0301 \ufb01rst-in-class "
    "\u202eabc\u202c \x00 \ufffd",
    _LONG,
)


class GoldenError(ValueError):
    """The golden inputs of a model cannot be had; the message says why."""


class DriftError(ValueError):
    """A model no longer gives what it gave; `drifts` has a line for each thing that changed."""

    def __init__(self, drifts: list[str]):
        super().__init__("; ".join(drifts))
        self.drifts = drifts


class Check(NamedTuple):
    """What a recomputation found.

    Attributes:
        drifts: a line for each thing that changed; empty where all is as recorded.
        inputs: how many texts were recomputed.
        largest: the largest difference of a score.
        versions: "library then -> now" of what has another version, which is no drift by itself.
    """

    drifts: list[str]
    inputs: int
    largest: float
    versions: list[str]


def versions() -> dict[str, str]:
    """The versions here of what can change a result; a library that is not installed is left out."""
    found = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


def record(extract: Any) -> dict[str, Any]:
    """The golden inputs with what a pipeline's model makes of them, in plain JSON types."""
    return {
        "versions": versions(),
        "dtype": _dtype(extract.model),
        "special_tokens": _special_tokens(extract.tokenizer),
        "tolerance": TOLERANCE,
        "inputs": [
            {"text": text, "pieces": _digest(extract.windower, text), "result": result}
            for text, result in zip(INPUTS, extract.model.extract(INPUTS, extract.tokenizer), strict=True)
        ],
    }


def check(extract: Any, golden: Mapping[str, Any]) -> Check:
    """Recompute golden inputs, with the thresholds of the model itself.

    Everything must be as recorded, to the character; only a score may differ, by `tolerance`.

    Raises:
        GoldenError: `golden` is not what `record` gives.
    """
    try:
        return _check(extract, golden)
    except (KeyError, TypeError, AttributeError) as error:
        raise GoldenError(f"{FILE} is damaged ({type(error).__name__} {error}); push the model again") from None


def verify(extract: Any, name: str, **kwargs: Any) -> Check:
    """Recompute the golden inputs that a model carries.

    Args:
        extract: its pipeline.
        name: its folder or hub id.
        kwargs: what `load` was given; those that say where to find a file are used.

    Raises:
        GoldenError: the model carries none, or they are damaged.
        DriftError: something changed.
    """
    found = check(extract, read(name, **kwargs))
    if found.drifts:
        raise DriftError([*found.drifts, f"versions: {', '.join(found.versions) or 'the same as then'}"])
    return found


def read(name: str, **kwargs: Any) -> dict[str, Any]:
    """The golden inputs in a folder or a repository of the hub.

    Raises:
        GoldenError: there are none, or they are no JSON.
    """
    try:
        path = cached_file(name, FILE, **{key: kwargs[key] for key in _FROM_HUB if key in kwargs})
        return json.loads(Path(str(path)).read_text(encoding="utf-8"))
    except OSError:
        raise GoldenError(
            f"{name}: carries no golden inputs ({FILE}); a model gets them when it is bundled by scripts/push_to_hub.py"
        ) from None
    except (ValueError, RecursionError) as error:
        raise GoldenError(f"{name}: {FILE} is no JSON ({error}); push the model again") from None


def _check(extract: Any, golden: Mapping[str, Any]) -> Check:
    drifts = []
    was, is_ = golden["dtype"], _dtype(extract.model)
    if was != is_:
        drifts.append(f"dtype: the weights are {is_}, were {was}")
    special = _special_tokens(extract.tokenizer)
    for name in sorted({*special, *golden["special_tokens"]}):
        if special.get(name) != golden["special_tokens"].get(name):
            drifts.append(f"special tokens: {name} is {special.get(name)}, was {golden['special_tokens'].get(name)}")
    inputs = golden["inputs"]
    cut = [n for n, item in enumerate(inputs) if _digest(extract.windower, item["text"]) != item["pieces"]]
    if cut:
        drifts.append(f"tokenizer: input {_numbers(cut)} of {len(inputs)} is cut into other pieces")
    results = extract.model.extract([item["text"] for item in inputs], extract.tokenizer)
    largest = 0.0
    for number, (item, result) in enumerate(zip(inputs, results, strict=True)):
        for place, then, now in unequal(item["result"], result, f"input {number}"):
            if not place.endswith(".score") or not isinstance(then, float | int) or not isinstance(now, float | int):
                drifts.append(f"results: {place} is {_short(now)}, was {_short(then)}")
                break
            if not abs(now - then) <= golden["tolerance"] and largest <= golden["tolerance"]:  # NaN is no rounding
                drifts.append(f"scores: {place} is {now}, was {then} (up to {golden['tolerance']} is rounding)")
            largest = max(largest, abs(now - then))
    then, now = golden["versions"], versions()
    changed = [f"{name} {then[name]} -> {now[name]}" for name in then if name in now and now[name] != then[name]]
    return Check(drifts, len(inputs), largest, changed)


def unequal(was: Any, is_: Any, place: str) -> Iterator[tuple[str, Any, Any]]:
    """(place, then, now) of the leaves of two results that are not equal, and of what cannot be compared by leaves."""
    if isinstance(was, dict) and isinstance(is_, dict) and was.keys() == is_.keys():
        for key in was:
            yield from unequal(was[key], is_[key], f"{place}.{key}")
    elif isinstance(was, list) and isinstance(is_, list):
        if len(was) != len(is_):
            yield f"{place}.length", len(was), len(is_)
        for number, (then, now) in enumerate(zip(was, is_, strict=False)):
            yield from unequal(then, now, f"{place}[{number}]")
    elif was != is_:
        yield place, was, is_


def _digest(windower: Any, text: str) -> str:
    """Of the ids of the pieces, the words that they belong to, and the windows."""
    encoded = windower.encode(text)
    ids = [encoded.pieces.tolist(), encoded.piece_words.tolist(), [[w.start, w.end] for w in encoded.windows]]
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:16]


def _special_tokens(tokenizer: Any) -> dict[str, list[Any]]:
    """Name -> token and id."""
    tokens = {name: token for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
    return {name: [token, tokenizer.convert_tokens_to_ids(token)] for name, token in tokens.items()}


def _dtype(model: Any) -> str:
    return str(next(model.encoder.parameters()).dtype).removeprefix("torch.")


def _numbers(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


def _short(value: Any) -> str:
    return f"{value!r:.60}"
