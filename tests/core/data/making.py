"""Small data sets and plans for the tests of the data stage."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.audit import planned_checks
from core.host import load_host
from core.types import DatasetFormat, DatasetPlan, EvaluationPlan, Plan
from plugins.formats import alpaca, chat_template, completion, input_output, pretokenised
from tests.core.plans import make_test_plan

FORMATS: dict[str, DatasetFormat] = {
    made.name: made
    for module in (alpaca, chat_template, completion, input_output, pretokenised)
    for made in module.dataset_formats()
}
SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
SHAREGPT = {"field_messages": "conversations", "message_property_mappings": {"role": "from", "content": "value"}}


def dataset(
    path: Path | str, type: str = "alpaca", *, key: tuple[str | int, ...] = ("datasets", 0), **options: Any
) -> DatasetPlan:
    """The plan of one data set, with the defaults of its format's options."""
    made = FORMATS[type]
    defaults = {name: schema["default"] for name, schema in made.options_schema.items() if "default" in schema}
    return DatasetPlan(str(path), made, defaults | options, key)


def plan_of(
    tmp_path: Path,
    *datasets: DatasetPlan,
    validation: Sequence[DatasetPlan] = (),
    evaluation: Sequence[DatasetPlan] = (),
    checks: Mapping[str, Any] | None = None,
    **recipe_values: Any,
) -> Plan:
    """A plan that reads `datasets`; its model is never loaded. checks: the data checks to make, by name; others not."""
    plan = make_test_plan(tmp_path, tmp_path / "no-model", **recipe_values)
    return replace(
        plan,
        datasets=tuple(datasets),
        validation=tuple(validation),
        evaluation=EvaluationPlan(datasets=tuple(evaluation)),
        checks=planned_checks(
            checks or {}, {name: check for name, check in load_host().data_checks.items() if name in (checks or {})}
        ),
    )


def alpaca_rows(count: int, *, start: int = 0) -> list[dict[str, str]]:
    """Rows that differ from each other."""
    return [
        {"instruction": f"Say number {n}.", "input": "", "output": f"number {n}"} for n in range(start, start + count)
    ]


def write_lines(path: Path, rows: Sequence[Mapping[str, Any] | str]) -> Path:
    """`rows` as JSON lines (text as it is) in `path`."""
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def trained_text(row: Mapping[str, Any], tokenizer: Any) -> str:
    """What the labels of a prepared row say."""
    return str(tokenizer.decode([label for label in row["labels"] if label != -100]))
