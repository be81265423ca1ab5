"""Walks through a few layers against walks through all of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from core.planner.ledger import Phase
from core.planner.step import FEW, MORE, StepMemory, Walk, _walk, step_memory

LAYERS = 12  # one more than both walks together
WIDE = {"hidden_size": 64, "intermediate_size": 256}


def shape(*, only: str = "", checkpointing: bool = False, **config: Any) -> Any:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "vocab_size": 128, **config}
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=LAYERS, num_attention_heads=2, **sizes))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(only in name)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    return model


def loss(model: Any, batch: Any) -> torch.Tensor:
    value: torch.Tensor = model(**batch).loss
    return value


@pytest.mark.parametrize(
    ("settings", "tokens", "walk"),
    [
        ({}, 64, Walk()),
        (WIDE, 4, Walk()),  # gradients outgrow activations, so the lower layers are the highest moment
        ({**WIDE, "vocab_size": 40_000}, 12, Walk()),  # with few layers the logits are, with all of them the gradients
        ({"checkpointing": True, **WIDE}, 16, Walk(accumulating=True)),
        ({"checkpointing": True, "only": "q_proj"}, 64, Walk(offload=True)),
        (WIDE, 16, Walk(autocast=torch.bfloat16)),
        ({"only": "self_attn"}, 64, Walk(accumulating=True)),
    ],
)
def test_a_few_layers_tell_of_all(settings: dict[str, Any], tokens: int, walk: Walk) -> None:
    ids = torch.zeros(1, tokens, dtype=torch.int64)
    batch = {"input_ids": ids, "labels": ids}
    whole = _walk(shape(**settings), batch, loss, walk)
    told = step_memory(shape(**settings), batch, loss, walk)
    assert (told.peak, told.gradients) == (whole.peak, whole.gradients)
    assert (told.saved, told.logits) == (whole.saved, whole.logits)
    assert len(told.phases) == 3


def test_the_highest_phase_may_be_another_than_with_few_layers() -> None:
    few = StepMemory(10, 1, (Phase(20, 0), Phase(22, 1), Phase(12, 6)))
    more = StepMemory(13, 1, (Phase(23, 0), Phase(25, 1), Phase(24, 12)))
    assert FEW < MORE
    assert (few.peak, few.gradients) == (22, 1)
    assert few.plus_layers(more, 9) == StepMemory(37, 1, (Phase(47, 0), Phase(49, 1), Phase(120, 60)))
    assert few.plus_layers(more, 9).peak == 120
    assert few.plus_layers(more, 9).gradients == 60


def test_layers_may_be_handed_their_input_by_name() -> None:
    class Named(LlamaForCausalLM):
        def __init__(self, config: LlamaConfig) -> None:
            super().__init__(config)
            for layer in self.model.layers:
                layer.register_forward_pre_hook(by_name, with_kwargs=True, prepend=True)

    def by_name(layer: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
        return (), {**named, "hidden_states": inputs[0]}

    with torch.device("meta"):
        model = Named(LlamaConfig(num_hidden_layers=LAYERS, num_attention_heads=2, **WIDE, vocab_size=128))
    ids = torch.zeros(1, 16, dtype=torch.int64)
    batch = {"input_ids": ids, "labels": ids}
    told = step_memory(model, batch, loss, Walk())
    assert told == step_memory(shape(**WIDE), batch, loss, Walk())
    assert len(told.phases) == 3
