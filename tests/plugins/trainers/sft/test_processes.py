"""Real processes: two ranks against one, and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.core.data.making import alpaca_rows, write_lines

SCRIPT = Path(__file__).with_name("train_tiny.py")
ROOT = Path(__file__).parents[4]
SECONDS = 240

pytestmark = pytest.mark.slow


@pytest.fixture
def launch(tmp_path: Path, tiny_model: Path) -> Any:
    """launch(work_folder_name, processes, **settings) -> a running training of the tiny model."""
    config = tmp_path / "accelerate.yml"
    # this type with use_cpu is what makes accelerate start several CPU processes
    config.write_text("compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_GPU\nuse_cpu: true\n")

    def start(name: str, processes: int, script: Path = SCRIPT, **settings: Any) -> subprocess.Popen[str]:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        arguments = [str(script), str(tiny_model), str(folder), json.dumps(settings)]
        command: Sequence[str] = [sys.executable, *arguments]
        if processes > 1:
            flags = ["--config_file", str(config), "--num_processes", str(processes), "--num_machines", "1"]
            port = ["--main_process_port", "0", "--mixed_precision", "no", "--dynamo_backend", "no"]
            command = [sys.executable, "-m", "accelerate.commands.launch", *flags, *port, *arguments]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE_")}
        environment |= {"TUNESMITH_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    return start


def finish(process: subprocess.Popen[str], expected: int | None = 0) -> tuple[str, dict[str, Any]]:
    """All output, and the JSON result on its last line that is one."""
    output, _ = process.communicate(timeout=SECONDS)
    if expected is not None:
        assert process.returncode == expected, output
    results = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return output, results[-1] if results else {}


def wait_for_line(process: subprocess.Popen[str], text: str) -> str:
    """Read the output up to the first line with `text`."""
    assert process.stdout is not None
    read = ""
    for line in process.stdout:
        read += line
        if text in line:
            return read
    raise AssertionError(f"{text!r} never came:\n{read}")


def test_two_processes_train_as_one(launch: Any) -> None:
    same = {"num_epochs": 2, "logging_steps": 2, "rows": 27}
    _, one = finish(launch("one", 1, micro_batch_size=4, gradient_accumulation_steps=1, **same))
    output, two = finish(launch("two", 2, micro_batch_size=1, gradient_accumulation_steps=2, **same))
    assert (two["world_size"], two["ranks"]) == (2, [0, 1])
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-4)
    assert two["weights"] == pytest.approx(one["weights"], rel=1e-5)
    assert two["tokens"] == one["tokens"]
    for ours, theirs in zip(two["history"], one["history"], strict=True):
        for name in ("step", "epoch", "tokens", "loss", "eval_loss"):
            assert ours.get(name, 0) == pytest.approx(theirs.get(name, 0), rel=1e-4)
    assert output.count("training 31,392 of 31,392 parameters (100.00 %)") == 1
    assert "1 thread, 2 processes, cpu" in output
    assert output.count("of 2 processes, the most loaded one computes 1.") == 1


def test_two_processes_train_on_each_streamed_row_once(launch: Any, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "rows.jsonl", alpaca_rows(30))
    same = {"stream": str(file), "max_steps": 6, "streaming_multipack_buffer_size": 8, "logging_steps": 2}
    _, one = finish(launch("one", 1, micro_batch_size=4, gradient_accumulation_steps=1, **same))
    _, two = finish(launch("two", 2, micro_batch_size=1, gradient_accumulation_steps=2, **same))
    first, second = two["units"]
    assert len(first) == len(second) == 12
    assert sorted(first + second) == sorted(one["units"][0]) == list(range(24))
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-4)
    assert two["weights"] == pytest.approx(one["weights"], rel=1e-5)


def test_two_processes_resume_where_they_stopped(launch: Any) -> None:
    settings = {"adapter": "lora", "lora_dropout": 0.3, "micro_batch_size": 2, "num_epochs": 1}
    _, straight = finish(launch("straight", 2, **settings))
    # so slow that the signal comes long before the last step, however busy the machine is
    process = launch("resumed", 2, slow=3.0, logging_steps=1, **settings)
    wait_for_line(process, "step 2/7")
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does: the launcher and both ranks get it
    output, _ = finish(process, expected=None)
    saved = [folder.name for folder in Path(process.args[-2], "out").glob("checkpoint-*")]  # type: ignore[index]
    assert len(saved) == 1, output
    assert output.count("interrupted: saved") == 1
    _, resumed = finish(launch("resumed", 2, resume=True, **settings))
    assert resumed["losses"] == straight["losses"]
    assert resumed["weights"] == straight["weights"]


def test_a_loss_that_is_not_finite_on_one_rank_stops_both(launch: Any) -> None:
    spoilt = {"spoil_rank": 1, "spoil_step": 3, "save_steps": 2}
    output, result = finish(launch("one", 2, micro_batch_size=2, **spoilt), expected=None)
    assert "loss is nan at step 3 of 7" in result.get("error", ""), output
    assert result["error"].count("data.jsonl:") == 4  # the rows of both ranks
    assert result["ranks"] == [0, 1]
    assert result["help"].endswith("checkpoint-2'")
    assert result["kept"] == [True, True]  # the optimizer has moved no weight since the checkpoint


def test_one_rank_without_room_halves_both(launch: Any) -> None:
    script = SCRIPT.with_name("train_full.py")
    output, _ = finish(launch("full", 2, script=script, full_rank=1, micro_batch_size=4, share_prefixes=False))
    straight, full = (json.loads(line) for line in output.splitlines() if line.startswith("{"))
    assert (straight["name"], full["name"]) == ("straight", "full")
    assert full["losses"] == pytest.approx(straight["losses"], rel=1e-5)
    assert full["weights"] == pytest.approx(straight["weights"], rel=1e-5)
    told = "out of memory at step 3: begun again with the same rows, from now on 2 at a time, 2 times accumulated"
    assert output.count(told) == 1, output


def test_ctrl_c_ends_the_step_and_saves(launch: Any) -> None:
    process = launch("one", 1, slow=0.1, logging_steps=1, num_epochs=500)
    wait_for_line(process, "step 2/")
    process.send_signal(signal.SIGINT)
    output, _ = finish(process, expected=130)
    assert "stopping after this step, with a checkpoint; press Ctrl-C again to stop at once" in output
    (saved,) = Path(process.args[-2], "out").glob("checkpoint-*")  # type: ignore[index]
    assert f"interrupted: saved {saved}" in output
    assert "--resume" in output
