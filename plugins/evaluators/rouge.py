"""`rouge`: overlap of words and word sequences with the reference, by the package rouge-score (extra `metrics`)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from core import Evaluator, Item, Problem, Recipe, hookimpl
from core.types import Options
from plugins.evaluators.entries import missing_package
from plugins.evaluators.references import OPTION, acceptable, check

KINDS = ("rouge1", "rouge2", "rougeL", "rougeLsum")
OPTIONS: dict[str, Any] = {
    "kind": {
        "type": "string",
        "enum": list(KINDS),
        "default": "rougeL",
        "description": "The compared figure: single words, pairs of words, or the longest common sequence (rougeLsum: "
        "line by line).",
    },
    "stemmer": {"type": "boolean", "default": False, "description": "Compare English words by their stems."},
    **OPTION,
}


def score(prediction: str, item: Item, options: Options) -> dict[str, float]:
    """F1 of the kind that is compared, against the reference that fits best, 0 to 1; and of the other kinds."""
    chosen = str(options.get("kind", "rougeL"))
    scorer = _scorer(bool(options.get("stemmer")))
    scored = [scorer.score(reference, prediction) for reference in acceptable(item, options)]
    best = max(scored, key=lambda one: one[chosen].fmeasure)
    return {"rouge": float(best[chosen].fmeasure), **{kind: float(best[kind].fmeasure) for kind in KINDS}}


@lru_cache(maxsize=2)
def _scorer(stemmer: bool) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(KINDS), use_stemmer=stemmer)


@hookimpl
def check_recipe(recipe: Recipe) -> list[Problem]:
    """The package rouge-score is installed."""
    return missing_package(recipe, "rouge_score", "rouge")


@hookimpl
def evaluators() -> list[Evaluator]:
    description = "ROUGE (F1) against the best reference, by rouge-score."
    return [Evaluator("rouge", score, options_schema=OPTIONS, description=description, check=check)]
