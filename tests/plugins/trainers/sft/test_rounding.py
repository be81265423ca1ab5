"""Weights that train in bfloat16 lose no update for being small."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.planner.optimizer import rounds_stochastically
from plugins.trainers.sft import rounding
from plugins.trainers.sft.rounding import StochasticRounding, rounded, with_small_updates

STEPS = 200


def weights(count: int = 4096) -> list[torch.nn.Parameter]:
    """One in bfloat16, one in float32, one that gets no gradient."""
    return [
        torch.nn.Parameter(torch.ones(count, dtype=torch.bfloat16)),
        torch.nn.Parameter(torch.ones(4)),
        torch.nn.Parameter(torch.ones(4, dtype=torch.bfloat16)),
    ]


def train(optimizer: torch.optim.Optimizer, parameters: list[torch.nn.Parameter], steps: int) -> None:
    """A gradient of one at every step, but for the last parameter."""
    for _ in range(steps):
        for parameter in parameters[:-1]:
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        optimizer.zero_grad()


def adam(parameters: list[torch.nn.Parameter]) -> torch.optim.AdamW:
    """Updates of 1e-5, 1/390 of what bfloat16 can tell from one."""
    return torch.optim.AdamW(parameters, lr=1e-5, weight_decay=0.0, fused=True)


def test_updates_below_the_resolution_add_up() -> None:
    lost, kept = weights(), weights()
    train(adam(lost), lost, STEPS)
    step = [0]
    rounding = StochasticRounding(adam(kept), 42, lambda: step.append(0) or len(step))
    train(rounding, kept, STEPS)
    assert torch.equal(lost[0], torch.ones_like(lost[0]))  # which is what this is for
    assert kept[0].dtype == torch.bfloat16
    moved = 1 - float(kept[0].detach().double().mean())
    assert moved == pytest.approx(STEPS * 1e-5, rel=0.05)
    assert torch.equal(kept[1], lost[1])  # float32 trains as ever
    assert torch.equal(kept[2], torch.ones_like(kept[2]))
    assert rounding.state[kept[0]]["exp_avg"].dtype == torch.float32
    assert all(parameter.grad is None for parameter in kept)


def test_the_mean_is_that_of_float32_and_the_gradient_is_left_alone() -> None:
    parameters, exact = weights(), [torch.nn.Parameter(torch.ones(4096)), *weights()[1:]]
    rounding, plain = StochasticRounding(adam(parameters), 0, lambda: 1), adam(exact)
    for pair in zip(parameters[:-1], exact[:-1], strict=True):
        gradient = torch.linspace(-1, 1, pair[0].numel()).bfloat16()
        pair[0].grad, pair[1].grad = gradient.to(pair[0].dtype), gradient.float()
    gradient = parameters[0].grad
    rounding.step()
    plain.step()
    assert parameters[0].grad is gradient
    assert rounding.state[parameters[0]]["exp_avg"].equal(plain.state[exact[0]]["exp_avg"])
    assert (parameters[0].float() - exact[0]).abs().max() < 2**-7


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 0x7F00_0000), st.sampled_from([0, -(2**31)]), st.integers(0, 2**31))
def test_rounding_gives_a_neighbour_and_keeps_what_is_there(bits: int, sign: int, seed: int) -> None:
    wide = torch.full((64,), bits + sign, dtype=torch.int32).view(torch.float32)
    found = rounded(wide, torch.Generator().manual_seed(seed))
    below = (wide.view(torch.int32) & -(2**16)).view(torch.float32)
    above = ((wide.view(torch.int32) & -(2**16)) + 2**16).view(torch.float32)
    assert ((found.float() == below) | (found.float() == above)).all()
    assert torch.equal(rounded(found.float(), torch.Generator().manual_seed(seed)), found)


def test_rounding_is_right_on_average_and_passes_on_what_is_not_finite() -> None:
    wide = torch.full((200_000,), 1 + 2**-7 * 0.3)
    assert float(rounded(wide, torch.Generator().manual_seed(1)).double().mean()) == pytest.approx(
        float(wide[0]), abs=2e-5
    )
    odd = rounded(torch.tensor([torch.inf, -torch.inf, torch.nan]), torch.Generator().manual_seed(1))
    assert odd[0] == torch.inf
    assert odd[1] == -torch.inf
    assert odd[2].isnan()


def test_states_come_back_in_float32_and_draws_go_on() -> None:
    straight, step = weights(), [0]
    number: Callable[[], int] = lambda: step[0]  # noqa: E731
    first = StochasticRounding(adam(straight), 3, number)

    def some(optimizer: torch.optim.Optimizer, parameters: list[torch.nn.Parameter], numbers: range) -> None:
        for step[0] in numbers:
            train(optimizer, parameters, 1)

    some(first, straight, range(5))
    held, states = [parameter.detach().clone() for parameter in straight], first.state_dict()
    states = json.loads(json.dumps(states["param_groups"])) and torch.load(_saved(states), weights_only=True)
    some(first, straight, range(5, 10))
    resumed = [torch.nn.Parameter(value) for value in held]
    second = StochasticRounding(adam(resumed), 3, number)
    second.load_state_dict(states)
    assert second.state[resumed[0]]["exp_avg_sq"].dtype == torch.float32
    assert resumed[0].shape == held[0].shape
    assert resumed[0].dtype == torch.bfloat16
    some(second, resumed, range(5, 10))
    assert all(torch.equal(one, other) for one, other in zip(straight, resumed, strict=True))
    another = [torch.nn.Parameter(value) for value in held]
    third = StochasticRounding(adam(another), 4, number)
    third.load_state_dict(states)
    some(third, another, range(5, 10))
    assert not torch.equal(straight[0], another[0])


def _saved(states: Any) -> Any:
    import io

    buffer = io.BytesIO()
    torch.save(states, buffer)
    buffer.seek(0)
    return buffer


def test_a_schedule_reaches_the_optimizer_within() -> None:
    parameters = weights()
    rounding = StochasticRounding(adam(parameters), 0, lambda: 0)
    schedule = torch.optim.lr_scheduler.LambdaLR(rounding, lambda step: 0.5**step)
    train(rounding, parameters, 1)
    schedule.step()
    assert [group["lr"] for group in rounding.inner.param_groups] == [5e-6]


@pytest.mark.parametrize(
    ("optimizer", "settings", "rounds", "said"),
    [
        ("sgd", {}, True, "updates are computed in float32, and rounded stochastically"),
        (
            "schedule_free_adamw",
            {},
            False,
            "optimizer 'schedule_free_adamw' updates of less than 1/512 of a weight",
        ),
        ("sgd", {"is_deepspeed_enabled": True}, False, ""),
        ("sgd", {"is_fsdp_enabled": True, "bf16": True}, False, ""),
        ("sgd", {"is_fsdp_enabled": True}, False, "bf16: true holds what trains in float32"),
        ("adamw_torch_8bit", {"optim_args": "bf16_stochastic_round=True"}, False, ""),
    ],
)
def test_what_is_done_and_said(
    capsys: pytest.CaptureFixture[str], optimizer: str, settings: dict[str, Any], rounds: bool, said: str
) -> None:
    kinds = {name: settings.get(name, False) for name in ("is_deepspeed_enabled", "is_fsdp_enabled")}
    arguments = SimpleNamespace(optim=optimizer, seed=1, bf16=settings.get("bf16", False))
    arguments.optim_args = settings.get("optim_args")
    trainer: Any = SimpleNamespace(args=arguments, state=SimpleNamespace(global_step=0), **kinds)
    parameters = weights()
    plain = torch.optim.SGD(parameters, lr=0.1)
    found = with_small_updates(plain, trainer)
    assert isinstance(found, StochasticRounding) if rounds else found is plain
    out = capsys.readouterr().out
    assert said in out if said else out == ""
    wide = torch.optim.SGD(parameters[1:2], lr=0.1)
    assert with_small_updates(wide, trainer) is wide
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("optimizer", "rounds"),
    [
        ("adamw_torch_fused", False),
        *((name, True) for name in ("adamw_torch_fused", "adafactor", "muon", "lion_8bit")),
    ],
)
def test_a_run_in_bfloat16_moves_weights_by_less_than_it_can_tell(
    prepare: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    optimizer: str,
    rounds: bool,
) -> None:
    """At this rate no weight of one moves, rounded to the nearest."""
    if optimizer == "lion_8bit":
        pytest.importorskip("bitsandbytes")
    monkeypatch.setattr(rounding, "rounds_stochastically", lambda name: rounds)
    settings = {"optimizer": optimizer, "learning_rate": 3e-4, "lr_scheduler": "constant", "warmup_steps": 0}
    training, model = prepare(max_steps=4, max_grad_norm=0.0, bf16=True, **settings)
    model.to(torch.bfloat16)
    norms = [parameter for name, parameter in model.named_parameters() if "norm" in name]
    before = torch.cat([parameter.detach().clone() for parameter in norms])
    assert torch.equal(before, torch.ones_like(before))
    assert all(loss == loss for loss in training.run().losses)
    moved = int((torch.cat([parameter.detach() for parameter in norms]) != before).sum())
    assert (moved > 0) is rounds
    assert ("1/512" in capsys.readouterr().out) is not rounds


def test_a_run_in_bfloat16_resumes_to_the_last_bit(prepare: Callable[..., Any], tmp_path: Path) -> None:
    settings = {"learning_rate": 1e-3, "lr_scheduler": "constant", "save_steps": 3, "bf16": "full"}
    straight, first = prepare("straight", max_steps=6, **settings)
    first.to(torch.bfloat16)
    expected = straight.run()
    begun, model = prepare("begun", max_steps=3, **settings)
    model.to(torch.bfloat16)
    begun.run()
    resumed, second = prepare(
        "resumed", max_steps=6, resume_from=tmp_path / "begun" / "out" / "checkpoint-3", **settings
    )
    second.to(torch.bfloat16)
    assert resumed.run().losses == expected.losses
    for ours, theirs in zip(second.parameters(), first.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("adamw_torch_fused", True),
        ("adamw_bnb_8bit", True),
        ("paged_adamw_32bit", True),
        ("muon", True),
        ("adamw_torch_8bit", False),  # torchao rounds by itself, with bf16_stochastic_round
        ("galore_adamw", False),
        ("schedule_free_adamw", False),
    ],
)
def test_optimizers_that_move_each_parameter_by_itself(name: str, expected: bool) -> None:
    assert rounds_stochastically(name) is expected


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("fused", [False, True])
def test_a_gpu_draws_alike_for_the_same_step_and_keeps_the_mean(fused: bool) -> None:
    def moved(step: int) -> torch.Tensor:
        parameter = torch.nn.Parameter(torch.ones(2**20 + 3, dtype=torch.bfloat16, device="cuda"))
        inner = torch.optim.AdamW([parameter], lr=1e-4, weight_decay=0.0, fused=fused)
        optimizer = StochasticRounding(inner, 7, lambda: step)
        parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        assert inner.state[parameter]["exp_avg"].dtype == torch.float32
        return parameter.detach()

    assert torch.equal(moved(3), moved(3))
    assert not torch.equal(moved(3), moved(4))
    assert float(moved(3).double().mean()) == pytest.approx(1 - 1e-4, abs=1e-5)
