"""What a run runs on: the versions of everything that takes part, and the hardware."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, entry_points, packages_distributions, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.host import GROUP, OWN_DISTRIBUTION, Host, PluginInfo
from core.lock.hashes import code_hash
from core.types import Plan

if TYPE_CHECKING:
    from packaging.requirements import Requirement

OWN_PACKAGES = ("core", "plugins", "schemas")
ABSENT = "not there"


def software(plan: Plan) -> dict[str, Any]:
    """The sections `tunesmith`, `python` and `plugins` of a lock. Light: imports nothing that is not imported yet."""
    from core import __version__

    here = Path(__file__).parents[2]
    return {
        "tunesmith": {"version": __version__, "code": code_hash(here / name for name in OWN_PACKAGES)},
        "python": platform.python_version(),
        "plugins": {plugin.name: _plugin(plugin) for plugin in foreign_plugins(plan)},
    }


def foreign_plugins(plan: Plan) -> list[PluginInfo]:
    """The installed plugins, not our own, whose components this run uses."""
    host = plan.host or _installed()
    datasets = (*plan.datasets, *plan.validation, *plan.evaluation.datasets)
    used = {("adapters", plan.adapter.name), ("trainers", plan.trainer.name)}
    used |= {("dataset_formats", dataset.format.name) for dataset in datasets}
    used |= {("evaluators", metric.evaluator.name) for metric in plan.evaluation.metrics}
    if plan.evaluation.generator:
        used.add(("generators", plan.evaluation.generator.name))
    if plan.evaluation.forgetting:
        used.add(("probes", plan.evaluation.forgetting.probe.name))
    used |= {("loggers", logger.name) for logger in plan.loggers}
    used |= {("data_checks", planned.check.name) for planned in plan.checks}
    owners = {host.component_owners.get(component) for component in used}
    owners |= {host.key_owners.get(key) for key in plan.recipe.values}
    return [plugin for plugin in host.plugins if plugin.name in owners and plugin.distribution != OWN_DISTRIBUTION]


def _installed() -> Host:
    from core.host import load_host

    return load_host()


def _plugin(plugin: PluginInfo) -> dict[str, str]:
    # a plugin that is no entry point was handed over as a module, and bears its name
    module = next((entry.value for entry in entry_points(group=GROUP, name=plugin.name)), plugin.name)
    package = module.partition(":")[0].partition(".")[0]
    return {"distribution": plugin.distribution, "version": plugin.version, "code": code_hash(_places(package))}


def _places(package: str) -> list[Path]:
    spec = find_spec(package)
    if spec is None:
        return []
    if spec.submodule_search_locations:
        return [Path(location) for location in spec.submodule_search_locations]
    return [Path(spec.origin)] if spec.origin else []


def packages_taking_part() -> dict[str, str]:
    """Name and version of every installed distribution that is imported by now, or that tunesmith requires."""
    owners = packages_distributions()
    tops = {name.partition(".")[0] for name, module in list(sys.modules.items()) if module is not None}
    names = {_canonical(name) for top in tops for name in owners.get(top, ())} | {*map(_canonical, _required())}
    return {name: found for name in sorted(names) if (found := installed_version(name)) != ABSENT}


def _canonical(name: str) -> str:
    """One spelling for the many that a distribution's name may have: PyYAML and pyyaml are one."""
    from packaging.utils import canonicalize_name

    return canonicalize_name(name)


def _required() -> list[str]:
    from packaging.requirements import Requirement

    def needed(requirement: Requirement) -> bool:
        return requirement.marker is None or requirement.marker.evaluate({"extra": ""})

    try:
        listed = requires(OWN_DISTRIBUTION) or []
    except PackageNotFoundError:  # run from a source tree that nobody installed
        return []
    return [requirement.name for requirement in map(Requirement, listed) if needed(requirement)]


def installed_versions(names: Iterable[str]) -> dict[str, str]:
    """The installed version of each distribution, `not there` where there is none."""
    return {name: installed_version(name) for name in names}


def installed_version(name: str) -> str:
    """The version of a distribution, or `not there`. Our own is the one that is imported."""
    from core import __version__

    if name == OWN_DISTRIBUTION:
        return __version__
    try:
        return version(name)
    except PackageNotFoundError:
        return ABSENT


def hardware() -> dict[str, Any]:
    """The section `hardware`: what can change the last bits of a result. Only after the processes have met."""
    import torch

    from core.processes import device_name, device_type, processor_name, world_size

    return {
        "device": device_type(),
        "device_name": device_name(),
        "cpu": processor_name(),
        "machine": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
        "world_size": world_size(),
    }
