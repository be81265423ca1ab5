from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from core import UserError
from plugins.trainers.sft import trainer
from plugins.trainers.sft import training as training_module
from plugins.trainers.sft.batches import BatchPlan, row_lengths
from plugins.trainers.sft.collate import collate_padded
from plugins.trainers.sft.loss import head_of, summed_loss
from plugins.trainers.sft.training import share
from tests.core.plans import make_test_data

Prepare = Callable[..., tuple[Any, Any]]
GOLDEN: list[float] = [
    6.01116,
    6.03185,
    6.04602,
    6.01033,
    6.03965,
    6.02015,
    5.96119,
    5.89347,
    5.91826,
    5.85052,
    5.89434,
    5.91442,
]


def test_golden_losses(prepare: Prepare) -> None:
    """Any change to these figures is a change to what is computed, and needs a reason."""
    training, _ = prepare(num_epochs=2, micro_batch_size=4, warmup_steps=2)
    assert training.run().losses == pytest.approx(GOLDEN, rel=1e-4)


def test_the_result_is_complete(prepare: Prepare, tmp_path: Path) -> None:
    data = make_test_data(24, val=6)
    training, model = prepare(data=data, num_epochs=2, logging_steps=5)
    result = training.run()
    targets = sum(label != -100 for labels in data.train["labels"] for label in labels[1:])
    assert result.model is model
    assert (result.steps, len(result.losses), result.tokens) == (12, 12, 2 * targets)
    assert result.parameters_trained == result.parameters_total == sum(p.numel() for p in model.parameters())
    assert result.seconds > 0
    assert result.peak_bytes >= result.start_bytes > 0
    assert result.stopped is None
    lines = [json.loads(line) for line in (tmp_path / "one" / "out" / "metrics.jsonl").read_text().splitlines()]
    assert lines == list(result.history)
    logged = [line for line in lines if "loss" in line]
    assert [line["step"] for line in logged] == [1, 5, 10, 12]
    assert {"epoch", "loss", "learning_rate", "grad_norm", "tokens", "tokens_per_second"} <= set(logged[0])
    assert [line["step"] for line in lines if "eval_loss" in line] == [6, 12]
    assert logged[-1]["epoch"] == 2


def test_the_first_loss_is_the_mean_over_the_targets_of_the_step(prepare: Prepare) -> None:
    data = make_test_data(6)
    training, model = prepare(data=data, micro_batch_size=2, gradient_accumulation_steps=3)
    batch = collate_padded(list(data.train), 0)
    with torch.no_grad():
        expected = summed_loss(model, batch, head_of(model)).item() / len(batch["target_ids"])
    result = training.run()
    assert result.losses == pytest.approx([expected], rel=1e-6)


def test_the_gradient_is_that_of_the_mean_also_in_a_smaller_last_step(prepare: Prepare) -> None:
    """7 rows in steps of 4: plain SGD ends where a bare loop over the same rows ends."""
    data = make_test_data(7)
    sgd = {"optimizer": "sgd", "lr_scheduler": "constant", "learning_rate": 0.1, "max_grad_norm": 0, "warmup_steps": 0}
    training, model = prepare(data=data, micro_batch_size=1, gradient_accumulation_steps=4, **sgd)
    bare = deepcopy(model)
    plan = BatchPlan([(row,) for row in range(7)], row_lengths(data.train), 1, 4, seed=42)
    for number in range(2):
        rows = plan.rows_of_step(number)
        assert len(rows) == (4, 3)[number]
        batch = collate_padded([data.train[row] for row in rows], 0)
        bare.zero_grad()
        (summed_loss(bare, batch, head_of(bare)) / len(batch["target_ids"])).backward()
        with torch.no_grad():
            for parameter in bare.parameters():
                parameter -= 0.1 * parameter.grad
    training.run()
    for trained, expected in zip(model.parameters(), bare.parameters(), strict=True):
        torch.testing.assert_close(trained, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rows", [24, 26])
def test_losses_do_not_depend_on_how_a_step_is_divided(prepare: Prepare, rows: int) -> None:
    data = make_test_data(rows, val=6)
    results = [
        prepare(name, data=data, num_epochs=2, micro_batch_size=micro, gradient_accumulation_steps=steps)[0].run()
        for name, micro, steps in (("a", 4, 1), ("b", 1, 4), ("c", 2, 2))
    ]
    for other in results[1:]:
        assert other.losses == pytest.approx(results[0].losses, rel=1e-4)
        assert other.tokens == results[0].tokens
        for ours, theirs in zip(other.history, results[0].history, strict=True):
            assert ours["epoch"] == theirs["epoch"]
            for name in ("loss", "eval_loss"):
                assert ours.get(name, 0) == pytest.approx(theirs.get(name, 0), rel=1e-4)


def test_a_logged_loss_is_the_mean_per_token_since_the_last_log(prepare: Prepare) -> None:
    training, _ = prepare(num_epochs=1, logging_steps=3)
    result = training.run()
    tokens = [record["tokens"] for record in result.history if "loss" in record]
    means = [record["loss"] for record in result.history if "loss" in record]
    whole = sum(mean * (now - before) for mean, now, before in zip(means, tokens, [0, *tokens], strict=False))
    every, _ = prepare("each", num_epochs=1, logging_steps=1)
    single = every.run().history
    sizes = [now["tokens"] - before for now, before in _steps(single)]
    assert whole == pytest.approx(sum(loss * size for loss, size in zip(result.losses, sizes, strict=True)), rel=1e-6)


def _steps(history: Any) -> list[tuple[Any, int]]:
    records = [record for record in history if "loss" in record]
    return list(zip(records, [0, *(record["tokens"] for record in records)], strict=False))


def test_the_validation_loss_is_the_mean_per_target(prepare: Prepare) -> None:
    data = make_test_data(8, val=7)
    training, model = prepare(data=data, num_epochs=1, eval_batch_size=2)
    result = training.run()
    assert data.val is not None
    batch = collate_padded(list(data.val), 0)
    with torch.no_grad():
        expected = summed_loss(model, batch, head_of(model)).item() / len(batch["target_ids"])
    assert result.history[-1]["eval_loss"] == pytest.approx(expected, rel=1e-5)


def test_the_model_is_ready_before_it_is_trained(prepare: Prepare) -> None:
    training, model = prepare()
    before = [parameter.clone() for parameter in model.parameters()]
    ids = torch.tensor([[5, 6, 7]])
    out = training.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=3, do_sample=False)
    assert out.shape[1] <= 6
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    assert model.config.use_cache


def test_what_was_drawn_before_does_not_change_the_training(prepare: Prepare) -> None:
    first = prepare("a", adapter="lora", lora_dropout=0.5)[0].run()
    training, _ = prepare("b", adapter="lora", lora_dropout=0.5)
    torch.rand(100)
    assert training.run().losses == first.losses


def test_lora_trains_the_adapter_only_and_says_so(prepare: Prepare, capsys: pytest.CaptureFixture[str]) -> None:
    training, model = prepare(adapter="lora", learning_rate=0.1)
    frozen = {name: value.clone() for name, value in model.named_parameters() if not value.requires_grad}
    result = training.run()
    assert 0 < result.parameters_trained < result.parameters_total
    said = f"training {result.parameters_trained:,} of {result.parameters_total:,} parameters"
    assert said in capsys.readouterr().out
    assert all(torch.equal(value, frozen[name]) for name, value in model.named_parameters() if name in frozen)
    assert any(value.any() for name, value in model.named_parameters() if "lora_B" in name)


def test_share() -> None:
    assert share(460_800, 134_975_808) == "0.34 %"
    assert share(1, 10**6) == "0.0001 %"
    assert share(5, 5) == "100.00 %"


@pytest.mark.parametrize(
    "optimizer",
    [
        "adamw_torch",
        "adamw_torch_fused",
        "adamw_bnb_8bit",
        "paged_adamw_8bit",
        "adafactor",
        "sgd",
        "rmsprop",
        "adagrad",
        "lion_32bit",
    ],
)
def test_optimizers_that_work_on_cpu(prepare: Prepare, optimizer: str) -> None:
    if "bnb" in optimizer or "paged" in optimizer or "lion" in optimizer:
        pytest.importorskip("bitsandbytes")
    training, model = prepare(optimizer=optimizer, max_steps=2, warmup_steps=0)
    before = [parameter.clone() for parameter in model.parameters()]
    assert all(math.isfinite(loss) for loss in training.run().losses)
    assert any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("scheduler", "settings"),
    [
        ("linear", {}),
        ("constant", {}),
        ("constant_with_warmup", {}),
        ("cosine_with_restarts", {"num_cycles": 2}),
        ("polynomial", {"power": 2}),
        ("inverse_sqrt", {}),
        ("cosine_with_min_lr", {"min_lr": 1e-5}),
        ("warmup_stable_decay", {"num_decay_steps": 2}),
        ("reduce_lr_on_plateau", {"patience": 0}),
    ],
)
def test_schedulers(prepare: Prepare, scheduler: str, settings: dict[str, Any]) -> None:
    training, _ = prepare(
        lr_scheduler=scheduler, lr_scheduler_kwargs=settings, max_steps=4, eval_steps=2, logging_steps=1
    )
    rates = [record["learning_rate"] for record in training.run().history if "loss" in record]
    assert len(rates) == 4
    assert max(rates) <= 1e-3


def test_an_optimizer_whose_package_is_missing_is_refused_early(prepare: Prepare) -> None:
    with pytest.raises(UserError, match="'grokadamw' cannot be used here") as caught:
        prepare(optimizer="grokadamw")
    assert "adamw_torch_fused" in (caught.value.help or "")


def test_early_stopping_ends_the_run_and_the_best_model_comes_back(prepare: Prepare) -> None:
    training, model = prepare(
        data=make_test_data(8, val=8),
        num_epochs=50,
        learning_rate=0.02,
        lr_scheduler="constant",
        early_stopping_patience=1,
        load_best_model_at_end=True,
        save_total_limit=1,
    )
    result = training.run()
    losses = [record["eval_loss"] for record in result.history if "eval_loss" in record]
    assert result.stopped == "validation loss no longer falls"
    assert result.steps < 100
    assert losses[-1] > losses[-2]
    batch = collate_padded(list(make_test_data(8, val=8).val), 0)  # type: ignore[arg-type]
    with torch.no_grad():
        final = summed_loss(model, batch, head_of(model)).item() / len(batch["target_ids"])
    assert final == pytest.approx(min(losses), rel=1e-5)


def test_the_watchdog_stops_a_run_whose_loss_stays_high(prepare: Prepare) -> None:
    result = prepare(num_epochs=3, loss_watchdog_threshold=1.0, loss_watchdog_patience=2)[0].run()
    assert result.steps == 2
    assert result.stopped == "loss above 1.0 for 2 steps"


def test_max_steps_and_fractions_of_an_epoch(prepare: Prepare) -> None:
    assert prepare("a", max_steps=9)[0].run().steps == 9
    assert prepare("b", num_epochs=0.5)[0].run().steps == 3


@pytest.mark.parametrize(
    ("spoilt", "said", "max_grad_norm"),
    [
        ("nan", "loss is nan", 1.0),
        ("inf", "loss is inf", 1.0),
        ("gradient", "gradient norm is", 1.0),
        ("gradient", "gradient norm is", 0),
    ],
)
def test_a_step_that_is_not_finite_is_refused_before_the_weights_move(
    prepare: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoilt: str, said: str, max_grad_norm: float
) -> None:
    training, model = prepare(save_steps=3, max_grad_norm=max_grad_norm)
    calls = 0

    def spoiled(*inputs: Any) -> Any:
        nonlocal calls
        calls += 1
        loss = summed_loss(*inputs)
        if calls < 4:
            return loss
        if spoilt == "gradient":
            loss.register_hook(lambda gradient: gradient * math.inf)
            return loss
        return loss + float(spoilt)

    monkeypatch.setattr(trainer, "summed_loss", spoiled)
    with pytest.raises(UserError) as caught:
        training.run()
    message = caught.value.message
    assert "at step 4 of 6" in message
    assert said in message
    assert message.count("data.jsonl:") == 4
    kept = tmp_path / "one" / "out" / "checkpoint-3"
    assert str(kept) in (caught.value.help or "")
    assert list(kept.parent.glob("checkpoint-*")) == [kept]
    saved = load_file(kept / "model.safetensors")
    weights = model.state_dict()
    assert all(torch.equal(weights[name], saved[name]) for name in saved)


def test_plain_lines_are_printed_where_there_is_no_terminal(
    prepare: Prepare, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(logging_steps=3)[0].run()
    lines = capsys.readouterr().out.splitlines()
    assert "6 steps of 4 rows (4 x 1 accumulated x 1 process), 24 rows, 1 times each, 0 steps to warm up" in lines
    assert [line.split("  ")[0] for line in lines if line.startswith("step")] == [
        "step 1/6",
        "step 3/6",
        "step 6/6",
        "step 6/6",
    ]


def test_a_live_bar_on_a_terminal(
    prepare: Prepare, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    prepare(logging_steps=3)[0].run()
    assert "trained tokens/s" in capsys.readouterr().out


@pytest.mark.parametrize("checkpointing", [False, True])
def test_checkpointing_on_a_processor_leaves_no_gaps(
    prepare: Prepare, checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    within: list[str] = []

    @contextmanager
    def returned_at_once() -> Iterator[None]:
        within.append("entered")
        yield
        within.append("left")

    monkeypatch.setattr(training_module, "returned_at_once", returned_at_once)
    monkeypatch.setattr(training_module, "device_type", lambda: "cpu")
    training, _ = prepare(max_steps=1, gradient_checkpointing=checkpointing)
    assert len(training.run().losses) == 1
    assert within == (["entered", "left"] if checkpointing else [])
