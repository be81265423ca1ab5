"""The plugin host: built-ins and installed packages, gathered into one table per kind of component.

Built-ins are ordinary plugins that happen to be listed here; everything else comes from the entry-point group
`tunesmith.plugins`. Names are unique across all of them: two owners of one name are an error that names both.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import pluggy

from core import hookspecs
from core.audit.facts import DataCheck
from core.audit.plan import with_checks
from core.errors import PluginError, Problem
from core.probes import Probe
from core.types import Adapter, DatasetFormat, Evaluator, Generator, Logger, Schema, Trainer

if TYPE_CHECKING:
    from core.recipe import Recipe

GROUP = "tunesmith.plugins"
DISABLE_VARIABLE = "TUNESMITH_DISABLE_PLUGINS"
OWN_DISTRIBUTION = "tunesmith"

BUILTINS = (
    "core.keys",
    "plugins.formats.alpaca",
    "plugins.formats.chat_template",
    "plugins.formats.completion",
    "plugins.formats.input_output",
    "plugins.formats.instruction",
    "plugins.formats.user_defined",
    "plugins.formats.pretokenised",
    "plugins.formats.pygmalion",
    "plugins.adapters.full",
    "plugins.adapters.lora",
    "plugins.trainers.sft",
    "plugins.evaluators.accuracy",
    "plugins.evaluators.token_f1",
    "plugins.evaluators.format_compliance",
    "plugins.evaluators.json_field",
    "plugins.evaluators.json_fields",
    "plugins.evaluators.classification",
    "plugins.evaluators.rouge",
    "plugins.evaluators.translation",
    "plugins.evaluators.multiple_choice",
    "plugins.evaluators.perplexity",
    "plugins.evaluators.latency",
    "plugins.probes.general",
    "plugins.generators.vllm",
    "plugins.loggers.trackers",
    "plugins.checks.learning",
    "plugins.checks.templates",
    "plugins.checks.repeats",
    "plugins.checks.leakage",
    "plugins.checks.answers",
    "plugins.checks.labels",
    "plugins.checks.coverage",
    "plugins.checks.texts",
    "plugins.checks.languages",
    "plugins.checks.private",
)


class Kind(NamedTuple):
    """One kind of component. word: what messages call it. type: what its hook returns a list of. table: where `Host`
    has them by name."""

    word: str
    type: type[Any]
    table: str


KINDS = {  # by hook
    "dataset_formats": Kind("dataset format", DatasetFormat, "formats"),
    "adapters": Kind("adapter", Adapter, "adapters"),
    "trainers": Kind("trainer", Trainer, "trainers"),
    "evaluators": Kind("metric", Evaluator, "evaluators"),
    "generators": Kind("generator", Generator, "generators"),
    "probes": Kind("probe", Probe, "probes"),
    "loggers": Kind("logger", Logger, "loggers"),
    "data_checks": Kind("data check", DataCheck, "data_checks"),
}


@dataclass(frozen=True)
class PluginInfo:
    """One loaded plugin: its name, the distribution and version it came with, and what it offers by hook."""

    name: str
    distribution: str
    version: str
    offers: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Host:
    """Everything the installed plugins offer, by name. `key_owners` maps each recipe key to the plugin that owns it."""

    plugins: tuple[PluginInfo, ...]
    formats: Mapping[str, DatasetFormat]
    adapters: Mapping[str, Adapter]
    trainers: Mapping[str, Trainer]
    evaluators: Mapping[str, Evaluator]
    loggers: Mapping[str, Logger]
    recipe_keys: Mapping[str, Schema]
    key_owners: Mapping[str, str]
    data_checks: Mapping[str, DataCheck] = field(default_factory=dict)
    generators: Mapping[str, Generator] = field(default_factory=dict)
    probes: Mapping[str, Probe] = field(default_factory=dict)
    component_owners: Mapping[tuple[str, str], str] = field(default_factory=dict)
    rules: Sequence[Callable[..., Any]] = ()

    def check_recipe(self, recipe: Recipe) -> list[Problem]:
        """All problems that the plugins' own rules find in `recipe`."""
        return [problem for rule in self.rules for problem in rule(recipe=recipe)]


def load_host(*, extra: Iterable[ModuleType] = (), disabled: Iterable[str] | None = None) -> Host:
    """Load the built-ins, the installed plugins and `extra` modules.

    disabled: plugin names to leave out; by default those in the environment variable TUNESMITH_DISABLE_PLUGINS
    (comma-separated). Raises `PluginError` for a plugin that cannot be imported, misspells a hook, returns the wrong
    kind of thing, or claims a name that another plugin owns.
    """
    if disabled is None:
        disabled = [name.strip() for name in os.environ.get(DISABLE_VARIABLE, "").split(",") if name.strip()]
    left_out = set(disabled)
    found = sorted(entry_points(group=GROUP), key=lambda entry: entry.name)
    _refuse_unknown(left_out, [*BUILTINS, *(entry.name for entry in found)])
    manager = pluggy.PluginManager("tunesmith")
    manager.add_hookspecs(hookspecs)
    sources: dict[str, tuple[str, str]] = {}

    for name in BUILTINS:
        if name not in left_out:
            _register(manager, import_module(name), name, OWN_DISTRIBUTION)
            sources[name] = (OWN_DISTRIBUTION, _own_version())
    for entry in found:
        if entry.name not in left_out:
            distribution, version = _distribution(entry)
            if entry.name in sources:
                raise PluginError(
                    f"two plugins are called {entry.name!r}: "
                    f"one from {sources[entry.name][0]}, one from {distribution}",
                    help="uninstall one of the two distributions",
                )
            _register(manager, _import(entry, distribution), entry.name, distribution)
            sources[entry.name] = (distribution, version)
    for module in extra:
        _register(manager, module, module.__name__, module.__name__)
        sources[module.__name__] = (module.__name__, "")

    _refuse_misspelt_hooks(manager, sources)
    return _gather(manager, sources)


def _refuse_unknown(disabled: Iterable[str], known: Sequence[str]) -> None:
    for name in sorted(set(disabled) - set(known)):
        near = difflib.get_close_matches(name, known, n=1)
        listed = "`tunesmith plugins` lists the names"
        raise PluginError(
            f"{DISABLE_VARIABLE} names {name!r}, and no plugin is called so",
            help=f"did you mean {near[0]!r}? {listed}" if near else f"take it out; {listed}",
        )


def _own_version() -> str:
    from core import __version__

    return __version__


def _distribution(entry: EntryPoint) -> tuple[str, str]:
    return (entry.dist.name, entry.dist.version) if entry.dist else (entry.value, "")


def _disable_hint(name: str) -> str:
    return f"fix or uninstall it, or leave it out with {DISABLE_VARIABLE}={name}"


def _import(entry: EntryPoint, distribution: str) -> object:
    try:
        return entry.load()
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"plugin {entry.name!r} of {distribution} cannot be imported: {type(error).__name__}: {error}",
            help=_disable_hint(entry.name),
        ) from error


def _register(manager: pluggy.PluginManager, plugin: object, name: str, distribution: str) -> None:
    try:
        manager.register(plugin, name=name)
    except pluggy.PluginValidationError as error:
        raise PluginError(
            f"plugin {name!r} of {distribution} does not fit its hook: {' '.join(str(error).split())}",
            help=_disable_hint(name),
        ) from error
    except ValueError as error:
        raise PluginError(
            f"plugin {name!r} of {distribution} is the same module as another plugin: {plugin!r}",
            help=_disable_hint(name),
        ) from error
    if not manager.get_hookcallers(plugin):
        raise PluginError(
            f"plugin {name!r} of {distribution} implements no hook",
            help="decorate its hooks with @hookimpl from core, and name the module itself in the entry point",
        )


def _refuse_misspelt_hooks(manager: pluggy.PluginManager, sources: Mapping[str, tuple[str, str]]) -> None:
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        name = manager.get_name(error.plugin) or "?"
        hooks = ", ".join(sorted(hook for hook in vars(manager.hook) if not hook.startswith("_")))
        raise PluginError(
            f"plugin {name!r} of {sources[name][0]} implements a hook that does not exist: "
            f"{' '.join(str(error).split())}",
            help=f"the hooks are: {hooks}",
        ) from error


def _gather(manager: pluggy.PluginManager, sources: Mapping[str, tuple[str, str]]) -> Host:
    tables: dict[str, dict[str, Any]] = {hook: {} for hook in KINDS}
    owners: dict[tuple[str, str], str] = {}
    keys: dict[str, Schema] = {}
    key_owners: dict[str, str] = {}
    offers: dict[str, dict[str, tuple[str, ...]]] = {name: {} for name in sources}

    for hook, kind in KINDS.items():
        for plugin, components in _call_each(manager, hook, list, sources):
            for component in components:
                if not isinstance(component, kind.type):
                    raise PluginError(
                        f"{hook}() of plugin {plugin!r} ({sources[plugin][0]}) "
                        f"returned {component!r}, not a {kind.type.__name__}",
                        help=_disable_hint(plugin),
                    )
                claimed = owners.setdefault((hook, component.name), plugin)
                if claimed != plugin or component.name in tables[hook]:
                    raise _clash(kind.word, component.name, claimed, plugin, sources)
                tables[hook][component.name] = component
            offers[plugin][hook] = tuple(component.name for component in components)
    for plugin, fragment in _call_each(manager, "recipe_keys", dict, sources):
        for key, schema in fragment.items():
            if key in key_owners:
                raise _clash("recipe key", key, key_owners[key], plugin, sources)
            keys[key], key_owners[key] = schema, plugin
        offers[plugin]["recipe_keys"] = tuple(fragment)
    if "data_checks" in keys:
        keys["data_checks"] = with_checks(keys["data_checks"], tables["data_checks"])

    return Host(
        plugins=tuple(PluginInfo(name, *sources[name], offers=offers[name]) for name in sources),
        recipe_keys=keys,
        key_owners=key_owners,
        **{kind.table: tables[hook] for hook, kind in KINDS.items()},
        component_owners=owners,
        rules=tuple(impl.function for impl in manager.hook.check_recipe.get_hookimpls()),
    )


def _call_each(
    manager: pluggy.PluginManager, hook: str, kind: type, sources: Mapping[str, tuple[str, str]]
) -> Iterator[tuple[str, Any]]:
    """(plugin name, result) of every implementation of `hook`, in order of registration; checked to be a `kind`."""
    for impl in getattr(manager.hook, hook).get_hookimpls():
        label = f"{hook}() of plugin {impl.plugin_name!r} ({sources[impl.plugin_name][0]})"
        try:
            result = impl.function()
        except Exception as error:
            raise PluginError(
                f"{label} failed: {type(error).__name__}: {error}", help=_disable_hint(impl.plugin_name)
            ) from error
        if not isinstance(result, kind):
            raise PluginError(
                f"{label} returned {result!r}, not a {kind.__name__}", help=_disable_hint(impl.plugin_name)
            )
        yield impl.plugin_name, result


def _clash(kind: str, name: str, first: str, second: str, sources: Mapping[str, tuple[str, str]]) -> PluginError:
    owners = f"{first} ({sources[first][0]}) and {second} ({sources[second][0]})"
    return PluginError(f"two plugins offer the {kind} {name!r}: {owners}", help=_disable_hint(second))
