"""What one approach needs: parameters, memory by part on each rank, and whether it fits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from core.models import parameter_counts
from core.packing import unwrapped
from core.planner.approaches import Approach
from core.planner.device import Device
from core.planner.optimizer import rounds_stochastically, state_bytes, step_bytes
from core.planner.sample import Sample
from core.planner.shapes import by_shapes, shape_of
from core.planner.sharding import Held, Strategy
from core.planner.step import StepMemory, Walk, step_memory
from core.planner.work import Operations, operations
from core.types import Data, Plan, Workload

# The C library keeps part of what is freed between tensors of ever-changing sizes: measured on SmolLM2, see
# docs/planning.md. CUDA's allocator reports the tensors themselves.
CPU_GAPS = 1.45
RETURNED_GAPS = 1.2  # with checkpointing, where a run gives blocks back to the system as they are freed
ROUNDED = "weights train in bfloat16: updates are rounded stochastically, and the optimizer's states are float32"


@dataclass(frozen=True)
class Estimate:
    """One approach on one device. parts: bytes by part, each at its own highest; peak: the most at one time, while
    training; saving, merging: while writing the result, and while adding an adapter to its base (0: nothing to merge).

    weights_dtype, trained_dtype: the formats held. places: [lines, length] of the heaviest micro batch.
    notes: what was assumed.
    """

    name: str
    own: bool
    trained: int
    total: int
    weights_dtype: str
    trained_dtype: str
    parts: Mapping[str, float]
    peak: float
    saving: float
    merging: float
    room: float
    micro_batch_size: int
    accumulation: int
    places: tuple[int, int]
    work: Operations
    notes: tuple[str, ...] = ()

    @property
    def highest(self) -> float:
        """The most bytes that training and saving take."""
        return max(self.peak, self.saving)

    @property
    def fits(self) -> bool:
        """Whether training and saving stay within the room. Merging is a stage of its own."""
        return self.highest <= self.room


def estimate(
    approach: Approach, sample: Sample, device: Device, *, ranks: int = 1, strategy: Strategy = "ddp"
) -> Estimate:
    """Lay one approach out on `device`, for rows like those of `sample`.

    Raises `UserError` for a recipe whose adapter does not suit the model.
    """
    plan = replace(approach.plan, shape_for=device.kind)
    model = shape_of(plan)
    trained, total = parameter_counts(model)
    held, dtypes = held_of(plan, model), _dtypes(model)
    shared_out = ranks > 1 and strategy != "ddp"
    if shared_out and held.widened:
        dtypes = (dtypes[0], "float32")
    work_of = plan.trainer.workload or default_workload
    load = work_of(plan, model, sample.data, ranks)
    if not sample.counted and not plan.recipe["max_steps"]:
        load = replace(load, steps=0)
    amount = operations(model, load, checkpointing=bool(plan.recipe["gradient_checkpointing"]))
    memory = _heaviest(plan, model, load, device)
    parts, peak = _peak(plan, held, memory, device, ranks, strategy)
    saving, merging = _afterwards(plan, held, device, ranks, strategy, trained)
    lines, length = max((batch["input_ids"].shape for batch in load.batches), key=lambda shape: shape[0] * shape[1])
    return Estimate(
        approach.name,
        approach.own,
        trained,
        total,
        *dtypes,
        parts,
        peak,
        saving,
        merging,
        device.room,
        micro_of(plan),
        load.accumulation,
        (int(lines), int(length)),
        amount,
        (*approach.notes, *load.notes, *((ROUNDED,) if held.rounded and not shared_out else ())),
    )


def micro_of(plan: Plan) -> int:
    """The recipe's micro batch, where it is a number."""
    asked = plan.recipe["micro_batch_size"]
    return asked if isinstance(asked, int) else 4


def default_workload(plan: Plan, model: Any, data: Data, ranks: int) -> Workload:
    """Padded rows and the model's own loss: what a trainer that says nothing is taken to compute."""
    size = micro_of(plan)
    accumulation = plan.recipe["gradient_accumulation_steps"] or 1
    lengths = [len(row) for row in data.train["input_ids"]]
    longest = sorted(range(len(lengths)), key=lambda row: -lengths[row])[:size]
    batch = next(iter(replace(data, train=data.train.select(longest)).batches(size)))
    per_step = size * accumulation * ranks
    per_epoch = math.ceil(len(lengths) / per_step)
    steps = plan.recipe["max_steps"] or math.ceil(float(plan.recipe["num_epochs"] or 1) * per_epoch)
    mean = sum(lengths) / max(1, len(lengths))
    return Workload(
        [batch],
        lambda shape, inputs: shape(**inputs).loss,
        steps,
        mean * per_step,
        mean * per_step,
        accumulation,
        notes=(f"trainer {plan.trainer.name!r} does not say what it computes: padded rows and all logits are assumed",),
    )


def held_of(plan: Plan, model: Any) -> Held:
    """What is there whatever the batch."""
    import torch

    parameters = list(model.parameters())
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    low = sum(parameter.numel() for parameter in learning if parameter.dtype == torch.bfloat16)
    rounded = bool(low) and rounds_stochastically(str(plan.recipe["optimizer"] or "adamw_torch_fused"))
    gradients = float(sum(parameter.numel() * parameter.element_size() for parameter in learning))
    momentum = "momentum" in str(plan.recipe["optim_args"] or "")
    trained = sum(parameter.numel() for parameter in learning)
    width = 4 if rounded else max((parameter.element_size() for parameter in learning), default=4)
    optimizer = state_bytes(str(plan.recipe["optimizer"] or "adamw"), trained, width, momentum=momentum)
    layers = decoder_layers(model)
    largest = max(layers, key=_bytes, default=None)
    weights = float(_bytes(model) + sum(buffer.untyped_storage().nbytes() for buffer in model.buffers()))
    return Held(
        weights,
        gradients,
        optimizer,
        layer=_bytes(largest) if largest is not None else weights,
        root=weights - sum(_bytes(layer) for layer in layers),
        layer_gradients=_bytes(largest, trained=True) if largest is not None else gradients,
        largest=max((float(parameter.untyped_storage().nbytes()) for parameter in learning), default=0.0),
        parameters=sum(parameter.numel() for parameter in parameters),
        rounded=rounded,
        widened=2.0 * low if plan.recipe["bf16"] != "full" else 0.0,
    )


def _dtypes(model: Any) -> tuple[str, str]:
    """The formats of frozen and of trained weights."""
    parameters = list(model.parameters())
    frozen = [parameter for parameter in parameters if not parameter.requires_grad]
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    return _formats(frozen or parameters), _formats(learning)


def decoder_layers(model: Any) -> list[Any]:
    """The modules that a sharding strategy takes as its units; none where they cannot be told."""
    from torch.nn import ModuleList

    count = getattr(unwrapped(model).config.get_text_config(), "num_hidden_layers", None)
    found = [module for module in model.modules() if isinstance(module, ModuleList) and len(module) == count]
    return list(found[0]) if len(found) == 1 else []


def _bytes(module: Any, *, trained: bool = False) -> float:
    return float(
        sum(
            parameter.untyped_storage().nbytes()
            for parameter in module.parameters()
            if parameter.requires_grad or not trained
        )
    )


def _formats(parameters: list[Any]) -> str:
    """The dtypes of the parameters, the commonest first; packed ones by their bits."""
    counts: dict[str, int] = {}
    for parameter in parameters:
        state = getattr(parameter, "quant_state", None)
        name = str(parameter.dtype).removeprefix("torch.")
        if state is not None:
            name = f"{state.bits} bits"
        counts[name] = counts.get(name, 0) + parameter.numel()
    return " and ".join(sorted(counts, key=lambda name: -counts[name]))


def _heaviest(plan: Plan, model: Any, load: Workload, device: Device) -> StepMemory:
    """The memory of the heaviest micro batch."""
    import torch

    recipe = plan.recipe
    checkpointing = recipe["gradient_checkpointing"]
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    bf16 = recipe["bf16"]
    low = bf16 is True or (bf16 in ("auto", None) and not recipe["fp16"] and device.kind == "cuda")
    autocast = torch.bfloat16 if low else torch.float16 if recipe["fp16"] else None
    held = {(parameter.dtype, parameter.requires_grad) for parameter in model.parameters()}
    if {(torch.bfloat16, False), (torch.float32, True)} <= held:
        autocast = torch.bfloat16  # a frozen base in bfloat16 is computed with in bfloat16, on a processor, too
    away = device.kind == "cuda" and str(checkpointing).startswith("offload")  # a CPU keeps them where they are
    walk = Walk(autocast, load.accumulation > 1 or load.parts > 1, away)
    batch = max(load.batches, key=lambda one: one["input_ids"].numel())
    with by_shapes():
        return step_memory(model, batch, load.loss, walk)


def _peak(
    plan: Plan, held: Held, memory: StepMemory, device: Device, ranks: int, strategy: Strategy
) -> tuple[dict[str, float], float]:
    mine, buffers = held.per_rank(ranks, strategy)
    gaps = 1.0
    if device.kind == "cpu":
        gaps = RETURNED_GAPS if plan.recipe["gradient_checkpointing"] else CPU_GAPS
    share = mine.gradients / held.gradients if held.gradients else 1.0
    passing = gaps * (memory.peak - memory.gradients) + share * memory.gradients
    optimizer = str(plan.recipe["optimizer"] or "adamw")
    update = step_bytes(optimizer, mine.gradients, held.largest, cuda=device.kind == "cuda", rounded=mine.rounded)
    always = device.base if device.kind == "cpu" else 0.0
    always += mine.weights + mine.optimizer + buffers
    parts = {
        "process": device.base,
        "weights": mine.weights,
        "gradients": mine.gradients,
        "optimizer": mine.optimizer,
        "activations": gaps * max(0.0, memory.peak - memory.gradients - memory.logits),
        "logits": gaps * memory.logits,
        "sharing": buffers,
    }
    # on a GPU the context is there too, though PyTorch does not count it
    peak = max(always + passing, always + mine.gradients + update)
    return parts, peak + (device.base if device.kind == "cuda" else 0.0)


def _afterwards(
    plan: Plan, held: Held, device: Device, ranks: int, strategy: Strategy, trained: int
) -> tuple[float, float]:
    """(bytes while saving, bytes while merging) on the device; the optimizer is still there."""
    import torch

    mine, _ = held.per_rank(ranks, strategy)
    always = device.base + mine.weights + mine.optimizer
    saved = held.gradients  # what trained is what is written, in the format it trained in
    # tensors of a GPU are written one at a time through host memory; on a CPU the file is put together first
    saving = always + (saved if device.kind == "cpu" else 0.0)
    if plan.adapter.merge is None:
        return saving, 0.0
    plain = replace(plan, adapter=plan.host.adapters["full"]) if plan.host else plan
    with torch.device("meta"):
        base = plain.adapter.build(plain)
    return saving, always + _bytes(base) + saved
