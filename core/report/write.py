"""Writes a finished run's files, each whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.json_lines import json_lines
from core.kept import report_command
from core.processes import process_seconds
from core.report.card import model_card
from core.report.page import report_page
from core.report.table import say_table
from core.report.values import prediction_lines, run_values
from core.results import EvalReport, Repeat, RunReport, TrainResult
from core.types import Data, Plan
from core.whole_file import write_whole

ROOM = "make room there"


def write_report(
    plan: Plan,
    data: Data,
    before: EvalReport,
    trained: TrainResult,
    after: EvalReport,
    *,
    scored: Mapping[str, Any] | None = None,
    repeats: Sequence[Repeat] = (),
) -> RunReport:
    """Write run.json, predictions.jsonl, report.html and README.md; print the table. All ranks return alike.

    scored: what was scored, where nothing was trained (see schemas/run.json); its model card stays where it is.
    repeats: every training, where there were several.
    """
    from core.evaluation.gates import exit_code, judge_gates
    from core.evaluation.repeated import repeats_values, with_repeats
    from core.evaluation.verdict import baselines, judge
    from core.processes import facts, on_main

    found = {**before.columns, **after.columns}
    listed = {column.name: found[column.name] for column in plan.evaluation.columns if column.name in found}
    report = EvalReport(listed, {**before.probes, **after.probes})
    gates = judge_gates(plan, report.columns, repeats)
    judged = judge(plan, report, data, gates)
    units = {metric.name: metric.evaluator.unit for metric in plan.evaluation.metrics}
    again = repeats_values(plan, report.columns, repeats)
    values = run_values(
        plan,
        data,
        report,
        _counted(trained),
        environment=facts(),
        **{**judged, "verdict": with_repeats(judged["verdict"], again, units.get(judged["verdict"]["metric"], ""))},
        baselines=baselines(data.test) or {},
        seconds=process_seconds() + trained.earlier_seconds,
        gates=gates,
        scored=scored,
        repeats=again,
    )
    on_main(lambda: _write_all(plan.output_dir, values, prediction_lines(plan, data, report)))
    demands = [*values["gates"], *([values["forgetting"]] if "forgetting" in values else [])]
    return RunReport(values=values, output_dir=plan.output_dir, exit_code=exit_code(demands))


def _write_all(folder: Path, values: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]]) -> None:
    lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in predictions)
    _write(folder / "predictions.jsonl", lines, ROOM)
    _write(folder / "run.json", json.dumps(values, ensure_ascii=False, indent=1) + "\n", ROOM)
    _render(folder, values, predictions)
    say_table(values, str(folder))


def _counted(trained: TrainResult) -> TrainResult:
    """`trained` with the model's parameters counted, where the trainer left that to core."""
    from core.models import parameter_counts

    if trained.parameters_total or trained.model is None:
        return trained
    trained_parameters, total = parameter_counts(trained.model)
    return replace(trained, parameters_trained=trained_parameters, parameters_total=total)


def rerender(run_dir: Path) -> None:
    """Write report.html and README.md of a finished run anew from its other files, and print the table.

    Raises `UserError` where `run_dir` holds no finished run.
    """
    try:
        values = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))
        predictions = json_lines(run_dir / "predictions.jsonl")
    except FileNotFoundError as error:
        raise UserError(
            f"{str(run_dir)!r} holds no finished run: {Path(error.filename).name} is missing",
            help="name the output_dir of a run that ended",
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        help = "get an intact copy of the run"
        raise UserError(f"{str(run_dir)!r} holds a run whose files cannot be read: {error}", help=help) from error
    _render(run_dir, values, predictions)
    say_table(values, str(run_dir))


def _render(folder: Path, values: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]]) -> None:
    lock = folder / "recipe.lock.yml"
    locked = lock.read_text(encoding="utf-8") if lock.is_file() else ""
    again = f"{ROOM}, then write it from the run's other files with {report_command(folder)}"
    _write(folder / "report.html", report_page(values, predictions, locked), again)
    scored = values.get("scored")
    if scored and Path(scored["target"]) != folder:
        return  # the model is elsewhere, and so is its card
    _write(folder / "README.md", model_card(values, peft=(folder / "adapter_config.json").is_file()), again)


def _write(path: Path, text: str, help: str) -> None:
    try:
        write_whole(path, text)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"{str(path)!r} cannot be written: {reason}", help=help) from error
