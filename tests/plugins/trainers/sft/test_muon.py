from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, TrainingArguments

from core.types import Training
from plugins.trainers.sft.muon import make_muon


def small_model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    )


def test_matrices_of_layers_get_muon_and_the_rest_adamw(tmp_path: Any) -> None:
    model = small_model()
    made = make_muon(model, TrainingArguments(str(tmp_path), learning_rate=0.01, weight_decay=0.1))
    muon, adamw = made.parts
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    muon_names = {names[id(one)] for group in muon.param_groups for one in group["params"]}
    assert len(muon_names) == 7
    assert all("_proj" in name for name in muon_names)
    decays = {names[id(one)]: group["weight_decay"] for group in adamw.param_groups for one in group["params"]}
    assert decays["model.embed_tokens.weight"] == decays["lm_head.weight"] == 0.1
    assert decays["model.norm.weight"] == 0.0
    assert len(muon_names) + len(decays) == len(names)


def test_a_schedule_reaches_both_and_the_state_comes_back(tmp_path: Any) -> None:
    def step(model: Any, optimizer: Any) -> float:
        ids = torch.arange(12).reshape(1, -1)
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    arguments = TrainingArguments(str(tmp_path), learning_rate=0.01)
    model = small_model()
    optimizer = make_muon(model, arguments)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5)
    assert {group["lr"] for part in optimizer.parts for group in part.param_groups} == {0.005}
    losses = [step(model, optimizer) for _ in range(5)]
    schedule.step()
    assert losses[-1] < losses[0]

    other = small_model()
    other.load_state_dict(model.state_dict())
    again = make_muon(other, arguments)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert again.param_groups[0] is again.parts[0].param_groups[0]
    step(model, optimizer)
    step(other, again)
    pairs = zip(model.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(left, right) for left, right in pairs)


def test_a_run_with_muon_learns(prepare: Callable[..., tuple[Training, Any]]) -> None:
    training, _ = prepare(optimizer="muon", max_steps=6, learning_rate=3e-3)
    result = training.run()
    assert len(result.losses) == 6
    assert result.losses[-1] < result.losses[0]
