"""`micro_batch_size: auto`: the same training as with a number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from core import UserError
from plugins.trainers.sft import micro_batch
from tests.core.plans import make_test_data

Prepare = Callable[..., tuple[Any, Any]]


def test_auto_trains_as_an_explicit_division_does(prepare: Prepare, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_test_data(27)
    by_hand, model = prepare("by-hand", data=data, micro_batch_size=2, gradient_accumulation_steps=4, num_epochs=2)
    expected = by_hand.run()
    capsys.readouterr()
    training, found = prepare("auto", data=data, micro_batch_size="auto", gradient_accumulation_steps=2, num_epochs=2)
    assert "micro_batch_size: auto: 8 at a time, 1 times accumulated (8 a step and process" in capsys.readouterr().out
    result = training.run()
    assert result.losses == pytest.approx(expected.losses, rel=1e-5)
    assert result.tokens == expected.tokens
    for ours, theirs in zip(found.parameters(), model.parameters(), strict=True):
        assert (ours - theirs).norm() <= 1e-5 * theirs.norm()
    assert result.division == {"micro_batch_size": 8, "gradient_accumulation_steps": 1}


def test_what_the_planner_allows_has_to_pass_a_trial(
    prepare: Prepare, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried: list[int] = []

    def computes(model: Any, work: Any) -> bool:
        lines = len(work.batches[0]["input_ids"])
        tried.append(lines)
        return lines <= 2

    monkeypatch.setattr(micro_batch, "_computes", computes)
    prepare(micro_batch_size="auto", gradient_accumulation_steps=2, share_prefixes=False)
    assert tried == [8, 4, 2]
    assert "2 at a time, 4 times accumulated" in capsys.readouterr().out
    monkeypatch.setattr(micro_batch, "_computes", lambda model, work: False)
    with pytest.raises(UserError, match="not even one row"):
        prepare("other", micro_batch_size="auto")


def test_a_trial_leaves_no_trace(prepare: Prepare) -> None:
    state = torch.random.get_rng_state()
    _, model = prepare(micro_batch_size="auto", lora_dropout=0.1, adapter="lora")
    assert all(parameter.grad is None for parameter in model.parameters())
    torch.random.set_rng_state(state)


def test_a_mistake_in_the_planner_is_seen_and_sizes_are_tried(
    prepare: Prepare, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(micro_batch, "estimate", lambda *args, **kwargs: 1 / 0)
    prepare(micro_batch_size="auto", gradient_accumulation_steps=2)
    said = capsys.readouterr()
    assert "warning: micro_batch_size: auto: planning failed (ZeroDivisionError: division by zero)" in said.out
    assert "sizes are tried instead, the largest first. It is a mistake" in said.out
    assert "8 at a time, 1 times accumulated" in said.out
    assert said.err.startswith("Traceback")


def test_an_adapter_without_shapes_is_told_of_as_no_mistake(
    prepare: Prepare, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def reads_values(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("Cannot copy out of meta tensor; no data!\nmore of it")

    monkeypatch.setattr(micro_batch, "estimate", reads_values)
    prepare(micro_batch_size="auto", gradient_accumulation_steps=2)
    said = capsys.readouterr()
    assert "from shapes alone (Cannot copy out of meta tensor; no data!); sizes are tried instead" in said.out
    assert "Traceback" not in said.err
