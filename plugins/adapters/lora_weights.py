"""An adapter's weights as a plain LoRA on the untouched base, whatever it started from."""

from __future__ import annotations

from copy import deepcopy
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plugins.adapters.lora_rules import MOVES_THE_BASE

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel

ADAPTER = "default"
START = "tunesmith_start"


def remember_start(model: PeftModel) -> None:
    """Keep a copy of the first matrices of an adapter whose start moves the base weights (PiSSA, OLoRA)."""
    config: Any = model.peft_config[ADAPTER]
    if str(config.init_lora_weights).startswith(MOVES_THE_BASE):
        setattr(model, START, {name: value.detach().cpu().clone() for name, value in _weights(model).items()})


def plain_adapter(model: PeftModel) -> tuple[LoraConfig, dict[str, Any]]:
    """(config, state dict) that give `model` back on the untouched base. Call it on every rank.

    A start that moved the base from W to W - s*B0*A0 is undone by appending it: with A' = [A; A0] and B' = [B, -B0] of
    twice the rank, W + s*B'*A' = W - s*B0*A0 + s*B*A (Meng et al. 2024, PiSSA, section on conversion to LoRA).
    """
    import torch

    config: Any = deepcopy(model.peft_config[ADAPTER])
    weights = _weights(model)
    start: dict[str, Any] | None = getattr(model, START, None)
    if start is None:
        return config, weights
    for name, first in start.items():
        if name in weights and ".lora_A." in name:
            weights[name] = torch.cat([weights[name], first.to(weights[name])], dim=0)
        elif name in weights and ".lora_B." in name:
            weights[name] = torch.cat([weights[name], -first.to(weights[name])], dim=1)
    config.r *= 2
    # the scale is alpha / r, or alpha / sqrt(r), and must stay what it was in training
    config.lora_alpha *= sqrt(2) if config.use_rslora else 2
    config.init_lora_weights = True
    return config, weights


def write_adapter(config: LoraConfig, weights: dict[str, Any], folder: Path) -> None:
    """adapter_model.safetensors and adapter_config.json in `folder`."""
    from safetensors.torch import save_file

    # safetensors takes no two names for one memory and no strided views
    plain = {name: value.detach().cpu().clone().contiguous() for name, value in weights.items()}
    save_file(plain, str(folder / "adapter_model.safetensors"), metadata={"format": "pt"})
    inference = deepcopy(config)
    inference.inference_mode = True
    inference.save_pretrained(str(folder))


def _weights(model: PeftModel) -> dict[str, Any]:
    """The adapter's own tensors (with modules trained in full), gathered from all ranks."""
    from peft import get_peft_model_state_dict

    from core.models import full_state_dict

    # new tokens are rows of their own here; whole embeddings would only repeat the base model
    return dict(get_peft_model_state_dict(model, state_dict=full_state_dict(model), save_embedding_layers=False))
