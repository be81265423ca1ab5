from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.host import Host, load_host
from core.types import Data, Plan
from tests.core.evaluation.making import make_eval_plan


@pytest.fixture(scope="session")
def host() -> Host:
    return load_host()


@pytest.fixture(scope="session")
def tokenizer(tiny_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(tiny_model))


@pytest.fixture(scope="session")
def model(tiny_model: Path) -> Any:
    """The tiny model for reading; tests that change it load their own."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(str(tiny_model)).eval()


@pytest.fixture
def prepared(tmp_path: Path, tiny_model: Path, host: Host) -> Callable[..., tuple[Plan, Data, Any]]:
    """prepared(evaluation=..., **recipe) -> (plan, data, tokenizer) of a tiny recipe."""

    def make(evaluation: dict[str, Any] | None = None, **values: Any) -> tuple[Plan, Data, Any]:
        from core.data import prepare
        from core.models import load_tokenizer

        plan = make_eval_plan(tmp_path, tiny_model, host, evaluation or {}, **values)
        tokenizer = load_tokenizer(plan)
        return plan, prepare(plan, tokenizer), tokenizer

    return make
