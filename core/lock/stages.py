"""The two stages of a run that deal with its lock: taken before the data is read, written when training starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from core.errors import Problem, RecipeError, UserError
from core.lock.drift import base_drift, drift
from core.lock.read import LOCK_FILE, Lock
from core.lock.record import input_paths, record, with_packages
from core.lock.text import lock_text
from core.types import Plan
from core.whole_file import write_whole

if TYPE_CHECKING:
    from core.recipe import Recipe
    from core.types import Tokenizer

# where a run writes, and where it goes on from, are no part of what it computes
FREE_KEYS = ("output_dir", "dataset_prepared_path", "resume_from_checkpoint", "auto_resume_from_checkpoints")


def take_lock(plan: Plan, tokenizer: Tokenizer) -> Mapping[str, Any]:
    """What this run uses; on the main process, an empty map elsewhere. The tokenizer gets the run's chat template.

    Raises `RecipeError` on all ranks, with everything that differs, where the run is bound to a lock.
    """
    from core.console import say, say_error
    from core.data.chat_templates import adopt_chat_template
    from core.diagnostics import render_problems
    from core.processes import gather_objects, is_main

    adopt_chat_template(plan, tokenizer)
    taken: Mapping[str, Any] = {}
    problems: list[Problem] = []
    failures: list[str] = []
    if is_main():
        try:
            taken = record(plan, tokenizer)
            if plan.lock is not None:
                problems = _problems(plan, plan.lock, taken)
        except OSError as error:
            failures = [f"{error.filename!r} cannot be read: {error.strerror or error}"]
    for reason in gather_objects(failures):
        raise UserError(reason, help="check the file and its permissions")
    problems = gather_objects(problems)
    if plan.lock is not None:
        if any(problem.severity == "error" for problem in problems):
            raise RecipeError(problems, _recipe_with(plan.lock, plan))
        if problems:
            say_error(render_problems(problems, _recipe_with(plan.lock, plan)))
        say(f"all as locked in {plan.lock.source.file}" + (", but for the above" if problems else ""))
    return taken


def write_lock(plan: Plan, taken: Mapping[str, Any]) -> None:
    """Write `recipe.lock.yml` into the output folder, on the main process, whole or not at all."""
    from core.processes import is_main

    if not is_main():
        return
    path = plan.output_dir / LOCK_FILE
    try:
        write_whole(path, lock_text(with_packages(taken, plan), LOCK_FILE))
    except OSError as error:
        raise UserError(
            f"{str(path)!r} cannot be written: {error.strerror or error}", help="choose another output_dir"
        ) from error


def _problems(plan: Plan, lock: Lock, taken: Mapping[str, Any]) -> list[Problem]:
    free = frozenset([*input_paths(plan), *((key,) for key in FREE_KEYS)])
    return [*base_drift(lock), *drift(lock, taken, free)]


def _recipe_with(lock: Lock, plan: Plan) -> Recipe:
    """The recipe, for showing problems that stand in the lock."""
    return replace(plan.recipe, sources={**plan.recipe.sources, lock.source.file: lock.source})
