"""The hooks a plugin may implement. Each returns a list (or map) of named values; the recipe picks by name.

A plugin is a module in the entry-point group `tunesmith.plugins`. Implement only the hooks you need, decorated with
`core.hookimpl`. No hook is `firstresult`: what is chosen never depends on the order of installation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

from core.audit.facts import DataCheck
from core.errors import Problem
from core.probes import Probe
from core.types import Adapter, DatasetFormat, Evaluator, Generator, Logger, Schema, Trainer

if TYPE_CHECKING:
    from core.recipe import Recipe

hookspec = pluggy.HookspecMarker("tunesmith")
hookimpl = pluggy.HookimplMarker("tunesmith")


@hookspec
def recipe_keys() -> dict[str, Schema]:  # type: ignore[empty-body]
    """JSON Schema (2020-12) of each top-level recipe key this plugin owns, with its `description` and `default`."""


@hookspec
def dataset_formats() -> list[DatasetFormat]:  # type: ignore[empty-body]
    """Data set formats; a recipe picks one by `datasets[].type`."""


@hookspec
def adapters() -> list[Adapter]:  # type: ignore[empty-body]
    """Ways to make the base model trainable; a recipe picks one by `adapter`."""


@hookspec
def trainers() -> list[Trainer]:  # type: ignore[empty-body]
    """Trainers; a recipe picks one by `trainer`."""


@hookspec
def evaluators() -> list[Evaluator]:  # type: ignore[empty-body]
    """Metrics; a recipe picks them by `evaluation.metrics[].type`."""


@hookspec
def generators() -> list[Generator]:  # type: ignore[empty-body]
    """Other engines that generate answers; a recipe picks one by `evaluation.generator`."""


@hookspec
def probes() -> list[Probe]:  # type: ignore[empty-body]
    """Probes of general abilities; a recipe picks one by `evaluation.forgetting.probe`."""


@hookspec
def loggers() -> list[Logger]:  # type: ignore[empty-body]
    """Metric loggers; a recipe picks them by `report_to` or by setting one of the keys they own."""


@hookspec
def data_checks() -> list[DataCheck]:  # type: ignore[empty-body]
    """Checks of the data, made before anything heavy starts; a recipe sets their level by `data_checks`."""


@hookspec
def check_recipe(recipe: Recipe) -> list[Problem]:  # type: ignore[empty-body]
    """Rules across keys. Called by `check` and before every run, when the keys are already valid one by one."""
