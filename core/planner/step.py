"""One training step on the meta device: what its forward and backward pass hold at most."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle

from core.packing import unwrapped
from core.planner.ledger import ACTIVATIONS, GRADIENTS, LOGITS, Ledger, Phase, StandIns, offloaded

# layers that are walked through; what more of the same kind take is in proportion
FEW, MORE = 4, 7
# those at the bottom that are a phase of their own: the first, which may keep less than the others, and one of these
LOWER = 2


@dataclass(frozen=True)
class StepMemory:
    """Bytes of one step beyond weights and optimizer. saved: held when the forward pass ends; logits: the most that the
    output head takes; phases: the highest moments of the forward pass and of the backward pass through the upper and
    through the lower layers. Each of these grows evenly with the number of layers; the highest of all does not."""

    saved: float
    logits: float
    phases: tuple[Phase, ...]

    @property
    def peak(self) -> float:
        """Activations, logits and gradients at their highest moment."""
        return max(self.phases).peak

    @property
    def gradients(self) -> float:
        """Gradients at that moment."""
        return max(self.phases, key=lambda phase: phase.peak).gradients

    def plus_layers(self, other: StepMemory, times: float) -> StepMemory:
        """The straight line through `self` and `other`, `times` the distance between them further on."""

        def further(mine: float, theirs: float) -> float:
            return mine + times * (theirs - mine)

        return StepMemory(
            further(self.saved, other.saved),
            further(self.logits, other.logits),
            tuple(
                Phase(further(mine.peak, theirs.peak), further(mine.gradients, theirs.gradients))
                for mine, theirs in zip(self.phases, other.phases, strict=True)
            ),
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

    Long models are walked through with 4 and with 7 of their layers where all are alike.

    Raises whatever the model raises where shapes alone cannot run it.
    """
    layers = _alike_layers(model)
    if layers is None or len(layers) <= FEW + MORE:
        return _walk(model, batch, loss, walk)
    count = len(layers)
    _keep_layers(model, layers, MORE)
    more = _walk(model, batch, loss, walk, layers)
    _keep_layers(model, layers, FEW)
    few = _walk(model, batch, loss, walk, layers)
    if len(few.phases) != len(more.phases):
        raise AssertionError("the same layers take part in the backward pass, however many there are")
    return few.plus_layers(more, (count - FEW) / (MORE - FEW))


def on_meta(batch: Mapping[str, Any], *, attends: bool = True) -> dict[str, Any]:
    """The batch's shapes. A mask over padded rows becomes the one that attention gets; one that hides nothing goes.

    attends: whether the model has attention; one of state alone takes the mask as it is."""
    moved: dict[str, Any] = {}
    for name, value in batch.items():
        if isinstance(value, Mapping):
            moved[name] = {kind: _mask_on_meta(mask) for kind, mask in value.items()}
        elif name == "attention_mask" and value.dim() == 2:
            if not bool(value.all()):
                lines, length = value.shape
                shape = (lines, 1, length, length) if attends else (lines, length)
                moved[name] = torch.empty(shape, dtype=torch.bool, device="meta")
        elif name == "attention_mask":
            moved[name] = _mask_on_meta(value)
        elif name == "target_positions":
            moved[name] = value  # the head asks which they are
        else:
            moved[name] = value.to("meta")
    return moved


def has_attention(model: Any) -> bool:
    """False for models of state alone, such as Mamba, whose configuration names no heads."""
    config = getattr(unwrapped(model), "config", None)
    return config is None or bool(getattr(config.get_text_config(), "num_attention_heads", None))


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
        given = [field.name for field in fields(value) if field.init]
        return replace(value, **{name: _fields_on_meta(getattr(value, name)) for name in given})
    return value


def _walk(
    model: Any,
    batch: Mapping[str, Any],
    loss: Callable[[Any, Mapping[str, Any]], torch.Tensor],
    walk: Walk,
    layers: torch.nn.ModuleList | None = None,
) -> StepMemory:
    ledger = Ledger(unwrapped(model).config.get_text_config().vocab_size)
    ledger.ignore([*model.parameters(), *model.buffers()])
    stand_ins = StandIns(walk.autocast)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    hooks = [
        parameter.register_post_accumulate_grad_hook(lambda seen: ledger.relabel(seen.grad, GRADIENTS))
        for parameter in trained
    ]
    if layers is not None:
        hooks.append(_at_lower(layers, ledger.next_phase))
    model.train()
    shapes = on_meta(batch, attends=has_attention(model))
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
            ledger.next_phase()
            value.backward()  # type: ignore[no-untyped-call]
    finally:
        for hook in hooks:
            hook.remove()
        for parameter in trained:
            parameter.grad = None
    return StepMemory(saved, ledger.highest[LOGITS], tuple(ledger.phases))


def _at_lower(layers: torch.nn.ModuleList, call: Callable[[], None]) -> RemovableHandle:
    """Have `call` called when the backward pass has come to the lower layers."""

    def watch(layer: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        hidden: Any = inputs[0] if inputs else named.get("hidden_states")  # some models name what they hand on
        if hidden is not None and hidden.requires_grad and not watched:
            watched.append(hidden.register_hook(lambda _: call()))

    watched: list[Any] = []
    return layers[LOWER].register_forward_pre_hook(watch, with_kwargs=True)


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
