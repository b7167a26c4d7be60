"""The model's configuration: what config.json of a checkpoint holds."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

# Only the installed package registers its classes. The copy of this code that travels with a model must not:
# transformers would then take it for other models, too, whose code may differ.
REGISTERED_PACKAGE = "pharmatriples"


class TriplesConfig(PreTrainedConfig):
    """Configuration of a `TriplesModel`; training sets what `TrainingConfig` has, too.

    Attributes:
        encoder_config: configuration of the encoder, any that `AutoModel` knows.
        schema: the schema as `Schema.to_json` gives it.
        window: pieces in a window, special tokens included.
        stride: pieces that neighbouring windows share.
        mention_size: width `D` of mention vectors.
        pair_size: width `K` of the hidden layer of the pair heads.
        head_dropout: dropout before each head.
        crf: whether the tags of a line are told together, by a CRF.
        tag_weight: weight of the loss of the tags beside those of the structure.
        name_threshold: smallest mean probability, over the places where a wording stands, of a name that is kept.
        thresholds: entity or relation type, or "records" -> smallest probability of a prediction that is kept.
        calibration: what makes scores probabilities, as `Confidence.to_dict` gives it.
    """

    model_type = "pharmatriples"
    sub_configs_defaults = {"encoder_config": SubConfigSpec(config_class=AutoConfig, model_type="bert")}

    encoder_config: Any = None
    schema: str | None = None
    window: int = 512
    stride: int = 128
    mention_size: int = 256
    pair_size: int = 128
    head_dropout: float | int = 0.2
    crf: bool = False
    tag_weight: float | int = 2.0
    name_threshold: float | int = 0.25
    thresholds: dict | None = None
    calibration: dict | None = None


if __package__ == REGISTERED_PACKAGE:
    AutoConfig.register(TriplesConfig.model_type, TriplesConfig, exist_ok=True)
