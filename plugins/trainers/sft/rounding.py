"""Weights that train in bfloat16 and lose no small update: computed in float32, rounded up or down by chance.

bfloat16 has 8 bits of precision. Rounded to the nearest, an update below 1/512 of its weight is no update at all, and
at the usual learning rates of full tuning most are. Rounded stochastically (as in Zamirai et al. 2020), a weight goes
up with the probability that makes its mean exact, so that small updates add up. The optimizer's own states are held in
float32, for the same reason. That takes 12 bytes for each number that trains, where float32 weights take 16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch

from core.console import say
from core.planner.optimizer import rounds_stochastically

if TYPE_CHECKING:
    from .trainer import SFTTrainer

AT_ONCE = 2**24  # numbers that are drawn for together
KEPT_OTHERWISE = ("bf16_stochastic_round", "use_kahan_summation")  # settings of optimizers that see to it themselves
LOST = "updates of less than 1/512 of a weight are lost"


class StochasticRounding(torch.optim.Optimizer):
    """`inner`, an optimizer whose parameters move independently of each other, for weights in bfloat16.

    Every step hands them to it one by one, as float32. What is drawn depends on `seed` and on `number()`, the steps
    taken so far: the same on all ranks that hold the same weights, and again after a run was resumed.
    """

    def __init__(self, inner: torch.optim.Optimizer, seed: int, number: Callable[[], int]) -> None:
        super().__init__(inner.param_groups, inner.defaults)
        self.inner, self.seed, self.number = inner, seed, number
        self._share()

    def _share(self) -> None:
        self.param_groups, self.state = self.inner.param_groups, self.inner.state

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of `inner`."""
        loss = None if closure is None else closure()
        gradients = [(p, p.grad) for group in self.param_groups for p in group["params"] if p.grad is not None]
        generators: dict[torch.device, torch.Generator] = {}
        low = [(parameter, gradient) for parameter, gradient in gradients if parameter.dtype == torch.bfloat16]
        try:
            for parameter, _ in low:
                parameter.grad = None
            self.inner.step()  # the others
            for parameter, _ in gradients:
                parameter.grad = None
            for parameter, gradient in low:
                if parameter.device not in generators:
                    generators[parameter.device] = self._generator(parameter.device)
                self._move(parameter, gradient, generators[parameter.device])
        finally:
            for parameter, gradient in gradients:
                parameter.grad = gradient
        return loss

    def _move(self, parameter: torch.Tensor, gradient: torch.Tensor, draw: torch.Generator) -> None:
        held = parameter.data
        parameter.data = held.float()
        parameter.grad = gradient.float()
        try:
            self.inner.step()
            parameter.grad = None  # and its copy is gone
            for there, moved in zip(_pieces(held), _pieces(parameter.data), strict=True):
                there.copy_(rounded(moved, draw))
        finally:
            parameter.grad = None
            parameter.data = held

    def _generator(self, device: torch.device) -> torch.Generator:
        return torch.Generator(device).manual_seed((self.seed * 1_000_003 + self.number()) % 2**63)

    def _low(self) -> Iterator[torch.Tensor]:
        return (p for group in self.param_groups for p in group["params"] if p.dtype == torch.bfloat16)

    def state_dict(self) -> dict[str, Any]:
        """The states of `inner`."""
        return self.inner.state_dict()

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave; states take on the format of their parameter, which is to be float32."""
        held = [(parameter, parameter.data) for parameter in self._low()]
        try:
            for parameter, data in held:
                parameter.data = data.new_empty(0, dtype=torch.float32)
            self.inner.load_state_dict(state_dict)
        finally:
            for parameter, data in held:
                parameter.data = data
        self._share()


def _pieces(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Views that together are `tensor`, so that what is drawn for it takes little memory."""
    return torch.split(tensor.view(-1), AT_ONCE) if tensor.is_contiguous() else (tensor,)


def rounded(wide: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """float32 as bfloat16: one of the two nearest, by chance, so that the mean is `wide`. What is bfloat16 stays."""
    bits = torch.randint(0, 2**16, wide.shape, dtype=torch.int32, device=wide.device, generator=draw)
    bits.add_(wide.view(torch.int32)).bitwise_and_(-(2**16))  # a carry out of the lower half is the next number
    return torch.where(wide.isfinite(), bits.view(torch.float32), wide).to(torch.bfloat16)


def with_small_updates(optimizer: torch.optim.Optimizer, trainer: SFTTrainer) -> torch.optim.Optimizer:
    """The optimizer of `trainer`, made not to lose small updates of weights in bfloat16; says what it does.

    One that does not move each parameter by itself is left as it is, with a warning. Where the model is shared out,
    accelerate (in mixed precision) and DeepSpeed hold what trains in float32.
    """
    arguments = trainer.args
    name, settings = str(getattr(arguments.optim, "value", arguments.optim)), str(arguments.optim_args).lower()
    if not any(p.dtype == torch.bfloat16 for group in optimizer.param_groups for p in group["params"]):
        return optimizer
    if trainer.is_deepspeed_enabled or (trainer.is_fsdp_enabled and arguments.bf16):
        return optimizer
    if any(f"{own}=true" in settings for own in KEPT_OTHERWISE):
        return optimizer
    if trainer.is_fsdp_enabled:
        say(f"warning: weights train in bfloat16, and {LOST}: bf16: true holds what trains in float32")
    elif not rounds_stochastically(name):
        say(
            f"warning: weights train in bfloat16, and with optimizer {name!r} {LOST}: bf16: false holds them in "
            "float32, optimizer: adamw_torch_fused rounds their updates stochastically"
        )
    else:
        say("weights train in bfloat16: updates are computed in float32, and rounded stochastically")
        return StochasticRounding(optimizer, int(arguments.seed), lambda: int(trainer.state.global_step))
    return optimizer
