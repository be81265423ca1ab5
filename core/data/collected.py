"""What became of one data set: its examples, and the counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from core.data.mix import weight_of
from core.data.sources import shown
from core.data.store import Store
from core.types import DatasetPlan

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass
class Collected:
    """The examples of one data set, those that are not trained on included, and the counts."""

    dataset: DatasetPlan
    store: Store
    counts: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    bad_rows: list[str] = field(default_factory=list)

    def stats(self) -> dict[str, Any]:
        """The counts, JSON-ready. length_99: the sequence_len that would fit 99 % of the examples."""
        import numpy as np

        ordered = np.sort(np.frombuffer(self.store.lengths, dtype=np.int32))
        tokens, trained = self.counts["tokens"], self.counts["trained_tokens"]
        return {
            "path": shown(self.dataset.path),
            "type": self.dataset.format.name,
            "weight": weight_of(self.dataset.options),
            "rows": self.counts["rows"],
            "examples": self.counts["kept"],
            "tokens": tokens,
            "trained_tokens": trained,
            "trained_share": trained / tokens if tokens else 0.0,
            "dropped_too_long": self.counts["dropped_too_long"],
            "truncated": self.counts["truncated"],
            "nothing_to_train": self.counts["nothing_to_train"],
            "straddling": self.counts["straddling"],
            "without_end": self.counts["without_end"],
            "longest": int(ordered[-1]) if len(ordered) else 0,
            "length_99": length_99(ordered),
            "notes": dict(self.notes),
            "bad_rows": self.counts["bad_rows"],
            "first_bad_rows": list(self.bad_rows),
        }


def length_99(ordered: Sequence[int] | NDArray[np.int32]) -> int:
    """The length that 99 % of the `ordered` lengths do not exceed; 0 for none."""
    return int(ordered[-(-len(ordered) * 99 // 100) - 1]) if len(ordered) else 0
