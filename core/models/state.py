"""A model's weights as one plain state dict, however the ranks share them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def unwrapped(model: torch.nn.Module) -> torch.nn.Module:
    """The model inside the wrappers of DDP, DeepSpeed or torch.compile."""
    from accelerate.utils import extract_model_from_parallel

    plain: torch.nn.Module = extract_model_from_parallel(model)
    return plain


def full_state_dict(model: torch.nn.Module) -> dict[str, Any]:
    """The whole state dict under the plain model's names. Call it on every rank: shards are gathered, and only the main
    rank is sure to hold the result."""
    plain = unwrapped(model)
    if any(hasattr(parameter, "ds_id") for parameter in plain.parameters()):
        return _gathered_from_zero(plain)
    if _is_sharded(plain):
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        return dict(get_model_state_dict(plain, options=StateDictOptions(full_state_dict=True, cpu_offload=True)))
    return dict(plain.state_dict())


def _is_sharded(model: torch.nn.Module) -> bool:
    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.distributed.tensor import DTensor

    return any(isinstance(module, FullyShardedDataParallel) for module in model.modules()) or any(
        isinstance(parameter, DTensor) for parameter in model.parameters()
    )


def _gathered_from_zero(model: torch.nn.Module) -> dict[str, Any]:
    """DeepSpeed ZeRO-3: gather one parameter at a time, so that no rank ever holds the model on its device."""
    import deepspeed

    from core.processes import is_main

    state: dict[str, Any] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        with deepspeed.zero.GatheredParameters([parameter]):
            if is_main():
                state[name] = parameter.detach().cpu().clone()
    saved = model.state_dict().keys()  # no buffer that a model computes anew when it is loaded
    for name, buffer in model.named_buffers(remove_duplicate=False):
        if name in saved:
            state[name] = buffer.detach().cpu()
    return state
