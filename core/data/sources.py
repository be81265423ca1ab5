"""Where rows come from: files and folders here, on web servers and in object stores, saved Arrow folders, the hub."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from core.data.addresses import is_address
from core.data.datasets_library import hub_rows, saved_rows
from core.data.files import READERS, SUFFIXES, SourceRow, display, kind_of, read_source, suffix_of
from core.data.opened import SourceFile, local_file
from core.data.splits import SPLIT_WORDS, Rows, parted, selected, split_in_name
from core.errors import DataError
from core.secrets import masked_address
from core.types import DatasetPlan

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
SAVED = ("state.json", "dataset_dict.json")  # the marks of a folder that `save_to_disk` wrote


def read_rows(dataset: DatasetPlan) -> Iterator[SourceRow]:
    """The rows of one data set in their order, after `split` and `shards`.

    Rows that cannot be read come with their `problem`. Raises `DataError` where the source as a whole cannot be read or
    holds no rows.
    """
    options = dataset.options
    split, _ = parted(options.get("split"))
    rows = selected(_open(dataset.path, options, split), options.get("split"), options)
    first = next(rows, None)
    if first is None:
        asked = f" in {options['split']!r}" if options.get("split") else ""
        raise DataError(f"{shown(dataset.path)} holds no rows{asked}", help="give a file with at least one row")
    yield first
    yield from rows


def shown(path: str) -> str:
    """The path of a data set as messages show it: no passwords, and relative where it lies below the current folder."""
    return masked_address(path) if is_address(path) else display(Path(path)) if Path(path).is_absolute() else path


def source_files(path: str, options: Mapping[str, Any]) -> list[SourceFile] | None:
    """The files that the rows of a data set are read from; None for the hub and for saved data sets.

    Raises `DataError` where there are none.
    """
    if is_address(path):
        return None if _saved_at(path) else _addressed(path, options)
    here = Path(path)
    try:
        is_folder, is_file = here.is_dir(), here.is_file()
    except PermissionError as error:
        raise DataError(
            f"no permission to read {display(here)}", help="check the owner and mode of its folders"
        ) from error
    if is_folder:
        try:
            return None if any((here / name).is_file() for name in SAVED) else _in_folder(here, options)
        except PermissionError as error:
            raise DataError(
                f"no permission to read the folder {display(here)}", help="check its owner and mode"
            ) from error
    if is_file:
        return [local_file(here)]
    if path in READERS and options.get("data_files"):
        return _listed(Path.cwd(), options["data_files"])
    if here.is_absolute() or suffix_of(path) in SUFFIXES or not HUB_ID.fullmatch(path):
        raise _missing(here)
    return None


def contents_elsewhere(path: str, options: Mapping[str, Any]) -> dict[str, str | None] | None:
    """What tells the content of each file of a data set that is elsewhere from an earlier one; None for data here.

    Raises `DataError` where they cannot be reached.
    """
    # the web client takes a while to import, and `check` reads no data
    from core.data.remote import contents

    given = options.get("data_files") or []
    patterns = [given] if isinstance(given, str) else list(given)
    addresses = [pattern for pattern in patterns if is_address(pattern)]
    if is_address(path):
        addresses += [f"{path.rstrip('/')}/{pattern}" for pattern in patterns if not is_address(pattern)] or [path]
        saved = _saved_at(path)
        return {
            name: said
            for address in addresses
            for name, said in contents(address, lambda name: saved or _wanted(name, options)).items()
        }
    if not addresses:
        return None
    # beside files here, nothing tells them all
    return (
        dict.fromkeys(addresses)
        if len(addresses) < len(patterns)
        else {
            name: said
            for address in addresses
            for name, said in contents(address, lambda name: suffix_of(name) in SUFFIXES).items()
        }
    )


def _open(path: str, options: Mapping[str, Any], split: str) -> Rows:
    files = source_files(path, options)
    if files is not None:
        kind = path if path in READERS and options.get("data_files") else options.get("ds_type")
        chosen = files if options.get("data_files") else _of_split(files, split, shown(path))
        # an unknown kind is told before the first row of another file is read
        kinds = [kind_of(file.name, kind) for file in chosen]
        return Rows(lambda: _each(chosen, kinds))
    if is_address(path) or Path(path).is_dir():
        return saved_rows(path, split, shown(path))
    return hub_rows(path, options, split)


def _each(files: Sequence[SourceFile], kinds: Sequence[str]) -> Iterator[SourceRow]:
    for file, kind in zip(files, kinds, strict=True):
        yield from read_source(file, kind)


def _missing(path: Path) -> DataError:
    near: list[str] = []
    if path.exists():
        return DataError(f"{display(path)!r} is neither a file nor a folder", help="write its rows to a file first")
    if path.is_symlink():
        return DataError(
            f"{display(path)!r} is a link to {display(Path(os.readlink(path)))!r}, which is not there",
            help="correct the link",
        )
    if path.parent.is_dir():
        near = difflib.get_close_matches(path.name, [entry.name for entry in path.parent.iterdir()], n=1)
    known_parent = f"{display(path.parent)} holds no file of this name"
    help = f"did you mean {display(path.parent / near[0])!r}?" if near else known_parent
    if not path.parent.is_dir():
        help = f"the folder {display(path.parent)} does not exist either; paths are relative to the recipe"
    return DataError(f"no data at {display(path)!r}", help=help)


def _in_folder(folder: Path, options: Mapping[str, Any]) -> list[SourceFile]:
    if options.get("data_files"):
        return _listed(folder, options["data_files"])
    entries = sorted(folder.iterdir())
    files = [local_file(entry) for entry in entries if entry.is_file() and _wanted(entry.name, options)]
    if not files:
        texts = any(SUFFIXES.get(suffix_of(entry.name)) == "text" for entry in entries)
        of_kind = f" of ds_type {options['ds_type']!r}" if options.get("ds_type") else ""
        raise DataError(
            f"the folder {display(folder)} holds no data files{of_kind}",
            help="to read its .txt files, set ds_type: text"
            if texts and not options.get("ds_type")
            else f"it should hold files that end in {', '.join(SUFFIXES)}, perhaps with .gz or .zst after it",
        )
    return files


def _wanted(name: str, options: Mapping[str, Any]) -> bool:
    """Whether a file of a folder is one to read, by its ending."""
    kind = SUFFIXES.get(suffix_of(name))
    if PurePosixPath(name).name.startswith("."):
        return False  # what systems and editors leave behind, such as `._train.jsonl`
    if options.get("ds_type"):
        return bool(kind == options["ds_type"])
    # plain text beside rows is a licence or a note, unless text is what was asked for
    return kind is not None and kind != "text"


def _addressed(address: str, options: Mapping[str, Any]) -> list[SourceFile]:
    from core.data.remote import files_at, matching

    def wanted(name: str) -> bool:
        return _wanted(name, options)

    given = options.get("data_files")
    if given:
        return matching(address, [given] if isinstance(given, str) else list(given), wanted)
    return files_at(address, wanted)


def _listed(folder: Path, wanted: str | Sequence[str]) -> list[SourceFile]:
    """The files that `data_files` names (patterns and addresses allowed) below `folder`."""
    files: list[SourceFile] = []
    for pattern in [wanted] if isinstance(wanted, str) else wanted:
        if is_address(pattern):
            from core.data.remote import files_at

            files += files_at(pattern, lambda name: suffix_of(name) in SUFFIXES)
            continue
        absolute = Path(pattern).is_absolute()
        found = sorted(Path("/").glob(str(Path(pattern).relative_to("/"))) if absolute else folder.glob(pattern))
        if not found:
            raise _missing(Path(pattern) if absolute else folder / pattern)
        files += map(local_file, found)
    return files


def _of_split(files: list[SourceFile], split: str, name: str) -> list[SourceFile]:
    """The files of `split` (default: train), where file names tell splits apart."""
    splits = [split_in_name(Path(file.name).stem) for file in files]
    wanted = SPLIT_WORDS.get(split or "train", split)
    if len(files) == 1:
        if wanted in ("train", splits[0], Path(files[0].name).name.partition(".")[0]):
            return files
        raise DataError(
            f"{name} is one file, which has no split {wanted!r}",
            help="leave split out, or give a part of the file: split: train[80%:]",
        )
    if not any(splits):
        if wanted == "train":
            return files
        raise DataError(
            f"{name} has no files for split {wanted!r}: no file name tells of splits",
            help="name the files with data_files",
        )
    chosen = [file for file, found in zip(files, splits, strict=True) if (found or "train") == wanted]
    if not chosen:
        there = ", ".join(sorted({found or "train" for found in splits}))
        raise DataError(
            f"{name} has no files for split {wanted!r}; it has: {there}",
            help="set split to one of these, or name the files with data_files",
        )
    return chosen


def _saved_at(address: str) -> bool:
    from core.data.remote import holds

    return not suffix_of(address) and any(holds(address, name) for name in SAVED)
