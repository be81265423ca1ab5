"""Prepared rows as arrays, a batch of Arrow at a time: much faster than one row after the other."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset
    from numpy.typing import NDArray

BATCH = 1000


def array_rows(dataset: Dataset) -> Iterator[dict[str, NDArray[np.int32]]]:
    """Each row's `input_ids` and `labels` as int32 arrays that must not be written to."""
    columns = ["input_ids", "labels"]
    for table in dataset.select_columns(columns).with_format("arrow").iter(batch_size=BATCH):
        arrays = [_arrays(table[name].combine_chunks()) for name in columns]
        yield from ({"input_ids": ids, "labels": labels} for ids, labels in zip(*arrays, strict=True))


def one_of_each_place(dataset: Dataset) -> array[int]:
    """The number of the first row of each place, in the order of the rows; 8 bytes for each in memory."""
    import numpy as np

    hashes = array("q")
    for table in dataset.select_columns(["place"]).with_format("arrow").iter(batch_size=BATCH):
        hashes.extend(map(hash, table["place"].to_pylist()))
    _, first = np.unique(np.frombuffer(hashes, dtype=np.int64), return_index=True)
    return array("q", np.sort(first).astype(np.int64).tobytes())


def _arrays(column: Any) -> list[NDArray[np.int32]]:
    values = column.values.to_numpy()
    offsets = column.offsets.to_pylist()
    return [values[start:end] for start, end in pairwise(offsets)]
