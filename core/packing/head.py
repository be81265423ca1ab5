"""The output head on trained tokens only, whole or in chunks."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from core.packing.attention import text_config
from core.packing.inputs import model_inputs

if TYPE_CHECKING:
    import torch

CHUNK_NUMBERS = 2**23  # logits held at once by the chunked head: 32 MiB in float32


def unwrapped(model: Any) -> Any:
    """The transformers model inside wrappers of PEFT, accelerate or torch.distributed."""
    while True:
        if hasattr(model, "get_base_model"):
            model = model.get_base_model()
        elif hasattr(model, "module") and not hasattr(model, "get_output_embeddings"):
            model = model.module
        else:
            return model


def kept_positions(model: Any, batch: Mapping[str, Any]) -> tuple[dict[str, Any], torch.Tensor]:
    """What `model` is called with for logits at the targets' places only, and where each target's logits then are.

    Returns (inputs, index): `model(**inputs).logits.flatten(0, -2)[index]` is [n, vocabulary] in the order of the
    targets. Models without `logits_to_keep` compute all logits. A batch without targets keeps one place.
    """
    import torch

    base = unwrapped(model)
    inputs = model_inputs(getattr(base, "config", None), batch)
    places = batch["target_positions"]
    count, length = batch["input_ids"].shape
    options = inspect.signature(base.forward).parameters
    if "use_cache" in options:
        inputs["use_cache"] = False  # nothing is generated, and a cache of keys would only hold memory
    if "logits_to_keep" not in options:
        return inputs, places
    kept = torch.unique(places) if len(places) else places.new_zeros(1)
    if count > 1 and "slice_logits_to_keep" in vars(sys.modules[type(base).__module__]):
        flags = torch.zeros(count * length, dtype=torch.bool, device=kept.device)
        flags[kept] = True
        inputs["logits_to_keep"] = flags.view(count, length)
        return inputs, torch.searchsorted(kept, places)
    columns = torch.unique(kept % length)
    inputs["logits_to_keep"] = columns
    return inputs, places // length * len(columns) + torch.searchsorted(columns, places % length)


def target_logits(model: Any, batch: Mapping[str, Any]) -> torch.Tensor:
    """Logits [n, vocabulary] for the targets of `batch`, in their order; nothing is computed at other places."""
    inputs, index = kept_positions(model, batch)
    logits: torch.Tensor = model(**inputs).logits
    return logits.reshape(-1, logits.shape[-1])[index]


def target_hidden(model: Any, batch: Mapping[str, Any]) -> torch.Tensor:
    """The head's input [n, d] for the targets of `batch`, through whatever wraps the model; the head does not compute.

    The wrapped model is called as usual, with the head's forward replaced for that call by one that keeps its input.
    Not for compiled models, nor where something else already replaced the head's forward.
    """
    head = unwrapped(model).get_output_embeddings()
    if "forward" in vars(head):
        raise ValueError("the output head's forward is already replaced")
    caught: list[torch.Tensor] = []

    def catch(hidden: torch.Tensor) -> torch.Tensor:
        caught.append(hidden)
        return hidden[..., :1]

    inputs, index = kept_positions(model, batch)
    head.forward = catch
    try:
        model(**inputs)
    finally:
        del head.forward
    return caught[0].reshape(-1, caught[0].shape[-1])[index]


def logit_transform(config: Any) -> tuple[float, float | None]:
    """(scale, softcap) that a model applies to its head's output: `softcap * tanh(scale * z / softcap)`.

    Read from the names that transformers' families use; some do more, so ask `probe_chunked_head` of a model.
    """
    config = text_config(config)
    scale, family = 1.0, getattr(config, "model_type", "")
    if family.startswith("cohere"):
        scale = getattr(config, "logit_scale", None) or 1.0
    elif family.startswith("granite"):  # hyperclovax multiplies by a value of the same name
        scale = 1.0 / (getattr(config, "logits_scaling", None) or 1.0)
    return scale, getattr(config, "final_logit_softcapping", None)


def probe_chunked_head(model: Any) -> tuple[bool, str]:
    """Whether `target_hidden`, the head and `logit_transform` make the model's own logits; else (False, reason).

    Two forward passes of 8 tokens; all ranks of a distributed model must call it together.
    """
    import torch

    config, training = unwrapped(model).config, model.training
    device = next(model.parameters()).device
    ids = torch.arange(1, 9, device=device)[None]
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "target_positions": torch.arange(8).to(device)}
    model.eval()
    try:
        with torch.no_grad():
            expected = target_logits(model, batch).float()
            logits = unwrapped(model).get_output_embeddings()(target_hidden(model, batch)).float()
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        return False, f"the output head cannot be called apart from the model: {error}"
    finally:
        model.train(training)
    scale, softcap = logit_transform(config)
    logits *= scale
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    if logits.shape == expected.shape and (logits - expected).norm() <= 2e-2 * expected.norm():
        return True, ""
    return False, "the model changes its logits after the output head in a way of its own"


def trained_token_loss(
    hidden: torch.Tensor,
    head: Any,
    target_ids: torch.Tensor,
    *,
    scale: float = 1.0,
    softcap: float | None = None,
    chunk: int | None = None,
) -> torch.Tensor:
    """Summed cross-entropy, in nats, of `head(hidden)` [n, vocabulary] against `target_ids` [n], exact.

    Never holds more than `chunk` rows of logits (default: about 32 MiB of float32). For a plain linear head the
    gradients are formed chunk by chunk with the loss, so nothing is computed twice (the idea is Liger Kernel's); any
    other head is called again in the backward pass.
    """
    import torch
    from torch.nn import functional
    from torch.utils.checkpoint import checkpoint

    plain = type(head) is torch.nn.Linear and "forward" not in vars(head) and not head._forward_hooks
    vocabulary = head.weight.shape[0] if hasattr(head, "weight") else 2**16
    chunk = chunk or max(16, CHUNK_NUMBERS // vocabulary)
    if plain:
        from core.packing.linear_loss import linear_loss

        graded = torch.is_grad_enabled()
        loss: torch.Tensor = linear_loss(hidden, head.weight, head.bias, target_ids, scale, softcap, chunk, graded)
        return loss

    def piece(part: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        logits = head(part)
        logits = (logits if logits.dtype == torch.float64 else logits.float()) * scale
        if softcap is not None:
            logits = softcap * torch.tanh(logits / softcap)
        return functional.cross_entropy(logits, ids, reduction="sum")

    total = hidden.new_zeros((), dtype=torch.float64 if hidden.dtype == torch.float64 else torch.float32)
    for part, ids in zip(torch.split(hidden, chunk), torch.split(target_ids, chunk), strict=True):
        total = total + checkpoint(piece, part, ids, use_reentrant=False)
    return total
