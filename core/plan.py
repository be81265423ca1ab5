"""From a checked recipe to a plan: every name resolved to a component, every default taken, every path absolute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.audit.plan import planned_checks
from core.check import check_recipe, item_options, resolve_defaults
from core.check.columns import COMPARE, columns_of, gates_of, metric_names
from core.check.paths import resolve_input_path
from core.errors import Problem, RecipeError, UserError
from core.host import Host
from core.models.source import resolve_base_model
from core.recipe import Recipe
from core.types import (
    ColumnPlan,
    DatasetPlan,
    EvaluationPlan,
    ForgettingPlan,
    KeyPath,
    Logger,
    MetricPlan,
    Plan,
)

LATEST = "latest"
OWN_GENERATOR = "transformers"
DEFAULT_PROBE = "default"


def make_plan(
    recipe: Recipe,
    host: Host,
    *,
    overwrite: bool = False,
    resume: str | None = None,
    trust_remote_code: bool = False,
    training: bool = True,
) -> Plan:
    """Resolve `recipe` against what `host` offers. Light: no torch, nothing written.

    resume: a checkpoint folder, or `latest`. training: whether training rows will be read; if not, their files may be
    gone and nothing is resumed. Raises `RecipeError` with every problem found.
    """
    errors = [
        replace(problem, severity="error")
        for problem in check_recipe(recipe, host)
        if (problem.severity == "error" or problem.blocks_run) and (training or not _of_training_files(problem))
    ]
    if errors:
        raise RecipeError(errors)
    recipe = resolve_defaults(recipe, host)
    adapter = host.adapters[recipe["adapter"] or "full"]
    trainer = host.trainers[recipe["trainer"]]
    datasets = _datasets(recipe, host, "datasets")
    validation = _datasets(recipe, host, "test_datasets")
    evaluation = _evaluation(recipe, host)
    mismatches = [
        Problem(
            f"format {dataset.format.name!r} makes {dataset.format.kind!r} examples, "
            f"trainer {trainer.name!r} takes {trainer.kind!r}",
            key=(*dataset.key, "type"),
            at="value",
        )
        for dataset in (*datasets, *validation)
        if dataset.format.kind != trainer.kind
    ]
    try:
        base_model = resolve_base_model(recipe["base_model"], recipe.folder_of(("base_model",)))
    except UserError as error:
        mismatches.append(Problem(error.message, key=("base_model",), at="value", help=error.help))
    if mismatches:
        raise RecipeError(mismatches)
    output_dir = output_dir_of(recipe)
    return Plan(
        recipe=recipe,
        base_model=base_model,
        output_dir=output_dir,
        adapter=adapter,
        trainer=trainer,
        datasets=datasets,
        validation=validation,
        evaluation=evaluation,
        loggers=_loggers(recipe, host),
        checks=planned_checks(recipe["data_checks"] or {}, host.data_checks),
        overwrite=overwrite,
        resume_from=_resume_from(recipe, output_dir, resume, overwrite=overwrite) if training else None,
        trust_remote_code=trust_remote_code,
        host=host,
    )


def output_dir_of(recipe: Recipe) -> Path:
    """The folder that a run of `recipe` writes into."""
    return Path(recipe["output_dir"]).expanduser().absolute()


def _of_training_files(problem: Problem) -> bool:
    return problem.key[:1] == ("datasets",) and problem.key[-1] in ("path", "data_files")


def _datasets(recipe: Recipe, host: Host, *path: str) -> tuple[DatasetPlan, ...]:
    """The data sets listed under the key `path`, each with its format and the format's options; those to train on are
    told where they are streamed."""
    streamed = {"streaming": True} if recipe["streaming"] and path == ("datasets",) else {}
    entries: Any = recipe
    for name in path:
        entries = (entries or {}).get(name) if isinstance(entries, Mapping) else entries[name]
    plans = []
    for index, entry in enumerate(entries or ()):
        key: KeyPath = (*path, index)
        found = host.formats[entry["type"]]
        plans.append(
            DatasetPlan(
                path=resolve_input_path(entry["path"], recipe.folder_of((*key, "path"))),
                format=found,
                options={**item_options(found.options_schema, entry, recipe, key), **streamed},
                key=key,
            )
        )
    return tuple(plans)


def _evaluation(recipe: Recipe, host: Host) -> EvaluationPlan:
    settings: Mapping[str, Any] = recipe["evaluation"] or {}
    datasets = _datasets(recipe, host, "evaluation", "datasets") or _datasets(recipe, host, "test_datasets")
    numbers = ("repeats", "max_new_tokens", "batch_size", "latency_sample", "limit")
    chosen = {key: settings[key] for key in numbers if key in settings and settings[key] != "auto"}
    slices = settings.get("slice_by")
    return EvaluationPlan(
        datasets=datasets,
        metrics=_metrics(recipe, host, settings.get("metrics") or [{"type": "accuracy"}, {"type": "latency"}]),
        columns=_columns(recipe, settings.get("compare") or ["base", {"prompted": {}}, "tuned"]),
        gates=gates_of(settings.get("gates") or {}),
        slice_by=(slices,) if isinstance(slices, str) else tuple(slices or ()),
        forgetting=_forgetting(host, settings.get("forgetting")),
        lm_eval=settings.get("lm_eval"),
        price=settings.get("price"),
        stop_settled=bool(settings.get("stop_settled")),
        generator=host.generators.get(settings.get("generator") or OWN_GENERATOR),
        **chosen,
    )


def _forgetting(host: Host, settings: Mapping[str, Any] | None) -> ForgettingPlan | None:
    if settings is None:
        return None
    return ForgettingPlan(host.probes[settings.get("probe") or DEFAULT_PROBE], settings.get("max_drop"))


def _metrics(recipe: Recipe, host: Host, entries: Sequence[Mapping[str, Any]]) -> tuple[MetricPlan, ...]:
    """The requested metrics; the second of a type is called `type-2`, and so on."""
    metrics = []
    for index, (name, entry) in enumerate(zip(metric_names(entries), entries, strict=True)):
        evaluator = host.evaluators[entry["type"]]
        options = item_options(evaluator.options_schema, entry, recipe, ("evaluation", "metrics", index))
        plugin = host.component_owners.get(("evaluators", evaluator.name), "")
        metrics.append(MetricPlan(name, evaluator, options, plugin))
    return tuple(metrics)


def _columns(recipe: Recipe, entries: Sequence[Any]) -> tuple[ColumnPlan, ...]:
    """The columns of the comparison. Raises `RecipeError` for other models that are not there."""
    columns, problems = [], []
    for index, column in enumerate(columns_of(entries)):
        if column.kind == "model":
            place = (*COMPARE, index, "model")
            try:
                address = resolve_base_model(column.options["model"], recipe.folder_of(place), what="model")
                column = replace(column, options={**column.options, "model": address})
            except UserError as error:
                problems.append(Problem(error.message, key=place, at="value", help=error.help))
        columns.append(column)
    if problems:
        raise RecipeError(problems)
    return tuple(columns)


def _loggers(recipe: Recipe, host: Host) -> tuple[Logger, ...]:
    """The loggers named in `report_to`, and those with a key of their own set to something."""
    named = recipe["report_to"] or ()
    named = {named} if isinstance(named, str) else set(named)
    return tuple(
        logger
        for logger in host.loggers.values()
        if logger.name in named or any(recipe[key] for key in logger.keys if key in recipe)
    )


def _resume_from(recipe: Recipe, output_dir: Path, resume: str | None, *, overwrite: bool) -> Path | None:
    """The checkpoint to go on from: a folder, or the output folder itself for "the latest one in it"."""
    if resume and overwrite:
        raise UserError("--resume and --overwrite say opposite things", help="keep one of them")
    automatic = recipe["auto_resume_from_checkpoints"] and not overwrite and not _finished_for_good(output_dir)
    asked = resume or recipe["resume_from_checkpoint"] or (LATEST if automatic else None)
    if not asked:
        return None
    if asked in (LATEST, True, "true"):
        if not automatic and not any(output_dir.glob("checkpoint-*")):
            raise UserError(
                f"no checkpoint in {str(output_dir)!r} to resume from",
                help="leave --resume (or resume_from_checkpoint) out to start anew",
            )
        return output_dir
    folder = Path(asked).expanduser().absolute()
    if not folder.is_dir():
        raise UserError(
            f"no checkpoint at {asked!r}", help="name a checkpoint-<step> folder, or --resume alone for the latest one"
        )
    return folder


def _finished_for_good(output_dir: Path) -> bool:
    """Whether `output_dir` holds a finished run without checkpoints: to go on would be to replace it unasked."""
    return (output_dir / "run.json").exists() and not any(output_dir.glob("checkpoint-*"))
