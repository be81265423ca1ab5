from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from core.models.shape import base_shape
from tests.core.model_plans import make_model_plan


@pytest.mark.parametrize(("kind", "attention"), [("gemma2", "eager"), ("llama", "sdpa")])
def test_a_shape_has_the_attention_that_its_kind_of_model_has(tmp_path: Path, kind: str, attention: str) -> None:
    """Gemma 2 caps its scores, which sdpa does not; asked for sdpa, transformers refuses it."""
    from transformers import Gemma2Config, LlamaConfig

    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "vocab_size": 300}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4}
    config = Gemma2Config(**shape, **heads) if kind == "gemma2" else LlamaConfig(**shape, **heads)
    config.save_pretrained(tmp_path / kind)
    plan = replace(make_model_plan(tmp_path, tmp_path / kind), shape_for="cuda")
    model = base_shape(plan, quantized=None, frozen=False)
    assert model.config._attn_implementation == attention
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
