"""Names that pick components: adapters, trainers, formats, metrics and loggers that are not there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from core.check.defaults import TOKENISED
from core.check.foreign import ForeignKeys
from core.check.names import did_you_mean
from core.check.schema import ITEM_LISTS, find_component
from core.errors import Problem
from core.host import Host
from core.recipe import Recipe
from core.types import KeyPath

# values of report_to that pick no logger, or all that have keys of their own set
NO_LOGGER = ("none", "all")
OWN_GENERATOR = "transformers"


def component_problems(recipe: Recipe, host: Host, foreign: ForeignKeys) -> Iterator[Problem]:
    """An error for every name that no plugin offers, with what is there."""
    yield from _name(recipe.values.get("adapter"), ("adapter",), "adapter", host.adapters)
    yield from _name(recipe.values.get("trainer"), ("trainer",), "trainer", host.trainers)
    for path, kind in ITEM_LISTS.items():
        entries: Any = recipe.values
        for part in path:
            entries = entries.get(part) if isinstance(entries, Mapping) else None
        for index, entry in enumerate(entries if isinstance(entries, list) else ()):
            name = entry.get("type") if isinstance(entry, Mapping) else None
            place: KeyPath = (*path, index, "type")
            if name == TOKENISED and place not in recipe.positions:
                yield Problem(
                    f"{'.'.join(map(str, place[:-1]))!r} has no type: its rows are taken to hold token ids",
                    key=place,
                    severity="warning",
                    help=f"name the format of the rows, such as alpaca or chat_template; {TOKENISED} if they do",
                )
            if find_component(host, kind.table, name) is None:
                known = foreign.keys.get(f"datasets[].type: {name}") if kind.table == "formats" else None
                if known:
                    yield Problem(f"{known['note']}: {name!r}", key=place, at="value", help=known["use"])
                else:
                    yield from _name(name, place, kind.kind, getattr(host, kind.table))
    yield from _mismatches(recipe, host)
    yield from _of_evaluation(recipe, host)
    named = recipe.values.get("report_to")
    for index, name in enumerate(named if isinstance(named, list) else [named]):
        if name not in NO_LOGGER:
            place = ("report_to", index) if isinstance(named, list) else ("report_to",)
            yield from _name(name, place, "logger", host.loggers)


def _of_evaluation(recipe: Recipe, host: Host) -> Iterator[Problem]:
    """Names inside `evaluation` that stand alone: what generates, and what probes general abilities."""
    settings = recipe.values.get("evaluation")
    if not isinstance(settings, Mapping):
        return
    if settings.get("generator") != OWN_GENERATOR:
        known = {OWN_GENERATOR: None, **host.generators}
        yield from _name(settings.get("generator"), ("evaluation", "generator"), "generator", known)
    forgetting = settings.get("forgetting")
    if isinstance(forgetting, Mapping):
        yield from _name(forgetting.get("probe"), ("evaluation", "forgetting", "probe"), "probe", host.probes)


def _name(name: Any, place: KeyPath, kind: str, table: Mapping[str, Any]) -> Iterator[Problem]:
    if not isinstance(name, str) or not name or name in table:
        return
    # the variants of a component are named after it, with a dot
    shown = [one for one in sorted(table) if one.partition(".")[0] not in table or "." not in one]
    there = f"there are: {', '.join(shown)}" if table else "none is installed"
    near = did_you_mean(name, table)
    advice = (
        f"{near} {there}"
        if near
        else f"{there}; install the plugin that offers {name!r} (`tunesmith plugins` lists them)"
    )
    yield Problem(f"unknown {kind} {name!r}", key=place, at="value", help=advice)


def _mismatches(recipe: Recipe, host: Host) -> Iterator[Problem]:
    """Data sets whose examples are of another kind than the trainer takes."""
    trainer = host.trainers.get(str(recipe.values.get("trainer", "sft")))
    for path in (("datasets",), ("test_datasets",)):
        entries = recipe.values.get(path[0])
        for index, entry in enumerate(entries if trainer and isinstance(entries, list) else ()):
            found = find_component(host, "formats", entry.get("type")) if isinstance(entry, Mapping) else None
            if trainer and found and found.kind != trainer.kind:
                made = f"format {found.name!r} makes {found.kind!r} examples"
                message = f"{made}, trainer {trainer.name!r} takes {trainer.kind!r}"
                yield Problem(message, key=(*path, index, "type"), at="value", help="choose another format or trainer")
