"""Key/value caches for generation: a shared prefix copied once per batch, and room for the tokens to come.

transformers' own dynamic cache joins old and new tensors at every step, which copies the whole cache for each token;
with a long shared prefix that is a fifth of the time. Importing this module imports transformers.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer


class RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values [rows, heads, tokens, size] that are the beginning of tensors with room for `length` tokens."""

    def __init__(self, length: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.length = length
        self.rooms: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if self.rooms is None:
            self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
            self.rooms = (self._room_like(key_states), self._room_like(value_states))
        keys, values = self.rooms
        keys[..., start:end, :] = key_states
        values[..., start:end, :] = value_states
        return self._show(end)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        if self.rooms is not None:
            end = self.get_seq_length()
            self.rooms = (self.rooms[0][indices], self.rooms[1][indices])
            self._show(end)

    def part(self, first: int, end: int) -> RoomyLayer:
        """The rows from `first` to before `end`, which write into this layer's own tensors."""
        assert self.rooms is not None, "nothing is held yet"
        part = RoomyLayer(self.length)
        part.dtype, part.device, part.is_initialized = self.dtype, self.device, True
        part.rooms = (self.rooms[0][first:end], self.rooms[1][first:end])
        part._show(self.get_seq_length())
        return part

    def grow(self, length: int) -> None:
        """Take what parts have written up to `length` tokens as held."""
        self._show(length)

    def _show(self, end: int) -> tuple[torch.Tensor, torch.Tensor]:
        assert self.rooms is not None
        shown = self.rooms[0][..., :end, :], self.rooms[1][..., :end, :]
        self.keys, self.values = shown
        return shown

    def _room_like(self, states: torch.Tensor) -> torch.Tensor:
        # no garbage where a row has no token: a NaN would get past the mask
        return states.new_zeros((*states.shape[:-2], self.length, states.shape[-1]))


def full_attention(config: Any) -> bool:
    """Whether every layer of the model keeps all keys and values: no sliding window, no recurrent state."""
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=config).layers)


def empty_cache(config: Any) -> DynamicCache:
    """A cache that fits any model."""
    return DynamicCache(config=config)


def roomy_cache(config: Any, rows: int, length: int, prefix: DynamicCache | None = None) -> DynamicCache:
    """A cache for `rows` rows of at most `length` tokens, each starting with what `prefix` (a batch of one) holds.

    For models with full attention alone.
    """
    cache = DynamicCache(config=config)
    layers = [RoomyLayer(length) for _ in cache.layers]
    cache.layers = list(layers)
    if prefix is not None:
        kept: Any  # layers of full attention, with keys and values
        for layer, kept in zip(layers, prefix.layers, strict=True):
            layer.update(kept.keys.expand(rows, -1, -1, -1), kept.values.expand(rows, -1, -1, -1))
    return cache


def part_of(cache: DynamicCache, config: Any, first: int, end: int) -> DynamicCache:
    """Some rows of a cache of `roomy_cache` that holds a prefix, as a cache that writes into the same tensors."""
    part = DynamicCache(config=config)
    part.layers = [layer.part(first, end) for layer in cache.layers if isinstance(layer, RoomyLayer)]
    return part


def grow(cache: DynamicCache, length: int) -> None:
    """Take the first `length` tokens of a cache of `roomy_cache` as held: what its parts have written."""
    for layer in cache.layers:
        if isinstance(layer, RoomyLayer):
            layer.grow(length)
