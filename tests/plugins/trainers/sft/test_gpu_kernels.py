"""Which of Liger's kernels a recipe switches on, as a machine with a GPU would have it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from plugins.trainers.sft import gpu_kernels
from tests.core.plans import make_test_plan


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU, and a liger-kernel that knows Llama."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu_kernels, "find_spec", lambda name: name)
    patches: Any = ModuleType("liger_kernel.transformers.monkey_patch")
    patches.MODEL_TYPE_TO_APPLY_LIGER_FN = {"llama": None}
    for name in ("liger_kernel", "liger_kernel.transformers"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, patches.__name__, patches)


@pytest.mark.usefixtures("with_gpu")
@pytest.mark.parametrize(
    ("keys", "on"),
    [
        ({"liger_rms_norm": True}, {"rms_norm"}),
        ({"liger_glu_activation": True, "liger_rope": False}, {"swiglu", "geglu"}),
        ({"liger_rope": True, "liger_layer_norm": True}, {"rope", "layer_norm"}),
    ],
)
def test_what_is_not_asked_for_is_off_and_the_loss_stays_ours(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str], keys: dict[str, bool], on: set[str]
) -> None:
    made = gpu_kernels.gpu_kernels(make_test_plan(tmp_path, tiny_model, **keys))
    assert made["use_liger_kernel"]
    chosen = made["liger_kernel_config"]
    assert {name for name, value in chosen.items() if value} == on
    assert {"rope", "rms_norm", "swiglu", "geglu", "cross_entropy", "fused_linear_cross_entropy"} <= set(chosen)
    assert "warning" not in capsys.readouterr().out


@pytest.mark.usefixtures("with_gpu")
def test_a_model_that_liger_does_not_know_is_told(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["liger_kernel.transformers.monkey_patch"], "MODEL_TYPE_TO_APPLY_LIGER_FN", {})
    gpu_kernels.gpu_kernels(make_test_plan(tmp_path, tiny_model, liger_rope=True))
    assert "no kernels for model type 'llama': nothing comes of liger_rope" in capsys.readouterr().out


@pytest.mark.usefixtures("with_gpu")
def test_compiling_is_for_a_gpu(tmp_path: Path, tiny_model: Path) -> None:
    plan = make_test_plan(tmp_path, tiny_model, torch_compile=True, torch_compile_mode="reduce-overhead")
    assert gpu_kernels.gpu_kernels(plan) == {"torch_compile": True, "torch_compile_mode": "reduce-overhead"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="about runs without a GPU")
def test_without_a_gpu_both_are_warned_of(tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_kernels.gpu_kernels(make_test_plan(tmp_path, tiny_model, liger_rope=True, torch_compile=True)) == {}
    told = capsys.readouterr().out
    assert "without an NVIDIA GPU, nothing comes of liger_rope here" in told
    assert "torch_compile has no effect here" in told
