"""Rows that are prepared, and how they are parted: what is trained on and what validates, in which order.

The rows are kept in the cache; parts, weights and order are made of them at every start, so that another seed or split
tokenises nothing again.
"""

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
from core.data.store import KEPT
from core.types import Plan

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset
    from numpy.typing import NDArray

    from core.data.cache import CacheEntry

    Ints = NDArray[np.int64]

COLUMNS = ("tokens", "trained", "flags", "digests")


@dataclass(frozen=True)
class Rows:
    """The examples of one data set, in the order of the data, as far as parting them goes. file: the name of the one
    that holds them. tokens, trained: counts of each; flags: see `store`; digests: equal for examples of equal ids."""

    file: str
    tokens: NDArray[np.int32]
    trained: NDArray[np.int32]
    flags: NDArray[np.uint8]
    digests: Ints

    def __len__(self) -> int:
        return len(self.flags)


@dataclass(frozen=True)
class Part:
    """The rows of one part. order: their numbers, counted through all `rows`, as they are trained on."""

    rows: Sequence[Rows]
    order: Ints

    def totals(self) -> dict[str, int]:
        """How many examples, tokens and trained tokens."""
        import numpy as np

        tokens, trained = (
            int(np.concatenate(columns)[self.order].sum(dtype=np.int64))
            for columns in ([rows.tokens for rows in self.rows], [rows.trained for rows in self.rows])
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

    def totals(self) -> dict[str, Any]:
        """The counts of each part; None for no validation."""
        return {"val": None} | {name: part.totals() for name, part in self.parts().items()}


def part_rows(training: Sequence[Rows], validation: Sequence[Rows], plan: Plan) -> Parted:
    """The rows that are kept, parted, weighted and shuffled as `plan` says, whose data sets they are.

    Raises `DataError` for a split that cannot be, and a weight that leaves nothing.
    """
    import numpy as np

    recipe, datasets = plan.recipe, plan.datasets
    seed = recipe["seed"] if recipe["seed"] is not None else 42
    train, val = _kept(training), None
    if validation:
        val = Part(validation, _kept(validation))
    elif recipe["val_set_size"]:
        digests = np.concatenate([rows.digests for rows in training])
        chosen, taken = split(digests[train], recipe["val_set_size"], seed)
        train, val = train[chosen], Part(training, train[taken])
    own = np.split(train, np.searchsorted(train, np.cumsum([len(rows) for rows in training])[:-1]))
    mixed = [
        weighted(rows, weight_of(dataset.options), seed, number, shown(dataset.path))
        for number, (rows, dataset) in enumerate(zip(own, datasets, strict=True))
    ]
    passes = [(len(rows), len(more)) for rows, more in zip(own, mixed, strict=True)]
    train = np.concatenate(mixed)
    if recipe["shuffle_merged_datasets"] is not False:
        train = train[shuffled(len(train), seed)]
    return Parted(Part(training, train), val if val is not None and len(val.order) else None, passes)


def rows_of(collected: Sequence[Collected]) -> list[Rows]:
    """The rows of data sets that have just been read."""
    import numpy as np

    kinds = {"tokens": np.int32, "trained": np.int32, "flags": np.uint8, "digests": np.int64}
    stores = [one.store for one in collected]
    return [
        Rows(store.files[0].name, *(np.frombuffer(getattr(store, name), dtype=kinds[name]) for name in COLUMNS))
        for store in stores
    ]


def write_rows(folder: Path, collected: Sequence[Collected]) -> list[str]:
    """Move the files of data sets that have just been read into `folder`, with their columns beside them; the names of
    the former."""
    import numpy as np

    for one, rows in zip(collected, rows_of(collected), strict=True):
        os.replace(one.store.files[0], folder / rows.file)
        np.savez(folder / f"{rows.file}.npz", **{name: getattr(rows, name) for name in COLUMNS})
    return [one.store.files[0].name for one in collected]


def read_rows(entry: CacheEntry, part: str) -> list[Rows]:
    """What `write_rows` wrote of `training` or `validation`, as the entry names them."""
    import numpy as np

    made = []
    for file in entry.meta["rows"][part]:
        with np.load(entry.folder / f"{file}.npz") as columns:
            made.append(Rows(file, *(columns[name] for name in COLUMNS)))
    return made


def load_part(entry: CacheEntry, part: Part | None) -> Dataset | None:
    """The data set of a part, read from the disk as it is used; None for no part."""
    import numpy as np
    from datasets import Dataset, concatenate_datasets

    if part is None:
        return None
    files = [Dataset.from_file(str(entry.folder / rows.file)) for rows in part.rows]
    together = concatenate_datasets(files) if len(files) > 1 else files[0]
    if np.array_equal(part.order, np.arange(len(together))):
        return together
    return together.select(part.order)


def _kept(given: Sequence[Rows]) -> Ints:
    import numpy as np

    return np.flatnonzero(np.concatenate([rows.flags for rows in given]) & KEPT)
