"""How much a run computes, and how long that takes at a rate that was probed or assumed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core.packing import unwrapped
from core.planner.device import Device
from core.types import Workload

# what training reaches of the rate of a bare matrix product, where nothing was measured
SHARE_REACHED = 0.4
# a GPU that is not here: the rate that training is assumed to reach, in 1e12 operations a second
ASSUMED_TERAFLOPS = 100.0
ASSUMED_PRICE = 2.0  # US dollars for a GPU hour, in round figures
PROBE_SECONDS = 0.3


@dataclass(frozen=True)
class Operations:
    """Floating-point operations of one optimizer step over all ranks, and the steps of the run."""

    per_step: float
    steps: int
    computed_tokens: float
    trained_tokens: float


@dataclass(frozen=True)
class Pace:
    """Operations a second of one rank, where that comes from, and the price of an hour of it (None: not asked)."""

    rate: float
    origin: str
    price: float | None = None

    def seconds(self, work: Operations, ranks: int) -> float:
        """Time to train, without evaluation and checkpoints."""
        return work.per_step * work.steps / (self.rate * ranks)

    def cost(self, work: Operations, ranks: int) -> float | None:
        """Price of that time on all ranks."""
        return None if self.price is None else self.seconds(work, ranks) / 3600 * ranks * self.price


def operations(model: Any, load: Workload, *, checkpointing: bool) -> Operations:
    """Count the products of linear layers: 2 a weight and token forward, 2 for the gradient of what came in, 2 more for
    a weight that trains; attention 4 a channel and attended pair forward, twice that backward. The output head sees
    the trained tokens alone. Recomputing under checkpointing is one more forward pass."""
    body, learning, head = _weights(model)
    config = unwrapped(model).config.get_text_config()
    heads = getattr(config, "num_attention_heads", None) or 0  # a model of state alone, such as Mamba, has none
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads) if heads else 0
    length = max(load.batches, key=lambda batch: batch["input_ids"].numel())["input_ids"].shape[1]
    attended = 4 * width * (length / 2) * config.num_hidden_layers
    forward = 2 * body + attended
    token = forward * (2 if checkpointing else 1) + 2 * body + 2 * attended + 2 * learning
    per_step = token * load.computed_tokens + 6 * head * load.trained_tokens
    return Operations(float(per_step), load.steps, load.computed_tokens, load.trained_tokens)


def pace(device: Device, *, teraflops: float | None, price: float | None) -> Pace:
    """The rate to reckon with: as told, probed on the device that is here, or assumed for one that is not."""
    if price is None and device.kind == "cuda":
        price = ASSUMED_PRICE
    if teraflops is not None:
        return Pace(teraflops * 1e12, f"{teraflops:g} TFLOP/s as given", price)
    if not device.here:
        return Pace(
            ASSUMED_TERAFLOPS * 1e12, f"{ASSUMED_TERAFLOPS:g} TFLOP/s assumed (--tflops sets what yours reaches)", price
        )
    rate = _probe(device)
    origin = f"{100 * SHARE_REACHED:.0f} % of the {rate / 1e12:.3g} TFLOP/s that a matrix product reached just now"
    return Pace(SHARE_REACHED * rate, origin, price)


def _weights(model: Any) -> tuple[int, int, int]:
    """(weights of linear layers, those of them that train, weights of the output head)."""
    from math import prod

    import torch

    output = unwrapped(model).get_output_embeddings()
    body = learning = 0
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if not isinstance(module, torch.nn.Linear) or module is output or weight is None:
            continue
        state = getattr(weight, "quant_state", None)
        count = prod(state.shape) if state is not None else weight.numel()
        body += count
        learning += count if weight.requires_grad else 0
    return body, learning, 0 if output is None else output.weight.numel()


def _probe(device: Device) -> float:
    """Operations a second of a square matrix product, over about a third of a second."""
    import torch

    size, dtype = (4096, torch.bfloat16) if device.kind == "cuda" else (768, torch.float32)
    left = torch.randn(size, size, dtype=dtype, device=device.kind)
    wait: Callable[[], None] = torch.cuda.synchronize if device.kind == "cuda" else lambda: None
    left @ left
    wait()
    start, count = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < PROBE_SECONDS:
        left @ left
        wait()
        count += 1
    return 2 * size**3 * count / max(spent, 1e-9)
