"""One training step on the meta device: what its forward and backward pass hold at most."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch

from core.packing import unwrapped
from core.planner.ledger import ACTIVATIONS, GRADIENTS, LOGITS, Ledger, StandIns, offloaded

# layers that are walked through; what more of the same kind take is in proportion
FEW, MORE = 8, 16
ALL_OF = 40  # layers up to which a model is walked through whole


@dataclass(frozen=True)
class StepMemory:
    """Bytes of one step beyond weights and optimizer. saved: held when the forward pass ends; logits: the most that the
    output head takes; gradients: at the highest moment; peak: activations, logits and gradients at that moment."""

    saved: float
    logits: float
    gradients: float
    peak: float

    def plus_layers(self, other: StepMemory, times: float) -> StepMemory:
        """The straight line through `self` and `other`, `times` the distance between them further on."""
        return StepMemory(
            *(
                mine + times * (theirs - mine)
                for mine, theirs in (
                    (self.saved, other.saved),
                    (self.logits, other.logits),
                    (self.gradients, other.gradients),
                    (self.peak, other.peak),
                )
            )
        )


@dataclass(frozen=True)
class Walk:
    """How a step is computed. autocast: the dtype of products, or None. accumulating: gradients of an earlier micro
    batch are there already. offload: what is saved for the backward pass leaves the device."""

    autocast: torch.dtype | None = None
    accumulating: bool = False
    offload: bool = False


def step_memory(
    model: torch.nn.Module,
    batch: Mapping[str, Any],
    loss: Callable[[Any, Mapping[str, Any]], torch.Tensor],
    walk: Walk,
) -> StepMemory:
    """Walk through a step of `model`, whose weights are on the meta device; the model is used up by it.

    Long models are walked through with 8 and with 16 of their layers where all are alike.

    Raises whatever the model raises where shapes alone cannot run it.
    """
    layers = _alike_layers(model)
    if layers is None or len(layers) <= ALL_OF:
        return _walk(model, batch, loss, walk)
    count = len(layers)
    _keep_layers(model, layers, MORE)
    more = _walk(model, batch, loss, walk)
    _keep_layers(model, layers, FEW)
    few = _walk(model, batch, loss, walk)
    return few.plus_layers(more, (count - FEW) / (MORE - FEW))


def on_meta(batch: Mapping[str, Any]) -> dict[str, Any]:
    """The batch's shapes. A mask over padded rows becomes the one that attention gets; one that hides nothing goes."""
    moved: dict[str, Any] = {}
    for name, value in batch.items():
        if isinstance(value, Mapping):
            moved[name] = {kind: _mask_on_meta(mask) for kind, mask in value.items()}
        elif name == "attention_mask" and value.dim() == 2:
            if not bool(value.all()):
                lines, length = value.shape
                moved[name] = torch.empty(lines, 1, length, length, dtype=torch.bool, device="meta")
        elif name == "attention_mask":
            moved[name] = _mask_on_meta(value)
        elif name == "target_positions":
            moved[name] = value  # the head asks which they are
        else:
            moved[name] = value.to("meta")
    return moved


def _mask_on_meta(mask: torch.Tensor) -> torch.Tensor:
    """The mask's shape, with the shapes of what it carries for attention by segments."""
    moved = mask.to("meta")
    if (carried := getattr(mask, "segments", None)) is not None:
        moved.segments = _fields_on_meta(carried)  # type: ignore[attr-defined]
    return moved


def _fields_on_meta(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to("meta")
    if isinstance(value, tuple):
        return tuple(_fields_on_meta(entry) for entry in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: _fields_on_meta(getattr(value, field.name)) for field in fields(value)})
    return value


def _walk(
    model: Any,
    batch: Mapping[str, Any],
    loss: Callable[[Any, Mapping[str, Any]], torch.Tensor],
    walk: Walk,
) -> StepMemory:
    ledger = Ledger(unwrapped(model).config.get_text_config().vocab_size)
    ledger.ignore([*model.parameters(), *model.buffers()])
    stand_ins = StandIns(walk.autocast)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    hooks = [
        parameter.register_post_accumulate_grad_hook(lambda seen: ledger.relabel(seen.grad, GRADIENTS))
        for parameter in trained
    ]
    model.train()
    shapes = on_meta(batch)
    try:
        with ledger, stand_ins:
            if walk.accumulating:
                for parameter in trained:
                    parameter.grad = torch.zeros_like(parameter)
                    ledger.relabel(parameter.grad, GRADIENTS)
            with offloaded(walk.offload):
                value = loss(model, shapes)
            saved = ledger.now[ACTIVATIONS]
            stand_ins.forget()
            value.backward()  # type: ignore[no-untyped-call]
    finally:
        for hook in hooks:
            hook.remove()
        for parameter in trained:
            parameter.grad = None
    return StepMemory(saved=saved, logits=ledger.highest[LOGITS], gradients=ledger.at_peak[GRADIENTS], peak=ledger.peak)


def _alike_layers(model: torch.nn.Module) -> torch.nn.ModuleList | None:
    """The decoder's layers, where they hold the same modules and are of one kind; None where they are not."""
    config = unwrapped(model).config.get_text_config()
    count = getattr(config, "num_hidden_layers", None)
    found = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList) and len(module) == count]
    if len(found) != 1 or len(set(getattr(config, "layer_types", None) or ["all"])) > 1:
        return None
    shapes = {
        tuple((name, tuple(parameter.shape), parameter.requires_grad) for name, parameter in layer.named_parameters())
        for layer in found[0]
    }
    return found[0] if len(shapes) == 1 else None


def _keep_layers(model: torch.nn.Module, layers: torch.nn.ModuleList, count: int) -> None:
    del layers[count:]
    config = unwrapped(model).config.get_text_config()
    if getattr(config, "layer_types", None):
        config.layer_types = list(config.layer_types[:count])
    config.num_hidden_layers = count
