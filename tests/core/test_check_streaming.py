from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.check import check_recipe
from core.host import Host, load_host
from core.recipe import load_recipe

START = "base_model: org/model\ndatasets:\n  - {path: org/data, type: alpaca}\n"
STREAM = "streaming: true\nmax_steps: 10\n"


@pytest.fixture(scope="module")
def host() -> Host:
    return load_host()


@pytest.fixture
def problems(tmp_path: Path, host: Host) -> Any:
    def found(text: str) -> list[tuple[str, str]]:
        path = tmp_path / "recipe.yml"
        path.write_text(text, encoding="utf-8")
        return [(problem.severity, problem.message) for problem in check_recipe(load_recipe(path), host)]

    return found


def test_a_stream_of_known_length_is_fine(problems: Any) -> None:
    assert problems(START + STREAM + "streaming_multipack_buffer_size: 500\nsample_packing: true\n") == []
    assert problems(START + "streaming: false\n") == []


@pytest.mark.parametrize(
    ("lines", "severity", "message"),
    [
        ("streaming: true\n", "error", "streaming needs max_steps"),
        (STREAM + "val_set_size: 0.1\n", "error", "val_set_size cannot be held back"),
        (STREAM + "group_by_length: true\n", "warning", "'group_by_length' has no effect with streaming"),
        (STREAM + "dataloader_num_workers: 2\n", "warning", "'dataloader_num_workers' has no effect with streaming"),
        ("streaming_multipack_buffer_size: 50\n", "warning", "'streaming_multipack_buffer_size' has no effect without"),
    ],
)
def test_what_does_not_go_with_a_stream(problems: Any, lines: str, severity: str, message: str) -> None:
    ((found, said),) = problems(START + lines)
    assert found == severity
    assert said.startswith(message)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("split: 'train[:10%]'", "'split' asks how many rows there are"),
        ("split: 'train[-50:]'", "'split' asks how many rows there are"),
        ("shards: 4", "'shards' asks how many rows there are"),
        ("weight: 2", "'weight' has no effect with streaming: there is one data set"),
    ],
)
def test_keys_of_a_streamed_data_set(problems: Any, entry: str, message: str) -> None:
    ((severity, said),) = problems(START.replace("type: alpaca", f"type: alpaca, {entry}") + STREAM)
    assert severity == "warning"
    assert said.startswith(message)


def test_a_trainer_that_cannot_stream_is_refused(tmp_path: Path, host: Host) -> None:
    from dataclasses import replace

    path = tmp_path / "recipe.yml"
    path.write_text(START + STREAM, encoding="utf-8")
    deaf = replace(host, trainers={"sft": replace(host.trainers["sft"], streams=False)})
    (problem,) = check_recipe(load_recipe(path), deaf)
    assert problem.message == "trainer 'sft' cannot stream its training rows"
