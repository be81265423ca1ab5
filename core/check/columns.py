"""The columns of the comparison and the gates on them: what they are called, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import PurePath
from typing import Any

from core.check.names import did_you_mean
from core.errors import Problem
from core.host import Host
from core.overrides import COMMAND_LINE
from core.recipe import Recipe
from core.types import BEST_UNTUNED, ColumnPlan, GatePlan, KeyPath

COMPARE: KeyPath = ("evaluation", "compare")
GATES: KeyPath = ("evaluation", "gates")
METRICS: KeyPath = ("evaluation", "metrics")
# what an entry of `compare` may be made of
KINDS = ("prompted", "model", "tuned", "merged")
OWN_NAMES = ("base", *KINDS, BEST_UNTUNED)
PACKINGS = {"load_in_4bit": "4bit", "load_in_8bit": "8bit"}
DEFAULT_CONFIDENCE = 0.95


def columns_of(entries: Sequence[Any]) -> tuple[ColumnPlan, ...]:
    """The columns that `evaluation.compare` lists, each with a name of its own."""
    columns: list[ColumnPlan] = []
    for entry in entries:
        kind, options = _parted(entry)
        wanted = options.pop("name", None) or _own_name(kind, options)
        taken = {column.name for column in columns} | (set(OWN_NAMES) if kind == "model" else set())
        name, number = wanted, 2
        while name in taken:
            name, number = f"{wanted}-{number}", number + 1
        columns.append(ColumnPlan(name, options, kind))
    return tuple(columns)


def gates_of(gates: Mapping[str, Mapping[str, Any]]) -> tuple[GatePlan, ...]:
    """The gates that `evaluation.gates` sets, one per rule, in their order."""
    found = []
    for metric, rules in gates.items():
        column = rules.get("column") or "tuned"
        for rule, value in rules.items():
            if rule == "min_gain":
                confidence = value.get("confidence", DEFAULT_CONFIDENCE)
                found.append(GatePlan(metric, rule, value["by"], column, value["over"], confidence or None))
            elif rule in ("at_least", "at_most"):
                found.append(GatePlan(metric, rule, value, column, None, rules.get("confidence") or None))
    return tuple(found)


def metric_names(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the metrics are called: the type, and from the second of a type on `type-2`, `type-3` ..."""
    seen: dict[str, int] = {}
    names = []
    for entry in entries:
        kind = str(entry.get("type"))
        seen[kind] = seen.get(kind, 0) + 1
        names.append(kind if seen[kind] == 1 else f"{kind}-{seen[kind]}")
    return names


def comparison_problems(recipe: Recipe, host: Host) -> list[Problem]:
    """What is wrong with `evaluation.compare` and `evaluation.gates`; every key is valid by itself already."""
    settings: Mapping[str, Any] = recipe["evaluation"] or {}
    entries = settings.get("compare") or []
    problems = [problem for index, entry in enumerate(entries) for problem in _entry_problems(index, entry)]
    if not problems:
        problems = [*_name_problems(entries), *_gate_problems(recipe, settings, host)]
        problems += _repeat_problems(recipe, settings)
    return problems


def _parted(entry: Any) -> tuple[str, dict[str, Any]]:
    """What a column is made of, and its options; `model` keeps the address among them."""
    if isinstance(entry, str):
        return entry, {}
    kind = next(key for key in KINDS if key in entry)
    return (kind, dict(entry)) if kind == "model" else (kind, dict(entry[kind] or {}))


def _own_name(kind: str, options: Mapping[str, Any]) -> str:
    if kind == "model":
        kind = PurePath(str(options["model"])).name.removesuffix(".gguf") or "model"
    packing = next((suffix for key, suffix in PACKINGS.items() if options.get(key)), None)
    return f"{kind}-{packing}" if packing else kind


def _entry_problems(index: int, entry: Any) -> Iterator[Problem]:
    if isinstance(entry, str):
        return
    place: KeyPath = (*COMPARE, index)
    kinds = [key for key in KINDS if key in entry]
    if len(kinds) != 1:
        message = f"it names {' and '.join(map(repr, kinds))}, one of them is a column" if kinds else "it names none"
        help = "each entry is base, prompted, tuned or merged, or a map with one of prompted, model, tuned and merged"
        yield Problem(f"'evaluation.compare.{index}' is no column: {message}", key=place, at="value", help=help)
        return
    (kind,) = kinds
    for key in entry:
        if kind != "model" and key != kind:
            message = f"{key!r} stands beside {kind!r} and has to be inside it"
            yield Problem(message, key=(*place, key), help=f"write {kind}: {{{key}: ...}}")
    options, inside = (entry, place) if kind == "model" else (entry[kind] or {}, (*place, kind))
    if options.get("load_in_4bit") and options.get("load_in_8bit"):
        message = "load_in_4bit and load_in_8bit are both set"
        yield Problem(message, key=(*inside, "load_in_8bit"), help="keep one of them")
    packed = next((key for key in PACKINGS if options.get(key)), None)
    if packed and find_spec("bitsandbytes") is None:
        message = f"{packed} needs the package bitsandbytes, which is not installed"
        help = "pip install 'tunesmith[qlora]'"
        yield Problem(message, key=(*inside, packed), severity="warning", help=help, blocks_run=True)
    if options.get("choose") == "nearest" and options.get("shots", 5 if kind == "prompted" else 0) == 0:
        message = "'choose: nearest' has no effect without shots"
        yield Problem(message, key=(*inside, "choose"), severity="warning", help="set shots to 1 or more")
    if kind == "tuned" and not packed and "name" in options:
        message = "the tuned model as it was trained is always the column 'tuned'"
        yield Problem(message, key=(*inside, "name"), help="remove the name")


def _name_problems(entries: Sequence[Any]) -> Iterator[Problem]:
    seen: set[str] = set()
    plain = [entry for entry in entries if isinstance(entry, str)]
    for index, entry in enumerate(entries):
        if isinstance(entry, str) and plain.count(entry) > 1 and entry in seen:
            message = f"the column {entry!r} is listed twice"
            yield Problem(message, key=(*COMPARE, index), at="value", help="remove one of them")
        kind, options = _parted(entry)
        name = options.get("name")
        place: KeyPath = (*COMPARE, index, "name") if kind == "model" else (*COMPARE, index, kind, "name")
        if name in OWN_NAMES:
            yield Problem(f"a column cannot be called {name!r}", key=place, at="value", help="choose another name")
        elif name in seen:
            yield Problem(f"two columns are called {name!r}", key=place, at="value", help="choose another name")
        seen.add(name or _own_name(kind, options))


def _gate_problems(recipe: Recipe, settings: Mapping[str, Any], host: Host) -> Iterator[Problem]:
    gates: Mapping[str, Mapping[str, Any]] = settings.get("gates") or {}
    if not gates:
        return
    if not settings.get("datasets") and not recipe["test_datasets"]:
        message = "the gates cannot be judged: there is no held-out data"
        yield Problem(message, key=GATES, help="list it under evaluation.datasets")
        return
    entries = settings.get("metrics") or []
    kinds = dict(zip(metric_names(entries), (entry["type"] for entry in entries), strict=True))
    columns = {column.name: column for column in columns_of(settings.get("compare") or [])}
    for metric, rules in gates.items():
        place = (*GATES, metric)
        if metric not in kinds:
            help = did_you_mean(metric, kinds) or f"the metrics of this recipe are: {', '.join(kinds)}"
            if _from_command_line(recipe, METRICS) and not _from_command_line(recipe, place):
                left = any(other in kinds for other in gates)  # gates that can be judged stay
                help += f"; leave the gate out with --set {'.'.join(map(str, place if left else GATES))}=null"
                help += ", or set gates on what is scored"
            yield Problem(f"a gate on {metric!r}, which is not scored", key=place, help=help)
        else:
            yield from _rule_problems(metric, rules, place, columns, host.evaluators[kinds[metric]].unit)


def _from_command_line(recipe: Recipe, path: KeyPath) -> bool:
    """Whether what stands at `path`, or something in it, was set with --set."""
    return any(place.file == COMMAND_LINE for at, (place, _) in recipe.positions.items() if at[: len(path)] == path)


def _repeat_problems(recipe: Recipe, settings: Mapping[str, Any]) -> Iterator[Problem]:
    """Trainings that nobody would compare."""
    if (settings.get("repeats") or 1) < 2:
        return
    place: KeyPath = ("evaluation", "repeats")
    if not settings.get("datasets") and not recipe["test_datasets"]:
        help = "list held-out data under evaluation.datasets"
        yield Problem("'repeats' has no effect: nothing is scored", key=place, severity="warning", help=help)
    elif all(column.name != "tuned" for column in columns_of(settings.get("compare") or [])):
        message = "'repeats' has no effect: the tuned model is not scored"
        yield Problem(message, key=place, severity="warning", help="add tuned to evaluation.compare")


def _rule_problems(
    metric: str, rules: Mapping[str, Any], place: KeyPath, columns: Mapping[str, ColumnPlan], unit: str
) -> Iterator[Problem]:
    bounds = [key for key in ("at_least", "at_most") if key in rules]
    if not bounds and "min_gain" not in rules:
        help = "set min_gain: {over, by}, at_least or at_most"
        yield Problem(f"the gate on {metric!r} demands nothing", key=place, help=help)
    judged = rules.get("column") or "tuned"
    if judged not in columns:
        at = (*place, "column") if "column" in rules else place
        yield _unknown_column(judged, at, columns)
    if "confidence" in rules and not bounds:
        help = "that of min_gain stands inside it"
        yield Problem("'confidence' has no effect here", key=(*place, "confidence"), severity="warning", help=help)
    if len(bounds) == 2 and rules["at_least"] > rules["at_most"]:
        message = f"at_most is {rules['at_most']}, below at_least {rules['at_least']}: nothing can pass"
        yield Problem(message, key=(*place, "at_most"), at="value", help="raise at_most, or keep one of the two")
    gain = rules.get("min_gain") or {}
    figures = [(key, rules[key], 0.0) for key in bounds] + ([("min_gain", gain["by"], -1.0)] if gain else [])
    for key, value, lowest in figures:
        if unit == "share" and not lowest <= value <= 1:
            at = (*place, "min_gain", "by") if key == "min_gain" else (*place, key)
            message = f"{metric!r} is a share between 0 and 1, and {key} asks for {value}"
            help = f"write {value / 100:g} for {value:g} %" if 1 < value <= 100 else "write a share"
            yield Problem(message, key=at, at="value", help=help)
    over, at = gain.get("over"), (*place, "min_gain", "over")
    if over == BEST_UNTUNED and not any(column.kind in ("base", "prompted") for column in columns.values()):
        help = "add base or prompted to evaluation.compare"
        yield Problem("there is no untuned column to gain over", key=at, at="value", help=help)
    elif over is not None and over == judged:
        help = f"name another column, or {BEST_UNTUNED}"
        yield Problem(f"the column {over!r} cannot gain over itself", key=at, at="value", help=help)
    elif over is not None and over != BEST_UNTUNED and over not in columns:
        yield _unknown_column(over, at, columns, BEST_UNTUNED)


def _unknown_column(name: str, at: KeyPath, columns: Mapping[str, ColumnPlan], *others: str) -> Problem:
    known = [*columns, *others]
    help = did_you_mean(name, known) or f"the columns of evaluation.compare are: {', '.join(columns)}"
    return Problem(f"no column {name!r} is compared", key=at, at="value", help=help)
