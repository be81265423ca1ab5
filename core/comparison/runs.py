"""Runs read back from their files, and the items that all of them answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from core.errors import UserError
from core.json_lines import json_lines

SHOWN = 3
Line = Mapping[str, Any]
Identity = Callable[[Line], tuple[Any, ...]]


@dataclass(frozen=True)
class FinishedRun:
    """One column of a finished run. name: what it is called beside the others. lines: the records of
    predictions.jsonl, in their order."""

    path: Path
    name: str
    values: Mapping[str, Any]
    lines: Sequence[Line]
    column: str


def load_run(text: str, name: str, column: str | None) -> FinishedRun:
    """The run in the folder `text`: an output_dir, or one of its evaluations.

    column: which of its columns; default: `tuned`, or the only one there is. Raises `UserError` for what is no finished
    run, or has no such column.
    """
    from core.lock.compare import finished_run

    folder = Path(text)
    values = finished_run(folder)
    try:
        lines = json_lines(folder / "predictions.jsonl")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(
            f"the answers of the run in {text!r} cannot be read: {reason}", help="get an intact copy of it"
        ) from error
    names = list(values["evaluation"])
    if not names or not lines:
        help = f"score it first: `tunesmith eval {text} --recipe RECIPE` with held-out data under evaluation.datasets"
        raise UserError(f"the run in {text!r} scored nothing", help=help)
    chosen = column or ("tuned" if "tuned" in names else names[0] if len(names) == 1 else "")
    if chosen not in names:
        what = f"has no column {column!r}" if column else "has no column 'tuned'"
        help = f"choose another with --column; it has: {', '.join(names)}"
        raise UserError(f"the run in {text!r} {what}", help=help)
    return FinishedRun(folder, name, values, lines, chosen)


def names_of(paths: Sequence[str]) -> list[str]:
    """What runs are called beside each other: the shortest ends of their paths that differ."""
    parts = [PurePath(Path(path).resolve()).parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    raise UserError("the same run is named twice", help="name different runs")


def shared_items(runs: Sequence[FinishedRun], *, common: bool = False) -> tuple[list[list[Line]], str]:
    """The lines of every run on the items that all of them answered, in the first run's order; and what was left out.

    Items are the same if prompt and expected answers are, or else (prompts may be worded otherwise) if they come from
    the same row of a file of the same name with the same expected answers. common: go on with what is shared where the
    items differ. Raises `UserError` with what differs otherwise, or where nothing is shared.
    """
    found = max((_shared(runs, identity) for identity in (_by_wording, _by_place)), key=lambda shared: len(shared[0]))
    sizes = [len(run.lines) for run in runs]
    count = len(found[0])
    if count == max(sizes):
        return found, ""
    only = "; ".join(_only(run, runs[0] if run is not runs[0] else runs[1], found[0]) for run in runs)
    if not count:
        raise UserError(
            f"the runs share no held-out item: {only}",
            help="score both on the same data: `tunesmith eval RUN_DIR --recipe RECIPE`",
        )
    if not common:
        raise UserError(
            f"the runs were not scored on the same items: {count} are shared; {only}",
            help="add --common to compare them on the shared items alone, or score both on the same data: "
            "`tunesmith eval RUN_DIR --recipe RECIPE`",
        )
    return found, f"compared on the {count} items that all runs share; they have {', '.join(map(str, sizes))}"


def _by_wording(line: Line) -> tuple[Any, ...]:
    return (line["prompt"], tuple(line["references"]))


def _by_place(line: Line) -> tuple[Any, ...]:
    return (PurePath(line["place"]).name, tuple(line["references"]))


def _shared(runs: Sequence[FinishedRun], identity: Identity) -> list[list[Line]]:
    """The lines of every run whose item all runs have; the n-th of equal items belongs to the n-th of the others."""
    tables = [_numbered(run.lines, identity) for run in runs]
    keys = [key for key in tables[0] if all(key in table for table in tables[1:])]
    return [[table[key] for key in keys] for table in tables]


def _numbered(lines: Sequence[Line], identity: Identity) -> dict[tuple[Any, ...], Line]:
    seen: Counter[tuple[Any, ...]] = Counter()
    table = {}
    for line in lines:
        key = identity(line)
        table[(*key, seen[key])] = line
        seen[key] += 1
    return table


def _only(run: FinishedRun, other: FinishedRun, shared: Sequence[Line]) -> str:
    """How many items of `run` the others lack, with the first of them."""
    known = {_by_wording(line) for line in (*shared, *other.lines)} | {_by_place(line) for line in other.lines}
    lacking = [line for line in run.lines if _by_wording(line) not in known and _by_place(line) not in known]
    if not lacking:
        return f"{run.name} has {len(run.lines)}"
    places = ", ".join(str(line["place"]) for line in lacking[:SHOWN])
    return f"{run.name} alone has {len(lacking)} of its {len(run.lines)} ({places}{' ...' * (len(lacking) > SHOWN)})"
