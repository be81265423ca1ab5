"""Lines that are made when they are looked at: there may be millions of them, of which ten are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar, overload

FEW = 10_000
Key = TypeVar("Key")


def looked_up(keys: Sequence[Key], look: Callable[[Key], str]) -> Sequence[str]:
    """`look(key)` for every key: as a list where they are few, else when asked for."""
    return [look(key) for key in keys] if len(keys) <= FEW else LookedUp(keys, look)


class LookedUp(Sequence[str]):
    """A sequence of `look(key)`."""

    def __init__(self, keys: Sequence[Key], look: Callable[[Key], str]) -> None:
        self._keys: Sequence[Key] = keys
        self._look = look

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[str]:
        return map(self._look, self._keys)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self._look(key) for key in self._keys[index]]
        return self._look(self._keys[index])
