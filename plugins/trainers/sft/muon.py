"""The optimizer `muon`: Muon for the matrices of the model's layers, AdamW for everything else.

Muon (Jordan et al. 2024) makes the update of a matrix orthogonal. Embeddings, the output head, norms and biases are no
such matrices and train with AdamW. The update's size is that of AdamW (Liu et al. 2025), so learning_rate means the
same for both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from core import UserError

if TYPE_CHECKING:
    from transformers import TrainingArguments


class MuonWithAdamW(torch.optim.Optimizer):
    """Both optimizers as one. Their parameter groups are shared with it, so a schedule reaches them."""

    def __init__(self, matrices: list[Any], others: list[dict[str, Any]], **settings: Any) -> None:
        lr, weight_decay = settings["lr"], settings["weight_decay"]
        self.parts: list[torch.optim.Optimizer] = []
        if matrices:
            muon: Any = torch.optim.Muon
            self.parts.append(muon(matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"))
        if others:
            self.parts.append(torch.optim.AdamW([dict(group) for group in others], **settings))
        super().__init__([{"params": matrices}, *others] if matrices else others, settings)
        self._share()

    def _share(self) -> None:
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of both."""
        loss = None if closure is None else closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The states of both."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share()


def make_muon(model: torch.nn.Module, arguments: TrainingArguments) -> MuonWithAdamW:
    """The optimizer for the trained parameters of `model`, with the rates of `arguments`."""
    if not hasattr(torch.optim, "Muon"):
        raise UserError("optimizer 'muon' needs torch 2.9 or newer", help="upgrade torch, or use adamw_torch_fused")
    apart = {id(parameter) for module in _tables(model) for parameter in module.parameters()}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter.ndim == 2 and id(parameter) not in apart]
    chosen = {id(parameter) for parameter in matrices}
    others = [parameter for parameter in trained if id(parameter) not in chosen]
    groups: list[dict[str, Any]] = [
        {"params": [one for one in others if one.ndim >= 2]},
        {"params": [one for one in others if one.ndim < 2], "weight_decay": 0.0},  # norms and biases do not decay
    ]
    return MuonWithAdamW(
        matrices,
        [group for group in groups if group["params"]],
        lr=arguments.learning_rate,
        weight_decay=arguments.weight_decay,
        betas=(arguments.adam_beta1, arguments.adam_beta2),
        eps=arguments.adam_epsilon,
    )


def _tables(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The modules whose matrices stand for tokens: embeddings, and the output head."""
    found: Any = model
    head = found.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    tables: list[torch.nn.Module] = [module for module in model.modules() if isinstance(module, torch.nn.Embedding)]
    return [*tables, head] if head is not None else tables
