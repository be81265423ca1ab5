from __future__ import annotations

import json

import pytest

from core.models import cpu_speed
from core.models.cpu_speed import bf16_is_faster


@pytest.fixture
def rates(monkeypatch, tmp_path):
    """The rates that are measured, by dtype; how often each was asked."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path))
    asked: list[str] = []
    given = {"torch.float32": 100.0, "torch.bfloat16": 900.0}

    def rate(dtype, width, inner):
        asked.append(str(dtype))
        return given[str(dtype)]

    monkeypatch.setattr(cpu_speed, "_rate", rate)
    return given, asked


def test_the_faster_format_is_taken_and_said(rates):
    assert bf16_is_faster(576, 1536) == (True, "900 GFLOP/s in bfloat16, 100 in float32")


def test_a_small_gain_is_not_worth_the_rounding(rates):
    rates[0]["torch.bfloat16"] = 120.0
    assert bf16_is_faster(576, 1536)[0] is False


def test_it_is_tried_once_for_each_shape(rates, tmp_path):
    for _ in range(3):
        bf16_is_faster(576, 1536)
    assert rates[1] == ["torch.float32", "torch.bfloat16"]
    bf16_is_faster(1024, 4096)
    assert len(rates[1]) == 4
    assert len(json.loads((tmp_path / cpu_speed.FILE).read_text(encoding="utf-8"))) == 2


def test_a_broken_file_is_measured_anew(rates, tmp_path):
    (tmp_path / cpu_speed.FILE).write_text("[1, 2", encoding="utf-8")
    assert bf16_is_faster(576, 1536)[0] is True


def test_a_small_model_is_not_tried(rates):
    assert bf16_is_faster(64, 128)[0] is False
    assert not rates[1]


def test_the_real_measurement_gives_a_rate():
    import torch

    assert 0 < cpu_speed._rate(torch.bfloat16, 256, 256) < 1e6
