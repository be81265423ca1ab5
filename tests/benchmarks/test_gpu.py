"""The script for a GPU runs end to end without one, at toy size, and claims nothing."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parent.parent.parent / "benchmarks"


@pytest.fixture
def scripts(monkeypatch):
    """gpu.py, its cases and its sides."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in ("gpu", "gpu_cases", "gpu_side"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    found = tuple(importlib.import_module(name) for name in ("gpu", "gpu_cases", "gpu_side"))
    yield found
    for name in ("gpu", "gpu_cases", "gpu_side"):
        sys.modules.pop(name, None)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here: run the script itself")
def test_without_a_gpu_every_figure_says_not_measured(scripts, monkeypatch, tmp_path, capsys):
    gpu, cases, side = scripts

    def here(name, limit, *told):
        assert limit > 0
        if name == "about":
            found = side.about()
            return {**found, "versions": {**found["versions"], "trl": None}}
        return side.measure(name, next(case for case in cases.CASES if case.name == told[0]), told[2], int(told[4]))

    file = tmp_path / "gpu.json"
    monkeypatch.setattr(gpu, "apart", here)
    names = ["8B LoRA 2k", "70B QLoRA 2k", "1B full 4k"]
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--cases", ",".join(names), "--quick", "--json", str(file)])
    assert gpu.main() == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["setting"]["device"] == "no GPU"
    assert set(found["cases"]) == set(names)
    for row in found["cases"].values():
        assert row["measured"] is False
        assert (row["ours"], row["peer"], row["ratio"], row["of_matrix_product"]) == (None, None, None, None)
    trained = [row["sides"]["ours"] for row in found["cases"].values() if not row["failed"]]
    assert len(trained) >= 2  # the packed base needs bitsandbytes
    assert all(ours["seconds"] > 0 and ours["planned"]["peak"] > 0 for ours in trained)
    assert sum("not measured" in line for line in rows) == 2 * len(names)


def test_a_side_that_ends_or_hangs_is_told_and_takes_nothing_along(scripts, monkeypatch, tmp_path):
    gpu, _, _ = scripts
    side = tmp_path / "side.py"
    monkeypatch.setattr(gpu, "SIDE", side)
    side.write_text("import sys; sys.exit(7)", encoding="utf-8")
    assert gpu.apart("ours", 240) == {"failed": "ended with code 7"}
    side.write_text("import time; time.sleep(600)", encoding="utf-8")
    assert gpu.apart("ours", 1) == {"failed": "given up after 1 s"}
    side.write_text("import pathlib, sys; pathlib.Path(sys.argv[2]).write_text('{\"seconds\": 1}')", encoding="utf-8")
    assert gpu.apart("ours", 240) == {"seconds": 1}


def test_a_side_writes_why_it_failed(scripts, monkeypatch, tmp_path):
    _, cases, side = scripts

    def fails(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nand much more")

    file = tmp_path / "found.json"
    monkeypatch.setattr(side, "measure", fails)
    monkeypatch.setattr(sys, "argv", ["gpu_side.py", "ours", str(file), cases.CASES[0].name])
    monkeypatch.setattr(side.os, "environ", {})
    assert side.main() == 1
    expected = "OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"
    assert json.loads(file.read_text(encoding="utf-8")) == {"failed": expected}


def test_a_measured_case_has_a_ratio_and_stands_in_the_table(scripts, tmp_path):
    gpu, cases, _ = scripts
    job = gpu.Job("8B LoRA 4k", cases.CASES[0], "sdpa", True)
    ours = {
        "measured": True,
        "tokens_per_second": 12000.0,
        "of_matrix_product": 0.614,
        "peak": 40 * 2**30,
        "planned": {"peak": 38 * 2**30},
    }
    row = gpu.row_of(job, ours, {"tokens_per_second": 8000.0, "peak": 60 * 2**30})
    assert (row["ours"], row["peer"], row["ratio"], row["measured"]) == (12000.0, 8000.0, 1.5, True)
    assert row["planned_over_measured"] == 0.95
    line = gpu.table({job.name: row}).splitlines()[2]
    assert line.startswith("| 8B LoRA 4k | 12,000 | 8,000 | 1.50 | 61 % | 40.0 | 38.0 | 60.0 |")
    failed = gpu.row_of(job, ours, {"failed": "OutOfMemoryError: no room"})
    assert "| 12,000 | OutOfMemoryError: no room | " in gpu.table({job.name: failed})
    setting = {"device": "a", "versions": {}, "liger": True, "attention": None}
    file = tmp_path / "gpu.json"
    gpu.write(file, setting, {"a": row, "b": gpu.row_of(job, {"failed": "no room"}, {})})
    assert list(gpu.kept(file, setting)) == ["a"]
    with pytest.raises(SystemExit, match="another device"):
        gpu.kept(file, {**setting, "device": "b"})


def test_the_first_case_is_measured_with_flex_attention_and_without_liger_too(scripts):
    gpu, cases, _ = scripts
    about = {"memory": 1.0, "versions": {"flash-attn": None, "triton": "3.6", "trl": "1.16", "liger-kernel": "0.8"}}
    made = gpu.jobs(cases.CASES[:2], None, about)
    assert [(job.attention, job.peer, job.liger) for job in made] == [
        ("sdpa", True, True),
        ("flex_attention", False, True),
        ("sdpa", False, False),
        ("sdpa", False, True),
    ]
    assert len({job.name for job in made}) == 4
    assert {job.attention for job in gpu.jobs(cases.CASES, "flex_attention", about)} == {"flex_attention"}
    assert not any(job.liger for job in gpu.jobs(cases.CASES, None, about, liger=False))


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs bitsandbytes")
def test_a_base_in_4_bits_is_adapted_as_a_loaded_one(scripts):
    _, cases, _ = scripts
    case = next(case for case in cases.CASES if case.approach == "qlora")
    model = cases.build(cases.SHAPES["toy"], case, torch.device("cpu"), torch.bfloat16)
    layers = [module for module in model.modules() if hasattr(module, "lora_A")]
    assert len(layers) == 7 * cases.SHAPES["toy"].layers
    assert {type(layer).__name__ for layer in layers} == {"Linear4bit"}
    assert all(layer.base_layer.weight.dtype == torch.uint8 for layer in layers)
    assert not [name for name, tensor in (*model.named_parameters(), *model.named_buffers()) if tensor.is_meta]


def test_the_planner_sees_the_70b_model_within_its_goal(scripts):
    gpu, cases, _ = scripts
    table = gpu.plan_table([case for case in cases.CASES if case.shape == "70B"], 46).splitlines()
    name, *figures = (cell.strip() for cell in table[2].strip("|").split("|"))
    weights, gradients, optimizer, _, _, peak = map(float, figures)
    assert name == "70B QLoRA 2k"
    assert (weights, gradients, optimizer) == (37.6, 0.8, 1.5)
    assert peak < 44


def test_rows_fill_a_bin(scripts):
    _, cases, _ = scripts
    for length in (64, 2048):
        rows = cases.documents(length, 256, 3)
        assert sum(len(row["input_ids"]) for row in rows) == length
        assert all(len(row["labels"]) == len(row["input_ids"]) for row in rows)
        assert all(row["labels"][-1] >= 0 for row in rows)


def test_operations_of_a_step_are_what_the_formula_says(scripts):
    _, cases, _ = scripts
    shape = cases.Shape(8, 16, 3, 4, 2, vocabulary=10)
    weights = 3 * (8 * 8 + 8 * 8 + 2 * 8 * 4 + 3 * 8 * 16)  # q and o, k and v, the gated layer
    expected = 5 * 4 * weights + 2 * 10 * 8 * 4 + 12 * 9 * 8 * 3
    assert cases.operations(shape, "lora", tokens=5, pairs=9, targets=2) == expected
