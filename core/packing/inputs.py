"""What a model is called with, from a batch of `collate_bins`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.packing.block_masks import block_masks
from core.packing.lengths import as_arguments

TARGETS = ("target_positions", "target_ids")


def model_inputs(config: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments for a model of `config`: everything but the targets.

    `reach` becomes the masks of flex attention, made where the batch is: they refer to tensors of that device.
    `cu_seq_lens` becomes the arguments of flash attention.
    """
    inputs = {key: value for key, value in batch.items() if key not in TARGETS}
    if "reach" in inputs:
        inputs["attention_mask"] = block_masks(config, inputs.pop("reach"), inputs["position_ids"])
    if "cu_seq_lens" in inputs:
        inputs.update(as_arguments(inputs.pop("cu_seq_lens")))
    return inputs
