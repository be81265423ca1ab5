from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.planner.estimate import default_workload
from tests.core.plans import make_test_data, make_test_plan


@pytest.mark.parametrize(
    ("values", "ranks", "steps"),
    [
        ({}, 1, 6),
        ({"num_epochs": 2}, 1, 12),
        ({"num_epochs": 0.5}, 1, 3),
        ({"num_epochs": 0.01}, 1, 1),
        ({"num_epochs": 1.25}, 1, 8),
        ({"num_epochs": 0.5}, 2, 2),
        ({"num_epochs": 0.5, "max_steps": 9}, 1, 9),
    ],
)
def test_steps_of_parts_of_an_epoch(tmp_path: Path, values: dict[str, Any], ranks: int, steps: int) -> None:
    """22 rows, 4 to a step on each rank."""
    plan = make_test_plan(tmp_path, tmp_path, **values)
    plan = replace(plan, trainer=replace(plan.trainer, name="silent"))
    load = default_workload(plan, None, make_test_data(22), ranks)
    assert load.steps == steps
    assert "'silent' does not say" in load.notes[0]
