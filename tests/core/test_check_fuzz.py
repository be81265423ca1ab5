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
from core.types import KeyPath

ROOT = Path(__file__).parents[2]
SEEDS = [*sorted((ROOT / "tests" / "axolotl").glob("*.yml")), *sorted((ROOT / "recipes").glob("*.yml"))]
MUTATIONS = int(os.environ.get("TUNESMITH_FUZZ_MUTATIONS", "500"))
VALUES = (
    "null", "true", "0", "-1", "2.5", ".nan", "9" * 30, "''", "text", "[]", "{}", "[null]", "{a: 1}", "[[1]]", "*x",
    "&x 1", "!!python/object:x y", "'unclosed", "[", "a: b", "|", "2024-01-01", "\x07", "é" * 200,
    "- 1", "0x", "1__0", "1e999",
)  # fmt: skip
# maps whose keys are the user's own: texts of tokens, names of columns and metrics, fields of rows, a JSON Schema
FREE_MAPS = {
    "tokens", "added_tokens_overrides", "roles", "message_property_mappings", "columns", "gates", "json_schema",
    "special_tokens",
}  # fmt: skip
# maps that are handed on to a library, and other maps inside maps
NESTED = """\
base_model: org/model
datasets:
  - {path: org/data, type: chat_template, field_messages: messages, message_property_mappings: {role: from}}
  - path: org/own
    type: {field_instruction: q, field_output: a, format: 'Q: {instruction}'}
adapter: qlora
load_in_4bit: true
bnb_config_kwargs: {bnb_4bit_use_double_quant: true, bnb_4bit_quant_type: nf4}
gradient_checkpointing: true
gradient_checkpointing_kwargs: {use_reentrant: false}
lr_scheduler: cosine_with_min_lr
lr_scheduler_kwargs: {min_lr_rate: 0.1, num_cycles: 0.5}
optimizer: sgd
optim_args: {momentum: 0.9, nesterov: true}
SHARDED
data_checks: {near_duplicates: off}
evaluation:
  datasets: [{path: org/held-out, type: alpaca}]
  metrics: [{type: accuracy}, {type: format_compliance, regex: a}]
  compare: [base, {prompted: {shots: 3, instruction: Answer.}}, {model: org/other, load_in_4bit: true}, tuned]
  gates: {accuracy: {min_gain: {over: base, by: 0.05}, at_least: 0.5}}
"""
SHARDED = (
    "deepspeed: {zero_optimization: {stage: 2}, gradient_clipping: 1.0, train_batch_size: auto}",
    "fsdp: [full_shard]\nfsdp_config: {offload_params: true, fsdp_state_dict_type: FULL_STATE_DICT}",
)


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


def misspelt(text: str, recipe: Recipe, draw: random.Random) -> tuple[str, KeyPath]:
    """The text with one key inside a map changed by two letters, and where that key now is."""
    nested = sorted((path for path in recipe.positions if len(path) > 1 and isinstance(path[-1], str)), key=str)
    path = draw.choice([path for path in nested if len(str(path[-1])) > 3])
    place, name = recipe.positions[path][0], str(path[-1])
    spot = draw.randrange(len(name))
    wrong = f"{name[:spot]}{draw.choice('qxz')}{name[spot:]}{draw.choice('qxz')}"
    lines = text.split("\n")
    line, start = lines[place.line - 1], place.column - 1
    assert line[start:].startswith(name), (line, name)
    lines[place.line - 1] = line[:start] + wrong + line[start + len(name) :]
    return "\n".join(lines), (*path[:-1], wrong)


def test_no_misspelt_key_inside_a_map_gets_through_unseen(host: Host, tmp_path: Path) -> None:
    draw = random.Random(21)
    path = tmp_path / "nested.yml"
    texts = [NESTED.replace("SHARDED", sharded) for sharded in SHARDED]
    texts += [file.read_text(encoding="utf-8") for file in SEEDS]
    reported: set[str] = set()
    for number in range(MUTATIONS):
        text = draw.choice(texts[:2]) if number % 2 else draw.choice(texts)
        path.write_text(text, encoding="utf-8")
        recipe = load_recipe(path)
        if not any(len(key) > 1 and len(str(key[-1])) > 3 and isinstance(key[-1], str) for key in recipe.positions):
            continue
        text, key = misspelt(text, recipe, draw)
        if {str(part) for part in key[:-1]} & FREE_MAPS:
            continue
        path.write_text(text, encoding="utf-8")
        recipe = load_recipe(path)
        problems = check_recipe(recipe, host)
        if any("asks for" in problem.message for problem in problems):
            continue
        told = [problem for problem in problems if repr(key[-1]) in problem.message or problem.key == key]
        # a map that is refused as a whole, or for the lack of a key, has not been looked into
        lacking = [problem for problem in problems if problem.key[:-1] == key[:-1] and "is missing" in problem.message]
        ignored = key[0] not in host.recipe_keys
        whole = [problem for problem in problems if problem.key and (ignored or problem.severity == "error")]
        around = [problem for problem in whole if problem.key == key[: len(problem.key)]] + lacking
        assert told or around, (number, key, text)
        assert all(problem.position for problem in told)
        reported.add(str(key[0]))
    handed_on = {"bnb_config_kwargs", "lr_scheduler_kwargs", "optim_args", "deepspeed", "fsdp_config"}
    assert reported >= {*handed_on, "evaluation", "datasets"}


def test_the_recipe_with_nested_maps_is_valid(host: Host, tmp_path: Path) -> None:
    for sharded in SHARDED:
        path = tmp_path / "nested.yml"
        path.write_text(NESTED.replace("SHARDED", sharded), encoding="utf-8")
        recipe = load_recipe(path)
        assert [problem for problem in check_recipe(recipe, host) if problem.severity == "error"] == []
