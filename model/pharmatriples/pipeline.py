"""The transformers pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import AutoModel, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from .confidence import RECORDS
from .configuration import REGISTERED_PACKAGE
from .documents import Document
from .extractor import Extractor
from .prediction import BATCH_SIZE, predict
from .results import result

TASK = "pharmatriples"


class TriplesPipeline(Extractor, Pipeline):  # type: ignore[misc]
    """An `Extractor` that transformers knows as a pipeline.

    Args:
        batch_size, threshold, precision: of the `Extractor`.
        args, kwargs: of the pipeline.
    """

    _load_processor: Any = False
    _load_image_processor: Any = False
    _load_feature_extractor: Any = False
    _load_tokenizer: Any = True

    def __init__(
        self,
        *args: Any,
        batch_size: int = BATCH_SIZE,
        threshold: float | Mapping[str, float] | None = None,
        precision: float | Mapping[str, float] | None = None,
        **kwargs: Any,
    ):
        Pipeline.__init__(self, *args, **kwargs)
        self.model.heads_in_fp32()  # transformers has them in the dtype that it was asked for
        Extractor.__init__(self, self.model, self.tokenizer, batch_size, threshold, precision)

    # The base class asks for these four; one call of `predict` does their work on whole batches of documents.
    def _sanitize_parameters(self) -> tuple[dict, dict, dict]:  # type: ignore[override]
        return {}, {}, {}

    def preprocess(self, inputs: str) -> Any:  # type: ignore[override]
        return inputs

    def _forward(self, inputs: str) -> Any:  # type: ignore[override]
        return next(predict(self.model, self.windower, [inputs], 1, self.thresholds))

    def postprocess(self, outputs: Document) -> dict[str, Any]:  # type: ignore[override]
        return result(outputs, self.confidence, self.thresholds.get(RECORDS, 0.0))


if __package__ == REGISTERED_PACKAGE:
    PIPELINE_REGISTRY.register_pipeline(TASK, pipeline_class=TriplesPipeline, pt_model=AutoModel, type="text")
