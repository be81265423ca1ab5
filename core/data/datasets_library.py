"""Rows that the `datasets` library reads: folders written by its `save_to_disk`, and data sets of the hub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from itertools import islice
from typing import Any

from core.data.files import SourceRow
from core.data.splits import Rows
from core.errors import DataError
from core.hub_access import from_cache_alone, hub_reachable


def saved_rows(path: str, split: str, name: str) -> Rows:
    """The rows of a folder that `save_to_disk` wrote; messages call it `name`. Raises `DataError` where it is none."""
    from datasets import DatasetDict, load_from_disk

    try:
        saved = load_from_disk(path)
    except Exception as error:
        raise DataError(
            f"{name} cannot be read as a saved data set: {' '.join(str(error).replace(path, name).split())}",
            help="write it again with save_to_disk",
        ) from error
    if isinstance(saved, DatasetDict):
        saved = saved[_chosen_split(list(saved), split, name)]
    return _numbered(saved, name)


def _chosen_split(there: list[str], split: str, name: str) -> str:
    wanted = split or ("train" if "train" in there or len(there) != 1 else there[0])
    if wanted not in there:
        raise DataError(f"{name} has no split {wanted!r}; it has: {', '.join(there)}", help="set split to one of these")
    return wanted


def _numbered(rows: Any, name: str) -> Rows:
    def read() -> Iterator[SourceRow]:
        return (SourceRow(dict(values), f"{name} row {number}") for number, values in enumerate(rows, start=1))

    return Rows(read, len(rows) if hasattr(rows, "__len__") else None)


def hub_rows(path: str, options: Mapping[str, Any], split: str) -> Rows:
    """The rows of a data set of the hub. Raises `DataError` where it cannot be loaded."""
    from datasets import load_dataset

    from core.models.loading import quiet

    reachable = hub_reachable()
    try:
        with quiet(), nullcontext() if reachable else from_cache_alone():
            rows = load_dataset(
                path,
                name=options.get("name"),
                split=split or "train",
                revision=options.get("revision"),
                data_files=options.get("data_files"),
                streaming=bool(options.get("streaming")),
            )
    except Exception as error:
        if not reachable:
            raise DataError(
                f"the data set {path!r} is not in the hub's cache, and the hub cannot be reached",
                help="check the name and the connection, or give the path of a local file",
            ) from error
        raise _not_from_hub(path, error) from error
    if not options.get("streaming"):
        return _numbered(rows, path)
    return Rows(lambda: _while_reached(_numbered(rows, path).read(), path))


def _while_reached(rows: Iterator[SourceRow], path: str) -> Iterator[SourceRow]:
    """The rows of a data set of the hub that is fetched while it is read."""
    while True:
        try:
            row = next(rows, None)
        except Exception as error:
            raise _not_from_hub(path, error) from error
        if row is None:
            return
        yield row


def _not_from_hub(path: str, error: Exception) -> DataError:
    # the library raises many kinds of error (connection, name, gate, parsing), all of them the user's
    lines = [line for line in str(error).splitlines() if line.strip()]
    reason = " ".join(islice(lines, 2)) or type(error).__name__
    return DataError(
        f"the data set {path!r} cannot be loaded from the hub: {reason}",
        help="check the name and the connection, or give the path of a local file",
    )
