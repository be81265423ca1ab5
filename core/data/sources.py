"""Where rows come from: a file, a folder of files, a saved Arrow folder, or a data set of the hub."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from core.data.files import READERS, SUFFIXES, SourceRow, display, read_file
from core.errors import DataError
from core.types import DatasetPlan

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
# the names that mark a file of a folder as part of a split, as the hub reads them
SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
}


def read_rows(dataset: DatasetPlan) -> Iterator[SourceRow]:
    """The rows of one data set in their order, after `split` and `shards`.

    Rows that cannot be read come with their `problem`. Raises `DataError` where the source as a whole cannot be read or
    holds no rows.
    """
    options = dataset.options
    split, part = _split_of(options.get("split"))
    rows = _open(dataset, split)
    if part:
        rows = iter(_slice(list(rows), split, part))
    if options.get("shards"):
        rows = iter(_shard(list(rows), int(options["shards"]), int(options.get("shards_idx") or 0)))
    first = next(rows, None)
    if first is None:
        asked = f" in {options['split']!r}" if options.get("split") else ""
        raise DataError(f"{shown(dataset.path)} holds no rows{asked}", help="give a file with at least one row")
    yield first
    yield from rows


def shown(path: str) -> str:
    """The path of a data set as messages show it."""
    return display(Path(path)) if Path(path).is_absolute() else path


def _split_of(split: str | None) -> tuple[str, str]:
    """`train[:20%]` -> (`train`, `[:20%]`); nothing -> (``, ``)."""
    name, bracket, part = (split or "").partition("[")
    return name.strip(), bracket + part


def _slice(rows: list[SourceRow], split: str, part: str) -> list[SourceRow]:
    """The rows that a slice such as `[:20%]` or `[100:200]` names, as `datasets` reads it."""
    from datasets import ReadInstruction

    name = split or "train"
    try:
        pieces = ReadInstruction.from_spec(name + part).to_absolute({name: len(rows)})
    except (ValueError, AssertionError) as error:
        raise DataError(
            f"split {split + part!r} cannot be used on {len(rows)} rows: {' '.join(str(error).split())}",
            help="write it as train[:20%], train[100:200] or train[-50:]",
        ) from error
    return [row for piece in pieces for row in rows[piece.from_ : piece.to]]


def _shard(rows: list[SourceRow], shards: int, index: int) -> list[SourceRow]:
    if not 0 <= index < shards:
        raise DataError(f"shards_idx {index} is not one of {shards} shards", help=f"use 0 to {shards - 1}")
    size, larger = divmod(len(rows), shards)
    start = index * size + min(index, larger)
    return rows[start : start + size + (index < larger)]


def _open(dataset: DatasetPlan, split: str) -> Iterator[SourceRow]:
    path = Path(dataset.path)
    options = dataset.options
    if path.is_dir():
        return _read_folder(path, options, split)
    if path.is_file():
        return read_file(path, _kind(path, options))
    if dataset.path in READERS and options.get("data_files"):
        return _read_files(_listed(Path.cwd(), options["data_files"]), {**options, "ds_type": dataset.path}, "")
    if path.is_absolute() or path.suffix in SUFFIXES or not HUB_ID.fullmatch(dataset.path):
        raise _missing(path)
    return _read_hub(dataset.path, options, split)


def _missing(path: Path) -> DataError:
    near: list[str] = []
    if path.parent.is_dir():
        near = difflib.get_close_matches(path.name, [entry.name for entry in path.parent.iterdir()], n=1)
    known_parent = f"{display(path.parent)} holds no file of this name"
    help = f"did you mean {display(path.parent / near[0])!r}?" if near else known_parent
    if not path.parent.is_dir():
        help = f"the folder {display(path.parent)} does not exist either; paths are relative to the recipe"
    return DataError(f"no data at {display(path)!r}", help=help)


def _kind(path: Path, options: Mapping[str, Any]) -> str:
    kind = options.get("ds_type") or SUFFIXES.get(path.suffix.lower())
    if kind not in READERS:
        said = f"ds_type {kind!r}" if kind else f"the ending {path.suffix!r}"
        raise DataError(
            f"{display(path)}: {said} is not a kind of file that can be read",
            help=f"set ds_type to one of {', '.join(READERS)}",
        )
    return str(kind)


def _read_folder(folder: Path, options: Mapping[str, Any], split: str) -> Iterator[SourceRow]:
    if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
        return _read_saved(folder, split)
    if options.get("data_files"):
        return _read_files(_listed(folder, options["data_files"]), options, "")
    kinds = {options["ds_type"]} if options.get("ds_type") else set(READERS)
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and SUFFIXES.get(file.suffix.lower()) in kinds]
    if not files:
        raise DataError(
            f"the folder {display(folder)} holds no data files",
            help=f"it should hold files that end in {', '.join(SUFFIXES)}",
        )
    return _read_files(files, options, split)


def _listed(folder: Path, wanted: str | Sequence[str]) -> list[Path]:
    """The files that `data_files` names (patterns allowed) below `folder`."""
    files: list[Path] = []
    for pattern in [wanted] if isinstance(wanted, str) else wanted:
        absolute = Path(pattern).is_absolute()
        found = sorted(Path("/").glob(str(Path(pattern).relative_to("/"))) if absolute else folder.glob(pattern))
        if not found:
            raise _missing(Path(pattern) if absolute else folder / pattern)
        files += found
    return files


def _read_files(files: list[Path], options: Mapping[str, Any], split: str) -> Iterator[SourceRow]:
    """The rows of several files; where file names tell splits apart, those of `split` (default: train) alone."""
    splits = {file: _split_in_name(file.stem) for file in files}
    if any(splits.values()) and not options.get("data_files"):
        wanted = SPLIT_WORDS.get(split or "train", split)
        chosen = [file for file in files if (splits[file] or "train") == wanted]
        if not chosen:
            there = ", ".join(sorted({name or "train" for name in splits.values()}))
            raise DataError(
                f"{display(files[0].parent)} has no files for split {wanted!r}; it has: {there}",
                help="set split to one of these, or name the files with data_files",
            )
        files = chosen
    for file in files:
        yield from read_file(file, _kind(file, options))


def _split_in_name(stem: str) -> str | None:
    words = re.split(r"[^a-z]+", stem.lower())
    return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), None)


def _read_saved(folder: Path, split: str) -> Iterator[SourceRow]:
    """A folder written by `save_to_disk` of the `datasets` library."""
    from datasets import DatasetDict, load_from_disk

    try:
        saved = load_from_disk(str(folder))
    except Exception as error:
        raise DataError(
            f"{display(folder)} cannot be read as a saved data set: {' '.join(str(error).split())}",
            help="write it again with save_to_disk",
        ) from error
    if isinstance(saved, DatasetDict):
        saved = saved[_chosen_split(list(saved), split, display(folder))]
    return _number(saved, display(folder))


def _chosen_split(there: list[str], split: str, name: str) -> str:
    wanted = split or ("train" if "train" in there or len(there) != 1 else there[0])
    if wanted not in there:
        raise DataError(f"{name} has no split {wanted!r}; it has: {', '.join(there)}", help="set split to one of these")
    return wanted


def _number(rows: Any, name: str) -> Iterator[SourceRow]:
    return (SourceRow(dict(values), f"{name} row {number}") for number, values in enumerate(rows, start=1))


def _read_hub(path: str, options: Mapping[str, Any], split: str) -> Iterator[SourceRow]:
    from datasets import load_dataset

    try:
        rows = load_dataset(
            path,
            name=options.get("name"),
            split=split or "train",
            revision=options.get("revision"),
            data_files=options.get("data_files"),
        )
    except Exception as error:
        # the library raises many kinds of error here (connection, name, gate, parsing), all of them the user's
        lines = [line for line in str(error).splitlines() if line.strip()]
        reason = " ".join(islice(lines, 2)) or type(error).__name__
        raise DataError(
            f"the data set {path!r} cannot be loaded from the hub: {reason}",
            help="check the name and the connection, or give the path of a local file",
        ) from error
    return _number(rows, path)
