"""How many parameters a model has, and how many of them train."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# the attribute that tells, of a model without weights, for which device type it was laid out
SHAPE_OF = "tunesmith_shape_of"


def parameter_counts(model: torch.nn.Module) -> tuple[int, int]:
    """(trained, total) parameters of `model`, shared ones counted once.

    A weight packed by quantisation counts with the elements it stands for, a sharded one with its full size.
    """
    trained = total = 0
    for parameter in model.parameters():
        count = _elements(parameter)
        total += count
        trained += count if parameter.requires_grad else 0
    return trained, total


def _elements(parameter: torch.nn.Parameter) -> int:
    # bitsandbytes packs two 4-bit values to a byte and keeps the shape they had in quant_state; ZeRO-3 leaves an empty
    # tensor and keeps the count in ds_numel
    state = getattr(parameter, "quant_state", None)
    if state is not None:
        return prod(state.shape)
    return int(getattr(parameter, "ds_numel", parameter.numel()))
