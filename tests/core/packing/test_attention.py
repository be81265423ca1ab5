from __future__ import annotations

import pytest
import torch

from core.packing import mask_windows, probe_isolated_attention, supports_isolated_attention
from tests.core.packing.packing_cases import WINDOW, make_model


@pytest.mark.parametrize("kind", ["llama", "qwen2", "mistral", "gemma2", "gemma3", "gpt_neox", "granite", "gpt_oss"])
def test_models_that_keep_rows_apart_pass_the_probe(kind):
    model = make_model(kind, "eager", torch.float32)
    assert supports_isolated_attention(model.config) == (True, "")
    assert probe_isolated_attention(model) == (True, "")
    assert model.training


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("mamba", "'linear_attention'"),
        ("rwkv", "carries state"),
        ("qwen3_next", "'linear_attention'"),
        ("recurrent_gemma", "'linear_attention'"),
        ("llama4", "'chunked_attention'"),
        ("bloom", "storage order"),
    ],
)
def test_models_that_cannot_say_why_and_fail_the_probe(kind, words):
    model = make_model(kind, "eager", torch.float32)
    supported, reason = supports_isolated_attention(model.config)
    assert not supported
    assert words in reason
    passed, reason = probe_isolated_attention(model)
    assert not passed
    assert reason


def test_flash_attention_takes_no_mask():
    config = make_model("llama", "sdpa", torch.float32).config
    assert supports_isolated_attention(config, "flash_attention_2")[0] is False


def test_unknown_models_are_not_trusted():
    from transformers import PretrainedConfig

    supported, reason = supports_isolated_attention(PretrainedConfig(model_type="mystery"))
    assert not supported
    assert "causal language models" in reason


def test_masks_by_layer_kind():
    windows = {
        kind: mask_windows(make_model(kind, "eager", torch.float32).config) for kind in ("llama", "mistral", "gemma3")
    }
    assert windows["llama"] == {"": None}
    assert windows["mistral"] == {"": WINDOW}
    assert windows["gemma3"] == {"full_attention": None, "sliding_attention": WINDOW}
