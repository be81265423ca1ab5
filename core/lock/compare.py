"""Two runs of one lock held against each other: losses, weights and answers, to the last bit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.json_lines import json_lines

PREDICTIONS = "predictions.jsonl"


def finished_run(folder: Path) -> Mapping[str, Any]:
    """The content of a finished run's run.json. Raises `UserError` where there is none."""
    try:
        values: Mapping[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        found = "holds no finished run: run.json is missing" if folder.is_dir() else "is no folder"
        raise UserError(f"{str(folder)!r} {found}", help="name the output_dir of a run that has finished") from error
    except ValueError as error:
        raise UserError(f"{str(folder / 'run.json')!r} cannot be read: {error}", help="get an intact copy") from error
    return values


def compare_runs(first: Path, second: Path) -> dict[str, Any]:
    """Whether two finished runs are the same, JSON-ready: `equal`, and under `losses`, `weights` and `predictions`
    whether each is, with the first difference and the largest."""
    before, after = finished_run(first), finished_run(second)
    parts = {
        "losses": _losses(before["train"], after["train"]),
        "weights": _weights(first, second),
        "predictions": _predictions(first / PREDICTIONS, second / PREDICTIONS),
    }
    return {"equal": all(part["equal"] for part in parts.values()), **parts}


def _losses(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    first, second = before["losses"], after["losses"]
    found: dict[str, Any] = {"equal": first == second, "count": len(first)}
    if len(first) != len(second):
        found["counts"] = [len(first), len(second)]
    differing = [index for index, (a, b) in enumerate(zip(first, second, strict=False)) if a != b]
    if differing:
        steps = _steps(before)
        found["first_step"] = steps[differing[0]]
        found["first_values"] = [first[differing[0]], second[differing[0]]]
        pairs = [(first[index], second[index]) for index in differing]
        # a loss that was not finite is null in run.json
        known = [abs(a - b) for a, b in pairs if a is not None and b is not None]
        found["max_difference"] = max(known, default=None)
    return found


def _steps(train: Mapping[str, Any]) -> Sequence[int]:
    """The optimizer step of each loss: of every one, or of the logged ones."""
    count = len(train["losses"])
    logged = [record["step"] for record in train["history"] if "loss" in record]
    return logged if len(logged) == count and count != train["steps"] else range(1, count + 1)


def _weights(first: Path, second: Path) -> dict[str, Any]:
    """The tensors of every safetensors file of the runs, by name; files of other kinds byte by byte."""
    from safetensors import safe_open

    files = [{file.name for file in folder.glob("*.safetensors")} for folder in (first, second)]
    found: dict[str, Any] = {"equal": True, "tensors": 0, "files": sorted(files[0] | files[1])}
    if files[0] != files[1] or not files[0]:
        return {**found, "equal": False, "only_in_one": sorted(files[0] ^ files[1])}
    largest, different = 0.0, []
    for name in sorted(files[0]):
        with safe_open(first / name, framework="pt") as a, safe_open(second / name, framework="pt") as b:
            missing = set(a.keys()) ^ set(b.keys())
            different += sorted(missing)
            for key in sorted(set(a.keys()) & set(b.keys())):
                found["tensors"] += 1
                gap = _gap(a.get_tensor(key), b.get_tensor(key))
                if gap is not None:
                    different.append(key)
                    largest = max(largest, gap)
    if different:
        found |= {"equal": False, "different": len(different), "first": different[0], "max_difference": largest}
    return found


def _gap(first: Any, second: Any) -> float | None:
    """None for tensors that are the same to the last bit, else their largest difference."""
    import torch

    if first.dtype != second.dtype or first.shape != second.shape:
        return float("inf")
    if torch.equal(first.contiguous().view(torch.uint8), second.contiguous().view(torch.uint8)):
        return None
    return float((first.double() - second.double()).abs().max())


def _predictions(first: Path, second: Path) -> dict[str, Any]:
    records = [[line["answers"] for line in json_lines(file)] if file.is_file() else [] for file in (first, second)]
    different = [index for index, (a, b) in enumerate(zip(*records, strict=False)) if a != b]
    equal = not different and len(records[0]) == len(records[1])
    found: dict[str, Any] = {"equal": equal, "items": len(records[0])}
    if equal:
        return found
    counts = [len(lines) for lines in records]
    return {**found, "counts": counts, "different": len(different), "first": different[0] if different else None}


def report_lines(result: Mapping[str, Any]) -> list[str]:
    """The comparison in words, a line for each part."""
    losses, weights, predictions = result["losses"], result["weights"], result["predictions"]
    lines = []
    if losses["equal"]:
        lines.append(f"losses: equal, all {losses['count']} to the last bit")
    else:
        text = "losses: different"
        if "counts" in losses:
            text += ", {} and {} of them".format(*losses["counts"])
        if "first_step" in losses:
            text += ", first at step {}: {!r} and {!r}".format(losses["first_step"], *losses["first_values"])
            text += f"; largest difference {_number(losses['max_difference'])}"
        lines.append(text)
    if weights["equal"]:
        lines.append(f"weights: equal, all {weights['tensors']} tensors to the last bit")
    elif "different" in weights:
        lines.append(
            f"weights: different in {weights['different']} of {weights['tensors']} tensors, first in "
            f"{weights['first']}; largest difference {_number(weights['max_difference'])}"
        )
    else:
        only = ", ".join(weights["only_in_one"])
        lines.append(f"weights: different, only one run has {only}" if only else "weights: no *.safetensors to compare")
    if predictions["equal"]:
        lines.append(f"predictions: equal, all {predictions['items']}")
    elif predictions["first"] is None:
        lines.append("predictions: different, {} and {} of them".format(*predictions["counts"]))
    else:
        lines.append(
            f"predictions: different in {predictions['different']} of {predictions['items']}, "
            f"first in item {predictions['first']}"
        )
    return lines


def _number(value: float | None) -> str:
    return "not known, one of them is not finite" if value is None else f"{value:.3g}"
