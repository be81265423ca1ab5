"""A plan as text, and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from core.planner.advice import Advice
from core.planner.device import GIB, Device
from core.planner.estimate import Estimate
from core.planner.work import Pace

PARTS = ("process", "weights", "gradients", "optimizer", "activations", "logits", "sharing")
SHOWN = {"sharing": "sharing buffers"}


def plan_lines(
    estimates: Sequence[Estimate], device: Device, ranks: int, strategy: str, speed: Pace, advice: Sequence[Advice]
) -> list[str]:
    """The table of all approaches, what was assumed, and what would make the recipe fit."""
    rows = [["", *(f"{one.name} (recipe)" if one.own else one.name for one in estimates)]]
    rows.append(["trained", *(f"{one.trained:,} ({_percent(one)})" for one in estimates)])
    rows.append(["of parameters", *(f"{one.total:,}" for one in estimates)])
    rows.append(["base held in", *(one.weights_dtype for one in estimates)])
    rows.append(["trained in", *(one.trained_dtype for one in estimates)])
    for part in PARTS:
        if any(one.parts[part] for one in estimates):
            rows.append([SHOWN.get(part, part), *(size(one.parts[part]) for one in estimates)])
    rows.append(["peak in training", *(size(one.peak) for one in estimates)])
    rows.append(["peak in saving", *(size(one.saving) for one in estimates)])
    if any(one.merging for one in estimates):
        rows.append(["peak in merging", *(size(one.merging) if one.merging else "-" for one in estimates)])
    rows.append([f"fits {size(device.memory)}", *("yes" if one.fits else "NO" for one in estimates)])
    rows.append(["time", *(duration(speed.seconds(one.work, ranks), one.work.steps) for one in estimates)])
    if speed.price is not None:
        rows.append(["cost (US$)", *(_money(speed.cost(one.work, ranks)) for one in estimates)])
    return [
        *_columns(rows),
        "",
        *_explanation(estimates, device, ranks, strategy, speed),
        *_advice_lines(estimates, advice),
    ]


def plan_json(
    estimates: Sequence[Estimate], device: Device, ranks: int, strategy: str, speed: Pace, advice: Sequence[Advice]
) -> dict[str, Any]:
    """The same, for programs. Bytes, seconds, US dollars."""
    return {
        "device": {"kind": device.kind, "memory": device.memory, "room": device.room, "here": device.here},
        "ranks": ranks,
        "strategy": strategy,
        "pace": {"operations_per_second": speed.rate, "origin": speed.origin, "price_per_hour": speed.price},
        "approaches": {one.name: approach_json(one, speed, ranks) for one in estimates},
        "advice": [
            {"set": dict(one.keys), "gpus": one.ranks, "peak": one.peak, "same_result": one.same} for one in advice
        ],
    }


def approach_json(one: Estimate, speed: Pace | None = None, ranks: int = 1) -> dict[str, Any]:
    """One estimate with its derived figures."""
    values: dict[str, Any] = asdict(one) | {"fits": one.fits}
    if speed is not None and one.work.steps:
        values |= {"seconds": speed.seconds(one.work, ranks), "cost": speed.cost(one.work, ranks)}
    return values


def size(number: float) -> str:
    """Bytes in words: MiB below ten GiB, which is where a CPU's figures lie."""
    return f"{number / 2**20:,.0f} MiB" if number < 10 * GIB else f"{number / GIB:,.1f} GiB"


def duration(seconds: float, steps: int) -> str:
    """About how long, in the largest fitting unit; a dash where the number of steps is not known."""
    if not steps:
        return "-"
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:,.0f} s"


def _percent(one: Estimate) -> str:
    share = 100 * one.trained / max(1, one.total)
    return f"{share:.2f} %" if share >= 0.01 or not one.trained else f"{share:.2g} %"


def _money(cost: float | None) -> str:
    return "-" if not cost else f"{cost:,.2f}"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]


def _explanation(estimates: Sequence[Estimate], device: Device, ranks: int, strategy: str, speed: Pace) -> list[str]:
    own = estimates[0]
    where = "this machine" if device.here else "a GPU that is not here"
    lines = [
        f"estimates for {where}, each part at its own highest; per rank of {ranks} ({strategy})"
        if ranks > 1
        else f"estimates for {where}, each part at its own highest",
        f"a step: {own.micro_batch_size} x {own.accumulation} accumulated x {ranks}; the largest micro batch computes "
        f"{own.places[0]} x {own.places[1]} places; {own.work.steps or 'an unknown number of'} steps",
        f"time: {speed.origin}; evaluation and checkpoints are not in it"
        + (f"; {speed.price:g} US$ an hour and GPU" if speed.price is not None else ""),
    ]
    if device.kind == "cuda":
        lines.append("process: the CUDA context, which PyTorch's own count of allocated memory leaves out")
    notes = dict.fromkeys(note for one in estimates for note in one.notes)
    return [*lines, *notes]


def _advice_lines(estimates: Sequence[Estimate], advice: Sequence[Advice]) -> list[str]:
    if estimates[0].fits:
        return []
    if not advice:
        return ["", "the recipe does not fit, and no single change tried makes it fit"]
    return ["", "the recipe does not fit; any one of these would make it:", *(f"  {one}" for one in advice)]


def summary(values: Mapping[str, Any]) -> str:
    """Predicted beside measured, on one line. values: the `plan` of run.json."""
    predicted, measured = values["predicted_bytes"], values["measured_bytes"]
    difference = 100 * (predicted - measured) / max(1, measured)
    return f"peak memory: {size(measured)} measured, {size(predicted)} predicted ({difference:+.0f} %)"
