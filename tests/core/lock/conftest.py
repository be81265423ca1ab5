from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from core.host import Host, load_host
from core.lock import Lock, load_lock
from core.lock.record import record, with_packages
from core.lock.text import lock_text
from core.plan import make_plan
from core.recipe import load_recipe
from core.types import Plan

MakeLock = Callable[..., tuple[Path, dict[str, Any]]]


@pytest.fixture(scope="session")
def host() -> Host:
    return load_host()


@pytest.fixture
def plan_of(host: Host) -> Callable[..., Plan]:
    def make(recipe: Path, *overrides: str) -> Plan:
        return make_plan(load_recipe(recipe, overrides), host, overwrite=True)

    return make


@pytest.fixture
def lock_of() -> Callable[[Plan], Lock]:
    """The lock that a run of a plan would write, written and read back."""

    def make(plan: Plan) -> Lock:
        plan.output_dir.mkdir(parents=True, exist_ok=True)
        path = plan.output_dir / "recipe.lock.yml"
        path.write_text(lock_text(with_packages(taken(plan), plan), path.name), encoding="utf-8")
        return load_lock(path)

    return make


def taken(plan: Plan) -> Mapping[str, Any]:
    from core.data.chat_templates import adopt_chat_template
    from core.models import load_tokenizer

    tokenizer = load_tokenizer(plan)
    adopt_chat_template(plan, tokenizer)
    return record(plan, tokenizer)


def tunesmith(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """The program itself, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "core", *map(str, arguments)], capture_output=True, text=True, **options
    )
