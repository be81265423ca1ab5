from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.processes import start_processes
from core.types import Data, Training
from tests.core.plans import make_test_data, make_test_plan


@pytest.fixture
def prepare(tmp_path: Path, tiny_model: Path) -> Callable[..., tuple[Training, Any]]:
    """prepare(folder_name, data=..., **recipe) -> (the training of a tiny model, the model it was given)."""

    def make(name: str = "one", data: Data | None = None, **values: Any) -> tuple[Training, Any]:
        from transformers import AutoTokenizer

        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        plan = make_test_plan(folder, tiny_model, **values)
        start_processes(plan)
        model = plan.adapter.build(plan)
        tokenizer = AutoTokenizer.from_pretrained(tiny_model)
        return plan.trainer.prepare(plan, model, tokenizer, data or make_test_data(24, val=6)), model

    return make
