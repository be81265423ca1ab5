"""Building blocks for data checks that go through the data once."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import overload

from core.audit.facts import CheckedExample, DataFacts, Finding, Watch
from core.types import Options

TRAINED = ("train", "validation")
ALL = ("train", "validation", "test")
CHUNK = 1_000


class Numbers(Sequence[int]):
    """Numbers that are added in rising order, kept as runs: where nearly every example is meant, next to nothing."""

    def __init__(self) -> None:
        self._firsts, self._places = array("q"), array("q")  # of each run: its first number, how many come before it
        self._count, self._next = 0, -1

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> list[int]: ...
    def __getitem__(self, index: int | slice) -> int | list[int]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(self._count))]
        place = index + self._count if index < 0 else index
        if not 0 <= place < self._count:
            raise IndexError(index)
        run = bisect_right(self._places, place) - 1
        return self._firsts[run] + int(place) - self._places[run]

    def append(self, number: int) -> None:
        """Add one that is larger than all before."""
        if number != self._next:
            self._firsts.append(number)
            self._places.append(self._count)
        self._count += 1
        self._next = number + 1

    def extend(self, numbers: Iterable[int]) -> None:
        """Add some, rising."""
        for number in numbers:
            self.append(number)


@dataclass
class Marks:
    """The numbers of the examples that a check marked, 8 bytes each. seen: how many it looked at."""

    numbers: array[int] = field(default_factory=lambda: array("q"))
    seen: int = 0

    def __len__(self) -> int:
        return len(self.numbers)


def marking(
    mark: Callable[[CheckedExample], bool],
    say: Callable[[DataFacts, Marks], list[Finding]],
    *,
    parts: Collection[str] = TRAINED,
    among: Callable[[CheckedExample], bool] | None = None,
) -> Watch:
    """Notes the examples that `mark` is true of, of those that `among` is true of; `say` turns them into findings."""
    marks = Marks()

    def see(part: str, first: int, examples: Sequence[CheckedExample]) -> None:
        if part not in parts:
            return
        for number, example in enumerate(examples, first):
            if among is None or among(example):
                marks.seen += 1
                if mark(example):
                    marks.numbers.append(number)

    return Watch(see, lambda facts: say(facts, marks))


def sorting(
    kinds_of: Callable[[CheckedExample], Iterable[str]],
    say: Callable[[DataFacts, dict[str, Marks]], list[Finding]],
    *,
    parts: Collection[str] = ALL,
) -> Watch:
    """Notes each example under every kind that `kinds_of` gives for it; `say` turns them into findings."""
    kinds: dict[str, Marks] = {}

    def see(part: str, first: int, examples: Sequence[CheckedExample]) -> None:
        if part not in parts:
            return
        for number, example in enumerate(examples, first):
            for kind in kinds_of(example):
                kinds.setdefault(kind, Marks()).numbers.append(number)

    return Watch(see, lambda facts: say(facts, kinds))


def each_once(facts: DataFacts, kinds: dict[str, Marks]) -> Sequence[str]:
    """The places of the examples under all kinds, each once; of very many, one for each example."""
    places = facts.places(list(dict.fromkeys(number for marks in kinds.values() for number in marks.numbers)))
    return list(dict.fromkeys(places)) if isinstance(places, list) else places


def at_once(watch: Callable[[DataFacts, Options], Watch]) -> Callable[[DataFacts, Options], list[Finding]]:
    """The `check` of a `DataCheck` that has this `watch`: for data that is all there."""

    def check(facts: DataFacts, options: Options) -> list[Finding]:
        seeing = watch(facts, options)
        for part, first, examples in in_chunks(facts):
            seeing.see(part, first, examples)
        return seeing.findings(facts)

    return check


def in_chunks(facts: DataFacts) -> Iterator[tuple[str, int, Sequence[CheckedExample]]]:
    """(part, number of the first, examples) through all parts."""
    first = 0
    for part, examples in zip(ALL, (facts.train, facts.validation, facts.test), strict=True):
        for start in range(0, len(examples), CHUNK):
            yield part, first + start, examples[start : start + CHUNK]
        first += len(examples)
