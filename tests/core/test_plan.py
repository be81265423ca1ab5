from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.errors import UserError
from core.host import load_host
from core.plan import make_plan
from core.recipe import load_recipe
from core.testing.recipes import write_tiny_recipe
from core.types import Plan

AUTOMATIC = {"auto_resume_from_checkpoints": True}


def plan_of(folder: Path, model: Path, values: dict[str, Any] | None = None, **options: Any) -> Plan:
    return make_plan(load_recipe(write_tiny_recipe(folder, model, values)), load_host(), **options)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def test_resuming_and_overwriting_at_once_is_a_mistake(tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(UserError, match="--resume and --overwrite"):
        plan_of(tmp_path, tiny_model, resume="latest", overwrite=True)


def test_overwriting_outdoes_automatic_resuming(tmp_path: Path, tiny_model: Path, out: Path) -> None:
    (out / "checkpoint-1").mkdir()
    assert plan_of(tmp_path, tiny_model, AUTOMATIC).resume_from == out
    assert plan_of(tmp_path, tiny_model, AUTOMATIC, overwrite=True).resume_from is None


def test_automatic_resuming_never_replaces_a_finished_run(tmp_path: Path, tiny_model: Path, out: Path) -> None:
    (out / "metrics.jsonl").touch()
    assert plan_of(tmp_path, tiny_model, AUTOMATIC).resume_from == out  # interrupted before its first checkpoint
    (out / "run.json").touch()
    assert plan_of(tmp_path, tiny_model, AUTOMATIC).resume_from is None


def test_a_checkpoint_that_is_not_there_is_named(tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint at 'elsewhere/checkpoint-3'"):
        plan_of(tmp_path, tiny_model, resume="elsewhere/checkpoint-3")
