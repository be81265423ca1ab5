from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.check import resolve_defaults
from core.check.taken import defaults_taken
from core.host import Host, load_host
from core.recipe import Recipe


@pytest.fixture(scope="module")
def host() -> Host:
    return load_host()


def taken(host: Host, **values: Any) -> list[str]:
    line = defaults_taken(resolve_defaults(Recipe(Path("recipe.yml"), "", values), host), host)
    start = "defaults taken: "
    assert line.startswith(start)
    return line.removeprefix(start).split(", ")


def test_the_defaults_of_the_common_starting_point_are_named(host: Host) -> None:
    found = taken(host, adapter="lora", lora_r=16)
    for expected in ("num_epochs 3", "micro_batch_size 4", "gradient_accumulation_steps 4", "learning_rate 0.0002"):
        assert expected in found
    for expected in ("warmup_steps 100", "logging_steps 10", "save_steps 500", "lora_dropout 0.05"):
        assert expected in found
    assert "lora_target_modules [q_proj" in found
    assert "v_proj]" in found


def test_what_the_recipe_sets_and_what_takes_no_part_is_left_out(host: Host) -> None:
    found = {entry.split()[0] for entry in taken(host, learning_rate=1e-5)}
    assert "micro_batch_size" in found
    assert not found & {"learning_rate", "lora_r", "lora_dropout", "evaluation"}


@pytest.mark.parametrize(
    ("values", "left_out"),
    [
        ({"warmup_ratio": 0.1}, "warmup_steps"),
        ({"max_steps": 5}, "num_epochs"),
        ({"max_steps": 5}, "streaming_multipack_buffer_size"),
        ({"on_bad_row": "raise"}, "max_bad_rows"),
        ({"save_strategy": "no"}, "save_steps"),
        ({"saves_per_epoch": 2}, "save_steps"),
        ({"adapter": "lora", "lora_target_linear": True}, "lora_target_modules"),
    ],
)
def test_a_default_that_another_key_stands_in_for_is_not_taken(
    host: Host, values: dict[str, Any], left_out: str
) -> None:
    assert left_out not in {entry.split()[0] for entry in taken(host, **values)}


@pytest.mark.parametrize("values", [{"max_steps": None}, {"save_strategy": "steps"}, {"lora_target_linear": False}])
def test_a_key_that_is_off_stands_in_for_nothing(host: Host, values: dict[str, Any]) -> None:
    found = {entry.split()[0] for entry in taken(host, adapter="lora", **values)}
    assert found >= {"num_epochs", "save_steps", "lora_target_modules"}


def test_a_key_that_needs_another_is_told_beside_it(host: Host) -> None:
    found = {entry.split()[0] for entry in taken(host, on_bad_row="skip", streaming=True, max_steps=5)}
    assert found >= {"max_bad_rows", "streaming_multipack_buffer_size"}


def test_what_a_key_stands_in_for_is_a_key_with_a_default(host: Host) -> None:
    named = [name for schema in host.recipe_keys.values() for name in schema.get("x-instead-of", ())]
    assert named
    assert all("default" in host.recipe_keys[name] for name in named)
