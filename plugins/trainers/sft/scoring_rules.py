"""Rules for what is scored by generation during training, and for what chooses the best checkpoint. Light."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core import Problem
from core.check.columns import metric_names
from core.check.names import did_you_mean

if TYPE_CHECKING:
    from core import Recipe

LOSSES = ("loss", "eval_loss")


def scoring_problems(recipe: Recipe) -> list[Problem]:
    """Metrics that cannot be had while training, and a choice that would be made on the held-out items."""
    return [*_generation(recipe), *_best_metric(recipe), *_judge_and_party(recipe)]


def _generation(recipe: Recipe) -> list[Problem]:
    found = []
    key = "generation_evals_per_epoch"
    if recipe[key] and not (recipe["val_set_size"] or recipe["test_datasets"]):
        message = f"{key} scores validation data, and there is none"
        help = (
            "set val_set_size or test_datasets; the held-out items of evaluation judge the model, not its checkpoints"
        )
        found.append(Problem(message, key=(key,), help=help))
    elif recipe[key] and recipe["eval_strategy"] == "no":
        message = f"{key} comes with an evaluation during training"
        found.append(Problem(message, key=("eval_strategy",), at="value", help="remove eval_strategy"))
    if recipe["generation_eval_items"] and not recipe[key]:
        message = f"generation_eval_items has no effect without {key}"
        found.append(Problem(message, key=("generation_eval_items",), severity="warning"))
    return found


def _best_metric(recipe: Recipe) -> list[Problem]:
    chosen = recipe["metric_for_best_model"]
    if not isinstance(chosen, str) or chosen in LOSSES:
        return []
    place: dict[str, Any] = {"key": ("metric_for_best_model",), "at": "value"}
    name = chosen.removeprefix("eval_")
    entries = (recipe["evaluation"] or {}).get("metrics") or []
    metrics = metric_names(entries)
    if name not in metrics:
        help = did_you_mean(name, [*metrics, *LOSSES]) or f"it can be eval_loss, {', '.join(metrics)}"
        return [Problem(f"metric_for_best_model {chosen!r} is not measured during training", **place, help=help)]
    if entries[metrics.index(name)]["type"] == "latency":
        message = f"metric_for_best_model {chosen!r}: timings are not taken during training"
        return [Problem(message, **place, help="choose another metric, or eval_loss")]
    if not recipe["generation_evals_per_epoch"]:
        message = f"metric_for_best_model {chosen!r} is scored by generation, which is not asked for during training"
        return [Problem(message, **place, help="set generation_evals_per_epoch, such as 2")]
    return []


def _judge_and_party(recipe: Recipe) -> list[Problem]:
    """test_datasets alone serve validation and the comparison alike: a checkpoint chosen by them flatters itself."""
    choosing = next((key for key in ("load_best_model_at_end", "early_stopping_patience") if recipe[key]), None)
    scored = (recipe.values.get("evaluation") or {}).get("datasets")
    if choosing is None or scored or not recipe["test_datasets"]:
        return []
    message = f"{choosing} chooses the checkpoint by the very items that judge it afterwards"
    help = "name other held-out data under evaluation.datasets"
    return [Problem(message, key=(choosing,), severity="warning", help=help)]
