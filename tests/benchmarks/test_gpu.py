"""The script for a GPU runs end to end without one, at toy size, and claims nothing."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parent.parent.parent / "benchmarks" / "gpu.py"


@pytest.fixture
def gpu(monkeypatch):
    spec = importlib.util.spec_from_file_location("gpu_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_benchmark", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here: run the script itself")
def test_without_a_gpu_every_figure_says_not_measured(gpu, monkeypatch, tmp_path, capsys):
    file = tmp_path / "gpu.json"
    monkeypatch.setattr(gpu, "find_spec", lambda name: None if name == "trl" else importlib.util.find_spec(name))
    monkeypatch.setattr(gpu, "STEPS", 2)
    names = "8B LoRA 2k,8B LoRA 8k,70B QLoRA 2k,1B full 4k"
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--cases", names, "--json", str(file)])
    gpu.main()
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["device"] == "no GPU"
    assert [row["case"]["name"] for row in found["cases"]] == [c.name for c in gpu.CASES if c.name in names.split(",")]
    assert all(row["measured"] is False for row in found["cases"])
    trained = [row for row in found["cases"] if "ours" in row]
    assert len(trained) >= 3  # the packed base needs bitsandbytes
    assert all(row["ours"]["seconds"] > 0 for row in trained)
    assert sum("not measured" in line for line in rows) == 2 * len(found["cases"])


def test_operations_of_a_step_are_what_the_formula_says(gpu):
    shape, case = gpu.Shape(8, 16, 3, 4, 2, vocabulary=10), gpu.CASES[0]
    weights = 3 * (8 * 8 + 8 * 8 + 2 * 8 * 4 + 3 * 8 * 16)  # q and o, k and v, the gated layer
    assert (
        gpu.operations(shape, case, tokens=5, pairs=9, targets=2) == 5 * 4 * weights + 2 * 10 * 8 * 4 + 12 * 9 * 8 * 3
    )
