from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from core import UserError
from core.processes import start_processes
from core.recipe import Recipe
from plugins.loggers import trackers
from plugins.loggers.trackers import check_recipe, loggers, make_callback, recipe_keys, wanted
from tests.core.plans import make_test_data, make_test_plan

NAMES = ("tensorboard", "wandb", "mlflow", "trackio")


def recipe(**values: Any) -> Recipe:
    return Recipe(path=Path("recipe.yml"), text="", values=values)


def test_every_switch_is_a_key_that_is_owned() -> None:
    keys = recipe_keys()
    assert tuple(logger.name for logger in loggers()) == NAMES
    for logger in loggers():
        assert logger.keys
        assert set(logger.keys) <= set(keys)
    assert set(trackers.VARIABLES) <= set(keys)
    assert all("description" in schema for schema in keys.values())


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, ()),
        ({"report_to": "wandb"}, ("wandb",)),
        ({"report_to": ["tensorboard", "mlflow"]}, ("tensorboard", "mlflow")),
        ({"report_to": "none"}, ()),
        ({"use_tensorboard": True}, ("tensorboard",)),
        ({"use_tensorboard": False}, ()),
        ({"wandb_project": "icd"}, ("wandb",)),
        ({"wandb_project": "icd", "use_wandb": False}, ()),
        ({"wandb_name": "only a name"}, ()),
        ({"mlflow_tracking_uri": "http://localhost:5000"}, ("mlflow",)),
        ({"mlflow_experiment_name": "icd", "use_mlflow": False}, ()),
        ({"trackio_project_name": "icd"}, ("trackio",)),
    ],
)
def test_off_unless_asked_for(values: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert tuple(name for name in NAMES if wanted(name, recipe(**values))) == expected


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_package_is_named_with_the_extra_that_brings_it(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_model: Path
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda package: None)
    (problem,) = check_recipe(recipe(report_to=[name]))
    assert problem.key == ("report_to",)
    assert problem.help == f"pip install 'tunesmith[{name}]'"
    with pytest.raises(UserError, match=name) as caught:
        make_callback(name)(make_test_plan(tmp_path, tiny_model, report_to=[name]))
    assert f"tunesmith[{name}]" in (caught.value.help or "")
    assert check_recipe(recipe()) == []


def test_settings_reach_the_tool_and_secrets_are_none_of_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_model: Path
) -> None:
    from transformers import TrainerCallback
    from transformers.integrations import integration_utils

    made = TrainerCallback()
    for variable in trackers.VARIABLES.values():
        monkeypatch.setenv(variable, "before")
    monkeypatch.setattr(trackers, "find_spec", lambda package: object())
    monkeypatch.setattr(integration_utils, "WandbCallback", lambda: made)
    plan = make_test_plan(tmp_path, tiny_model, wandb_project="icd", wandb_mode="offline", mlflow_tracking_uri="there")
    assert make_callback("wandb")(plan) is made
    assert trackers.os.environ["WANDB_PROJECT"] == "icd"
    assert trackers.os.environ["WANDB_MODE"] == "offline"
    assert trackers.os.environ["WANDB_ENTITY"] == "before"
    assert trackers.os.environ["MLFLOW_TRACKING_URI"] == "before"  # another tool's
    assert not any("key" in key or "token" in key for key in recipe_keys())


def train(tmp_path: Path, tiny_model: Path, name: str, **values: Any) -> Any:
    from transformers import AutoTokenizer

    (logger,) = (logger for logger in loggers() if logger.name == name)
    plan = make_test_plan(tmp_path, tiny_model, loggers=(logger,), max_steps=4, logging_steps=2, **values)
    start_processes(plan)
    model = plan.adapter.build(plan)
    data = make_test_data(16, val=4)
    return plan.trainer.prepare(plan, model, AutoTokenizer.from_pretrained(tiny_model), data).run()


def test_tensorboard_files_hold_the_losses(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("WANDB_API_KEY", "a-secret")
    monkeypatch.setenv("HF_TOKEN", "another-secret")
    result = train(tmp_path, tiny_model, "tensorboard", use_tensorboard=True)
    (file,) = (tmp_path / "out").rglob("events.out.tfevents.*")
    events = EventAccumulator(str(file))
    events.Reload()
    logged = {event.step: event.value for event in events.Scalars("train/loss")}
    expected = {record["step"]: record["loss"] for record in result.history if "loss" in record}
    assert logged == pytest.approx(expected)
    assert [event.step for event in events.Scalars("eval/loss")] == [4]
    assert len(events.Scalars("train/tokens_per_second")) == 3
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert written
    assert not any(secret in path.read_bytes() for path in written for secret in (b"a-secret", b"another-secret"))


@pytest.mark.skipif(find_spec("mlflow") is None, reason="mlflow is not installed")
def test_mlflow_keeps_the_losses(tmp_path: Path, tiny_model: Path) -> None:
    import mlflow

    address = f"sqlite:///{tmp_path}/mlflow.db"
    train(tmp_path, tiny_model, "mlflow", mlflow_tracking_uri=address, mlflow_experiment_name="icd")
    mlflow.set_tracking_uri(address)
    (run,) = mlflow.search_runs(experiment_names=["icd"], output_format="list")
    assert run.data.metrics["loss"] > 0


@pytest.mark.skipif(find_spec("wandb") is None, reason="wandb is not installed")
def test_wandb_keeps_the_losses_offline(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    train(tmp_path, tiny_model, "wandb", wandb_project="icd", wandb_mode="offline")
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


@pytest.mark.skipif(find_spec("trackio") is None, reason="trackio is not installed")
def test_trackio_keeps_the_losses(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    train(tmp_path, tiny_model, "trackio", trackio_project_name="icd")
    assert list(tmp_path.rglob("icd*"))


@pytest.mark.parametrize("fails", [False, True])
def test_the_environment_is_as_before_when_a_training_ends(
    fails: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_model: Path
) -> None:
    from transformers import TrainerCallback
    from transformers.integrations import integration_utils

    seen: list[tuple[str | None, ...]] = []

    def now() -> tuple[str | None, ...]:
        return os.environ.get("WANDB_PROJECT"), os.environ.get("WANDB_NAME")

    class Tracker(TrainerCallback):
        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            seen.append(now())
            if fails:
                raise OSError("the tracker's server has gone")

    monkeypatch.setattr(trackers, "find_spec", lambda package: object())
    monkeypatch.setattr(integration_utils, "WandbCallback", Tracker)
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.delenv("WANDB_NAME", raising=False)
    plan = make_test_plan(tmp_path, tiny_model, wandb_project="icd", wandb_name="first")
    tracker = make_callback("wandb")(plan)
    assert now() == ("icd", "first")
    if fails:
        with pytest.raises(OSError, match="has gone"):
            tracker.on_train_end(None, None, None)  # type: ignore[arg-type]
    else:
        tracker.on_train_end(None, None, None)  # type: ignore[arg-type]
    assert seen == [("icd", "first")]
    assert now() == ("mine", None)
