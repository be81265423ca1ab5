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
