"""What is trained on and what validates: the rows of each, in their order, as memory-mapped Arrow data sets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.data.collected import Collected
from core.data.mix import weight_of, weighted
from core.data.sources import shown
from core.data.split import shuffled, split
from core.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset
    from numpy.typing import NDArray

    from core.data.cache import CacheEntry
    from core.data.store import Store

    Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """The rows of one part. order: their numbers, counted through all `stores`, as they are trained on."""

    stores: Sequence[Store]
    order: Ints

    def totals(self) -> dict[str, int]:
        """How many examples, tokens and trained tokens."""
        import numpy as np

        tokens, trained = (
            int(
                np.concatenate([np.frombuffer(column, dtype=np.int32) for column in columns])[self.order].sum(
                    dtype=np.int64
                )
            )
            for columns in ([store.tokens for store in self.stores], [store.trained for store in self.stores])
        )
        return {"examples": len(self.order), "tokens": tokens, "trained_tokens": trained}


@dataclass(frozen=True)
class Parted:
    """Training and validation rows; no validation is None."""

    train: Part
    val: Part | None = None
    # for each training data set, how many of its examples are trained on, and how many are in one pass
    passes: Sequence[tuple[int, int]] = ()

    def parts(self) -> dict[str, Part]:
        """The parts that there are, by name."""
        return {"train": self.train} | ({"val": self.val} if self.val is not None else {})

    def described(self) -> dict[str, list[str]]:
        """The files of each part."""
        return {name: [store.files[0].name for store in part.stores] for name, part in self.parts().items()}

    def totals(self) -> dict[str, Any]:
        """The counts of each part; None for no validation."""
        return {"val": None} | {name: part.totals() for name, part in self.parts().items()}


def part_rows(training: Sequence[Collected], validation: Sequence[Collected], recipe: Recipe) -> Parted:
    """The rows that are kept, parted, weighted and shuffled as `recipe` says.

    Raises `DataError` for a split that cannot be, and a weight that leaves nothing.
    """
    import numpy as np

    seed = recipe["seed"] if recipe["seed"] is not None else 42
    stores = [collected.store for collected in training]
    train, val = _kept(stores), None
    if validation:
        val = Part([collected.store for collected in validation], _kept([collected.store for collected in validation]))
    elif recipe["val_set_size"]:
        chosen, taken = split(_digests(stores)[train], recipe["val_set_size"], seed)
        train, val = train[chosen], Part(stores, train[taken])
    own = np.split(train, np.searchsorted(train, np.cumsum([len(store) for store in stores])[:-1]))
    mixed = [
        weighted(rows, weight_of(collected.dataset.options), seed, number, shown(collected.dataset.path))
        for number, (rows, collected) in enumerate(zip(own, training, strict=True))
    ]
    passes = [(len(rows), len(more)) for rows, more in zip(own, mixed, strict=True)]
    train = np.concatenate(mixed)
    if recipe["shuffle_merged_datasets"] is not False:
        train = train[shuffled(len(train), seed)]
    return Parted(Part(stores, train), val if val is not None and len(val.order) else None, passes)


def write_parts(folder: Path, parted: Parted) -> None:
    """Move the token files of the parts into `folder`, and write the order of their rows beside them."""
    import numpy as np

    for name, part in parted.parts().items():
        for store in part.stores:
            if store.files[0].exists():
                os.replace(store.files[0], folder / store.files[0].name)
        np.save(folder / f"{name}-order.npy", part.order)


def load_part(entry: CacheEntry, name: str) -> Dataset | None:
    """The data set of a part, read from the disk as it is used; None if the entry has no such part."""
    import numpy as np
    from datasets import Dataset, concatenate_datasets

    if name not in entry.meta["parts"]:
        return None
    files = [Dataset.from_file(str(entry.folder / file)) for file in entry.meta["parts"][name]]
    rows = concatenate_datasets(files) if len(files) > 1 else files[0]
    order = np.load(entry.folder / f"{name}-order.npy")
    if np.array_equal(order, np.arange(len(rows))):
        return rows
    return rows.select(order)


def _kept(stores: Sequence[Store]) -> Ints:
    import numpy as np

    starts = np.cumsum([0, *map(len, stores)])
    return np.concatenate([store.kept() + start for store, start in zip(stores, starts, strict=False)])


def _digests(stores: Sequence[Store]) -> Ints:
    import numpy as np

    return np.concatenate([np.frombuffer(store.digests, dtype=np.int64) for store in stores])
