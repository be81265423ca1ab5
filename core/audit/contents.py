"""What training examples are about, as numbers: held once for all checks that look for equal ones."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING

from core.audit.watching import Numbers, in_chunks

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from core.audit.facts import CheckedExample, DataFacts

    Ints = NDArray[np.int64]

BLOCK = 1 << 20  # values that are looked up at once


class Contents:
    """The training examples that are kept, by a hash of what they are about: 8 bytes each, 24 for one that thinks."""

    def __init__(self) -> None:
        self.numbers, self.hashes = Numbers(), array("q")
        self._thinkers, self._thoughts = array("q"), array("q")  # the indices of those that think, and what, as a hash

    def see(self, part: str, first: int, examples: Sequence[CheckedExample]) -> None:
        """The next examples."""
        if part == "train":
            kept = [example for example in examples if example.kept]
            thinking = [(index, said) for index, one in enumerate(kept, len(self.hashes)) if (said := one.thinking)]
            self._thinkers.extend([index for index, _ in thinking])
            self._thoughts.extend([hash(said) for _, said in thinking])
            self.numbers.extend([number for number, example in enumerate(examples, first) if example.kept])
            self.hashes.extend([hash(example.content) for example in kept])

    def copies(self) -> Ints:
        """The indices, rising, of those that are equal to an earlier one, in what they think as well."""
        import numpy as np

        hashes = np.frombuffer(self.hashes, dtype=np.int64)
        if self._thinkers:
            hashes = hashes.copy()
            hashes[np.frombuffer(self._thinkers, dtype=np.int64)] ^= np.frombuffer(self._thoughts, dtype=np.int64)
        places = repeated(hashes)
        _, firsts = np.unique(hashes[places], return_index=True)
        return np.delete(places, firsts)

    def firsts(self) -> Ints:
        """The indices, rising, of the others."""
        import numpy as np

        chosen = np.ones(len(self.hashes), dtype=bool)
        chosen[self.copies()] = False
        return np.flatnonzero(chosen)


def contents_of(facts: DataFacts) -> Contents:
    """Those of the training examples: as they were noted while the data was prepared, else looked up."""
    if facts.contents is not None:
        return facts.contents
    made = Contents()
    for part, first, examples in in_chunks(facts):
        made.see(part, first, examples)
    return made


def repeated(values: NDArray[np.int64] | NDArray[np.uint64]) -> Ints:
    """The places, rising, of the values that are there more than once. Beside `values`, 8 bytes for each are held."""
    import numpy as np

    ordered = np.sort(values)
    again = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    del ordered
    if not len(again):
        return np.zeros(0, dtype=np.int64)
    starts = range(0, len(values), BLOCK)
    return np.concatenate([start + np.flatnonzero(np.isin(values[start : start + BLOCK], again)) for start in starts])
