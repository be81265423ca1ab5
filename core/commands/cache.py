"""`tunesmith cache`: prepared data and converted models on disk, how large they are, and taking them away."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from core.errors import UserError

HELP = "show the prepared data and converted models kept on disk, and clear them"
EXAMPLE = "tunesmith cache --clear --older-than 30"
SHORT = 12  # characters of a key that are shown
DAY = 86_400.0


@dataclass(frozen=True)
class Kept:
    """One thing in the cache. used: when it was last read or made, in seconds since 1970."""

    name: str
    kind: str
    size: int
    used: float
    about: str
    folder: Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which folder, what to clear, and how to print."""
    parser.add_argument(
        "names", metavar="NAME", nargs="*", help="only these: the beginning of a name in the list, or of a kind"
    )
    parser.add_argument("--path", metavar="FOLDER", help="look at this folder, a recipe's dataset_prepared_path")
    parser.add_argument("--clear", action="store_true", help="take away what is listed (all, unless selected)")
    parser.add_argument("--older-than", metavar="DAYS", type=float, help="only what was not used for so many days")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def execute(args: argparse.Namespace) -> int:
    """List what is kept, or clear it. Raises `UserError` for a name that fits nothing."""
    from core.data.cache import cache_folder, prepared_folder

    root = prepared_folder(args.path)
    kept = [*_prepared(root), *(_converted(cache_folder() / "gguf") if args.path is None else ())]
    if args.older_than is not None and not args.older_than >= 0:
        raise UserError(f"--older-than {args.older_than:g} is no number of days", help="write 0 or more")
    chosen = _chosen(kept, args.names, args.older_than)
    if args.clear:
        return _clear(chosen, root)
    place = root if args.path else cache_folder()
    if args.json:
        entries = [{**entry.__dict__, "folder": str(entry.folder)} for entry in chosen]
        print(json.dumps({"folder": str(place), "entries": entries, "bytes": _total(chosen)}, indent=2))
        return 0
    width = max((len(entry.about) for entry in chosen), default=0)
    for entry in chosen:
        name = entry.name[:SHORT]
        print(
            f"{entry.kind:<8}  {name:<{SHORT}}  {_size(entry.size):>9}  {_ago(entry.used):>12}  {entry.about:<{width}}"
        )
    count = f"{len(chosen)} entr{'y' if len(chosen) == 1 else 'ies'}"
    print(f"{count}, {_size(_total(chosen))} in {place}")
    return 0


def _prepared(root: Path) -> Iterator[Kept]:
    from core.data.cache import cache_entries

    for entry in cache_entries(root):
        examples, tokens = (sum(one[key] for one in entry.meta["stats"]["datasets"]) for key in ("examples", "tokens"))
        about = f"{examples:,} examples, {tokens:,} tokens, {Path(entry.meta['recipe']).name}"
        yield Kept(entry.key, "prepared", entry.size, entry.used, about, entry.folder)


def _converted(root: Path) -> Iterator[Kept]:
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        if folder.is_dir() and not folder.name.startswith("."):
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            yield Kept(folder.name, "model", size, folder.stat().st_mtime, "converted from GGUF", folder)


def _chosen(kept: list[Kept], names: list[str], older_than: float | None) -> list[Kept]:
    for name in names:
        if not any(_fits(entry, name) for entry in kept):
            raise UserError(f"nothing in the cache begins with {name!r}", help="see `tunesmith cache` for the names")
    chosen = [entry for entry in kept if not names or any(_fits(entry, name) for name in names)]
    if older_than is None:
        return chosen
    return [entry for entry in chosen if time.time() - entry.used > older_than * DAY]


def _fits(entry: Kept, name: str) -> bool:
    return entry.name.startswith(name) or entry.kind.startswith(name)


def _clear(chosen: list[Kept], root: Path) -> int:
    from core.data.cache import abandoned, remove_folder

    gone = [entry for entry in chosen if remove_folder(entry.folder) is not None]
    count = f"{len(gone)} entr{'y' if len(gone) == 1 else 'ies'}"
    print(f"cleared {count}, {_size(_total(gone))}")
    if len(gone) < len(chosen):
        print(f"left {len(chosen) - len(gone)} alone: another process is at work there")
    leavings = sum(remove_folder(folder) or 0 for folder in abandoned(root))
    if leavings:
        print(f"cleared what stopped runs had left behind, {_size(leavings)}")
    return 0


def _total(entries: list[Kept]) -> int:
    return sum(entry.size for entry in entries)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _ago(moment: float) -> str:
    seconds = max(0.0, time.time() - moment)
    for unit, length in (("day", DAY), ("hour", 3600.0), ("minute", 60.0)):
        if seconds >= length:
            number = int(seconds // length)
            return f"{number} {unit}{'s' * (number != 1)} ago"
    return "just now"
