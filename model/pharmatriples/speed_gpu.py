"""Speed on one GPU: inference and training in tokens a second, as shares of what its matrix units can do, and how
many times as fast as the stock tools that is.

A *share* is tokens a second, times the floating-point operations of a token in the encoder, over the *limit*: the best
rate of large matrix products in the same precision, measured in the same run. What `gpu_work` counts as no token is
no useful work, so that padding and windows that overlap lower the share.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Any, TypeAlias, TypeVar

import torch
import transformers
from transformers import PreTrainedConfig

from .blocks import percent, table
from .documents import Document
from .gpu_work import ATTENTION, VOCABULARY, Encoder, GpuError, Pass, Work
from .schema import Schema
from .timing import Ratio, by_turns, ratios

T = TypeVar("T")
Make: TypeAlias = Callable[[str, torch.device], Pass]  # (precision, device) -> a pass
Rates: TypeAlias = dict[str, list[float]]  # of `by_turns`

# bf16 is that of the model's own numbers in inference, and autocast in training.
PRECISIONS = {"bf16": "bf16", "tf32": "fp32, products in TF32", "fp32": "fp32, without TF32"}
# Rounds of a measurement beside its warm-up, and of a comparison by turns.
ROUNDS, TURNS = 3, 5
NO_MEMORY = "out of memory"
# Products in a row before the device is waited for.
_PRODUCTS = 10
READ, PREDICT, PIPELINE = "encoder and tagger", "predict", "stock pipeline"
TAGS, TRAIN, EXAMPLE = "training, tags alone", "training", "training, stock example"
COMPARED = ((PREDICT, PIPELINE), (TRAIN, EXAMPLE))
# The precisions that the stock tools are used in.
STOCK = ("bf16", "fp32")


@dataclass(frozen=True)
class Plan:
    """The encoders and sizes that are measured.

    Attributes:
        shapes: name -> arguments of `BertConfig`.
        squares: sides of the square matrices of the limit.
        rows: of the products of the encoders' own shapes.
        budgets: padded pieces in a forward of the encoder, for encoder and tagger alone.
        predict_budgets: the same, for the whole of `predict`.
        texts: in a pass of `predict` and of the stock pipeline.
        pipeline_batches: windows in a batch of the stock pipeline.
        documents: in a training step.
        training_budget: padded pieces in a forward of a training step.
        sentences: in a training step of the stock example.
    """

    shapes: Mapping[str, Mapping[str, int]]
    squares: tuple[int, ...]
    rows: int
    budgets: tuple[int, ...]
    predict_budgets: tuple[int, ...]
    texts: int
    pipeline_batches: tuple[int, ...]
    documents: tuple[int, ...]
    training_budget: int
    sentences: tuple[int, ...]


FULL = Plan(
    shapes={
        "BioBERT": {
            "vocab_size": 28_996,
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
        },
        "MiniLM": {
            "vocab_size": 30_522,
            "hidden_size": 384,
            "num_hidden_layers": 6,
            "num_attention_heads": 12,
            "intermediate_size": 1536,
        },
    },
    squares=(4096, 8192),
    rows=32_768,
    budgets=(2048, 8192, 32_768, 131_072),
    predict_budgets=(2048, 16_384),
    texts=32,
    pipeline_batches=(8, 32, 128),
    documents=(8, 32),
    training_budget=32_768,
    sentences=(16, 32),
)
# To try the command where there is no GPU.
TINY = Plan(
    shapes={
        "tiny": {
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
        }
    },
    squares=(128,),
    rows=256,
    budgets=(128, 256),
    predict_budgets=(128,),
    texts=2,
    pipeline_batches=(2,),
    documents=(2,),
    training_budget=128,
    sentences=(4,),
)


@dataclass(frozen=True)
class Way:
    """One way to do a work, with one size of batches.

    Attributes:
        lengths: of the rows of its batches, special tokens counted and padding not.
        passes: how many passes through the encoder a token costs: 1 forward, 3 with backward.
    """

    what: str
    batch: str
    lengths: Sequence[int]
    passes: int
    precisions: tuple[str, ...]
    make: Make


@dataclass(frozen=True)
class Row:
    """A measurement; without figures where the memory of the device did not suffice.

    Attributes:
        share: of the limit of its precision, from 0 to 1.
        peak_memory: most bytes in use on the device; none on the CPU.
    """

    encoder: str
    what: str
    precision: str
    batch: str
    tokens_per_second: float | None = None
    share: float | None = None
    peak_memory: int | None = None


def checked_device(name: str) -> torch.device:
    """The device of a name.

    Raises:
        GpuError: it is not there, or is neither a CUDA device nor the CPU.
    """
    try:
        device = torch.empty(0, device=name).device
        if device.type not in ("cuda", "cpu"):
            raise RuntimeError("only CUDA devices and the CPU are measured")
    except (RuntimeError, AssertionError) as error:
        raise GpuError(
            f"device {name!r}: {str(error).splitlines()[0]}; without a GPU, --device cpu --tiny tries the command"
        ) from None
    return device


def flops_per_token(config: PreTrainedConfig, length: float) -> float:
    """Floating-point operations of an encoder's forward for a token in a row of `length` tokens.

    Two for each weight of the linear layers, and the two matrix products of attention.
    """
    width, inner = config.hidden_size, config.intermediate_size
    return config.num_hidden_layers * (2 * (4 * width * width + 2 * width * inner) + 4 * length * width)


def mean_length(lengths: Sequence[int]) -> float:
    """The length of the row that a token stands in, mean over the tokens."""
    return sum(length * length for length in lengths) / max(sum(lengths), 1)


def products(configs: Iterable[PreTrainedConfig], plan: Plan) -> list[tuple[int, int, int]]:
    """(m, k, n) of the products [m, k] x [k, n] of the limit: square ones, and those of the encoders' linear layers."""
    found = [(side, side, side) for side in plan.squares]
    for config in configs:
        width, inner = config.hidden_size, config.intermediate_size
        found += [(plan.rows, width, width), (plan.rows, width, inner), (plan.rows, inner, width)]
    return list(dict.fromkeys(found))


def attempt(measure: Callable[[], T]) -> T | None:
    """What a measurement gives; None where the memory of the device does not suffice."""
    try:
        return measure()
    except torch.OutOfMemoryError:
        return None


class Meter:
    """Times work on a device.

    Args:
        seconds: what a measurement takes, with its warm-up, unless one pass takes longer.
    """

    def __init__(self, device: torch.device, seconds: float):
        self.device = device
        self.seconds = seconds

    def rates(self, makes: Mapping[str, Make], precision: str, rounds: int) -> Rates | None:
        """`by_turns` of passes that are made on the device; None where its memory does not suffice."""
        if self.device.type == "cuda":
            gc.collect()  # nothing of the measurement before stays on the device
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
        with _products_in(precision):
            return attempt(
                lambda: by_turns({k: self._round(make(precision, self.device)) for k, make in makes.items()}, rounds)
            )

    def peak_memory(self) -> int | None:
        """Most bytes in use since the last `rates` began."""
        return torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else None

    def _round(self, once: Pass) -> Pass:
        """Passes for a part of the seconds, at least one; it returns when the device has done them."""

        def work() -> int:
            end = time.perf_counter() + self.seconds / (1 + ROUNDS)
            done = 0
            while not done or time.perf_counter() < end:
                done += once()
                if self.device.type == "cuda":
                    torch.cuda.synchronize(self.device)
            return done

        return work


def matrix_limit(meter: Meter, shapes: Sequence[tuple[int, int, int]], precision: str) -> dict[str, Any]:
    """The rates of matrix products in TFLOP/s; `limit` is the best.

    Raises:
        GpuError: the memory suffices for none.
    """

    def make(shape: tuple[int, int, int], precision: str, device: torch.device) -> Pass:
        m, k, n = shape
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        left, right = (torch.randn(size, device=device, dtype=dtype) for size in ((m, k), (n, k)))
        out = torch.empty(m, n, device=device, dtype=dtype)

        def once() -> int:
            for _ in range(_PRODUCTS):
                torch.mm(left, right.t(), out=out)  # as a linear layer has it
            return _PRODUCTS * 2 * m * k * n

        return once

    rates = {}
    for shape in shapes:
        found = meter.rates({"": partial(make, shape)}, precision, ROUNDS)
        rates[" x ".join(map(str, shape))] = median(found[""]) / 1e12 if found else 0.0
    best = max(rates, key=lambda name: rates[name])
    if not rates[best]:
        raise GpuError(f"no matrix product fits in the memory of {meter.device}; end what else runs there")
    return {"precision": precision, "limit": rates[best], "product": best, "products": rates}


def ways(work: Work, plan: Plan) -> list[Way]:
    """What is measured of an encoder."""
    every = tuple(PRECISIONS)
    windows, first, sentences = work.lengths(), work.lengths(plan.texts), [len(ids) for ids in work.sentences]
    found = [Way(READ, f"{size:,} pieces", windows, 1, every, partial(work.read, size)) for size in plan.budgets]
    for size in plan.predict_budgets:
        found.append(Way(PREDICT, f"{size:,} pieces", first, 1, STOCK, partial(work.predict, size, plan.texts)))
    for size in plan.pipeline_batches:
        found.append(Way(PIPELINE, f"{size} windows", first, 1, STOCK, partial(work.pipe, size, plan.texts)))
    for what, alone in ((TAGS, True), (TRAIN, False)):
        for size in plan.documents:
            make = partial(work.train, size, plan.training_budget, alone)
            found.append(Way(what, f"{size} documents", windows, 3, every, make))
    for size in plan.sentences:
        found.append(Way(EXAMPLE, f"{size} sentences", sentences, 3, STOCK, partial(work.train_stock, size)))
    return found


def measure(meter: Meter, encoder: Encoder, way: Way, precision: str, limit: float) -> Row:
    """The row of one way in one precision.

    Args:
        limit: TFLOP/s.
    """
    named = (encoder.name, way.what, precision, way.batch)
    rates = meter.rates({way.what: way.make}, precision, ROUNDS)
    if rates is None:
        return Row(*named)
    rate = median(rates[way.what])
    flops = way.passes * flops_per_token(encoder.config, mean_length(way.lengths))
    return Row(*named, rate, rate * flops / (limit * 1e12), meter.peak_memory())


def compare(meter: Meter, own: Sequence[tuple[Row, Way]], stock: Sequence[tuple[Row, Way]]) -> dict[str, Any]:
    """The fastest of our ways against the fastest stock one, by turns; without a ratio where one has no figures."""
    (row, way), (other, against) = (max(tried, key=lambda t: t[0].tokens_per_second or 0.0) for tried in (own, stock))
    rates = None
    if row.tokens_per_second and other.tokens_per_second:
        rates = meter.rates({way.what: way.make, against.what: against.make}, row.precision, TURNS)
    return {
        **{name: getattr(row, name) for name in ("encoder", "what", "precision", "batch")},
        "against": other.what,
        "its_batch": other.batch,
        "rates": rates,
        "ratio": asdict(ratios(rates, against.what)[way.what]) if rates else None,
    }


def benchmark(
    encoders: Sequence[Encoder],
    documents: Sequence[Document],
    schema: Schema,
    plan: Plan,
    meter: Meter,
    say: Callable[[str], object],
) -> dict[str, Any]:
    """Every figure of a run.

    Args:
        say: is told of each measurement.
    """
    shapes = products([encoder.config for encoder in encoders], plan)
    quick = Meter(meter.device, meter.seconds / 4)  # there are many products
    limits = {precision: matrix_limit(quick, shapes, precision) for precision in PRECISIONS}
    rows: list[Row] = []
    comparisons: list[dict[str, Any]] = []
    for encoder in encoders:
        work = Work(encoder, documents, schema)
        tried: dict[tuple[str, str], list[tuple[Row, Way]]] = {}
        for way in ways(work, plan):
            for precision in way.precisions:
                row = measure(meter, encoder, way, precision, limits[precision]["limit"])
                say(" | ".join(_cells(asdict(row))))
                rows.append(row)
                tried.setdefault((way.what, precision), []).append((row, way))
        comparisons += [compare(meter, tried[own, p], tried[stock, p]) for own, stock in COMPARED for p in STOCK]
    return {
        **_machine(meter.device),
        "seconds": meter.seconds,
        "documents": len(documents),
        "limits": list(limits.values()),
        "rows": [asdict(row) for row in rows],
        "comparisons": comparisons,
    }


def markdown(figures: Mapping[str, Any]) -> str:
    """What `benchmark` gives, as tables."""
    memory = figures["memory"]
    machine = [
        figures["device"] + (f" with {_gib(memory)} GiB" if memory else ""),
        f"torch {figures['torch']}" + (f" with CUDA {figures['cuda']}" if figures["cuda"] else ""),
        f"transformers {figures['transformers']}, attention {figures['attention']}",
    ]
    limits = ([PRECISIONS[f["precision"]], f"{f['limit']:.3g}", f["product"]] for f in figures["limits"])
    compared = (
        [
            f["encoder"],
            f"{f['what']}, {f['batch']}",
            f"{f['against']}, {f['its_batch']}",
            PRECISIONS[f["precision"]],
            str(Ratio(**f["ratio"])) if f["ratio"] else NO_MEMORY,
        ]
        for f in figures["comparisons"]
    )
    titles = ["encoder", "what", "precision", "batch", "tokens/s", "% of the limit", "peak GiB"]
    return "\n\n".join(
        [
            "; ".join(machine),
            table(["precision", "limit, TFLOP/s", "product"], limits),
            table(titles, map(_cells, figures["rows"]), left=4),
            table(["encoder", "ours", "against", "precision", "times as fast"], compared, left=4),
        ]
    )


def _cells(row: Mapping[str, Any]) -> list[str]:
    named = [row["encoder"], row["what"], PRECISIONS[row["precision"]], row["batch"]]
    if row["tokens_per_second"] is None:
        return [*named, NO_MEMORY, "", ""]
    peak = "" if row["peak_memory"] is None else _gib(row["peak_memory"])
    return [*named, f"{row['tokens_per_second']:,.0f}", percent(row["share"]), peak]


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f}"


def _machine(device: torch.device) -> dict[str, Any]:
    gpu = torch.cuda.get_device_properties(device) if device.type == "cuda" else None
    return {
        "device": gpu.name if gpu else "CPU",
        "memory": gpu.total_memory if gpu else None,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "transformers": transformers.__version__,
        "attention": ATTENTION,
    }


@contextmanager
def _products_in(precision: str) -> Iterator[None]:
    """Have products and convolutions of fp32 numbers made in TF32, or not, meanwhile; for bf16 as torch has it."""
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    if precision != "bf16":
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions
