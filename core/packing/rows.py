"""What a training row needs computed, and the bin that stores it for several rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    Ints = np.ndarray[Any, np.dtype[np.int64]]

IGNORED = -100


@dataclass(frozen=True)
class TracedRow:
    """A row reduced to what its loss depends on.

    tokens [n]: the row up to the predecessor of its last trained token (what follows cannot reach the loss; a row that
    trains nothing has none). shareable: how many of them precede the first trained token. predecessors, targets [m]:
    the hidden state at row position `predecessors[k]` predicts token `targets[k]`.
    """

    tokens: Ints
    shareable: int
    predecessors: Ints
    targets: Ints

    @property
    def length(self) -> int:
        """How many tokens are computed."""
        return len(self.tokens)

    @property
    def prefix(self) -> bytes:
        """The tokens that can be shared: big-endian bytes compare like the ids do, and bytes compare fast."""
        return self.tokens[: self.shareable].astype(">u4").tobytes()


class Outline(NamedTuple):
    """What decides the bin of a row: `length` and `prefix` of a `TracedRow`. Some bytes, where a row has thousands."""

    length: int
    prefix: bytes


def outline(row: Mapping[str, Any], *, share: bool = True) -> Outline:
    """The outline of a row; without `share`, with no prefix. Raises ValueError as `trace_row` does."""
    import numpy as np

    tokens, labels = np.asarray(row["input_ids"]), np.asarray(row["labels"])
    _refuse_unequal(tokens, labels)
    trained = np.flatnonzero(labels[1:] != IGNORED)
    if not len(trained):
        return Outline(0, b"")
    prefix = tokens[: trained[0] + 1].astype(">u4").tobytes() if share else b""
    return Outline(int(trained[-1]) + 1, prefix)


def _refuse_unequal(tokens: Ints, labels: Ints) -> None:
    if tokens.shape != labels.shape or tokens.ndim != 1:
        raise ValueError(f"input_ids and labels differ in shape: {tokens.shape} and {labels.shape}")


def trace_row(row: Mapping[str, Any]) -> TracedRow:
    """Trace a row of `input_ids` and `labels` (equal length, -100 = not trained; the first token has no predecessor and
    is never trained). Raises ValueError where the lengths differ."""
    import numpy as np

    tokens = np.asarray(row["input_ids"], dtype=np.int64)
    labels = np.asarray(row["labels"], dtype=np.int64)
    _refuse_unequal(tokens, labels)
    trained = np.flatnonzero(labels[1:] != IGNORED)
    if not len(trained):
        return TracedRow(tokens[:0], 0, trained, trained)
    return TracedRow(tokens[: trained[-1] + 1], int(trained[0]) + 1, trained, labels[trained + 1])


@dataclass(frozen=True)
class Bin:
    """Rows laid out side by side for one computation; all arrays are int64, places count from the bin's start.

    rows: indices of the rows laid out. tokens, positions [n]: what is stored, and where each token stands in its rows.
    reach [n]: the token at place j sees the token at place i exactly when i <= j < reach[i]. Tokens lie in preorder of
    the tree of prefixes, so that everything after a token, up to its reach, continues it.
    target_places, target_ids [m]: the hidden state at a place predicts an id; places may repeat.
    unshared_tokens: how many tokens the rows have when nothing is shared.
    """

    rows: tuple[int, ...]
    tokens: Ints
    positions: Ints
    reach: Ints
    target_places: Ints
    target_ids: Ints
    unshared_tokens: int

    def __len__(self) -> int:
        return len(self.tokens)


def blank_bin() -> Bin:
    """A bin of one token that trains nothing, for a rank that must take part in a computation without rows."""
    import numpy as np

    none = np.zeros(0, dtype=np.int64)
    one = np.zeros(1, dtype=np.int64)
    return Bin((), one, one, one + 1, none, none, 0)
