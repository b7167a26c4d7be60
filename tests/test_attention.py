"""Attention in training: what transformers' own gives, in fewer conversions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pharmatriples.arguments import TrainingConfig
from pharmatriples.attention import LEAN, LEAN_FOR, lean
from pharmatriples.training import new_model
from tiny import SCHEMA, tiny_encoder_dir
from transformers import AutoConfig, AutoModel, set_seed
from transformers.models.bert.modeling_bert import eager_attention_forward


def small(kind: str, attention: str) -> Any:
    known = AutoConfig.for_model(kind)
    widths = dict.fromkeys(("hidden_size", "embedding_size", "dim"), 32)
    widths |= dict.fromkeys(("intermediate_size", "hidden_dim"), 64)
    widths |= dict.fromkeys(("num_attention_heads", "n_heads"), 2)
    sizes = {name: width for name, width in widths.items() if hasattr(known, name)}
    config = AutoConfig.for_model(kind, vocab_size=50, **sizes)
    set_seed(0)
    return AutoModel.from_config(config, attn_implementation=attention).eval()  # no dropout


@pytest.mark.parametrize("kind", LEAN_FOR)
@pytest.mark.parametrize("padding", [0, 3])
def test_an_encoder_reads_and_learns_as_with_the_attention_of_transformers(kind: str, padding: int) -> None:
    pieces = torch.randint(5, 50, (2, 12), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(pieces)
    mask[1, 12 - padding :] = 0
    found = []
    for attention in ("eager", LEAN):
        model = small(kind, attention)
        states = model(input_ids=pieces, attention_mask=mask).last_hidden_state[mask.bool()]
        states.square().sum().backward()
        gradients = [p.grad.flatten() for _, p in sorted(model.named_parameters()) if p.grad is not None]
        found.append((states, torch.cat(gradients)))
    (states, gradients), (lean_states, lean_gradients) = found
    torch.testing.assert_close(lean_states, states, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(lean_gradients, gradients, rtol=1e-3, atol=1e-3)


def test_in_bf16_it_is_nearer_to_fp32_than_the_attention_of_transformers() -> None:
    random = torch.Generator().manual_seed(2)
    query, key, value = (torch.randn(2, 3, 40, 8, generator=random) for _ in range(3))
    mask = torch.zeros(2, 1, 40, 40)
    mask[1, :, :, 30:] = torch.finfo(torch.float32).min
    module = torch.nn.Module()
    exact, _ = eager_attention_forward(module, query, key, value, mask)
    halves = [part.bfloat16() for part in (query, key, value)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        theirs, _ = eager_attention_forward(module, *halves, mask)
        ours, _ = lean(module, *halves, mask)
    assert ours.dtype == torch.bfloat16
    assert ours.isfinite().all()
    assert (ours - exact).square().mean() < (theirs - exact).square().mean()


def test_training_takes_it_in_bf16_alone(tmp_path: Path) -> None:
    tiny_encoder_dir(tmp_path)
    config = TrainingConfig(output_dir="unused", encoder=str(tmp_path), window=64, stride=16)
    attentions = [new_model(config, SCHEMA, bf16)[0].encoder.config._attn_implementation for bf16 in (True, False)]
    assert attentions == ["eager" if torch.accelerator.is_available() else LEAN, "sdpa"]
    if not torch.accelerator.is_available():
        saved, _ = new_model(config, SCHEMA, True)
        saved.save_pretrained(tmp_path / "saved")
        assert LEAN not in (tmp_path / "saved" / "config.json").read_text()
