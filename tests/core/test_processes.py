from __future__ import annotations

import random
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from core import UserError, console, processes
from core.processes import (
    _choose_threads,
    available_cores,
    facts,
    gather_objects,
    is_main,
    rank,
    seed_everything,
    start_processes,
    world_size,
)

LAUNCHED = ("ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No thread count chosen, no launcher."""
    for name in list(processes.os.environ):
        if name.startswith(("ACCELERATE_", "TORCHELASTIC_", "TUNESMITH_", "OMP_", "LOCAL_WORLD_SIZE")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(processes, "available_cores", lambda: 8)
    return monkeypatch


def test_without_a_choice_the_cores_are_shared_among_local_processes(environment: pytest.MonkeyPatch) -> None:
    assert _choose_threads() == 8
    environment.setenv("LOCAL_WORLD_SIZE", "3")
    assert _choose_threads() == 2
    environment.setenv("LOCAL_WORLD_SIZE", "16")
    assert _choose_threads() == 1


@pytest.mark.parametrize("variable", LAUNCHED)
def test_the_launchers_default_of_one_thread_is_nobodys_choice(environment: pytest.MonkeyPatch, variable: str) -> None:
    environment.setenv("OMP_NUM_THREADS", "1")
    assert _choose_threads() == 1  # without a launcher the user set it
    environment.setenv(variable, "no")
    assert _choose_threads() == 8
    environment.setenv("OMP_NUM_THREADS", "3")
    assert _choose_threads() == 3  # no launcher's default
    environment.setenv("TUNESMITH_NUM_THREADS", "1")
    assert _choose_threads() == 1


@pytest.mark.parametrize("value", ["0", "two", "-1"])
def test_a_thread_count_that_is_none_is_refused(environment: pytest.MonkeyPatch, value: str) -> None:
    environment.setenv("TUNESMITH_NUM_THREADS", value)
    with pytest.raises(UserError, match=value) as caught:
        _choose_threads()
    assert "TUNESMITH_NUM_THREADS" in (caught.value.help or "")


def test_available_cores_is_at_least_one() -> None:
    assert 1 <= available_cores() <= (processes.os.cpu_count() or 1)


def test_the_rank_is_known_from_the_environment_before_the_processes_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_state", lambda: None)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert (rank(), world_size(), is_main()) == (1, 2, False)


def test_only_the_main_process_prints(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    console.say("first")
    console.say_error("second")
    monkeypatch.setattr(console, "is_main", lambda: False)
    console.say("third")
    console.say_error("fourth")
    assert tuple(capsys.readouterr()) == ("first\n", "second\n")


def test_gathering_in_one_process_gives_a_copy() -> None:
    objects = [1, {"a": 2}]
    gathered = gather_objects(objects)
    assert gathered == objects
    assert gathered is not objects


def test_seeding_repeats_all_three_generators() -> None:
    import numpy
    import torch

    def draw() -> tuple[float, float, float]:
        return random.random(), float(numpy.random.rand()), float(torch.rand(()))

    seed_everything(7)
    first = draw()
    assert draw() != first
    seed_everything(7)
    assert draw() == first


def test_facts_are_json_ready_and_name_the_versions() -> None:
    import json

    found = json.loads(json.dumps(facts()))
    assert found["world_size"] == 1
    assert found["threads"] >= 1
    assert {"torch", "transformers", "accelerate"} <= set(found["versions"])


def test_importing_it_needs_no_torch() -> None:
    code = "import sys, core.console, core.memory, core.processes; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(("asked", "seconds"), [(None, 1800), (60, 60)])
def test_processes_wait_for_each_other_as_long_as_the_recipe_says(
    environment: pytest.MonkeyPatch, asked: int | None, seconds: int
) -> None:
    import accelerate

    environment.setenv("TUNESMITH_NUM_THREADS", "1")  # it is set in this very process, for all tests to come
    given: dict[str, Any] = {}
    alone = SimpleNamespace(num_processes=1, device=SimpleNamespace(type="cpu"))
    environment.setattr(accelerate, "PartialState", lambda **named: given.update(named) or alone)
    start_processes(SimpleNamespace(recipe={"seed": 1, "ddp_timeout": asked}))  # type: ignore[arg-type]
    assert given["timeout"].total_seconds() == seconds
