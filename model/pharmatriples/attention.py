"""Attention of an encoder that is trained in bf16 on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig
from transformers.masking_utils import eager_mask

LEAN = "pharmatriples_lean"
# All of them call attention as BERT does: as many keys as queries, and nothing but a mask to add.
LEAN_FOR = ("bert", "camembert", "distilbert", "electra", "roberta", "xlm-roberta")


def plain_attention(encoder_config: PreTrainedConfig) -> str:
    """The name of attention by plain products: `lean` where the encoder's kind is known to fit, else transformers'."""
    return LEAN if encoder_config.model_type in LEAN_FOR else "eager"


def lean(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Plain products and a softmax, all in the dtype of the query, without dropout.

    Under autocast, what transformers calls "eager" turns the scores of all pairs of pieces to fp32 for the mask and
    the softmax, and back, forward and backward. The softmax of torch adds up in fp32 by itself, and what it gives is
    rounded to bf16 either way.

    Args:
        query, key, value: [w, heads, l, d] of `w` windows of `l` pieces.
        attention_mask: added to the scores, [w, 1, l, l] or what broadcasts to it; None where nothing is padding.
        scaling: of the scores; by default 1 over the root of `d`.

    Returns:
        [w, l, heads, d], and no weights.
    """
    with torch.autocast(query.device.type, enabled=False):
        scores = (query * (query.shape[-1] ** -0.5 if scaling is None else scaling)) @ key.transpose(2, 3)
        if attention_mask is not None:
            scores = scores + attention_mask.to(scores.dtype)
        return (scores.softmax(-1) @ value).transpose(1, 2).contiguous(), None


AttentionInterface.register(LEAN, lean)
AttentionMaskInterface.register(LEAN, eager_mask)
