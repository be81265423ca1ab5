"""TensorBoard, Weights & Biases, MLflow and trackio, through the callbacks that transformers keeps for them.

Each is off unless `report_to` names it or one of its keys is set. Secrets stay where the tools look for them (their own
login, or environment variables): no key here takes one, and none is written to the output folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from core import Logger, Plan, Problem, UserError, hookimpl, load_fragment

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from core import Recipe

# logger -> (package to import, keys that switch it on, key that keeps it off)
TRACKERS: Mapping[str, tuple[str, tuple[str, ...], str | None]] = {
    "tensorboard": ("tensorboard", ("use_tensorboard",), None),
    "wandb": ("wandb", ("use_wandb", "wandb_project"), "use_wandb"),
    "mlflow": ("mlflow", ("use_mlflow", "mlflow_tracking_uri", "mlflow_experiment_name"), "use_mlflow"),
    "trackio": ("trackio", ("trackio_project_name", "trackio_space_id"), None),
}

# recipe key -> environment variable that the tool, or its callback, reads
VARIABLES = {
    "wandb_project": "WANDB_PROJECT",
    "wandb_entity": "WANDB_ENTITY",
    "wandb_name": "WANDB_NAME",
    "wandb_run_id": "WANDB_RUN_ID",
    "wandb_mode": "WANDB_MODE",
    "wandb_watch": "WANDB_WATCH",
    "wandb_log_model": "WANDB_LOG_MODEL",
    "mlflow_tracking_uri": "MLFLOW_TRACKING_URI",
    "mlflow_experiment_name": "MLFLOW_EXPERIMENT_NAME",
    "hf_mlflow_log_artifacts": "HF_MLFLOW_LOG_ARTIFACTS",
}


def wanted(name: str, recipe: Recipe) -> bool:
    """Whether `recipe` asks for the logger `name`."""
    _, switches, off = TRACKERS[name]
    if off is not None and recipe[off] is False:
        return False
    named = recipe["report_to"] or ()
    return name in ([named] if isinstance(named, str) else named) or any(recipe[key] for key in switches)


def make_callback(name: str) -> Callable[[Plan], TrainerCallback]:
    """The `callback` of the logger `name`."""

    def callback(plan: Plan) -> TrainerCallback:
        from transformers import TrainerCallback
        from transformers.integrations import integration_utils as integrations

        if not wanted(name, plan.recipe):
            return TrainerCallback()
        problem = _missing(name)
        if problem is not None:
            raise UserError(problem.message, help=problem.help)
        variables = {
            variable: str(plan.recipe[key])
            for key, variable in VARIABLES.items()
            if key.startswith((name, f"hf_{name}")) and plan.recipe[key] is not None
        }
        made: dict[str, Any] = {
            "tensorboard": integrations.TensorBoardCallback,
            "wandb": integrations.WandbCallback,
            "mlflow": integrations.MLflowCallback,
            "trackio": integrations.TrackioCallback,
        }
        before = {variable: os.environ.get(variable) for variable in variables}
        os.environ.update(variables)
        return _putting_back(made[name](), before)

    return callback


def _putting_back(tracker: TrainerCallback, before: Mapping[str, str | None]) -> TrainerCallback:
    """`tracker`, which leaves the environment as it was `before` when a training ends: the next run of this process may
    be another. The tools read it until then."""
    finish = tracker.on_train_end

    def on_train_end(*given: Any, **more: Any) -> Any:
        try:
            return finish(*given, **more)
        finally:
            for variable, value in before.items():
                if value is None:
                    os.environ.pop(variable, None)
                else:
                    os.environ[variable] = value

    tracker.on_train_end = on_train_end  # type: ignore[method-assign]
    return tracker


def _missing(name: str) -> Problem | None:
    package, switches, _ = TRACKERS[name]
    if find_spec(package) is not None:
        return None
    return Problem(
        f"logger {name!r} needs the package {package!r}", help=f"pip install 'tunesmith[{name}]'", key=switches[:1]
    )


@hookimpl
def recipe_keys() -> dict[str, Any]:
    """The keys of `schemas/trackers.json`."""
    return load_fragment("trackers")


@hookimpl
def loggers() -> list[Logger]:
    """One logger per tool."""
    return [
        Logger(name, make_callback(name), keys=switches, description=f"metrics to {name}")
        for name, (_, switches, _) in TRACKERS.items()
    ]


@hookimpl
def check_recipe(recipe: Recipe) -> list[Problem]:
    """A logger that is asked for must be installed, for a run on this machine."""
    found = []
    for name, (_, switches, _) in TRACKERS.items():
        problem = _missing(name) if wanted(name, recipe) else None
        if problem is not None:
            key = next((switch for switch in switches if switch in recipe), "report_to")
            found.append(Problem(problem.message, key=(key,), help=problem.help, severity="warning", blocks_run=True))
    return found
