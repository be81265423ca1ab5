"""Exactness on a real model's weights: the first layers of SmolLM2, where it is in the cache."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from core.packing import (
    collate_bins,
    pack_step,
    register_segments,
    target_hidden,
    target_logits,
    trained_token_loss,
)
from tests.core.packing.packing_cases import gradients, largest_difference, plain_loss, ragged_rows

LAYERS = 3
LIMIT = 1e-5


@pytest.fixture(scope="module")
def model():
    """The converted model of a cache folder, in float32."""
    cache = os.environ.get("TUNESMITH_CACHE")
    origins = sorted(Path(cache).glob("gguf/*/origin.json")) if cache else []
    folders = [path.parent for path in origins if "SmolLM2" in json.dumps(json.loads(path.read_text()))]
    if not folders:
        pytest.skip("SmolLM2 is not in the cache that TUNESMITH_CACHE names")
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(
        folders[0], num_hidden_layers=LAYERS, dtype=torch.float32, attn_implementation="sdpa"
    )
    return loaded.train()


@pytest.mark.parametrize("way", ["packed", "shared", "chunked head", "checkpointing", "all"])
def test_loss_and_every_gradient_equal_the_padded_computation(model, way):
    rows = ragged_rows(1)
    model.set_attn_implementation("sdpa")
    expected = plain_loss(model, rows)
    expected_gradients = gradients(model, expected)
    model.set_attn_implementation(register_segments())
    bins = pack_step(rows, 96, share_prefixes=way in ("shared", "all"))[0]
    batch = collate_bins(bins, model.config, pad_to_multiple_of=8)
    if way in ("checkpointing", "all"):
        model.gradient_checkpointing_enable({"use_reentrant": False})
    try:
        if way in ("chunked head", "all"):
            hidden = target_hidden(model, batch)
            total = trained_token_loss(hidden, model.get_output_embeddings(), batch["target_ids"], chunk=7)
        else:
            total = torch.nn.functional.cross_entropy(target_logits(model, batch), batch["target_ids"], reduction="sum")
        loss = total / len(batch["target_ids"])
        found = gradients(model, loss)
    finally:
        model.gradient_checkpointing_disable()
    assert abs(loss - expected) <= LIMIT * abs(expected)
    assert largest_difference(found, expected_gradients) <= LIMIT
