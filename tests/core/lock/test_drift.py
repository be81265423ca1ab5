"""Every difference between a lock and what is there is told, all at once, at its place."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.diagnostics import render_problems
from core.errors import RecipeError
from core.lock import Lock, load_lock, locked_recipe, software_drift, take_lock
from core.lock.drift import KINDS, base_drift, drift
from core.recipe import Recipe
from core.testing.recipes import write_tiny_recipe
from core.types import Plan

HASH, OTHER = "a" * 64, "b" * 64
VALUES: dict[str, Any] = {
    "lock_version": 1,
    "recipe": {"base_model": "x", "learning_rate": 0.1, "datasets": [{"path": "d.jsonl", "type": "alpaca"}]},
    "defaults": {"seed": 42},
    "base_model": {"files": {"model.safetensors": HASH}},
    "data": {"datasets.0": {"sha256": HASH}},
    "files": {"lora_model_dir": {"adapter_model.safetensors": HASH}},
    "tokenizer": {"class": "A", "sha256": HASH},
    "chat_template": None,
    "extends": {},
    "hardware": {"device": "cpu", "threads": 1, "world_size": 1},
    "tunesmith": {"version": "0.0.1", "code": HASH},
    "python": "3.11.1",
    "plugins": {"medqa": {"distribution": "tunesmith-medqa", "version": "1.2", "code": HASH}},
    "packages": {"pyyaml": "1.0", "no-such-package": "2.0"},
}


@pytest.fixture
def lock(tmp_path: Path) -> Lock:
    return lock_with(tmp_path, VALUES)


def lock_with(folder: Path, values: dict[str, Any], *allowed: str) -> Lock:
    path = folder / "recipe.lock.yml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return load_lock(path, allowed)


def now(**changes: Any) -> dict[str, Any]:
    values = copy.deepcopy(VALUES)
    for name, value in changes.items():
        here, parts = values, name.split("__")
        for part in parts[:-1]:
            here = here[part]
        here[parts[-1]] = value
    return values


def told(lock: Lock, present: dict[str, Any]) -> list[str]:
    return [problem.message for problem in drift(lock, present) if "pyyaml" not in problem.message]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe__learning_rate": 0.2}, "'learning_rate' is 0.2, the run used 0.1"),
        ({"recipe__lora_r": 8}, "'lora_r' is new: the run had none"),
        ({"recipe__seed": 7, "defaults": {}}, "'seed' is new: the run had none"),
        ({"recipe__datasets": []}, "'datasets.0.type' is not there, the run used alpaca"),
        ({"defaults__seed": 43}, "the default of 'seed' is 43, the run used 42"),
        (
            {"base_model": {"files": {"model.safetensors": OTHER}}},
            "'model.safetensors' of the base model has changed: its sha256 is bbbbbbbbbbbb…, the run",
        ),
        ({"base_model": {"commit": "c" * 40}}, "the base model is new: the run had none"),
        ({"data": {"datasets.0": {"sha256": OTHER}}}, "what datasets.0 names has changed: its sha256 is bbbbbbbbbbbb…"),
        ({"files": {"lora_model_dir": {"adapter_model.safetensors": OTHER}}}, "'adapter_model.safetensors' of lora_"),
        ({"tokenizer__sha256": OTHER}, "the tokenizer has changed"),
        ({"chat_template": HASH}, "the chat template is one of sha256 aaaaaaaaaaaa…, the run used unknown"),
        ({"hardware__threads": 2}, "threads is 2, the run used 1"),
        ({"hardware__world_size": 2}, "world size is 2, the run used 1"),
        ({"tunesmith__version": "0.0.2"}, "tunesmith is 0.0.2, the run used 0.0.1"),
        ({"tunesmith__code": OTHER}, "the code of tunesmith has been changed since the run"),
        ({"python": "3.12.0"}, "python is 3.12.0, the run used 3.11.1"),
        ({"plugins__medqa__version": "1.3"}, "the plugin 'medqa' is 1.3, the run used 1.2"),
        ({"plugins": {}}, "the plugin 'medqa' is not there, the run used 1.2"),
    ],
)
def test_each_kind_of_difference_is_named(change: dict[str, Any], message: str, lock: Lock) -> None:
    messages = told(lock, now(**change))
    assert any(line.startswith(message) for line in messages), messages
    assert not any(line.startswith("the default of") for line in messages) or "defaults__seed" in change
    assert told(lock, now()) == ["no-such-package is not there, the run used 2.0"]


def test_versions_are_looked_up(lock: Lock) -> None:
    import yaml as pyyaml

    (problem,) = [problem for problem in drift(lock, now()) if "pyyaml" in problem.message]
    assert problem.message == f"pyyaml is {pyyaml.__version__}, the run used 1.0"
    assert problem.help is not None
    assert problem.help.startswith("pip install pyyaml==1.0;")
    early = [problem.message for problem in software_drift(lock)]
    assert problem.message in early
    assert "the plugin 'medqa' is not there, the run used 1.2" in early


def test_all_at_once_and_each_at_its_line(lock: Lock) -> None:
    present = now(recipe__learning_rate=1, hardware__threads=4, data={"datasets.0": {"sha256": OTHER}})
    problems = drift(lock, present)
    lines = lock.source.text.splitlines()
    for problem in problems:
        assert problem.position is not None
        assert lines[problem.position.line - 1].strip(), problem
    places = {problem.message.split()[0]: lines[problem.position.line - 1] for problem in problems if problem.position}
    assert places["'learning_rate'"].strip() == "learning_rate: 0.1"
    assert places["threads"].strip() == "threads: 1"
    recipe = Recipe(Path(lock.source.file), lock.source.text, {}, sources={lock.source.file: lock.source})
    shown = render_problems(problems, recipe)
    assert shown.endswith(f"{len(problems)} errors")
    assert "\n      learning_rate: 0.1\n                     ^^^\n" in shown


def test_a_kind_may_be_allowed(tmp_path: Path) -> None:
    lock = lock_with(tmp_path, VALUES, "packages", "hardware")
    problems = drift(lock, now(hardware__threads=4, python="3.12.0", recipe__learning_rate=1))
    errors = [problem.message for problem in problems if problem.severity == "error"]
    assert errors == ["'learning_rate' is 1, the run used 0.1"]
    assert len(problems) == 1 + 4


def test_every_section_that_is_compared_can_be_allowed() -> None:
    from core.commands.run import DRIFT_KINDS

    assert set(KINDS.values()) == set(DRIFT_KINDS)
    assert set(KINDS) == set(VALUES) - {"lock_version", "extends"}


def test_a_base_that_has_changed_is_a_warning(tmp_path: Path) -> None:
    base = tmp_path / "base.yml"
    base.write_text("learning_rate: 1e-4\n")
    unchanged = "ba5c0ab6ef6ae3f9ec3c1d2eb5cbb1a6c6a1f9b3d0f5d7a1c1f6c5a2c7c0d9e8"
    lock = lock_with(tmp_path, {**VALUES, "extends": {"base.yml": unchanged, "gone.yml": HASH, "hf://a/b/c@1": HASH}})
    (problem,) = base_drift(lock)
    assert problem.severity == "warning"
    assert problem.message == "base.yml, which the recipe extends, has changed since the run"
    from core.lock.hashes import file_hash

    assert base_drift(lock_with(tmp_path, {**VALUES, "extends": {"base.yml": file_hash(base)}})) == []


def test_an_unchanged_run_passes_and_a_changed_file_does_not(
    tiny_model: Path, tmp_path: Path, plan_of: Callable[..., Plan], lock_of: Callable[[Plan], Lock]
) -> None:
    from dataclasses import replace

    from core.models import load_tokenizer
    from core.plan import make_plan

    plan = plan_of(write_tiny_recipe(tmp_path, tiny_model))
    lock = lock_of(plan)
    assert plan.host is not None
    again = make_plan(locked_recipe(lock, [f"output_dir={tmp_path / 'other'}"]), plan.host)
    bound = replace(again, lock=lock)
    assert take_lock(bound, load_tokenizer(bound))

    with (tmp_path / "train.jsonl").open("a") as file:
        file.write('{"instruction": "Say no.", "output": "no"}\n')
    changed = make_plan(locked_recipe(lock, ["learning_rate=0.5", "chat_template=phi_3"]), plan.host, overwrite=True)
    bound = replace(changed, lock=lock)
    with pytest.raises(RecipeError) as raised:
        take_lock(bound, load_tokenizer(bound))
    messages = [problem.message for problem in raised.value.problems]
    assert messages[0] == "'learning_rate' is 0.5, the run used 0.001"
    assert "'chat_template' is new: the run had none" in messages
    assert any(message.startswith("what datasets.0 names has changed") for message in messages)
    assert any(message.startswith("the chat template has changed") for message in messages)
