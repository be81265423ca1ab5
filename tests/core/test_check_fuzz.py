"""Mutations of valid recipes: never a traceback, never an unknown key let through, every message with a place."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

import pytest

from core.check import check_recipe
from core.diagnostics import render_problems
from core.errors import RecipeError
from core.host import Host, load_host
from core.recipe import Recipe, load_recipe
from core.schema_files import load_fragment

ROOT = Path(__file__).parents[2]
SEEDS = [*sorted((ROOT / "tests" / "axolotl").glob("*.yml")), *sorted((ROOT / "recipes").glob("*.yml"))]
MUTATIONS = int(os.environ.get("TUNESMITH_FUZZ_MUTATIONS", "500"))
VALUES = (
    "null", "true", "0", "-1", "2.5", ".nan", "9" * 30, "''", "text", "[]", "{}", "[null]", "{a: 1}", "[[1]]", "*x",
    "&x 1", "!!python/object:x y", "'unclosed", "[", "a: b", "|", "2024-01-01", "\x07", "é" * 200,
    "- 1", "0x", "1__0", "1e999",
)  # fmt: skip


@pytest.fixture(scope="module")
def host() -> Host:
    return load_host()


def mutate(text: str, draw: random.Random) -> str:
    """One to three random changes of lines or characters."""
    for _ in range(draw.randint(1, 3)):
        lines = text.split("\n")
        at = draw.randrange(len(lines))
        key, colon, _ = lines[at].partition(":")
        match draw.randrange(8):
            case 0:
                lines[at] = f"{key}{colon} {draw.choice(VALUES)}"
            case 1:
                del lines[at]
            case 2:
                lines.insert(at, lines[draw.randrange(len(lines))])
            case 3:
                spot = draw.randrange(len(lines[at]) + 1)
                lines[at] = lines[at][:spot] + draw.choice("ab_:-[]{}#&*!|>'\"%@`, \t\n\x00é") + lines[at][spot:]
            case 4:
                lines[at] = " " * draw.randint(0, 6) + lines[at].lstrip()
            case 5 if len(key) > 3:
                spot = draw.randrange(len(key) - 1)
                lines[at] = key[:spot] + key[spot + 1] + key[spot] + key[spot + 2 :] + lines[at][len(key) :]
            case 6:
                lines[at] = lines[at][: len(lines[at]) // 2]
            case _:
                lines[at] = f"{draw.choice(VALUES)}: {draw.choice(VALUES)}"
        text = "\n".join(lines)
    return text


def test_no_mutation_gets_through_unseen(host: Host, tmp_path: Path) -> None:
    assert len(SEEDS) >= 25
    # keys of axolotl that may pass in silence while they are switched off
    quiet = set(load_fragment("axolotl-keys"))
    draw = random.Random(20)
    path = tmp_path / "mutated.yml"
    accepted = 0
    for number in range(MUTATIONS):
        text = mutate(draw.choice(SEEDS).read_text(encoding="utf-8"), draw)
        path.write_bytes(text.encode())
        try:
            recipe = load_recipe(path)
        except RecipeError as error:
            problems, recipe = list(error.problems), error.recipe or Recipe(path, text, {})
        else:
            problems = check_recipe(recipe, host)
            foreign = {str(problem.key[0]) for problem in problems if problem.key}
            known = set(host.recipe_keys) | foreign
            jobs = any("asks for" in problem.message for problem in problems)
            off = {key for key in recipe.positions if len(key) == 1 and key[0] not in known}
            assert jobs or {str(key[0]) for key in off} <= quiet, (number, text)
        assert all(problem.position and problem.position.line >= 1 for problem in problems), (number, text)
        rendered = render_problems(problems, recipe)
        if problems:
            places = re.findall(r"^\S.*:\d+:\d+: (?:error|warning): .", rendered, flags=re.MULTILINE)
            assert len(places) == len(problems), (number, rendered)
        accepted += not any(problem.severity == "error" for problem in problems)
    assert 0 < accepted < MUTATIONS
