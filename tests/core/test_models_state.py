from __future__ import annotations

import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from core.models import full_state_dict, state


def test_what_zero_3_gathers_is_what_a_plain_state_dict_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """No inverse frequencies of rotary positions, which a model computes anew, and every name of what is shared."""
    zero = SimpleNamespace(GatheredParameters=lambda parameters: nullcontext())
    monkeypatch.setitem(sys.modules, "deepspeed", SimpleNamespace(zero=zero))
    monkeypatch.setattr(state, "unwrapped", lambda model: model)  # which looks for a real DeepSpeed
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    model[2].weight = model[1].weight
    model[1].register_buffer("inv_freq", torch.ones(2), persistent=False)
    model[1].register_buffer("scale", torch.full((2,), 5.0))
    model[2].scale = model[1].scale
    expected = model.state_dict()
    for parameter in model.parameters():
        parameter.ds_id = 0  # how DeepSpeed marks what it has taken over
    found = full_state_dict(model)
    assert found.keys() == expected.keys()
    assert {"0.running_mean", "1.scale", "2.weight"} <= found.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)
