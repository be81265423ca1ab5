from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
SCRIPT = Path(__file__).with_name("evaluate_script.py")
pytestmark = pytest.mark.slow


def run(folder: Path, model: Path, processes: int, weights: str = "whole") -> dict[str, Any]:
    folder.mkdir()
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [sys.executable, *(launch if processes > 1 else []), str(SCRIPT), str(model), str(folder), weights]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE_")}
    environment |= {
        "TUNESMITH_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "ACCELERATE_USE_CPU": "true",
    }
    done = subprocess.run(
        command,
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        start_new_session=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return dict(json.loads(line))


def test_two_processes_give_the_answers_of_one(tmp_path: Path, tiny_model: Path) -> None:
    alone = run(tmp_path / "one", tiny_model, 1)
    together = run(tmp_path / "two", tiny_model, 2)
    assert [len(column["texts"]) for column in alone.values()] == [7, 7, 7]
    assert together == alone


def test_spread_weights_give_the_answers_of_whole_ones(tmp_path: Path, tiny_model: Path) -> None:
    alone = run(tmp_path / "one", tiny_model, 1)
    spread = run(tmp_path / "two", tiny_model, 2, "sharded")
    for name, column in alone.items():
        assert spread[name]["texts"] == column["texts"]
        assert spread[name]["perplexity"] == pytest.approx(column["perplexity"], rel=1e-5)
