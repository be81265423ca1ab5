"""Keeps account of tensors on the meta device: what is held, what is let go, and what was there at the highest moment.

Nothing is computed and no memory is taken: the meta device knows shapes alone. The autograd engine holds and frees meta
tensors exactly as it does real ones, so the account is that of a real step, whatever the model.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GRADIENTS, ACTIVATIONS, LOGITS, IGNORED = "gradients", "activations", "logits", ""
LOCAL_SCALAR = torch.ops.aten._local_scalar_dense.default
# what autocast computes in its low precision, of the functions that decoders call
LOW_PRECISION = ((functional, "linear"), (torch, "matmul"), (torch, "bmm"), (torch, "baddbmm"), (torch, "addmm"))


class Phase(NamedTuple):
    """The highest moment of a part of a step: bytes in all, and how many of them are gradients."""

    peak: float
    gradients: float


class Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of every meta storage made while it is active, until the storage is freed.

    now: bytes held by label; highest: the most of each. A tensor whose last dimension is `vocabulary` counts as logits.
    phases: the highest sum of each part of the step, with the gradients in it; `next_phase` begins another.
    """

    def __init__(self, vocabulary: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.vocabulary = vocabulary
        self.now = dict.fromkeys((GRADIENTS, ACTIVATIONS, LOGITS), 0)
        self.highest = dict(self.now)
        self.phases: list[Phase] = [Phase(0, 0)]
        self._total = 0
        # by the address of the storage: its label, and what tells of its end
        self._held: dict[int, tuple[list[str], Any]] = {}

    @property
    def peak(self) -> float:
        """The highest sum of all phases."""
        return max(phase.peak for phase in self.phases)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is LOCAL_SCALAR and args[0].is_meta:
            # a question about values: whether nothing is padded, whether rows are not packed
            return True if args[0].dtype == torch.bool else 1
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            if made.is_meta:
                self._enter(made)
        elif isinstance(made, tuple | list):
            for tensor in tree_leaves(made):
                if isinstance(tensor, torch.Tensor) and tensor.is_meta:
                    self._enter(tensor)
        return made

    def ignore(self, tensors: Iterable[torch.Tensor]) -> None:
        """Leave the storages of `tensors` out of the account: weights and buffers, which are there all the time."""
        for tensor in tensors:
            self._hold(tensor.untyped_storage(), [IGNORED], 0)

    def relabel(self, tensor: torch.Tensor, label: str) -> None:
        """Count the storage of `tensor` under `label` from now on."""
        storage = tensor.untyped_storage()
        box = self._held.get(storage._cdata, (None,))[0]
        if box is None or box[0] in (label, IGNORED):
            return
        self.now[box[0]] -= storage.nbytes()
        self.now[label] += storage.nbytes()
        box[0] = label
        self._note(label)

    def next_phase(self) -> None:
        """Begin to look for another highest moment: that of what follows."""
        self.phases.append(Phase(self._total, self.now[GRADIENTS]))

    def _enter(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata in self._held:
            return
        wide = tensor.dim() > 1 and tensor.shape[-1] == self.vocabulary
        label = LOGITS if wide else ACTIVATIONS
        size = storage.nbytes()
        self._hold(storage, [label], size)
        self.now[label] += size
        self._total += size
        self._note(label)

    def _hold(self, storage: torch.UntypedStorage, box: list[str], size: int) -> None:
        address = storage._cdata

        def leave(_: Any) -> None:
            del self._held[address]
            if box[0] != IGNORED:
                self.now[box[0]] -= size
                self._total -= size

        self._held[address] = (box, weakref.ref(storage, leave))

    def _note(self, label: str) -> None:
        if self.now[label] > self.highest[label]:
            self.highest[label] = self.now[label]
        if self._total > self.phases[-1].peak:
            self.phases[-1] = Phase(self._total, self.now[GRADIENTS])


class StandIns:
    """While entered: what the meta device would compute otherwise than the device that is planned for. Attention is by
    a fused kernel (which keeps no scores), products are in the dtype of autocast.

    Functions of torch are replaced, not intercepted: layers that are computed again in the backward pass run outside of
    any mode.
    """

    def __init__(self, autocast: torch.dtype | None) -> None:
        self.autocast = autocast
        self._cast: dict[int, torch.Tensor] = {}
        self._replaced: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> StandIns:
        self._replace(functional, "scaled_dot_product_attention", lambda _: self._attention)
        # torch knows no autocast on the meta device; those who ask about it are told what is planned for
        self._replace(torch, "autocast", lambda _: self._region)
        self._replace(torch, "is_autocast_enabled", lambda _: lambda *kind: self.autocast is not None)
        self._replace(torch, "get_autocast_dtype", lambda _: lambda *kind: self.autocast or torch.bfloat16)
        if self.autocast is not None:
            for owner, name in LOW_PRECISION:
                self._replace(owner, name, self._in_low_precision)
        return self

    def __exit__(self, *exception: object) -> None:
        for owner, name, original in reversed(self._replaced):
            setattr(owner, name, original)
        self._replaced.clear()
        self._cast.clear()

    def forget(self) -> None:
        """Drop the cast weights: autocast's region has been left."""
        self._cast.clear()

    def _replace(self, owner: Any, name: str, made: Callable[[Any], Any]) -> None:
        original = getattr(owner, name)
        self._replaced.append((owner, name, original))
        setattr(owner, name, made(original))

    @contextmanager
    def _region(self, *args: Any, enabled: bool = True, **kwargs: Any) -> Iterator[None]:
        outside, self.autocast = self.autocast, self.autocast if enabled else None
        try:
            yield
        finally:
            self.autocast = outside

    def _attention(self, query: Any, key: Any, value: Any, attn_mask: Any = None, *args: Any, **kwargs: Any) -> Any:
        query, key, value = (self._lowered(tensor) for tensor in (query, key, value))
        return FusedAttention.apply(query, key, value, attn_mask)  # type: ignore[no-untyped-call]

    def _in_low_precision(self, original: Any) -> Any:
        def product(*args: Any, **kwargs: Any) -> Any:
            lowered = {name: self._lowered(value) for name, value in kwargs.items()}
            return original(*(self._lowered(value) for value in args), **lowered)

        return product

    def _lowered(self, value: Any) -> Any:
        """`value` in autocast's dtype; a weight is cast once and kept, as autocast's cache does."""
        if self.autocast is None or not isinstance(value, torch.Tensor) or value.dtype != torch.float32:
            return value
        if not (value.is_leaf and value.requires_grad):
            return value.to(self.autocast)
        if id(value) not in self._cast:
            self._cast[id(value)] = value.to(self.autocast)
        return self._cast[id(value)]


class FusedAttention(torch.autograd.Function):
    """Shapes of a fused attention kernel: keeps its inputs, its output and one number a query, never the scores."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, mask: Any) -> torch.Tensor:
        batch, heads, length, _ = query.shape
        # laid out as [batch, length, heads, width], so that what follows takes no copy
        out: torch.Tensor = query.new_empty(batch, length, heads, value.shape[-1]).transpose(1, 2)
        normaliser = query.new_empty(batch, heads, length, dtype=torch.float32)
        if mask is not None and mask.dtype == torch.bool:
            mask = torch.empty_like(mask, dtype=query.dtype)  # kernels add their masks, so it becomes numbers
        ctx.save_for_backward(query, key, value, out, normaliser, mask)
        return out

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> Any:
        query, key, value, *_ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), None


@contextmanager
def offloaded(enabled: bool) -> Iterator[None]:
    """Within: what autograd saves leaves the device, as with activations kept in host memory."""
    if not enabled:
        yield
        return
    shape = torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: (tensor.shape, tensor.dtype) if tensor.grad_fn is not None else tensor,
        lambda kept: kept if isinstance(kept, torch.Tensor) else torch.empty(kept[0], dtype=kept[1], device="meta"),
    )
    with shape:
        yield
